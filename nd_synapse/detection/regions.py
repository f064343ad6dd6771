"""Flat regions of a block: flat pixels (`flat`) of one value that share a side. Which are padding decides `padding`.

They are described by *spans*, their runs of pixels along x: few, where a block has many voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.distinct import distinct
from nd_synapse.detection.flat import REACH
from nd_synapse.geometry import Box

__all__ = ["NEAR_SIDE", "REGION_COLUMNS", "Regions", "distance_levels", "overlaps", "regions_of"]

_LEVELS = 34
"""Levels of `distance_levels`, up to 16 bits."""

_PIXELS = 2**17
"""Flat pixels that are described at a time, with those of one section."""

REGION_COLUMNS = 4 + _LEVELS
"""Columns of the table of `Regions`."""


def distance_levels(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return levels of distances below 2^16, two for each doubling: 0, 2, 4, 5, 6, 6, 7, 7, 8, ..."""
    length = np.frexp(distances)[1].astype(np.int64)
    below_top = np.where(length > 1, (distances >> np.maximum(length - 2, 0)) & 1, 0)
    return 2 * length + below_top


@dataclass(frozen=True, slots=True)
class Regions:
    """The flat regions of a channel in a block that end at a side of the block, y or x."""

    spans: NDArray[np.int64]
    """Their pixels, a row for each run along x, ascending: the first and the one after the last, as C-order indices in
    the block, and the region's row in the table."""
    table: NDArray[np.int64]
    """A row for each region: id (one plus the index in the volume of its first voxel in the block), value, its pixels,
    those of them at the y and x borders of the volume, and by level of distance from its value the pixels beside it
    that are not flat. All but the first two add up over blocks."""
    runs: NDArray[np.int64]
    """Where regions end at other blocks, a row for each run: face (0 and 1 low and high y, 2 and 3 low and high x),
    first place and the one after the last, as indices in the volume along the face, id. Of a window, also the regions
    that may go on beyond it: `NEAR_SIDE`, 0, 0, id."""
    inner: NDArray[np.int64]
    """Section in the volume and value of flat regions that end at no side, int64 (n, 2), each once."""


NEAR_SIDE = 4


def regions_of(
    voxels: NDArray[Any], flat: NDArray[np.bool_], box: Box, volume: Box, whole: Box | None = None
) -> Regions:
    """Return the regions of a block; voxels and which are flat have margins along y and x, of 1 or more.

    The borders are those of a larger volume, `whole`, if `volume` is a window of it.
    """
    found, around, count = [np.zeros((0, 5), np.int64)], [np.zeros((0, 2), np.int64)], 0
    # some sections at a time: the places of a whole block would take many times its memory
    group = np.cumsum([np.count_nonzero(section) for section in flat]) // _PIXELS
    for start in np.flatnonzero(np.diff(group, prepend=-1)).tolist():
        some = slice(start, start + np.count_nonzero(group == group[start]))
        spans, beside = _spans_of(voxels[some], flat[some], box.shape[1:])
        spans[:, 0] += start
        beside[:, 0] += count
        found.append(spans)
        around.append(beside)
        count += len(spans)
    spans, beside = np.concatenate(found), np.concatenate(around)
    z, y, start, stop, value = spans.T
    _, ny, nx = box.shape
    rows = (z * ny + y) * nx
    ends = np.stack([rows + start, rows + stop], axis=1)
    # a row farther; below the last row of a section another section begins
    here, there = overlaps(ends + nx, ends)
    touching = (value[here] == value[there]) & (y[here] < ny - 1)
    region = _joined(len(spans), here[touching], there[touching])
    first = distinct(region[(y == 0) | (y == ny - 1) | (start == 0) | (stop == nx)])
    number = np.full(len(spans), len(first))
    number[first] = np.arange(len(first))
    number = number[region]
    spans[:, :4] += np.subtract(box.start, volume.start)[[0, 1, 2, 2]]
    levels = np.bincount(number[beside[:, 0]] * _LEVELS + beside[:, 1], minlength=(len(first) + 1) * _LEVELS)
    kept = number < len(first)
    borders = volume if whole is None else whole
    counts = _table_of(spans[kept], spans[first], number[kept], volume, borders)
    table = np.concatenate([counts, levels.reshape(-1, _LEVELS)[:-1]], axis=1)
    ids = table[number[kept], 0]
    runs = [_runs_of(spans[kept], ids, box, volume), _near_sides(spans[kept], ids, volume, borders)]
    inner = distinct(spans[~kept][:, 0] << 16 | spans[~kept][:, 4])
    return Regions(
        np.column_stack([ends, number])[kept],
        table,
        np.concatenate(runs),
        np.stack([inner >> 16, inner & 0xFFFF], axis=1),
    )


def _borders(volume: Box, whole: Box) -> tuple[int, int, int, int]:
    """Return the first and the last row, and the first and the last column of a volume, from those of a window."""
    (y, x), (y_stop, x_stop) = (np.subtract(ends, volume.start)[1:].tolist() for ends in (whole.start, whole.stop))
    return y, y_stop - 1, x, x_stop - 1


def _near_sides(spans: NDArray[np.int64], ids: NDArray[np.int64], volume: Box, whole: Box) -> NDArray[np.int64]:
    """Return the rows of `Regions.runs` for regions that a window cuts, or that may be flat only as it is mirrored."""
    _, y, start, stop, _ = spans.T
    _, ny, nx = volume.shape
    first_y, last_y, first_x, last_x = _borders(volume, whole)
    near = (y < REACH) & (first_y < 0) | (y >= ny - REACH) & (last_y >= ny)
    near |= (start < REACH) & (first_x < 0) | (stop > nx - REACH) & (last_x >= nx)
    cut = distinct(ids[near])
    return np.column_stack([np.tile([NEAR_SIDE, 0, 0], (len(cut), 1)), cut])


def _spans_of(
    voxels: NDArray[Any], flat: NDArray[np.bool_], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs of flat pixels of one value in sections of a shape, both with margins, and what lies beside them.

    Runs have z, y, x, the end along x, and the value, int64 (n, 5). A pixel that is not flat beside one that is, has
    the run and the level of the distance of their values, int64 (m, 2).
    """
    ny, nx = shape
    own = np.flatnonzero(_trimmed(flat, shape))
    row = own // nx
    section, y = np.divmod(np.arange(len(flat) * ny), ny)

    def places(array: NDArray[Any]) -> NDArray[np.int64]:
        # where they lie: a copy without margins would take most of the time
        _, rows, columns = array.shape
        first = (section * rows + y + (rows - ny) // 2) * columns + (columns - nx) // 2
        found: NDArray[np.int64] = own + (first - np.arange(len(first)) * nx)[row]
        return found

    in_voxels, in_flat = places(voxels), places(flat)
    value = voxels.reshape(-1).take(in_voxels)
    begins = np.ones(len(own), np.bool_)
    begins[1:] = (np.diff(own) != 1) | (np.diff(row) != 0) | (value[1:] != value[:-1])
    first = np.flatnonzero(begins)
    length = np.diff(first, append=len(own))
    start = own[first] - row[first] * nx
    spans = np.stack([section[row[first]], y[row[first]], start, start + length, value[first]], axis=1)
    run = np.cumsum(begins) - 1
    beside = [np.zeros((0, 2), np.int64)]
    every = slice(None)
    # none of them is in the mirrored margin beyond a border: it is as flat as the border
    for of, dy, dx in ((every, -1, 0), (every, 1, 0), (first, 0, -1), (first + length - 1, 0, 1)):
        free = ~flat.reshape(-1).take(in_flat[of] + (dy * flat.shape[2] + dx))
        near = in_voxels[of][free] + (dy * voxels.shape[2] + dx)
        distance = np.abs(voxels.reshape(-1).take(near).astype(np.int64) - value[of][free])
        beside.append(np.stack([run[of][free], distance_levels(distance)], axis=1))
    return spans, np.concatenate(beside)


def _trimmed(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return sections (z, y, x) without their margins."""
    y, x = ((have - n) // 2 for have, n in zip(array.shape[1:], shape, strict=True))
    return array[:, y : y + shape[0], x : x + shape[1]]


def _table_of(
    spans: NDArray[np.int64], first: NDArray[np.int64], number: NDArray[np.int64], volume: Box, whole: Box
) -> NDArray[np.int64]:
    """Return the first columns of `Regions.table`, given the first span of each region, and the region of each."""
    _, ny, nx = volume.shape
    table = np.zeros((len(first), REGION_COLUMNS - _LEVELS), np.int64)
    table[:, 0] = (first[:, 0] * ny + first[:, 1]) * nx + first[:, 2] + 1
    table[:, 1] = first[:, 4]
    _, y, start, stop, _ = spans.T
    length = stop - start
    first_y, last_y, first_x, last_x = _borders(volume, whole)
    contact = length * (y == first_y) + length * (y == last_y) + (start == first_x) + (stop == last_x + 1)
    np.add.at(table[:, 2], number, length)
    np.add.at(table[:, 3], number, contact)
    return table


def overlaps(some: NDArray[np.int64], others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which ranges (n, 2) share places with which others, which ascend and are apart: the rows of both (m,)."""
    first = np.searchsorted(others[:, 1], some[:, 0], "right")
    count = np.maximum(np.searchsorted(others[:, 0], some[:, 1], "left") - first, 0)
    which = np.repeat(np.arange(len(some)), count)
    return which, np.arange(len(which)) + np.repeat(first - np.cumsum(count) + count, count)


def _joined(count: int, some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of some things the first one that pairs join it to, int64 (count,)."""
    # workers start sooner without scipy
    lowest = np.arange(count)
    while True:
        a, b = lowest[some], lowest[others]
        if (a == b).all():
            return lowest
        np.minimum.at(lowest, np.maximum(a, b), np.minimum(a, b))
        while (lowest[lowest] != lowest).any():
            lowest = lowest[lowest]


def _runs_of(spans: NDArray[np.int64], ids: NDArray[np.int64], box: Box, volume: Box) -> NDArray[np.int64]:
    """Return where regions end at other blocks, given their spans in the volume and their ids."""
    z, y, start, stop, _ = spans.T
    _, ny, nx = volume.shape
    _, oy, ox = np.subtract(box.start, volume.start).tolist()
    _, ey, ex = np.subtract([end for _, end in box.ranges], volume.start).tolist()
    found = [np.zeros((0, 4), np.int64)]
    for face, position, side, border, (across, length, first, last) in (
        (0, y, oy, 0, (ny, nx, start, stop)),
        (1, y, ey - 1, ny - 1, (ny, nx, start, stop)),
        (2, start, ox, 0, (nx, ny, y, y + 1)),
        (3, stop - 1, ex - 1, nx - 1, (nx, ny, y, y + 1)),
    ):
        here = (position == side) & (side != border)
        offset = (z[here] * across + side) * length
        rows = np.stack([np.full(len(offset), face), offset + first[here], offset + last[here], ids[here]], axis=1)
        # a run that begins where another one of the region ends goes on
        begins, ends = np.ones((2, len(rows)), np.bool_)
        begins[1:] = (rows[1:, 1] != rows[:-1, 2]) | (rows[1:, 3] != rows[:-1, 3])
        ends[:-1] = begins[1:]
        found.append(np.column_stack([rows[begins, :2], rows[ends, 2:]]))
    return np.concatenate(found)
