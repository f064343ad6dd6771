"""Flat areas of sections: pixels that lie in a square of one exact value. Which of them are padding decides `padding`.

::

    +--------------+    a pixel is flat if it lies in a square of 8 x 8 pixels of one value; noise makes no such square,
    |000000000     |    and padding is made of them. The section is mirrored at the border of the box, so that a strip
    |000000000  3 1|    of four pixels is found.
    |00000000000000|    Flat pixels of one value that share a side are one region.
    +--------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["REACH", "REGION_COLUMNS", "STEP", "Regions", "distance_levels", "flat_pixels", "regions_of", "values_of"]

_SIDE = 8
REACH = _SIDE - 1
"""Pixels around a pixel that it depends on whether it is flat."""

STEP = 8
"""Values of a channel are counted at every eighth pixel along y and x."""

_BETWEEN = ((2, 2), (1, 1), (3, 3), (1, 3), (3, 1), (0, 2), (2, 0), (2, 4), (4, 2))
"""Pixels between four points of the lattice; others tell little more."""

_MANY = 64
"""Places from which a section is searched whatever is around them."""

_LEVELS = 34
"""Levels of `distance_levels`, up to 16 bits."""

REGION_COLUMNS = 4 + _LEVELS
"""Columns of the table of `Regions`."""


def flat_pixels(voxels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which voxels (z, y, x) are flat, without a margin of `REACH` along y and x; None where none is."""
    flat: NDArray[np.bool_] | None = None
    z, y, x = voxels.shape
    for section in _sections_to_search(voxels):
        found = _opened(voxels[section])
        if found.any():
            flat = np.zeros((z, y - 2 * REACH, x - 2 * REACH), np.bool_) if flat is None else flat
            flat[section] = found
    return flat


def _sections_to_search(voxels: NDArray[Any]) -> list[int]:
    """Return the sections that may have a square of one value: it has four points of a lattice, and what is between."""
    half = _SIDE // 2
    points = np.ascontiguousarray(voxels[:, ::half, ::half])
    corner = points[:, :-1, :-1]
    equal = corner == points[:, 1:, 1:]
    equal &= corner == points[:, 1:, :-1]
    equal &= corner == points[:, :-1, 1:]
    flat = voxels.reshape(-1)
    _, rows, columns = voxels.shape
    z, y, x = np.unravel_index(np.flatnonzero(equal), equal.shape)
    places, values = (z * rows + y * half) * columns + x * half, corner[z, y, x]
    for dy, dx in _BETWEEN:
        kept = flat[places + (dy * columns + dx)] == values
        places, values = places[kept], values[kept]
    section = places // (rows * columns)
    many = np.bincount(section, minlength=len(voxels)) > _MANY
    few = ~many[section]
    # eleven pixels along each axis have all squares around a point; beyond the border, others take their place
    before = np.arange(1 - half, _SIDE)
    around = (places[few, np.newaxis, np.newaxis] + (before[:, np.newaxis] * columns + before)).clip(0, len(flat) - 1)
    square = flat[around] == values[few, np.newaxis, np.newaxis]
    for shift in (1, 2, 4):
        square = square[:, :-shift] & square[:, shift:]
        square = square[:, :, :-shift] & square[:, :, shift:]
    many[section[few][square.any((1, 2))]] = True
    sections: list[int] = np.flatnonzero(many).tolist()
    return sections


def _opened(section: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels (y, x) lie in a square of one value, without a margin of `REACH`."""
    along_x = _runs(section[:, :-1] == section[:, 1:], 1)
    along_y = (section[:-1] == section[1:])[:, : along_x.shape[1]]
    squares = _runs(along_x[:-1] & along_x[1:] & along_y, 0)
    flat = np.zeros(section.shape, np.bool_)
    flat[: squares.shape[0], : squares.shape[1]] = squares
    for shift in (1, 2, 4):
        flat[:, shift:] |= flat[:, :-shift]
    for shift in (1, 2, 4):
        flat[shift:] |= flat[:-shift]
    return flat[REACH:-REACH, REACH:-REACH]


def _runs(equal: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return where seven true values follow one another along an axis."""
    for shift in (1, 2, 3):
        equal = equal[:, :-shift] & equal[:, shift:] if axis else equal[:-shift] & equal[shift:]
    return equal


def values_of(voxels: NDArray[Any], flat: NDArray[np.bool_] | None, start: Sequence[int]) -> NDArray[np.int64]:
    """Count the values of a block that are not flat at every `STEP`-th pixel along y and x, int64 (n,).

    Voxels and which are flat, None if none is, have a margin of 1 along y and x; `start` is the block's first pixel
    (y, x) in the volume, by which these are the same pixels for any blocks.
    """
    y, x = (slice(1 + -first % STEP, length - 1, STEP) for first, length in zip(start, voxels.shape[1:], strict=True))
    values = voxels[:, y, x]
    counts: NDArray[np.int64] = np.bincount(values.ravel() if flat is None else values[~flat[:, y, x]])
    return counts


def distance_levels(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return levels of distances below 2^16, two for each doubling: 0, 2, 4, 5, 6, 6, 7, 7, 8, ..."""
    length = np.frexp(distances)[1].astype(np.int64)
    below_top = np.where(length > 1, (distances >> np.maximum(length - 2, 0)) & 1, 0)
    return 2 * length + below_top


@dataclass(frozen=True, slots=True)
class Regions:
    """The flat regions of a channel in a block that end at a side of the block, y or x."""

    numbers: NDArray[Any]
    """Shape (z, y, x): 0 where there is none, k in the k-th region."""
    table: NDArray[np.int64]
    """A row for each region: id (one plus the index in the volume of its first voxel in the block), value, its pixels,
    those of them at the y and x borders of the volume, and by level of distance from its value the pixels beside it
    that are not flat. All but the first two add up over blocks."""
    runs: NDArray[np.int64]
    """Where regions end at other blocks, a row for each run: face (0 and 1 low and high y, 2 and 3 low and high x),
    first place and the one after the last, as indices in the volume along the face, id."""


def regions_of(voxels: NDArray[Any], flat: NDArray[np.bool_], box: Box, volume: Box) -> Regions:
    """Return the regions of a block; voxels and which are flat have a margin of 1 along y and x."""
    inner = (slice(None), slice(1, -1), slice(1, -1))
    numbers = _numbered(voxels[inner], flat[inner])
    oz, oy, ox = (b - v for b, v in zip(box.start, volume.start, strict=True))
    # a section at a time, as a region lies in one: the places of a whole block take many times its memory
    tables = [
        _table_of(numbers[z], voxels[z], flat[z], (z + oz, oy, ox), volume)
        for z in np.flatnonzero(numbers.any((1, 2))).tolist()
    ]
    table = np.concatenate([np.zeros((0, REGION_COLUMNS), np.int64), *tables])
    return Regions(numbers, table, _runs_of(numbers, table[:, 0], (oz, oy, ox), volume))


def _table_of(
    numbers: NDArray[Any], voxels: NDArray[Any], flat: NDArray[np.bool_], origin: tuple[int, int, int], volume: Box
) -> NDArray[np.int64]:
    """Return the rows of `Regions.table` for one section, which has regions; voxels and flat have a margin of 1."""
    places = np.flatnonzero(numbers)
    of_places = numbers.ravel()[places]
    # the numbers of a section follow one another
    of_places -= of_places.min() - 1
    _, first = np.unique(of_places, return_index=True)
    y, x = np.unravel_index(places, numbers.shape)
    oz, oy, ox = origin
    _, ny, nx = volume.shape
    table = np.zeros((len(first), REGION_COLUMNS), np.int64)
    table[:, 0] = ((oz * ny + y + oy) * nx + x + ox + 1)[first]
    table[:, 1] = voxels[1:-1, 1:-1].ravel()[places[first]]
    table[:, 2] = np.bincount(of_places, minlength=len(first) + 1)[1:]
    for at_border in (y + oy == 0, y + oy == ny - 1, x + ox == 0, x + ox == nx - 1):
        table[:, 3] += np.bincount(of_places[at_border], minlength=len(first) + 1)[1:]
    beside = np.zeros((len(first) + 1) * _LEVELS, np.int64)
    for dy, dx, inside in ((-1, 0, y + oy > 0), (1, 0, y + oy < ny - 1), (0, -1, x + ox > 0), (0, 1, x + ox < nx - 1)):
        there = (y + (1 + dy), x + (1 + dx))
        counted = inside & ~flat[there]
        distance = np.abs(voxels[there][counted].astype(np.int64) - table[of_places[counted] - 1, 1])
        beside += np.bincount(of_places[counted] * _LEVELS + distance_levels(distance), minlength=len(beside))
    table[:, 4:] = beside.reshape(-1, _LEVELS)[1:]
    return table


def _numbered(voxels: NDArray[Any], flat: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return a number for each region of a block that ends at one of its sides, section by section."""
    numbers = np.zeros(flat.shape, np.uint32)
    count = 0
    for section in np.flatnonzero(flat.any((1, 2))).tolist():
        # cc3d misreads some strided views, so it is given contiguous memory
        values: NDArray[Any] = np.ascontiguousarray(flat[section]).view(np.uint8)
        present = voxels[section][flat[section]]
        if (present != present[0]).any():
            # equal values are one component, 0 is none
            values = np.where(flat[section], voxels[section] + np.uint32(1), np.uint32(0))
        found, n = cc3d.connected_components(values, connectivity=4, return_N=True)
        sides = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
        kept = np.zeros(n + 1, np.uint32)
        ends = np.unique(sides[sides != 0])
        kept[ends] = np.arange(count + 1, count + len(ends) + 1)
        count += len(ends)
        numbers[section] = kept[found]
    return numbers if count >= 2**16 else numbers.astype(np.uint16)


def _runs_of(
    numbers: NDArray[Any], ids: NDArray[np.int64], origin: tuple[int, int, int], volume: Box
) -> NDArray[np.int64]:
    """Return where regions end at other blocks."""
    runs = [np.zeros((0, 4), np.int64)]
    _, ny, nx = volume.shape
    oz, oy, ox = origin
    sides = ((0, 1, 0, oy), (1, 1, -1, oy), (2, 2, 0, ox), (3, 2, -1, ox))
    for face, axis, place, start in sides:
        across, length, along = (ny, nx, ox) if axis == 1 else (nx, ny, oy)
        position = start + (numbers.shape[axis] - 1 if place else 0)
        if position == (across - 1 if place else 0):
            continue
        line = numbers.take(place, axis)
        ends = np.zeros((line.shape[0], line.shape[1] + 1), np.bool_)
        ends[:, 1:-1] = line[:, 1:] != line[:, :-1]
        ends[:, 0] = ends[:, -1] = True
        section, at = np.nonzero(ends)
        same = (section[1:] == section[:-1]) & (line[section[:-1], np.minimum(at[:-1], line.shape[1] - 1)] != 0)
        section, first, last = section[:-1][same], at[:-1][same], at[1:][same]
        offset = ((section + oz) * across + position) * length + along
        region = ids[line[section, first].astype(np.int64) - 1]
        runs.append(np.stack([np.full(len(region), face), offset + first, offset + last, region], axis=1))
    return np.concatenate(runs)
