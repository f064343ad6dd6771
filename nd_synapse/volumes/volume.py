"""A volume: what can be read part by part like an array (z, y, x), in memory or not.

It is a contract and no implementation; arrays of NumPy keep it, and so do volumes that lie on disk in blocks.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Volume"]


class Volume(Protocol):
    """Voxels in the order z, y, x."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return a part of it; not to be written to."""
