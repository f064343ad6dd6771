"""Shards: how many children an array has, and about how much they pull.

A shard is a run of consecutive blocks, x fastest, as `blocks.shared_store.Part` cuts them, so that most of the halo of
its blocks is its own. It pulls what its blocks and their halo touch of the smallest box around them, so even parts of
rows pull least. Estimates take a run for a box: part of a row, whole rows, or whole planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["CHILD_S", "MOST_CHILDREN", "pulled_by", "shards_for"]

MOST_CHILDREN = 10_000
"""Children of an array of AWS Batch at most."""

CHILD_S = 1800.0
"""About how long a child takes: long beside its start and what it lists in S3; its finished blocks are kept."""


def shards_for(box: Box, block_size: Sequence[int], child_s: Callable[[int], float]) -> int:
    """Choose the number of shards: the fewest whose children take `CHILD_S` at most, in even parts of rows if any."""
    nz, ny, _ = _counts(box, block_size)
    most = min(box.tile_count(block_size, aligned=True), MOST_CHILDREN)
    low, high = 1, most
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if child_s(half) <= CHILD_S else (half + 1, high)
    even = (n for n in range(max(1, low // 2), min(2 * low, most) + 1) if _is_even(nz * ny, n))
    return next((n for n in even if child_s(n) <= CHILD_S), low)


def pulled_by(box: Box, block_size: Sequence[int], shards: int, halo: Sequence[int]) -> tuple[int, int]:
    """Estimate the voxels, and the tiles that they come in, that all shards together pull of one channel."""
    counts = _counts(box, block_size)
    blocks = math.prod(counts)
    if shards > blocks:
        raise UsageError(
            f"{shards} shards of {blocks} blocks",
            "each shard needs a block of its own",
            f"Give a number of shards from 1 to {min(blocks, MOST_CHILDREN)}",
        )
    run = blocks / shards
    nz, ny, nx = counts
    runs = (max(run / (ny * nx), 1), min(max(run / nx, 1), ny), min(run, nx))
    voxels, tiles = float(box.voxels), float(shards)
    for extent, count, along, reach in zip(box.shape, counts, runs, halo, strict=True):
        # a run has neighbours on both sides, but for the first and the last of an axis
        sides = 2 * (1 - along / count)
        own = extent * along / count
        voxels *= (own + sides * reach) / own
        tiles *= along + (sides if reach else 0)
    # a run that begins in one row, or plane, and ends in another has as much of both as the two have together
    for whole, number in ((nx, nz * ny), (ny * nx, nz)):
        if any(halo) and not _is_even(number, shards):
            voxels *= 1 + min(run, whole) / max(run, whole)
    return math.ceil(voxels), math.ceil(tiles)


def _counts(box: Box, block_size: Sequence[int]) -> list[int]:
    """Return the numbers of blocks along z, y, x."""
    return [-(-stop // n) - start // n for (start, stop), n in zip(box.ranges, block_size, strict=True)]


def _is_even(number: int, shards: int) -> bool:
    """Return whether each shard has as many rows or planes as the others, or the same part of one."""
    return shards % number == 0 or number % shards == 0
