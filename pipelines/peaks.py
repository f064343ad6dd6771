"""Where an object ends: where its evidence has fallen to 0.71 of its peak.

A contrast is the punctum blurred by a window as wide, so that half of its peak would lie outside of the punctum, and
join neighbours: where it has fallen to 0.71, a Gaussian punctum has fallen to 0.55 to 0.7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.local_contrast import bin_of
from pipelines.slabs import Scratch, slabs, trimmed, with_halo

__all__ = ["near_peaks"]

_BELOW_PEAK = np.uint16(64)
"""Bins from a value to 1.41 times as much, near enough: half of those to its double."""


def near_peaks(strengths: NDArray[np.uint16], reach: tuple[int, int, int], least: float = 1.0) -> NDArray[np.bool_]:
    """Mark voxels with at least 0.71 of the largest strength within `reach`, where that is at least `least`.

    `strengths` are bins, uint16 (z, y, x), with a halo of `reach`; the marks have its shape without the halo.
    """
    marks = np.empty(trimmed(strengths, reach).shape, np.bool_)
    scratch = Scratch()
    for z, y in slabs(marks.shape):
        _mark(with_halo(strengths, z, y, reach), (reach, least), scratch, marks[z, y])
    return marks


def _mark(
    strengths: NDArray[np.uint16],
    peak: tuple[tuple[int, int, int], float],
    scratch: Scratch,
    marks: NDArray[np.bool_],
) -> None:
    """Fill the marks of a slab."""
    reach, least = peak
    z, y, x = marks.shape
    planes = scratch.take("planes", (z, *strengths.shape[1:]), np.uint16)
    _largest([strengths[k : k + z] for k in range(2 * reach[0] + 1)], planes)
    rows = scratch.take("rows", (z, y, strengths.shape[2]), np.uint16)
    _largest([planes[:, k : k + y] for k in range(2 * reach[1] + 1)], rows)
    # along x in flat memory, as in `contrast`: the last columns mean nothing
    largest = scratch.take("planes", rows.shape, np.uint16)
    flat, n = rows.reshape(-1), rows.size - 2 * reach[2]
    _largest([flat[k : k + n] for k in range(2 * reach[2] + 1)], largest.reshape(-1)[:n])
    np.greater_equal(largest[:, :, :x], np.uint16(bin_of(least)), out=marks)
    # below this wraps to a number that no strength reaches
    np.subtract(largest, _BELOW_PEAK, out=largest)
    marks &= trimmed(strengths, reach) >= largest[:, :, :x]


def _largest(shifted: list[NDArray[np.uint16]], out: NDArray[np.uint16]) -> None:
    """Write the largest of one or several arrays, voxel by voxel."""
    np.maximum(shifted[0], shifted[-1], out=out)
    for values in shifted[1:-1]:
        np.maximum(out, values, out=out)
