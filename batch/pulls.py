"""What the shards of a run pull: their own blocks and the halo around them, in voxels and in requests.

It pulls nothing, and lists neither blocks nor tiles: a run of blocks is at most five boxes of whole blocks.

::

    . . . . . . . .      one plane of blocks; a run from the third block of a row to the second of another
    . . 1 1 1 1 1 1      is the rest of its first row, whole rows, and the beginning of its last row;
    2 2 2 2 2 2 2 2      with several planes, whole planes come between, and rows before and after them
    3 3 . . . . . .

What is pulled comes tile by tile, a tile being what some block owns, cut to the region of the shard: the smallest box
with its blocks and their halo. Boxes with their halo overlap; what they hold together is counted by inclusion and
exclusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from batch.shards import count, edges_of, indices_of
from nd_synapse.geometry import Box

__all__ = ["Pulled", "pulled_by"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What the shards of a run pull of one channel.

    Parameters
    ----------
    own_voxels : ndarray of int64, shape (shards,)
        Voxels of the blocks of each shard; together those of the volume.
    voxels : ndarray of int64, shape (shards,)
        Voxels that each shard pulls, each once.
    tiles : ndarray of int64, shape (shards,)
        Tiles that they come in.
    """

    own_voxels: Ints
    voxels: Ints
    tiles: Ints


def pulled_by(box: Box, block_size: Sequence[int], shards: int, halo: Sequence[int]) -> Pulled:
    """Count what shards pull."""
    edges = [np.array(axis, np.int64) for axis in edges_of(box, block_size)]
    blocks = count(box, block_size)
    indices_of(blocks, 0, shards)  # refuses what cannot be shared out
    starts, stops = _runs(np.arange(shards + 1, dtype=np.int64) * blocks // shards, edges)
    first, last = _around(edges, starts, stops, halo)
    low, high = _region(edges, starts, stops, halo)
    return Pulled(
        own_voxels=_volumes(_at(edges, starts), _at(edges, stops)).sum(axis=0),
        voxels=_union(np.maximum(_at(edges, first), low), np.minimum(_at(edges, last), high)),
        tiles=_union(first, last),
    )


def _runs(cuts: Ints, edges: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Cut runs of blocks into boxes of whole blocks; return their first and last indices, shape (5, shards, 3).

    What a run does not have is a box that ends where it starts, or before.
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
        # the beginning of the row in which it ends
        ((last_z, last_y, 0), (last_z + goes_on, last_y + 1, last_x)),
    ]
    starts, stops = (
        np.array([np.stack([np.zeros_like(row) + n for n in box[end]], axis=-1) for box in boxes]) for end in (0, 1)
    )
    # so that even what is not there has edges to look up
    size = np.array([len(axis) - 1 for axis in edges])
    return np.minimum(starts, size), np.minimum(np.maximum(stops, starts), size)


def _around(edges: Sequence[Ints], starts: Ints, stops: Ints, halo: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the tiles that boxes of whole blocks reach with their halo, as first and last indices."""
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
    """Return the voxels at which blocks begin."""
    return np.stack([axis[indices[..., n]] for n, axis in enumerate(edges)], axis=-1)


def _volumes(starts: Ints, stops: Ints) -> Ints:
    """Return what boxes hold; 0 where they end before they start."""
    volumes: Ints = np.prod(np.maximum(stops - starts, 0), axis=-1)
    return volumes


def _union(starts: Ints, stops: Ints) -> Ints:
    """Return what boxes hold together, counting once what several hold; boxes are along the first axis."""
    total = np.zeros(starts.shape[1], np.int64)
    for many in range(1, len(starts) + 1):
        for some in combinations(range(len(starts)), many):
            shared = _volumes(starts[list(some)].max(axis=0), stops[list(some)].min(axis=0))
            total += shared if many % 2 else -shared
    return total
