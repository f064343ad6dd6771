"""Local contrast where a window reaches out of the tissue: mean of the centre minus mean of all, of what is there.

In the units of `local_contrast`, a contrast is the difference of the means times the weights of both windows, over
those of the sections. The mean of a part of the centre is noisier; times the root of its share of the weight its noise
is about that of whole windows, which thresholds are made for. Sums and weights are exact integers, and only windows
that are not whole are computed here, in float64 from these; so a voxel has the same contrast in any block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.slabs import Scratch, trimmed
from pipelines.windows import EVERY_ROW, Absent, Rows, Windows, window_sums

__all__ = ["Partial"]

_GAP = 64
"""Columns between two pieces that are computed by themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """The windows of a block (z, y, x) with a halo that reach out of its tissue; the same for all channels."""

    absent: Absent
    """What is no tissue in the block with its halo."""
    outside: Absent
    """The same without the halo, of the rows that count."""
    places: NDArray[np.int64]
    """The voxels of tissue whose windows are not whole, as C-order indices in sums with the columns of the halo."""
    of_centres: NDArray[Any]
    """Weight of the tissue in the centres of these windows, unsigned integers."""
    of_wholes: NDArray[Any]
    """The same in all of the windows."""

    @classmethod
    def of(cls, tissue: NDArray[np.bool_], windows: Windows, rows: Rows = EVERY_ROW) -> Partial | None:
        """Find the windows that are not whole, of some rows; None where all of the block is tissue."""
        if tissue.all():
            return None
        every, scratch, wide = windows.section_weights * windows.whole_pixels, Scratch(), tissue.shape[2]
        own, reach = trimmed(tissue, windows.halo)[:, rows[0] :: rows[1]], windows.halo[2]
        absent, outside = [], []
        found: list[list[NDArray[Any]]] = [[np.zeros(0, np.int64)], [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]]
        for gone, x in _pieces(tissue, reach):
            absent.append((gone, ~tissue[:, :, gone]))
            outside.append((x, ~own[:, :, x]))
            y, around = slice(0, own.shape[1]), slice(None)
            if rows == EVERY_ROW:
                y = _reached(np.flatnonzero(~tissue[:, :, gone].all((0, 2))), windows.halo[1], tissue.shape[1])
                around = slice(y.start, y.stop + 2 * windows.halo[1])
            piece = tissue[:, around, x.start : x.stop + 2 * reach]
            of_centres, of_wholes = window_sums(piece, windows, scratch, rows=rows)
            partial = of_wholes < every
            partial[:, :, x.stop - x.start :] = False
            partial[:, :, : x.stop - x.start] &= own[:, y, x]
            here = np.flatnonzero(partial)
            at_z, at_y, at_x = np.unravel_index(here, partial.shape)
            places = (at_z * own.shape[1] + at_y + y.start) * wide + at_x + x.start
            for kept, values in zip(found, (places, of_centres.take(here), of_wholes.take(here)), strict=True):
                kept.append(values)
        return cls(absent, outside, *map(np.concatenate, found))

    def contrasts(self, centres: NDArray[Any], wholes: NDArray[Any], windows: Windows) -> NDArray[np.float64]:
        """Return the contrasts at `places`, given the sums of all windows over what is tissue, float64 (n,)."""
        every = windows.section_weights * windows.centre_pixels
        # means, since products of sums and weights would not fit 64 bits where voxels are small
        difference, of_whole = (
            np.divide(sums.take(self.places), weights, dtype=np.float64)
            for sums, weights in ((centres, self.of_centres), (wholes, self.of_wholes))
        )
        difference -= of_whole
        difference *= np.sqrt(np.divide(self.of_centres, every, dtype=np.float64))
        difference *= every * windows.whole_pixels
        contrasts: NDArray[np.float64] = difference
        return contrasts

    def weights_at(
        self, places: NDArray[np.int64], windows: Windows, shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the weight of tissue in centres and windows at voxels of tissue, C-order indices in a shape, (n,)."""
        # the columns of the halo are those of sums alone
        own = self.places - self.places // (shape[2] + 2 * windows.halo[2]) * (2 * windows.halo[2])
        counts = []
        for pixels, partial in ((windows.centre_pixels, self.of_centres), (windows.whole_pixels, self.of_wholes)):
            whole = windows.section_weights * pixels
            every = np.full(math.prod(shape), whole, np.min_scalar_type(whole))
            every[own] = partial
            counts.append(every.take(places))
        return counts[0], counts[1]


def _pieces(tissue: NDArray[np.bool_], reach: int) -> Iterator[tuple[slice, slice]]:
    """Yield columns with missing voxels, and those, counted without the halo, from which a window reaches them."""
    columns = np.flatnonzero(~tissue.all(1).all(0))
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > _GAP + 2 * reach) + 1):
        yield slice(int(group[0]), int(group[-1]) + 1), _reached(group, reach, tissue.shape[2])


def _reached(missing: NDArray[np.int64], reach: int, length: int) -> slice:
    """Return from where along an axis, without the halo that its length has, windows reach places that ascend."""
    return slice(max(int(missing[0]) - 2 * reach, 0), min(int(missing[-1]) + 1, length - 2 * reach))
