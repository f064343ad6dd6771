"""Local contrast where a window reaches out of the tissue: mean of the centre minus mean of all, of what is there.

In the units of `local_contrast`, a contrast is the difference of the means times the weights of both windows, over
those of the sections. The mean of a part of the centre is noisier; times the root of its share of the weight its noise
is about that of whole windows, which thresholds are made for. Sums and weights are exact integers, and only windows
that are not whole are computed here, in float64 from these; so a voxel has the same contrast in any block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.slabs import Scratch, trimmed
from pipelines.windows import Windows, window_sums

__all__ = ["Partial"]

_GAP = 64
"""Columns between two pieces that are computed by themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """The windows of a block (z, y, x) with a halo that reach out of its tissue; the same for all channels."""

    windows: Windows
    tissue: NDArray[np.uint8]
    """1 where a voxel is, 0 where it is not, with the halo."""
    places: NDArray[np.int64]
    """The voxels of tissue whose windows are not whole, as C-order indices in sums with the columns of the halo."""
    of_centres: NDArray[np.int64]
    """Weight of the tissue in the centres of these windows."""
    of_wholes: NDArray[np.int64]
    """The same in all of the windows."""
    missing: NDArray[np.int64]
    """The voxels that are no tissue, as `places`."""

    @classmethod
    def of(cls, tissue: NDArray[np.bool_], windows: Windows) -> Partial | None:
        """Find the windows that are not whole; None where all are."""
        if tissue.all():
            return None
        every, scratch, wide = windows.section_weights * windows.whole_pixels, Scratch(), tissue.shape[2]
        own, marks = trimmed(tissue, windows.halo), tissue.view(np.uint8)
        found, missing = [np.zeros((3, 0), np.int64)], [np.zeros(0, np.int64)]
        for x in _pieces(tissue, windows.halo[2]):
            piece = marks[:, :, x.start : x.stop + 2 * windows.halo[2]]
            of_centres, of_wholes = window_sums(piece, windows, scratch)
            inside = own[:, :, x]
            partial = of_wholes < every
            partial[:, :, inside.shape[2] :] = False
            partial[:, :, : inside.shape[2]] &= inside
            here = np.flatnonzero(partial)
            row, column = np.divmod(here, piece.shape[2])
            places = row * wide + column + x.start
            found.append(np.stack([places, of_centres.reshape(-1)[here], of_wholes.reshape(-1)[here]]))
            row, column = np.divmod(np.flatnonzero(~inside), inside.shape[2])
            missing.append(row * wide + column + x.start)
        places, *counts = np.concatenate(found, axis=1)
        return cls(windows, marks, places, counts[0], counts[1], np.concatenate(missing))

    def kept(self, voxels: NDArray[Any], scratch: Scratch) -> NDArray[Any]:
        """Return voxels with a halo, with 0 for what is no tissue, in memory that the next call overwrites."""
        kept = scratch.take("kept", voxels.shape, voxels.dtype)
        np.multiply(voxels, self.tissue, out=kept)
        return kept

    def at(self, places: NDArray[np.int64], scratch: Scratch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the weight of tissue in centres and windows at C-order indices without the halo's columns, (n,)."""
        depth, rows, columns = (n - 2 * h for n, h in zip(self.tissue.shape, self.windows.halo, strict=True))
        wide = self.tissue.shape[2]
        there = places + places // columns * (wide - columns)
        counts = []
        for pixels, partial in (
            (self.windows.centre_pixels, self.of_centres),
            (self.windows.whole_pixels, self.of_wholes),
        ):
            every = scratch.take("every", (depth * rows * wide,), np.int64)
            every.fill(self.windows.section_weights * pixels)
            every[self.places] = partial
            every[self.missing] = 0
            counts.append(every[there])
        return counts[0], counts[1]

    def contrasts(self, centres: NDArray[Any], wholes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the contrasts at `places`, given the sums of all windows over what is tissue, float64 (n,)."""
        centre, whole = (sums.reshape(-1)[self.places].astype(np.int64) for sums in (centres, wholes))
        every = self.windows.section_weights * self.windows.centre_pixels
        # means, since products of sums and weights would not fit 64 bits where voxels are small
        difference = centre / self.of_centres - whole / self.of_wholes
        difference *= np.sqrt(self.of_centres / every)
        contrasts: NDArray[np.float64] = difference * (every * self.windows.whole_pixels)
        return contrasts


def _pieces(tissue: NDArray[np.bool_], reach: int) -> Iterator[slice]:
    """Yield ranges of columns, counted without the halo, outside of which no window reaches a missing voxel."""
    columns, length = np.flatnonzero(~tissue.all(1).all(0)), tissue.shape[2] - 2 * reach
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > _GAP + 2 * reach) + 1):
        start, stop = max(int(group[0]) - 2 * reach, 0), min(int(group[-1]) + 1, length)
        if start < stop:
            yield slice(start, stop)
