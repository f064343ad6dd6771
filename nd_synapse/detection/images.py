"""The images of a run, read part by part: from the tiles that are kept, else from the source."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import overlapping, part_of
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.geometry import Box
from nd_synapse.volumes import Source

__all__ = ["Image"]


class Image:
    """A channel of the requested volume, read like an array."""

    def __init__(self, tiles: Tiles, source: Source, channel: str) -> None:
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
