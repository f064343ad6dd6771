"""An overview: the maximum projection of a volume along z, small enough for a page, put together from blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["LONGEST_SIDE", "Overview"]

LONGEST_SIDE = 1024
"""Pixels of the longer side, at most."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Part of the projection of a volume."""

    pixels: NDArray[Any]
    """Shape (y, x): maxima over all z of the part and over squares of `bin_voxels`."""
    start: tuple[int, int]
    """First pixel (y, x) in the whole projection."""
    shape: tuple[int, int]
    """Pixels (y, x) of the whole projection."""
    bin_voxels: int
    """Voxels along each side of a pixel."""

    @classmethod
    def of_block(cls, voxels: NDArray[Any], box: Box, volume: Box) -> Self:
        """Project the voxels (z, y, x) of `box`, a block of `volume`."""
        side = -(-max(volume.shape[1:]) // LONGEST_SIDE)
        pixels = voxels.max(axis=0)
        for axis, (first, origin) in enumerate(zip(box.start[1:], volume.start[1:], strict=True)):
            offset = first - origin
            # cut where the whole volume's pixels begin, so that a pixel that two blocks share is the maximum of both
            cuts = np.r_[0, np.arange(side - offset % side, pixels.shape[axis], side)]
            pixels = np.maximum.reduceat(pixels, cuts, axis=axis)
        return cls.at(pixels, box, volume)

    @classmethod
    def at(cls, pixels: NDArray[Any], box: Box, volume: Box) -> Self:
        """Return the part of the projection that `of_block` made of `box`, given its pixels again."""
        _, height, width = volume.shape
        side = -(-max(height, width) // LONGEST_SIDE)
        y, x = ((first - origin) // side for first, origin in zip(box.start[1:], volume.start[1:], strict=True))
        return cls(pixels, (y, x), (-(-height // side), -(-width // side)), side)

    def merged_into(self, whole: NDArray[Any] | None) -> NDArray[Any]:
        """Return the projection `whole` (zeros where None), raised to this part where that is larger."""
        if whole is None:
            whole = np.zeros(self.shape, self.pixels.dtype)
        y, x = (slice(s, s + n) for s, n in zip(self.start, self.pixels.shape, strict=True))
        np.maximum(whole[y, x], self.pixels, out=whole[y, x])
        return whole
