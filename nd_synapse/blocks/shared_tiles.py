"""The voxels of a run in parts, read from their source once: a part that pulls a tile leaves it for the others."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import overlapping
from nd_synapse.blocks.packing import pack, sealed, unpack, unpacked_bytes, unsealed
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.errors import UnknownNameError
from nd_synapse.geometry import Box, Range
from nd_synapse.volumes import Cutouts

__all__ = ["SharedTiles"]

log = logging.getLogger(__name__)

_HEADERS = 2**16
"""Room for what a packed tile has besides its voxels."""


class SharedTiles:
    """Cutouts from the whole tiles in a shared block store; what is not there yet, or damaged, is pulled and left."""

    def __init__(self, source: Cutouts, shared_store: SharedStore, tiles: Tiles) -> None:
        self._source = source
        self._shared_store = shared_store
        self._tiles = tiles

    def __copy__(self) -> SharedTiles:
        """Return what another thread may use, with a connection of its own."""
        return SharedTiles(copy.copy(self._source), self._shared_store, self._tiles)

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        """Return the voxels of a channel in three half-open ranges, shape (z, y, x)."""
        wanted = Box(z_range, y_range, x_range)
        tiles = list(overlapping(wanted, self._tiles.volume, self._tiles.size))
        if tiles == [wanted]:
            # as it is pulled: a copy of each tile in flight would count
            return self._tile(channel, wanted)
        voxels = np.empty(wanted.shape, self._tiles.dtypes[channel])
        for tile in tiles:
            part = wanted.intersection(tile)
            if part is not None:
                voxels[part.slices(wanted.start)] = self._tile(channel, tile)[part.slices(tile.start)]
        return voxels

    def _tile(self, channel: str, tile: Box) -> NDArray[Any]:
        """Return a whole tile, shape (z, y, x)."""
        kind, name = self._tiles.kind, f"{self._tiles.key(channel, tile)}.npz"
        found = self._left(kind, name, channel, tile)
        if isinstance(found, np.ndarray):
            return found
        voxels = self._tiles.checked(channel, tile, self._source.get_cutout(channel, *tile.ranges))
        self._shared_store.put(kind, name, sealed(pack({"voxels": voxels}), f"{kind}/{name}"), replaces=found)
        return voxels

    def _left(self, kind: str, name: str, channel: str, tile: Box) -> NDArray[Any] | bool:
        """Return a tile that some part left; False if none did, True if what it left is damaged."""
        dtype = self._tiles.dtypes[channel]
        most = tile.voxels * dtype.itemsize + _HEADERS
        try:
            body = self._shared_store.get(kind, name, most)
        except UnknownNameError:
            return False
        try:
            return _unpacked(unsealed(memoryview(body or b""), f"{kind}/{name}"), most, tile.shape, dtype)
        except ValueError as error:
            log.warning("%s/%s in the shared block store is pulled again: %s", kind, name, error)
            return True


def _unpacked(packed: memoryview, most: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the voxels of a packed tile; raise ValueError where they are not what they should be."""
    size = unpacked_bytes(packed)
    if size is None or size > most:
        raise ValueError(f"it unpacks to {size} bytes, and a tile to {most:,} at most")
    voxels = unpack(packed).get("voxels", np.empty(0))
    if voxels.shape != shape or voxels.dtype != dtype:
        raise ValueError(f"it is {voxels.dtype} of the shape {voxels.shape}, not {dtype} of {shape}")
    return voxels
