"""Sums of intensity in windows round points: the neighbourhood of each synapse, however many there are.

Windows are boxes of whole voxels, so that every sum is an exact integer, the same from whichever block it is taken.

::

    +-----------------+   the surroundings reach twice as far from the point's voxel as the window;
    |  shell          |   what lies between is the shell: the local background
    |    +-------+    |
    |    |   .   |    |   both are cut at the border of the requested volume
    |    +-------+    |
    +-----------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["WINDOW_NM", "Reach", "surroundings", "voxels_round", "window", "window_sums"]

WINDOW_NM = (140.0, 500.0, 500.0)
"""How far a window reaches from its point's voxel along z, y, x: with voxels of 70 x 100 x 100 nm, for which the first
PyMeda was written, two and five voxels to each side."""

Reach = tuple[int, int, int]
"""Voxels along z, y, x on each side of a point's voxel; 0 is that voxel alone."""


def window(window_nm: Sequence[float], voxel_size_nm: Sequence[float]) -> Reach:
    """Return the window that comes closest to an extent."""
    z, y, x = (int(extent / size + 0.5) for extent, size in zip(window_nm, voxel_size_nm, strict=True))
    return z, y, x


def surroundings(reach: Reach) -> Reach:
    """Return what a window and its shell reach to: twice as far, and one voxel farther at least."""
    z, y, x = (max(2 * n, n + 1) for n in reach)
    return z, y, x


def voxels_round(points: NDArray[np.int64], reach: Reach, volume: Box) -> NDArray[np.int64]:
    """Return the voxels, int64 (n,), of windows round points (3, n), cut at the border of the volume; at least 1."""
    counts = np.ones(points.shape[1], np.int64)
    for places, n, (start, stop) in zip(points, reach, volume.ranges, strict=True):
        counts *= np.minimum(places + (n + 1), stop) - np.maximum(places - n, start)
    return counts


def window_sums(
    voxels: NDArray[Any], box: Box, points: NDArray[np.int64], reaches: Sequence[Reach]
) -> list[NDArray[np.int64]]:
    """Return for each reach the sums (int64, shape (n,)) of windows round points (3, n), cut at the border of the box.

    `voxels` are those of `box`, unsigned integers of at most 16 bits, shape (z, y, x).
    """
    order = np.argsort(points[0], kind="stable")
    z, y, x = (places[order] - start for places, start in zip(points, box.start, strict=True))
    nz, ny, nx = box.shape
    corners = [_corners(y, x, reach, (ny, nx)) for reach in reaches]
    sums = [np.zeros(len(z), np.int64) for _ in reaches]
    # sums of all rectangles that begin in the first corner: a rectangle anywhere is a matter of four of them, whose
    # differences are exact even where the sums themselves have wrapped
    largest = max((2 * ry + 1) * (2 * rx + 1) for _, ry, rx in reaches) * int(np.iinfo(voxels.dtype).max)
    table = np.zeros((ny + 1, nx + 1), np.uint32 if largest < 2**32 else np.uint64)
    for plane in range(nz):
        met = [np.searchsorted(z, (plane - rz, plane + rz + 1)).tolist() for rz, _, _ in reaches]
        if all(first == stop for first, stop in met):
            continue
        table[1:, 1:] = voxels[plane]
        # row by row: accumulating along the first axis takes NumPy six times as long
        for above, row in pairwise(table):
            np.add(above, row, out=row)
        np.add.accumulate(table, axis=1, out=table)
        flat = table.ravel()
        for total, (first, stop), (low_low, low_high, high_low, high_high) in zip(sums, met, corners, strict=True):
            some = slice(first, stop)
            rectangle = flat[high_high[some]] - flat[low_high[some]]
            rectangle += flat[low_low[some]]
            rectangle -= flat[high_low[some]]
            total[some] += rectangle.astype(np.int64)
    in_order = []
    for total in sums:
        given = np.empty_like(total)
        given[order] = total
        in_order.append(given)
    return in_order


def _corners(
    y: NDArray[np.int64], x: NDArray[np.int64], reach: Reach, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], ...]:
    """Return where the corners of windows lie in a table of sums, which has a row and a column more than the plane."""
    _, ry, rx = reach
    rows = np.maximum(y - ry, 0), np.minimum(y + (ry + 1), shape[0])
    columns = np.maximum(x - rx, 0), np.minimum(x + (rx + 1), shape[1])
    return tuple(row * (shape[1] + 1) + column for row in rows for column in columns)
