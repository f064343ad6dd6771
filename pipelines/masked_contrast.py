"""Local contrast where a window reaches out of the tissue: mean of the centre minus mean of all, of what is there.

In the units of `local_contrast`, a contrast is the difference of the means times the voxels of both windows, over the
sections. The mean of n of N voxels of the centre is noisier; times the root of n / N its noise is that of whole
windows, which thresholds are made for. Sums and counts are exact integers, and only windows that are not whole are
computed here, in float64 from these; so a voxel has the same contrast in any block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.slabs import Scratch
from pipelines.windows import Windows, window_sums

__all__ = ["keep_to_tissue"]

_GAP = 64
"""Columns between two pieces that are computed by themselves."""


def keep_to_tissue(
    contrasts: NDArray[np.float32],
    voxels: NDArray[Any],
    tissue: NDArray[np.bool_],
    windows: Windows,
) -> None:
    """Compute anew, in place, the contrasts (z, y, x) of voxels and tissue with a halo where it matters.

    What is not tissue has contrast 0.
    """
    hz, hy, hx = windows.halo
    own = contrasts[:, :, : voxels.shape[2] - 2 * hx]
    inside = tissue[hz : tissue.shape[0] - hz, hy : tissue.shape[1] - hy, hx : tissue.shape[2] - hx]
    own[~inside] = 0
    every_centre, every = (windows.sections * pixels for pixels in (windows.centre_pixels, windows.whole_pixels))
    scratches = Scratch(), Scratch()
    for x in _pieces(~tissue, hx, own.shape[2]):
        columns = slice(x.start, x.stop + 2 * hx)
        part = tissue[:, :, columns]
        counts = window_sums(part.view(np.uint8), windows, scratches[0])
        partial = inside[:, :, x] & (counts[1][:, :, : x.stop - x.start] < every)
        sums = window_sums(voxels[:, :, columns] * part, windows, scratches[1])
        centre, whole, of_centre, of_whole = (
            values[:, :, : x.stop - x.start][partial].astype(np.int64) for values in (*sums, *counts)
        )
        difference = (centre * of_whole - whole * of_centre) / (of_centre * of_whole)
        difference *= np.sqrt(of_centre / every_centre)
        own[:, :, x][partial] = difference * (every_centre * windows.whole_pixels)


def _pieces(missing: NDArray[np.bool_], reach: int, length: int) -> Iterator[slice]:
    """Yield ranges of columns, counted without the halo, outside of which no window reaches a missing voxel."""
    columns = np.flatnonzero(missing.any((0, 1)))
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > _GAP + 2 * reach) + 1):
        start, stop = max(int(group[0]) - 2 * reach, 0), min(int(group[-1]) + 1, length)
        if start < stop:
            yield slice(start, stop)
