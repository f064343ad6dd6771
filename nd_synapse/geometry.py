"""Boxes of voxels and frames of volumes; axes are z, y, x, ranges half-open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from nd_synapse.errors import DataError, RangeError, UsageError

__all__ = [
    "NANOMETRES",
    "VOXEL_SIZES",
    "Box",
    "Frame",
    "Range",
    "are_voxel_sizes",
    "check_within",
    "nearest_voxel",
    "voxel_size_of",
]

Range = tuple[int, int]


def nearest_voxel(total: Any, number: Any = 1) -> Any:
    """Return the voxel along one axis in which the mean of some coordinates lies; a half is rounded up.

    This is the one rule for the section, the block and the tile that an object is in.

    Parameters
    ----------
    total, number : int, float, or ndarray of shape (n,)
        Sum of the coordinates, and how many there are. Voxel i reaches from i - 0.5 to i + 0.5. Whole sums are exact;
        a mean given as a float finds the same voxel, since halves are exact in it. NaN stays NaN.

    Returns
    -------
    int, float, or ndarray of shape (n,)
        The voxel, in the type of the sum.
    """
    return (2 * total + number) // (2 * number)


def _shown(given: object) -> str:
    """Return a wrong range for a message."""
    try:
        return f"{given!r:.100}"
    except ValueError:  # Python does not write whole numbers of very many digits
        return "of very many digits"


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Three half-open ranges ``[start, stop)`` of voxel indices, never empty.

    Parameters
    ----------
    z, y, x : tuple of int
        Start and stop along each axis, ``start < stop``.

    Raises
    ------
    RangeError
        If a range is empty or reversed, or is not two whole numbers.

    Examples
    --------
    >>> box = Box(z=(0, 8), y=(10, 20), x=(0, 5))
    >>> box.shape, box.voxels
    ((8, 10, 5), 400)
    """

    z: Range
    y: Range
    x: Range

    def __post_init__(self) -> None:
        """Convert to tuples of int, or refuse."""
        for axis in "zyx":
            given = getattr(self, axis)
            try:
                first, end = given
                start, stop = int(first), int(end)
                whole = start == first and stop == end
            except (TypeError, ValueError, OverflowError):
                whole = False
            if not whole or max(abs(start), abs(stop)) >= 2**63:
                raise RangeError(
                    f"{axis} range {_shown(given)}", "it is not two whole numbers", "Give it as start,stop"
                )
            if stop <= start:
                what = "it holds no voxel" if stop == start else "it ends before it starts"
                raise RangeError(f"{axis} range {start},{stop}", what, "Ranges are half-open: start < stop")
            object.__setattr__(self, axis, (start, stop))

    @classmethod
    def of_shape(cls, shape: Sequence[int], origin: Sequence[int] = (0, 0, 0)) -> Box:
        """Return the box of `shape` (z, y, x) that starts at `origin` (z, y, x)."""
        try:
            z, y, x = ((o, o + n) for o, n in zip(origin, shape, strict=True))
        except (TypeError, ValueError) as error:
            requested = f"a box of the shape {shape!r} at {origin!r}"
            raise RangeError(requested, "they are not three numbers each", "Give z, y, x") from error
        return cls(z, y, x)

    @property
    def ranges(self) -> tuple[Range, Range, Range]:
        """The three ranges, z, y, x."""
        return (self.z, self.y, self.x)

    @property
    def start(self) -> tuple[int, int, int]:
        """First voxel (z, y, x)."""
        return (self.z[0], self.y[0], self.x[0])

    @property
    def stop(self) -> tuple[int, int, int]:
        """One past the last voxel (z, y, x)."""
        return (self.z[1], self.y[1], self.x[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return (self.z[1] - self.z[0], self.y[1] - self.y[0], self.x[1] - self.x[0])

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    def __str__(self) -> str:
        """Return the box as ``z 0:8 y 10:20 x 0:5``."""
        return " ".join(f"{axis} {a}:{b}" for axis, (a, b) in zip("zyx", self.ranges, strict=True))

    def slices(self, origin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Return the slices (z, y, x) of this box in an array whose first voxel is at `origin` (z, y, x)."""
        z, y, x = (slice(a - o, b - o) for (a, b), o in zip(self.ranges, origin, strict=True))
        return (z, y, x)

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of `other` is in this box."""
        return all(a <= c and d <= b for (a, b), (c, d) in zip(self.ranges, other.ranges, strict=True))

    def intersection(self, other: Box) -> Box | None:
        """Return the voxels that lie in both boxes, None if there are none."""
        ranges = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(self.ranges, other.ranges, strict=True)]
        return None if any(b <= a for a, b in ranges) else Box(*ranges)

    @classmethod
    def around(cls, boxes: Sequence[Box]) -> Box:
        """Return the smallest box that holds all of `boxes`, of which there must be one."""
        ends = (zip(*along, strict=True) for along in zip(*(box.ranges for box in boxes), strict=True))
        return cls(*((min(starts), max(stops)) for starts, stops in ends))

    def grown(self, halo: Sequence[int], within: Box) -> Box:
        """Return this box, larger by `halo` (z, y, x) on each side, cut at `within`."""
        ranges = (
            (max(a - h, lo), min(b + h, hi))
            for (a, b), h, (lo, hi) in zip(self.ranges, halo, within.ranges, strict=True)
        )
        return Box(*ranges)

    def tile_count(self, size: Sequence[int], aligned: bool = False) -> int:
        """Count the boxes that `tiles` yields, without making them."""
        if len(size) != 3 or min(size) < 1:
            raise RangeError(f"block size {tuple(size)}", "it is not three extents from 1 upwards", "Give Z,Y,X")
        firsts = [start // n * n if aligned else start for start, n in zip(self.start, size, strict=True)]
        return math.prod(-((first - stop) // n) for first, stop, n in zip(firsts, self.stop, size, strict=True))

    def tiles(self, size: Sequence[int], aligned: bool = False) -> Iterator[Box]:
        """Cut the box into boxes of `size`, in C order; they cover it once.

        Parameters
        ----------
        size : sequence of int
            Largest extent of a tile along z, y, x.
        aligned : bool
            Cut at multiples of `size` from voxel 0, as chunks of a store lie, rather than from this box's start.

        Yields
        ------
        Box
            The tiles, z slowest. Tiles at the borders may be smaller.
        """
        if any(n < 1 for n in size):
            raise RangeError(f"block size {tuple(size)}", "an extent is below 1", "Give Z,Y,X of at least 1")
        depth, height, width = size
        # no lists: the cuts of one axis of a large BOSS frame may not fit the memory
        for z in _cuts(self.z, depth, aligned):
            for y in _cuts(self.y, height, aligned):
                for x in _cuts(self.x, width, aligned):
                    yield Box(z, y, x)


def _cuts(ends: Range, n: int, aligned: bool) -> Iterator[Range]:
    """Cut a range into ranges of `n`, one after another."""
    start, stop = ends
    first = (start // n + 1) * n if aligned else start + n
    return pairwise(chain((start,), range(first, stop, n), (stop,)))


NANOMETRES = {"nanometers": 1.0, "micrometers": 1e3, "millimeters": 1e6, "centimeters": 1e7}
"""Units of voxel sizes, as BOSS spells them, in nanometres."""

_SMALLEST_NM, _LARGEST_NM = 1e-3, 1e9

VOXEL_SIZES = f"three sizes from {_SMALLEST_NM:g} to {_LARGEST_NM:g} nm"
"""Allowed voxel sizes: computing with others overflows."""

# JSON and unit conversions round; a difference that matters is far larger
_RELATIVE = 1e-6


def are_voxel_sizes(sizes_nm: Sequence[float]) -> bool:
    """Return whether numbers are the edges (z, y, x) of a voxel: `VOXEL_SIZES`."""
    return len(sizes_nm) == 3 and all(_SMALLEST_NM <= size <= _LARGEST_NM for size in sizes_nm)


def voxel_size_of(sizes_nm: Sequence[float]) -> tuple[float, float, float]:
    """Return a voxel size (z, y, x) that a caller gave as any sequence."""
    try:
        z, y, x = map(float, sizes_nm)
    except (TypeError, ValueError):
        given = f"voxel_size_nm={sizes_nm!r}"
        raise UsageError(given, "it is not three numbers", "Give z, y, x, such as (70, 100, 100)") from None
    return z, y, x


@dataclass(frozen=True, slots=True)
class Frame:
    """The extent of a volume and the size of its voxels.

    Parameters
    ----------
    name : str
        Name of the frame.
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
        """Refuse impossible voxel sizes."""
        if not are_voxel_sizes(self.voxel_size_nm):
            raise DataError(
                f"coordinate frame {self.name}",
                f"its voxel size z, y, x is {self.voxel_size_nm} nm",
                f"Ask its owner to correct it: {VOXEL_SIZES} are needed",
            )

    def same_voxels(self, other: Frame) -> bool:
        """Return whether the voxels of both frames have the same size, to a millionth."""
        return all(
            math.isclose(a, b, rel_tol=_RELATIVE) for a, b in zip(self.voxel_size_nm, other.voxel_size_nm, strict=True)
        )

    def size_text(self) -> str:
        """Return the voxel size as ``z 70 y 100 x 100 nm``."""
        return " ".join(f"{axis} {size:g}" for axis, size in zip("zyx", self.voxel_size_nm, strict=True)) + " nm"


def check_within(box: Box, frame: Frame) -> None:
    """Refuse a box that leaves the volume, or that starts below voxel 0, where no source has voxels."""
    for axis, (start, stop), (first, end) in zip("zyx", box.ranges, frame.extent.ranges, strict=True):
        if start < max(first, 0) or stop > end:
            raise RangeError(
                f"{axis} range {start},{stop}",
                f"the volume has {axis} {max(first, 0)},{end}",
                f"Give --{axis}-range within it; the end is not included, so {end} reaches the last voxel",
            )
