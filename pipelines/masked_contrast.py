"""Local contrast where a window reaches out of the tissue: mean of the centre minus mean of all, of what is there.

In the units of `local_contrast`, a contrast is the difference of the means times the voxels of both windows, over the
sections. The mean of n of N voxels of the centre is noisier; times the root of n / N its noise is that of whole
windows, which thresholds are made for. Sums and counts are exact integers, and only windows that are not whole are
computed here, in float64 from these; so a voxel has the same contrast in any block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipelines.local_contrast import Windows

__all__ = ["keep_to_tissue"]

_GAP = 64
"""Columns between two pieces that are computed by themselves."""


def keep_to_tissue(
    contrasts: NDArray[np.float32],
    voxels: NDArray[Any],
    tissue: NDArray[np.bool_],
    windows: Windows,
    rows: tuple[int, int],
) -> None:
    """Compute anew, in place, the contrasts (z, rows, x) of voxels and tissue with a halo, (z, y, x), where it matters.

    The rows are the first one and the step to the next, counted without the halo. What is not tissue has contrast 0.
    """
    hz, hy, hx = windows.halo
    _, cy, cx = windows.centre
    own = contrasts[:, :, : voxels.shape[2] - 2 * hx]
    inside = tissue[hz : tissue.shape[0] - hz, hy + rows[0] : tissue.shape[1] - hy : rows[1], hx : tissue.shape[2] - hx]
    own[~inside] = 0
    every_centre, every = ((2 * hz + 1) * (2 * y + 1) * (2 * x + 1) for y, x in ((cy, cx), (hy, hx)))
    for x in _pieces(~tissue, hx, own.shape[2]):
        columns = slice(x.start, x.stop + 2 * hx)
        part = tissue[:, :, columns]
        counts = _sums(part, windows, rows)
        partial = inside[:, :, x] & (counts[1] < every)
        sums = _sums(np.where(part, voxels[:, :, columns], 0), windows, rows)
        centre, whole, of_centre, of_whole = (values[partial] for values in (*sums, *counts))
        difference = (centre * of_whole - whole * of_centre) / (of_centre * of_whole)
        difference *= np.sqrt(of_centre / every_centre)
        own[:, :, x][partial] = difference * (every_centre * every // (2 * hz + 1))


def _pieces(missing: NDArray[np.bool_], reach: int, length: int) -> Iterator[slice]:
    """Yield ranges of columns, counted without the halo, outside of which no window reaches a missing voxel."""
    columns = np.flatnonzero(missing.any((0, 1)))
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > _GAP + 2 * reach) + 1):
        start, stop = max(int(group[0]) - 2 * reach, 0), min(int(group[-1]) + 1, length)
        if start < stop:
            yield slice(start, stop)


def _sums(values: NDArray[Any], windows: Windows, rows: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sums in the centre and in the whole window, int64 (z, rows, x), of values with a halo."""
    hz, hy, hx = windows.halo
    _, cy, cx = windows.centre
    sections = _sliding(values.astype(np.int64), 2 * hz + 1, 0)
    sums = []
    for y, x in ((cy, cx), (hy, hx)):
        cut = sections[:, hy - y : sections.shape[1] - (hy - y), hx - x : sections.shape[2] - (hx - x)]
        sums.append(_sliding(_sliding(cut, 2 * y + 1, 1)[:, rows[0] :: rows[1]], 2 * x + 1, 2))
    return sums[0], sums[1]


def _sliding(values: NDArray[np.int64], count: int, axis: int) -> NDArray[np.int64]:
    """Sum `count` consecutive values along an axis, from each place on that has so many."""
    total = np.cumsum(np.concatenate([np.zeros_like(values.take([0], axis)), values], axis), axis)
    n = total.shape[axis] - count
    sums: NDArray[np.int64] = total.take(range(count, count + n), axis) - total.take(range(n), axis)
    return sums
