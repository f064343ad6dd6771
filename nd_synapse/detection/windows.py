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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["TOGETHER", "WINDOW_NM", "Reach", "surroundings", "voxels_round", "window", "window_sums"]

WINDOW_NM = (140.0, 500.0, 500.0)
"""How far a window reaches from its point's voxel along z, y, x: with voxels of 70 x 100 x 100 nm, for which the first
PyMeda was written, two and five voxels to each side."""

TOGETHER = 3
"""Images that are summed at once, at most."""

_BYTES = 8
"""Of the largest numbers that are summed."""

_WIDE = 256
"""Columns from which on adding row by row takes less time than accumulating along the first axis."""

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
    images: Iterable[NDArray[Any]],
    box: Box,
    points: NDArray[np.int64],
    reaches: Sequence[Reach],
    absent: NDArray[np.bool_] | None = None,
) -> list[list[NDArray[np.int64]]]:
    """Return for each image and reach the sums (int64, shape (n,)) of windows round points (3, n), cut at the border.

    Images show `box`: booleans, or unsigned integers of at most 16 bits, shape (z, y, x). `absent` voxels count 0. So
    many as `TOGETHER` are held at a time.
    """
    order = np.argsort(points[0], kind="stable")
    sums: list[list[NDArray[np.int64]]] = []
    for group in _groups(images, reaches, box.shape[0]):
        for found in _sums_of_group(group, box, points[:, order], reaches, absent):
            in_order = np.empty_like(found)
            in_order[:, order] = found
            sums.append(list(in_order))
    return sums


@dataclass(slots=True)
class _Group:
    """Images that are summed at once, each in bits of its own of one number."""

    images: list[NDArray[Any]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """The byte at which each image begins."""
    stop: int = 0


def _groups(images: Iterable[NDArray[Any]], reaches: Sequence[Reach], depth: int) -> Iterator[_Group]:
    """Put images together as far as their sums have room in 64 bits; in their order."""
    voxels = max(min(2 * rz + 1, depth) * (2 * ry + 1) * (2 * rx + 1) for rz, ry, rx in reaches)
    group = _Group()
    for image in images:
        brightest = 1 if image.dtype == np.bool_ else int(np.iinfo(image.dtype).max)
        size = -(-(voxels * brightest).bit_length() // 8)
        start = -(-group.stop // image.itemsize) * image.itemsize
        if group.images and (start + size > _BYTES or len(group.images) == TOGETHER):
            yield group
            group, start = _Group(), 0
        group.images.append(image)
        group.starts.append(start)
        group.stop = start + size
    if group.images:
        yield group


def _sums_of_group(
    group: _Group, box: Box, points: NDArray[np.int64], reaches: Sequence[Reach], absent: NDArray[np.bool_] | None
) -> Iterator[NDArray[np.int64]]:
    """Yield for each image the sums by reach, int64 (reaches, n), of windows round points that ascend along z."""
    z, y, x = (places - start for places, start in zip(points, box.start, strict=True))
    nz, ny, nx = box.shape
    corners = [_corners(y, x, reach, (ny, nx)) for reach in reaches]
    # sums of all rectangles that begin in the first corner: a rectangle anywhere is a matter of four of them, whose
    # differences are exact even where the sums themselves have wrapped
    table = np.zeros((ny + 1, nx + 1), "<u4" if group.stop <= _BYTES // 2 else "<u8")
    sums = np.zeros((len(reaches), len(z)), table.dtype)
    for plane in range(nz):
        met = [np.searchsorted(z, (plane - rz, plane + rz + 1)).tolist() for rz, _, _ in reaches]
        if all(first == stop for first, stop in met):
            continue
        _fill(table, group, plane, None if absent is None else absent[plane])
        flat = table.ravel()
        for total, (first, stop), (low_low, low_high, high_low, high_high) in zip(sums, met, corners, strict=True):
            some = slice(first, stop)
            rectangle = flat.take(high_high[some])
            rectangle -= flat.take(low_high[some])
            rectangle += flat.take(low_low[some])
            rectangle -= flat.take(high_low[some])
            total[some] += rectangle
    for start, stop in pairwise([*group.starts, sums.itemsize]):
        kept = sums >> sums.dtype.type(8 * start)
        yield (kept & sums.dtype.type(2 ** (8 * (stop - start)) - 1)).astype(np.int64)


def _fill(table: NDArray[Any], group: _Group, plane: int, absent: NDArray[np.bool_] | None) -> None:
    """Sum a plane of a group's images over all rectangles that begin in its first corner."""
    table[:] = 0
    for image, start in zip(group.images, group.starts, strict=True):
        voxels = image[plane].view(np.uint8) if image.dtype == np.bool_ else image[plane]
        parts = table.view(voxels.dtype.newbyteorder("<")).reshape(*table.shape, -1)
        parts[1:, 1:, start // image.itemsize] = voxels
    if absent is not None:
        np.copyto(table[1:, 1:], table.dtype.type(0), where=absent)
    if table.shape[1] < _WIDE:
        np.add.accumulate(table, axis=0, out=table)
    else:
        for above, row in pairwise(table):
            np.add(above, row, out=row)
    np.add.accumulate(table, axis=1, out=table)


def _corners(
    y: NDArray[np.int64], x: NDArray[np.int64], reach: Reach, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], ...]:
    """Return where the corners of windows lie in a table of sums, which has a row and a column more than the plane."""
    _, ry, rx = reach
    rows = np.maximum(y - ry, 0), np.minimum(y + (ry + 1), shape[0])
    columns = np.maximum(x - rx, 0), np.minimum(x + (rx + 1), shape[1])
    return tuple(row * (shape[1] + 1) + column for row in rows for column in columns)
