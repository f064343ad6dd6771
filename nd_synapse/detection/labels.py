"""The labels of a detection as one volume: which row of the table each voxel belongs to."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box

__all__ = ["labels_of"]

_KEPT_BYTES = 64 * 2**20
"""What is kept of blocks that were unpacked: a reader whose pieces are cut elsewhere asks for each several times."""

_BLOCK_BYTES = 1024
"""What a block takes whose arrays are empty."""

_Sparse = tuple[NDArray[np.uint32], NDArray[np.unsignedinteger]]
"""Indices of the voxels of a block that belong to synapses, and their ids: few do."""


class _Blocks:
    """Reads the labels of blocks; those read last stay in memory, as indices and ids."""

    def __init__(self, store: Store | MemoryStore, kinds: Kinds, dtype: DTypeLike) -> None:
        self._store, self._kinds, self._dtype = store, kinds, np.dtype(dtype)
        self._kept: dict[Box, _Sparse] = {}
        self._kept_bytes = 0

    def __call__(self, block: Box) -> NDArray[np.unsignedinteger]:
        """Return the id of every voxel of a block, shape (z, y, x)."""
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
        numbers = self._store.load(self._kinds.labels, key_of(block))["numbers"].ravel()
        rows = self._store.load(self._kinds.numbers, key_of(block))["rows"]
        value = np.concatenate([np.zeros(1, self._dtype), rows.astype(self._dtype)])
        # booleans are searched faster than numbers
        places = np.flatnonzero(numbers != 0)
        ids = value[numbers[places]]
        return places[ids != 0].astype(np.uint32), ids[ids != 0]


def _bytes(found: _Sparse) -> int:
    return _BLOCK_BYTES + sum(values.nbytes for values in found)


def labels_of(
    plan: Plan, store: Store | MemoryStore, kinds: Kinds, synapses: int, whole: Collection[Box]
) -> BlockVolume:
    """Return the labels as one volume, uint32 (uint64 where needed), numbered as the table's `id`.

    Background is 0, and so are objects that are not chosen, and blocks that are not among the `whole` ones.
    """
    dtype = np.uint32 if synapses < 2**32 else np.uint64
    read = _Blocks(store, kinds, dtype)
    return BlockVolume(lambda block: read(block) if block in whole else None, plan.box, plan.block_size, dtype)
