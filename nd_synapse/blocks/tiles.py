"""The pulled input of a run, tile by tile.

A tile is what a block owns, whole cuboids of BOSS if the block size allows: no cuboid is fetched twice for a halo,
which is put together from the tiles around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume, overlapping, part_of
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.volumes import Cutouts

__all__ = ["Image", "Tiles"]


class Tiles:
    """The channels of a volume in a store, cut at multiples of a size (z, y, x), as far as they were pulled.

    `kind` is their name in the store, another one for other data; `dtypes` is the type of each channel's voxels.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        volume: Box,
        size: tuple[int, int, int],
        dtypes: Mapping[str, np.dtype[Any]],
    ) -> None:
        self.store = store
        self.kind = kind
        self.channels = list(dtypes)
        self.volume = volume
        self.size = size
        self.dtypes = dict(dtypes)

    def key(self, channel: str, tile: Box) -> str:
        """Return the key of a tile of a channel; the channel by its number, for its name may be any text."""
        return f"{self.channels.index(channel)}_{key_of(tile)}"

    def has(self, tile: Box) -> bool:
        """Return whether all channels of a tile are there, and the tile was checked."""
        return not self.store.has(self.kind, key_of(tile)) and all(
            self.store.has(self.kind, self.key(channel, tile), "npy") for channel in self.channels
        )

    def mark_unchecked(self, tile: Box) -> None:
        """Note that a tile is not checked yet, so that a run killed meanwhile does not trust it later."""
        # beside the tile, so that both are removed or kept together
        self.store.save(self.kind, key_of(tile), {})

    def mark_checked(self, tile: Box) -> None:
        """Note that a tile was checked."""
        self.store.remove(self.kind, key_of(tile), "npz")

    def bytes_of(self, tile: Box) -> int:
        """Return the size of a tile."""
        return tile.voxels * sum(dtype.itemsize for dtype in self.dtypes.values())

    def pull(self, source: Cutouts, tile: Box, channel: str) -> None:
        """Pull a channel of a tile, if it is not there."""
        key = self.key(channel, tile)
        if not self.store.has(self.kind, key, "npy"):
            voxels = source.get_cutout(channel, *tile.ranges)
            self.store.save_plain(self.kind, key, self.checked(channel, tile, voxels))

    def checked(self, channel: str, tile: Box, voxels: NDArray[Any]) -> NDArray[Any]:
        """Return pulled voxels of a tile; refuse those of another shape (z, y, x) or type than were promised."""
        if voxels.shape != tile.shape or voxels.dtype != self.dtypes[channel]:
            raise DataError(
                f"channel {channel} in {tile}",
                f"{voxels.dtype} of the shape {voxels.shape} came",
                f"{self.dtypes[channel]} was promised: check the channel",
            )
        return voxels

    def drop(self, tile: Box) -> None:
        """Remove a tile."""
        for channel in self.channels:
            self.store.remove(self.kind, self.key(channel, tile), "npy")
        self.mark_checked(tile)

    def channel(self, name: str) -> BlockVolume:
        """Return a channel as an array that reads the tiles it needs."""

        def read(tile: Box) -> NDArray[Any]:
            return self.store.open_plain(self.kind, self.key(name, tile))

        return BlockVolume(read, self.volume, self.size, self.dtypes[name])

    def needed(self, block: Box, halo: Sequence[int]) -> list[Box]:
        """Return the tiles in which a block and its halo lie."""
        return list(overlapping(block.grown(halo, self.volume), self.volume, self.size))


class Image:
    """A channel of the requested volume, read like an array: from the tiles that are kept, else from the source."""

    def __init__(self, tiles: Tiles, source: Cutouts, channel: str) -> None:
        self._tiles = tiles
        self._source = source
        self._channel = channel

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return self._tiles.volume.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self._tiles.dtypes[self._channel]

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Return a part (z, y, x) as an array of its own; see `part_of`."""
        return part_of(self._tiles.volume, index, self.dtype, self._whole)

    def _whole(self, wanted: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies in any tiles."""
        voxels = np.empty(wanted.shape, self.dtype)
        for tile in overlapping(wanted, self._tiles.volume, self._tiles.size):
            shared = wanted.intersection(tile)
            if shared is not None:
                voxels[shared.slices(wanted.start)] = self._read(tile, shared)
        return voxels

    def _read(self, tile: Box, part: Box) -> NDArray[Any]:
        """Return a part of a tile."""
        if self._tiles.has(tile):
            return self._tiles.channel(self._channel).part(part)
        return self._source.get_cutout(self._channel, *part.ranges)
