"""The shards of a run: which blocks each child of an array has.

It knows no machine and no price, and lists no block that it is not asked for: a large volume has hundreds of thousands.

::

    blocks     0  1  2  3  4  5  6  7  8  9        in the order of ``box.tiles(size, aligned=True)``, x fastest
    3 shards  [0       ][1       ][2          ]    shard i has those from i * 10 // 3 to (i + 1) * 10 // 3

A shard is a run of blocks that follow each other, so that most of what its blocks read around themselves is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["MOST_CHILDREN", "blocks_of", "count", "edges_of", "indices_of", "shards_for"]

MOST_CHILDREN = 10_000
"""Children that an array of AWS Batch has at most."""

SHORTEST_S, LONGEST_S = 180.0, 600.0
"""What a child is to take: minutes, so that its start is short beside them."""

_TRIED = 8
"""Even numbers of shards that are compared."""


def edges_of(box: Box, block_size: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return where blocks begin and end along each axis."""
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
    """Return which blocks a shard has, by their places in the order of all."""
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
    """Choose the number of shards: children run for minutes, and all of them together as shortly as possible."""
    z, y, _ = edges_of(box, block_size)
    rows = (len(z) - 1) * (len(y) - 1)
    most = min(count(box, block_size), MOST_CHILDREN)
    low, high = (_fewest(most, child_s, limit_s) for limit_s in (LONGEST_S, SHORTEST_S))
    even = [n for n in range(low, high + 1) if n % rows == 0 or rows % n == 0]
    return min([low, *even[:_TRIED]], key=lambda n: n * child_s(n))


def _fewest(most: int, child_s: Callable[[int], float], limit_s: float) -> int:
    """Return the least number of shards whose children take no longer than a limit; `most` if there is none."""
    low, high = 1, most
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if child_s(half) <= limit_s else (half + 1, high)
    return low
