"""The feed of blocks whose tiles are pulled by threads while worker processes compute on what is there."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from multiprocessing.connection import Connection, Pipe

from nd_synapse.blocks.tile_schedule import TileSchedule
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.volumes import Cutouts

__all__ = ["TileFeed"]

_CLOSE_S = 0.2


class TileFeed:
    """A feed of blocks, each handed out when the tiles are there in which what it reads, and a halo round it, lie.

    `pulls` threads pull tiles channel by channel, each with a connection of its own, in the order in which blocks need
    them; at most `keep_bytes` of them are kept (see `TileSchedule`). `check` is called with every tile that was pulled,
    by the thread that pulled the last of it, before anybody computes on it; what it raises ends the run, and the tile
    does not count.
    """

    def __init__(
        self,
        tiles: Tiles,
        source: Cutouts,
        reads: Mapping[Box, Sequence[Box]],
        halo: Sequence[int],
        pulls: int,
        keep_bytes: int,
        check: Callable[[Box], None] | None = None,
    ) -> None:
        if pulls < 1:
            requested = f"{pulls} cutouts in flight"
            raise UsageError(requested, "at least one is needed", "Give --pulls a number from 1 upwards")
        # a tile is needed by many blocks, and is one object to all of them: a box takes more memory than all else
        known: dict[Box, Box] = {}
        needs = {
            block: list(dict.fromkeys(known.setdefault(t, t) for box in boxes for t in tiles.needed(box, halo)))
            for block, boxes in reads.items()
        }
        sizes = {tile: tiles.bytes_of(tile) for tile in known}
        reserve_bytes = 2 * pulls * max((tiles.bytes_of(block) for block in reads), default=0)
        self._schedule = TileSchedule(
            needs, sizes, {tile for tile in known if tiles.has(tile)}, keep_bytes, reserve_bytes
        )
        self._tiles = tiles
        self._check = check
        self._cutouts: deque[tuple[Box, str]] = deque()
        """Of tiles that were begun: channels that nobody has begun to pull."""
        self._lacking: dict[Box, int] = {}
        """How many channels of such a tile have not come."""
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self.seconds = 0.0
        """From the start until the last tile came."""
        self.pull_s: dict[Box, float] = {}
        """How long each tile took, all its channels together."""
        self.wakes: Connection | None
        self.wakes, self._wake = Pipe(duplex=False)
        self._threads = [
            # each logs to the job.log of the thread that starts it
            threading.Thread(
                target=copy_context().run, args=(self._pull, copy.copy(source)), name=f"pull-{number}", daemon=True
            )
            for number in range(min(pulls, self._schedule.to_pull * len(tiles.channels)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def remaining(self) -> int:
        """How many blocks were not handed out yet."""
        return self._schedule.left

    def take(self) -> Box | None:
        """Return a block whose tiles are there, the first of them first."""
        with self._changed:
            while self.wakes is not None and self.wakes.poll():
                self.wakes.recv_bytes()
            if self._error is not None:
                raise self._error
            block = self._schedule.take_block()
            if block is not None:
                # the next block may need what was held back
                self._changed.notify_all()
            return block

    def finished(self, box: Box) -> None:
        """Remove what only this block needed, unless there is room for it."""
        with self._changed:
            for tile in self._schedule.block_done(box):
                self._tiles.drop(tile)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the threads; one that waits for BOSS ends with its process at the latest."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _pull(self, source: Cutouts) -> None:
        """Pull channels of tiles until there are none left: the life of a thread."""
        try:
            while (cutout := self._next()) is not None:
                tile, channel = cutout
                started = time.monotonic()
                self._tiles.pull(source, tile, channel)
                if not self._came(tile, time.monotonic() - started):
                    continue
                if self._check is not None:
                    self._check(tile)
                    self._tiles.mark_checked(tile)
                with self._changed:
                    self._schedule.tile_came(tile)
                    self.seconds = time.monotonic() - self._started
                self._wake.send_bytes(b".")
        except BaseException as error:  # noqa: BLE001 - `take` raises it again
            with self._changed:
                self._error = error
                self._stopped = True
                self._changed.notify_all()
            self._wake.send_bytes(b"!")

    def _next(self) -> tuple[Box, str] | None:
        """Wait for a channel of a tile that may be pulled now; None when there is none any more."""
        with self._changed:
            while not self._stopped and (self._cutouts or self._schedule.to_pull):
                if not self._cutouts and (tile := self._schedule.take_tile()) is not None:
                    self._begin(tile)
                if self._cutouts:
                    return self._cutouts.popleft()
                self._changed.wait()
        return None

    def _begin(self, tile: Box) -> None:
        """Let the threads pull the channels of a tile."""
        if self._check is not None:
            self._tiles.mark_unchecked(tile)
        self._lacking[tile] = len(self._tiles.channels)
        self._cutouts.extend((tile, channel) for channel in self._tiles.channels)
        self._changed.notify_all()

    def _came(self, tile: Box, seconds: float) -> bool:
        """Note that a channel of a tile was pulled; return whether it was the last."""
        with self._changed:
            self.pull_s[tile] = self.pull_s.get(tile, 0.0) + seconds
            self._lacking[tile] -= 1
            return not self._lacking[tile]
