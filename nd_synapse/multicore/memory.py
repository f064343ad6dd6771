"""The memory that a function on blocks takes, computed before it runs from what the function declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nd_synapse.blocks.grid import MAX_BLOCKS
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.machine import in_gib, sufficient_bytes, usable_bytes

__all__ = ["Load"]

_PARENT_BYTES = 160 * 2**20
_WORKER_BYTES = 80 * 2**20
_COPIES = 3
"""A pulled channel of a block is in memory packed, unpacked, and as what is saved; twice when it is read."""

_BLOCK_BYTES = 4096
"""What the parent holds for a block, whatever is in it: where it lies, who waits for it, what came of it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What decides how much memory blocks take."""

    box: Box
    halo: tuple[int, int, int]
    """Voxels along z, y, x around a block."""
    itemsizes: Sequence[int]
    """Bytes a voxel of each channel."""
    working_bytes: int
    """What the function takes beside its input, in bytes a voxel."""
    cpus: int
    pulls: int
    """Cutouts in flight."""

    def bytes_of(self, size: tuple[int, ...]) -> int:
        """Return the largest memory of all processes together with blocks of a size."""
        block = [min(n, extent) for n, extent in zip(size, self.box.shape, strict=True)]
        blocks = self.box.tile_count(size, aligned=True)
        given = math.prod(n + 2 * halo for n, halo in zip(block, self.halo, strict=True))
        largest = max(self.itemsizes, default=0)
        worker = _WORKER_BYTES + given * (sum(self.itemsizes) + largest + self.working_bytes)
        parent = _PARENT_BYTES + self.pulls * _COPIES * math.prod(block) * largest + blocks * _BLOCK_BYTES
        return parent + min(self.cpus, blocks) * worker

    def check(self, size: tuple[int, int, int], limit_bytes: int) -> None:
        """Refuse blocks that do not fit."""
        usable = usable_bytes(limit_bytes)
        needed = self.bytes_of(size)
        if needed <= usable:
            return
        fitting = next((one for one in self._others(size) if self.bytes_of(one) <= usable), None)
        raise UsageError(
            f"blocks of {size} voxels (z, y, x) with {self.cpus} workers and {self.pulls} cutouts in flight",
            f"they need --memory {in_gib(sufficient_bytes(needed))}, there are {limit_bytes / 2**30:,.2f} GiB",
            f"Give --block-size {','.join(map(str, fitting))}"
            if fitting
            else "Give fewer --cpus or --pulls, or more --memory",
        )

    def _others(self, size: tuple[int, int, int]) -> Iterator[tuple[int, ...]]:
        """Yield sizes that may fit in the place of one: smaller ones, and then larger ones, which are fewer."""
        first = tuple(min(n, extent) for n, extent in zip(size, self.box.shape, strict=True))
        one = first
        while max(one) > 1:
            longest = one.index(max(one))
            one = tuple(-(-n // 2) if axis == longest else n for axis, n in enumerate(one))
            if self.box.tile_count(one, aligned=True) <= MAX_BLOCKS:
                yield one
        one = first
        while one != self.box.shape:
            most = max(range(3), key=lambda axis: self.box.shape[axis] / one[axis])
            one = tuple(min(2 * n, self.box.shape[axis]) if axis == most else n for axis, n in enumerate(one))
            yield one
