"""The frame of a volume: which voxels it has, and how large they are.

It holds no voxels and knows no service; the doors translate their own descriptions into it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from box import Box
from errors import DataError

__all__ = ["NANOMETRES", "VOXEL_SIZES", "Frame", "are_voxel_sizes"]

NANOMETRES = {"nanometers": 1.0, "micrometers": 1e3, "millimeters": 1e6, "centimeters": 1e7}
"""The units that a voxel size may be given in, as BOSS spells them, and how many nanometres one of each has."""

_SMALLEST_NM, _LARGEST_NM = 1e-3, 1e9

VOXEL_SIZES = f"three sizes from {_SMALLEST_NM:g} to {_LARGEST_NM:g} nm"
"""What voxel sizes may be: from a hundredth of an atom to a metre. What is computed from others may be no number."""

# Voxel sizes pass through JSON and unit conversions; a difference that matters is far larger.
_RELATIVE = 1e-6


def are_voxel_sizes(sizes_nm: Sequence[float]) -> bool:
    """Tell whether numbers are the edges of a voxel.

    Parameters
    ----------
    sizes_nm : sequence of float
        Along z, y, x, in nanometres.

    Returns
    -------
    bool
        Whether they are `VOXEL_SIZES`.
    """
    return len(sizes_nm) == 3 and all(_SMALLEST_NM <= size <= _LARGEST_NM for size in sizes_nm)


@dataclass(frozen=True, slots=True)
class Frame:
    """The extent of a volume and the size of its voxels.

    Parameters
    ----------
    name : str
        The name of the frame, for messages and as the name of a copy of it.
    extent : Box
        The voxels of the volume, z, y, x.
    voxel_size_nm : tuple of float
        Edges of a voxel along z, y, x, in nanometres.

    Raises
    ------
    DataError
        If a voxel size is not one of `VOXEL_SIZES`.
    """

    name: str
    extent: Box
    voxel_size_nm: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse sizes that are no sizes."""
        if not are_voxel_sizes(self.voxel_size_nm):
            raise DataError(
                f"coordinate frame {self.name}",
                f"its voxel size z, y, x is {self.voxel_size_nm} nm",
                f"Let its owner correct it: {VOXEL_SIZES} are needed",
            )

    def same_voxels(self, other: Frame) -> bool:
        """Tell whether the voxels of both frames are of one size, to a millionth."""
        return all(
            math.isclose(a, b, rel_tol=_RELATIVE) for a, b in zip(self.voxel_size_nm, other.voxel_size_nm, strict=True)
        )

    def size_text(self) -> str:
        """Return the voxel size as ``z 70 y 100 x 100 nm``."""
        return " ".join(f"{axis} {size:g}" for axis, size in zip("zyx", self.voxel_size_nm, strict=True)) + " nm"
