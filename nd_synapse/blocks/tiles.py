"""The input of a run, pulled tile by tile into its store by threads, while worker processes compute on what is there.

It computes nothing. A tile is what a block owns, whole cuboids of BOSS wherever the block size allows: no cuboid is
fetched twice for the sake of a halo, which is put together from the tiles around.
"""

from __future__ import annotations

import copy
import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume, overlapping
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.volumes import Source

__all__ = ["TileFeed", "Tiles"]

log = logging.getLogger(__name__)

_CLOSE_S = 0.2


class Tiles:
    """The channels of a volume, tile by tile, as far as they were pulled.

    Parameters
    ----------
    store : Store
        Where they lie.
    kind : str
        What they are called there; differs for other data or other tiles.
    channels : sequence of str
        The channels.
    volume : Box
        The volume.
    size : tuple of int
        Largest extent of a tile along z, y, x; tiles are cut at multiples of it.
    dtypes : mapping of str to dtype
        Type of each channel's voxels.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        channels: Sequence[str],
        volume: Box,
        size: tuple[int, int, int],
        dtypes: Mapping[str, np.dtype[Any]],
    ) -> None:
        self.store = store
        self.kind = kind
        self.channels = list(channels)
        self.volume = volume
        self.size = size
        self.dtypes = dict(dtypes)

    def _key(self, channel: str, tile: Box) -> str:
        """Name a tile of a channel; the channel by its number, for its name may be any text."""
        return f"{self.channels.index(channel)}_{key_of(tile)}"

    def has(self, tile: Box) -> bool:
        """Tell whether all channels of a tile are there."""
        return not self.store.has(self.kind, key_of(tile)) and all(
            self.store.has(self.kind, self._key(channel, tile), "npy") for channel in self.channels
        )

    def doubt(self, tile: Box) -> None:
        """Mark a tile as unchecked, so that a run killed meanwhile does not trust it later."""
        # beside the tile, so that whatever removes or keeps the one does so with the other
        self.store.save(self.kind, key_of(tile), {})

    def trust(self, tile: Box) -> None:
        """Note that a tile was looked at."""
        self.store.remove(self.kind, key_of(tile), "npz")

    def bytes_of(self, tile: Box) -> int:
        """Return the size of a tile."""
        return tile.voxels * sum(dtype.itemsize for dtype in self.dtypes.values())

    def pull(self, source: Source, tile: Box) -> None:
        """Pull what is missing of a tile."""
        for channel in self.channels:
            key = self._key(channel, tile)
            if self.store.has(self.kind, key, "npy"):
                continue
            voxels = source.get_cutout(channel, *tile.ranges)
            if voxels.shape != tile.shape or voxels.dtype != self.dtypes[channel]:
                raise DataError(
                    f"channel {channel} in {tile}",
                    f"{voxels.dtype} of the shape {voxels.shape} came",
                    f"{self.dtypes[channel]} was promised: check the channel",
                )
            self.store.save_plain(self.kind, key, voxels)

    def drop(self, tile: Box) -> None:
        """Remove a tile."""
        for channel in self.channels:
            self.store.remove(self.kind, self._key(channel, tile), "npy")
        self.trust(tile)

    def channel(self, name: str) -> BlockVolume:
        """Return a channel as an array that reads the tiles it needs."""

        def read(tile: Box) -> NDArray[Any]:
            return self.store.open_plain(self.kind, self._key(name, tile))

        return BlockVolume(read, self.volume, self.size, self.dtypes[name])

    def needed(self, block: Box, halo: Sequence[int]) -> list[Box]:
        """Return the tiles that a block and its halo lie in."""
        return list(overlapping(block.grown(halo, self.volume), self.volume, self.size))


class TileFeed:
    """A feed of blocks, each handed out when the tiles that it needs are there.

    Threads pull the tiles in the order in which blocks need them. What no block needs any more is kept for the next
    pass as far as `keep_bytes` reach, and removed beyond; beyond that, too, tiles are pulled only for the next block,
    when no other is ready.

    Parameters
    ----------
    tiles : Tiles
        The tiles.
    source : Source
        Where they come from; each thread opens a connection of its own.
    blocks : sequence of Box
        The blocks.
    halo : sequence of int
        Voxels along z, y, x that a block needs around it.
    pulls : int
        Tiles that are pulled at the same time.
    keep_bytes : int
        What may lie in the store.
    pulled : callable, optional
        Told of every tile that was pulled, by the thread that did; also of one that an earlier run pulled when it was
        killed before this was told. What it raises ends the run, and the tile does not count.
    """

    def __init__(
        self,
        tiles: Tiles,
        source: Source,
        blocks: Sequence[Box],
        halo: Sequence[int],
        pulls: int,
        keep_bytes: int,
        pulled: Callable[[Box], None] | None = None,
    ) -> None:
        if pulls < 1:
            raise UsageError(
                f"{pulls} cutouts in flight", "at least one is needed", "Give --pulls a number from 1 upwards"
            )
        self._tiles = tiles
        self._keep_bytes = keep_bytes
        # what the next pass pulls ahead of its first block needs room, too
        self._reserve_bytes = 2 * pulls * max((tiles.bytes_of(block) for block in blocks), default=0)
        self._pulled = pulled
        self._left = len(blocks)
        # a tile is needed by many blocks, and is one object to all of them: a box takes more than all else of a block
        known: dict[Box, Box] = {}
        self._needs = {block: [known.setdefault(tile, tile) for tile in tiles.needed(block, halo)] for block in blocks}
        self._users: dict[Box, int] = {}
        for needed in self._needs.values():
            for tile in needed:
                self._users[tile] = self._users.get(tile, 0) + 1
        self._there = {tile for tile in self._users if tiles.has(tile)}
        self._stored_bytes = sum(tiles.bytes_of(tile) for tile in self._there)
        self._order = {block: place for place, block in enumerate(blocks)}
        self._lacking = {block: sum(tile not in self._there for tile in self._needs[block]) for block in blocks}
        self._wanted_by: dict[Box, list[Box]] = {}
        for block in blocks:
            for tile in self._needs[block]:
                self._wanted_by.setdefault(tile, []).append(block)
        self._ready = [self._order[block] for block in blocks if not self._lacking[block]]
        self._blocks = list(blocks)
        self._front = 0
        self._queue = deque(tile for tile in self._users if tile not in self._there)
        self._error: BaseException | None = None
        self._began = time.monotonic()
        self.seconds = 0.0
        """From the beginning until the last tile came."""
        self.pull_s: dict[Box, float] = {}
        """How long each tile took."""
        self._stopped = False
        self._changed = threading.Condition()
        self.wakes: Connection | None
        self.wakes, self._wake = Pipe(duplex=False)
        self._threads = [
            threading.Thread(target=self._pull, args=(copy.copy(source),), name=f"pull-{number}", daemon=True)
            for number in range(min(pulls, len(self._queue)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def remaining(self) -> int:
        """How many blocks were not handed out yet."""
        return self._left

    def take(self) -> Box | None:
        """Return a block whose tiles are there, the first of them first."""
        with self._changed:
            while self.wakes is not None and self.wakes.poll():
                self.wakes.recv_bytes()
            if self._error is not None:
                raise self._error
            if not self._ready:
                return None
            block = self._blocks[heapq.heappop(self._ready)]
            self._left -= 1
            # the next block may need what was held back
            self._changed.notify_all()
            return block

    def finished(self, box: Box) -> None:
        """Let go of what only this block needed."""
        with self._changed:
            for tile in self._needs.pop(box):
                self._users[tile] -= 1
                if not self._users[tile] and self._stored_bytes > self._keep_bytes - self._reserve_bytes:
                    self._tiles.drop(tile)
                    self._there.discard(tile)
                    self._stored_bytes -= self._tiles.bytes_of(tile)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the threads; one that waits for BOSS ends with its process, at the latest."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _pull(self, source: Source) -> None:
        """Pull tiles until there are none left: the life of a thread."""
        try:
            while (tile := self._next()) is not None:
                started = time.monotonic()
                if self._pulled is not None:
                    self._tiles.doubt(tile)
                self._tiles.pull(source, tile)
                self.pull_s[tile] = time.monotonic() - started
                if self._pulled is not None:
                    # before anybody may compute on it: it may be refused
                    self._pulled(tile)
                    self._tiles.trust(tile)
                with self._changed:
                    self._there.add(tile)
                    for block in self._wanted_by[tile]:
                        self._lacking[block] -= 1
                        if not self._lacking[block]:
                            heapq.heappush(self._ready, self._order[block])
                    self.seconds = time.monotonic() - self._began
                self._wake.send_bytes(b".")
        except BaseException as error:  # noqa: BLE001 - it is raised again, where somebody listens
            with self._changed:
                self._error = error
                self._stopped = True
                self._changed.notify_all()
            self._wake.send_bytes(b"!")

    def _first_needs(self) -> list[Box]:
        """Return what the first block needs that still lacks a tile: room or not, somebody may be waiting for it."""
        while self._front < len(self._blocks) and not self._lacking[self._blocks[self._front]]:
            self._front += 1
        return self._needs[self._blocks[self._front]] if self._front < len(self._blocks) else []

    def _next(self) -> Box | None:
        """Wait for a tile that may be pulled now; None when there is none any more."""
        with self._changed:
            while not self._stopped and self._queue:
                tile = self._queue[0]
                size = self._tiles.bytes_of(tile)
                room = self._stored_bytes + size <= self._keep_bytes
                # while a block is ready there is work: what is pulled beyond the room would only lie there
                if room or (not self._ready and tile in self._first_needs()):
                    self._stored_bytes += size
                    return self._queue.popleft()
                self._changed.wait()
        return None
