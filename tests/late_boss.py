"""The storage of the real BOSS, for the local one: writes and erases are queued, and carried out late.

For each cuboid they are carried out in the order in which they were queued, each so many seconds after it was queued or
later. A read waits for queued writes to its cuboids, 60 s at most, and not for erases. The queue outlives the server.
"""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box, Range
from nd_synapse.local_boss import voxels
from nd_synapse.local_boss.cutouts import UnservedError
from nd_synapse.local_boss.models import Channel
from nd_synapse.local_boss.voxels import VoxelStore

__all__ = ["NEVER", "FastClock", "LateVoxels"]

NEVER = math.inf
READ_LIMIT_S = 60.0
"""How long a read of BOSS waits for writes before it fails."""


class WallClock:
    """The time of this machine."""

    now = staticmethod(time.time)
    sleep = staticmethod(time.sleep)

    def request(self) -> None:
        """Take no time beside what a request takes."""


@dataclass
class FastClock:
    """A time in which waiting costs nothing; each request takes as long as `request_s` says."""

    request_s: Callable[[], float] = lambda: 0.0
    time_s: float = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def request(self) -> None:
        self.time_s += self.request_s()


class _Cuboid(NamedTuple):
    channel: int
    resolution: int
    time: int
    start: tuple[int, ...]


class _Queued(NamedTuple):
    due_s: float
    channel: Channel
    part: Box
    new: NDArray[Any] | None
    """What is written; None for an erase."""


class LateVoxels(VoxelStore):
    """A store whose writes and erases take effect after `lag_s` of each, called with whether it is an erase."""

    def __init__(
        self,
        root: Path,
        lag_s: Callable[[bool], float],
        clock: WallClock | FastClock | None = None,
        *,
        poll_s: float = 0.05,
    ) -> None:
        super().__init__(root)
        self.lag_s = lag_s
        self.clock = clock or WallClock()
        self._poll_s = poll_s
        self._lock = threading.RLock()
        self._kept = root / "queue.pickle"
        self._queue: dict[_Cuboid, list[_Queued]] = defaultdict(list)
        if self._kept.exists():
            self._queue.update(pickle.loads(self._kept.read_bytes()))

    def write(self, channel: Channel, resolution: int, box: Box, times: Range, data: NDArray[Any]) -> None:
        """Queue a write."""
        self._put(channel, resolution, box, times, data)

    def erase(self, channel: Channel, resolution: int, box: Box, times: Range) -> None:
        """Queue an erase."""
        self._put(channel, resolution, box, times, None)

    def read(self, channel: Channel, resolution: int, box: Box, times: Range) -> NDArray[Any]:
        """Return the voxels of a box, once no write to its cuboids is queued."""
        self.clock.request()
        limit_s = self.clock.now() + READ_LIMIT_S
        while self.clock.now() <= limit_s:
            with self._lock:
                self.carry_out()
                queues = (self._queue.get(cuboid, ()) for cuboid, _ in _cuboids(channel, resolution, box, times))
                if not any(queued.new is not None for queue in queues for queued in queue):
                    return super().read(channel, resolution, box, times)
            self.clock.sleep(self._poll_s)
        raise UnservedError

    def carry_out(self, until_s: float | None = None) -> None:
        """Carry out what is due, by default now."""
        until_s = self.clock.now() if until_s is None else until_s
        changed = False
        for cuboid, queue in list(self._queue.items()):
            while queue and queue[0].due_s <= until_s and queue[0].due_s < NEVER:
                _, channel, part, new = queue.pop(0)
                changed = True
                times = (cuboid.time, cuboid.time + 1)
                if new is None:
                    super().erase(channel, cuboid.resolution, part, times)
                else:
                    super().write(channel, cuboid.resolution, part, times, new[np.newaxis])
            if not queue:
                del self._queue[cuboid]
        if changed:
            self._keep()

    def in_the_end(self, channel: Channel, box: Box) -> NDArray[Any]:
        """Return what `box` will hold, shape (z, y, x), when all is carried out that ever is; nothing changes."""
        with self._lock:
            held = super().read(channel, 0, box, (0, 1))[0]
            for cuboid, queue in self._queue.items():
                if cuboid.channel != channel.id:
                    continue
                for due_s, _, part, new in queue:
                    inside = part.intersection(box)
                    if due_s == NEVER:
                        break
                    if inside is None:
                        continue
                    target = held[inside.slices(box.start)]
                    if new is None:
                        target[...] = 0
                    else:
                        source = new[inside.slices(part.start)]
                        np.copyto(target, source, where=source != 0)
            return held

    def _put(self, channel: Channel, resolution: int, box: Box, times: Range, data: NDArray[Any] | None) -> None:
        self.clock.request()
        with self._lock:
            self.carry_out()
            for cuboid, part in _cuboids(channel, resolution, box, times):
                queue = self._queue[cuboid]
                due_s = self.clock.now() + self.lag_s(data is None)
                before_s = queue[-1].due_s if queue else -math.inf
                new = None if data is None else data[(cuboid.time - times[0], *part.slices(box.start))].copy()
                queue.append(_Queued(max(due_s, before_s), channel, part, new))
            self._keep()

    def _keep(self) -> None:
        partial = self._kept.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(dict(self._queue)))
        partial.rename(self._kept)


def _cuboids(channel: Channel, resolution: int, box: Box, times: Range) -> list[tuple[_Cuboid, Box]]:
    """Return the cuboids of a box, each with the part of the box that lies in it."""
    return [
        (_Cuboid(channel.id, resolution, t, tuple(a // n for a, n in zip(part.start, voxels.CHUNK, strict=True))), part)
        for t in range(*times)
        for part in box.tiles(voxels.CHUNK, aligned=True)
    ]
