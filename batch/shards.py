"""Shards: which blocks each child of an array has, and what it pulls.

::

    blocks     0  1  2  3  4  5  6  7  8  9        in the order of ``box.tiles(size, aligned=True)``, x fastest
    3 shards  [0       ][1       ][2          ]    shard i has those from i * 10 // 3 to (i + 1) * 10 // 3

A shard is a run of consecutive blocks, so that most of the halo of its blocks is its own. A run is at most five boxes
of whole blocks; neither blocks nor tiles are listed, because a large volume has hundreds of thousands::

    . . . . . . . .      one plane of blocks; a run from the third block of a row to the second of another
    . . 1 1 1 1 1 1      is the rest of its first row, whole rows, and the start of its last row;
    2 2 2 2 2 2 2 2      with several planes, whole planes come between, and rows before and after them
    3 3 . . . . . .

Voxels are pulled tile by tile, a tile being the block itself, cut to the smallest box with the blocks of the shard and
their halo. Boxes with their halo overlap; their union is counted by inclusion and exclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["MOST_CHILDREN", "Pulled", "blocks_of", "count", "edges_of", "indices_of", "pulled_by", "shards_for"]

Ints = NDArray[np.int64]

MOST_CHILDREN = 10_000
"""Children of an array of AWS Batch at most."""

SHORTEST_S, LONGEST_S = 180.0, 600.0
"""A child takes some minutes, so that its start is short in comparison."""

_TRIED = 8
"""How many even divisions into shards are compared."""


def edges_of(box: Box, block_size: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return the edges of the blocks along z, y, x."""
    if len(block_size) != 3 or min(block_size) < 1:
        raise UsageError(f"block size {tuple(block_size)}", "it is not three extents from 1 upwards", "Give z, y, x")
    z, y, x = (
        [start, *range((start // n + 1) * n, stop, n), stop]
        for (start, stop), n in zip(box.ranges, block_size, strict=True)
    )
    return z, y, x


def count(box: Box, block_size: Sequence[int]) -> int:
    """Return the number of blocks of a box."""
    return box.tile_count(block_size, aligned=True)


def indices_of(blocks: int, shard: int, shards: int) -> tuple[int, int]:
    """Return the indices of the first block of a shard, and of the one behind its last."""
    if not 1 <= shards <= blocks:
        raise UsageError(
            f"{shards} shards of {blocks} blocks",
            "each shard needs a block of its own",
            f"Give a number of shards from 1 to {min(blocks, MOST_CHILDREN)}",
        )
    if not 0 <= shard < shards:
        raise UsageError(f"shard {shard} of {shards}", "there is no such shard", f"Shards are 0 to {shards - 1}")
    return shard * blocks // shards, (shard + 1) * blocks // shards


def blocks_of(box: Box, block_size: Sequence[int], shard: int, shards: int) -> Iterator[Box]:
    """Yield the blocks of a shard; shard after shard, they are ``box.tiles(block_size, aligned=True)``."""
    z, y, x = edges_of(box, block_size)
    start, stop = indices_of(count(box, block_size), shard, shards)
    for index in range(start, stop):
        row, k = divmod(index, len(x) - 1)
        i, j = divmod(row, len(y) - 1)
        yield Box((z[i], z[i + 1]), (y[j], y[j + 1]), (x[k], x[k + 1]))


def shards_for(box: Box, block_size: Sequence[int], child_s: Callable[[int], float]) -> int:
    """Choose the number of shards: children run for minutes, and all of them together as short as possible."""
    z, y, _ = edges_of(box, block_size)
    rows = (len(z) - 1) * (len(y) - 1)
    most = min(count(box, block_size), MOST_CHILDREN)
    low, high = (_fewest(most, child_s, limit_s) for limit_s in (LONGEST_S, SHORTEST_S))
    even = [n for n in range(low, high + 1) if n % rows == 0 or rows % n == 0]
    return min([low, *even[:_TRIED]], key=lambda n: n * child_s(n))


def _fewest(most: int, child_s: Callable[[int], float], limit_s: float) -> int:
    """Return the least number of shards whose children keep a time limit; `most` if there is none."""
    low, high = 1, most
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if child_s(half) <= limit_s else (half + 1, high)
    return low


@dataclass(frozen=True, slots=True)
class Pulled:
    """What the shards of a run pull of one channel."""

    voxels: Ints
    """Voxels that each shard pulls, each once."""
    tiles: Ints
    """Tiles that they come in."""


def pulled_by(box: Box, block_size: Sequence[int], shards: int, halo: Sequence[int]) -> Pulled:
    """Count the voxels and tiles that shards pull of one channel."""
    edges = [np.array(axis, np.int64) for axis in edges_of(box, block_size)]
    blocks = count(box, block_size)
    indices_of(blocks, 0, shards)  # refuses more shards than blocks
    starts, stops = _runs(np.arange(shards + 1, dtype=np.int64) * blocks // shards, edges)
    first, last = _around(edges, starts, stops, halo)
    low, high = _region(edges, starts, stops, halo)
    return Pulled(
        voxels=_union(np.maximum(_at(edges, first), low), np.minimum(_at(edges, last), high)),
        tiles=_union(first, last),
    )


def _runs(cuts: Ints, edges: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Cut runs of blocks into boxes of whole blocks; return their first and last indices, shape (5, shards, 3).

    Boxes that a run does not have are empty: they end where they start, or before.
    """
    ny, nx = len(edges[1]) - 1, len(edges[2]) - 1
    (row, x), (last_row, last_x) = np.divmod(cuts[:-1], nx), np.divmod(cuts[1:], nx)
    (z, y), (last_z, last_y) = np.divmod(row + 1, ny), np.divmod(last_row, ny)
    goes_on = (row < last_row).astype(np.int64)
    in_one_plane = z == last_z
    boxes: list[tuple[tuple[Ints | int, ...], tuple[Ints | int, ...]]] = [
        # the rest of the row in which it begins, or all of it if it ends there
        ((row // ny, row % ny, x), (row // ny + 1, row % ny + 1, np.where(goes_on, nx, last_x))),
        # whole rows, to the end of the plane or of the run
        ((z, y, 0), (z + goes_on, np.where(in_one_plane, last_y, ny), nx)),
        # whole planes
        ((z + 1, 0, 0), (last_z, ny, nx)),
        # whole rows of the plane in which it ends
        ((last_z, 0, 0), (last_z + goes_on, np.where(in_one_plane, 0, last_y), nx)),
        # the start of the row in which it ends
        ((last_z, last_y, 0), (last_z + goes_on, last_y + 1, last_x)),
    ]
    starts, stops = (
        np.array([np.stack([np.zeros_like(row) + n for n in box[end]], axis=-1) for box in boxes]) for end in (0, 1)
    )
    # so that empty boxes have edges to look up, too
    size = np.array([len(axis) - 1 for axis in edges])
    return np.minimum(starts, size), np.minimum(np.maximum(stops, starts), size)


def _around(edges: Sequence[Ints], starts: Ints, stops: Ints, halo: Sequence[int]) -> tuple[Ints, Ints]:
    """Return first and last indices of tiles that boxes of blocks reach with their halo, shape (5, shards, 3)."""
    low, high = _at(edges, starts), _at(edges, stops)
    first, last = np.empty_like(starts), np.empty_like(stops)
    for n, (axis, reach) in enumerate(zip(edges, halo, strict=True)):
        first[..., n] = np.searchsorted(axis, np.maximum(low[..., n] - reach, axis[0]), "right") - 1
        last[..., n] = np.searchsorted(axis, np.minimum(high[..., n] + reach, axis[-1]), "left")
    is_there = np.all(stops > starts, axis=-1)[..., None]
    return np.where(is_there, first, 0), np.where(is_there, last, 0)


def _region(edges: Sequence[Ints], starts: Ints, stops: Ints, halo: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the smallest boxes of voxels with all blocks of a run and their halo, shape (shards, 3)."""
    is_there = np.all(stops > starts, axis=-1)[..., None]
    begin, end = (np.array([axis[n] for axis in edges]) for n in (0, -1))
    low = np.where(is_there, _at(edges, starts), end).min(axis=0)
    high = np.where(is_there, _at(edges, stops), begin).max(axis=0)
    return np.maximum(low - halo, begin), np.minimum(high + halo, end)


def _at(edges: Sequence[Ints], indices: Ints) -> Ints:
    """Return the start voxels of blocks, shape (..., 3)."""
    return np.stack([axis[indices[..., n]] for n, axis in enumerate(edges)], axis=-1)


def _volumes(starts: Ints, stops: Ints) -> Ints:
    """Return the volumes of boxes; 0 where they end before they start."""
    volumes: Ints = np.prod(np.maximum(stops - starts, 0), axis=-1)
    return volumes


def _union(starts: Ints, stops: Ints) -> Ints:
    """Return the volume of the union of boxes, which are along the first axis; shape (shards,)."""
    total = np.zeros(starts.shape[1], np.int64)
    for many in range(1, len(starts) + 1):
        for some in combinations(range(len(starts)), many):
            shared = _volumes(starts[list(some)].max(axis=0), stops[list(some)].min(axis=0))
            total += shared if many % 2 else -shared
    return total
