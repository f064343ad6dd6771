"""Which tile may be pulled next, which block is ready, which tile may go: bookkeeping without threads or files."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence

from nd_synapse.geometry import Box

__all__ = ["TileSchedule"]


class TileSchedule:
    """The state of the tiles that blocks need.

    What no block needs any more is kept for the next pass as far as `keep_bytes` reach (less `reserve_bytes`, which the
    next pass pulls before its first block), and removed beyond. Beyond `keep_bytes` tiles are pulled only for the next
    block, when no other is ready.
    """

    def __init__(
        self,
        needs: Mapping[Box, Sequence[Box]],
        tile_bytes: Mapping[Box, int],
        there: set[Box],
        keep_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self.left = len(needs)
        """Blocks that were not handed out yet."""
        self._keep_bytes = keep_bytes
        self._reserve_bytes = reserve_bytes
        self._tile_bytes = tile_bytes
        self._blocks = list(needs)
        self._order = {block: place for place, block in enumerate(self._blocks)}
        self._needs = dict(needs)
        self._wanted_by: dict[Box, list[Box]] = {}
        for block, tiles in needs.items():
            for tile in tiles:
                self._wanted_by.setdefault(tile, []).append(block)
        self._users = {tile: len(blocks) for tile, blocks in self._wanted_by.items()}
        self._lacking = {block: sum(tile not in there for tile in tiles) for block, tiles in needs.items()}
        self._ready = [self._order[block] for block in self._blocks if not self._lacking[block]]
        self._queue = deque(tile for tile in self._wanted_by if tile not in there)
        self._stored_bytes = sum(tile_bytes[tile] for tile in self._wanted_by if tile in there)
        self._front = 0

    @property
    def to_pull(self) -> int:
        """Tiles that nobody has begun to pull."""
        return len(self._queue)

    def take_block(self) -> Box | None:
        """Return the first block whose tiles are there."""
        if not self._ready:
            return None
        self.left -= 1
        return self._blocks[heapq.heappop(self._ready)]

    def take_tile(self) -> Box | None:
        """Return a tile to pull now; None if there is none, or no room for it."""
        if not self._queue:
            return None
        tile = self._queue[0]
        size = self._tile_bytes[tile]
        room = self._stored_bytes + size <= self._keep_bytes
        # while a block is ready there is work: what is pulled beyond the room would only lie there
        if not room and (self._ready or tile not in self._first_needs()):
            return None
        self._stored_bytes += size
        return self._queue.popleft()

    def _first_needs(self) -> Sequence[Box]:
        """Return the needs of the first block that still lacks a tile, which are pulled even without room."""
        while self._front < len(self._blocks) and not self._lacking[self._blocks[self._front]]:
            self._front += 1
        return self._needs[self._blocks[self._front]] if self._front < len(self._blocks) else []

    def tile_came(self, tile: Box) -> None:
        """Note that a tile was pulled."""
        for block in self._wanted_by[tile]:
            self._lacking[block] -= 1
            if not self._lacking[block]:
                heapq.heappush(self._ready, self._order[block])

    def block_done(self, block: Box) -> list[Box]:
        """Return the tiles that may be removed, now that a block is done."""
        gone = []
        for tile in self._needs.pop(block):
            self._users[tile] -= 1
            if not self._users[tile] and self._stored_bytes > self._keep_bytes - self._reserve_bytes:
                self._stored_bytes -= self._tile_bytes[tile]
                gone.append(tile)
        return gone
