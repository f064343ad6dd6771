"""What a detection left of its blocks as volumes: masks, and labels, which say the row of the table of each voxel.

They hold names alone: any process that has the scratch folder may get them, and read.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import Bits, BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box

__all__ = ["labels_of", "mask_volume"]

_KEPT_BYTES = 64 * 2**20
"""What is kept of blocks that were unpacked: a reader whose pieces are cut elsewhere asks for each several times."""

_BLOCK_BYTES = 1024
"""What a block takes whose arrays are empty."""

_Sparse = tuple[NDArray[np.uint32], NDArray[np.unsignedinteger]]
"""Indices of the voxels of a block that belong to synapses, and their ids: few do."""


class _Masks:
    """Reads a mask in blocks; None where a block failed."""

    def __init__(self, store: Store | MemoryStore, kind: str, failed: Collection[Box]) -> None:
        self._store, self._kind, self._failed = store, kind, failed

    def __call__(self, block: Box) -> Bits | None:
        """Return a block, shape (z, y, x)."""
        if block in self._failed:
            return None
        bits = self._store.open_plain(self._kind, key_of(block))
        z, y, x = block.shape
        if bits.dtype != np.uint8 or bits.shape != (z, y, -(-x // 8)):
            found = f"it is {bits.dtype} of shape {bits.shape}"
            raise StorageError(f"block {block} of {self._kind}", found, "Remove the scratch folder, and run it again")
        return Bits(bits, block.shape)


class _Labels:
    """Reads the labels of blocks; those read last stay in memory, as indices and ids."""

    def __init__(
        self, store: Store | MemoryStore, kinds: Kinds, dtype: np.dtype[np.unsignedinteger], failed: Collection[Box]
    ) -> None:
        self._store, self._kinds, self._dtype, self._failed = store, kinds, dtype, failed
        self._kept: dict[Box, _Sparse] = {}
        self._kept_bytes = 0

    def __reduce__(self) -> tuple[type[_Labels], tuple[Any, ...]]:
        """Pickle without what was read."""
        return type(self), (self._store, self._kinds, self._dtype, self._failed)

    def __call__(self, block: Box) -> NDArray[np.unsignedinteger] | None:
        """Return the id of every voxel of a block, shape (z, y, x); None where it failed."""
        if block in self._failed:
            return None
        if block not in self._kept:
            found = self._unpacked(block)
            self._kept_bytes += _bytes(found)
            while self._kept and self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= _bytes(self._kept.pop(next(iter(self._kept))))
            self._kept[block] = found
        places, ids = self._kept[block]
        dense = np.zeros(block.shape, self._dtype)
        dense.ravel()[places] = ids
        return dense

    def _unpacked(self, block: Box) -> _Sparse:
        saved = self._store.load(self._kinds.labels, key_of(block))
        rows = self._store.load(self._kinds.numbers, key_of(block))["rows"]
        ids = np.repeat(rows.astype(self._dtype), saved["voxels"])
        return saved["places"][ids != 0], ids[ids != 0]


def _bytes(found: _Sparse) -> int:
    return _BLOCK_BYTES + sum(values.nbytes for values in found)


def mask_volume(plan: Plan, store: Store | MemoryStore, kind: str, failed: Collection[Box]) -> BlockVolume:
    """Return a mask as one volume, uint8; 0 in blocks that failed."""
    return BlockVolume(_Masks(store, kind, failed), plan.box, plan.block_size, np.uint8)


def labels_of(
    plan: Plan, store: Store | MemoryStore, kinds: Kinds, synapses: int, failed: Collection[Box]
) -> BlockVolume:
    """Return the labels as one volume, uint32 (uint64 where needed), numbered as the table's `id`.

    Background is 0, and so are objects that are not chosen, and blocks that failed.
    """
    dtype: np.dtype[Any] = np.dtype(np.uint32 if synapses < 2**32 else np.uint64)
    return BlockVolume(_Labels(store, kinds, dtype, failed), plan.box, plan.block_size, dtype)
