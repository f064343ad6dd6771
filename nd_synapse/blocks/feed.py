"""Where a pool gets its blocks from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Protocol

from nd_synapse.geometry import Box

__all__ = ["Boxes", "Feed"]


class Feed(Protocol):
    """Hands out blocks as they become ready."""

    def take(self) -> Box | None:
        """Return a block that may be worked on now, None if there is none (yet)."""

    @property
    def remaining(self) -> int:
        """How many blocks are still to be taken."""

    @property
    def wakes(self) -> Connection | None:
        """What becomes readable when `take` may have something new; None where that never changes."""

    def finished(self, box: Box) -> None:
        """Note that a block was done or given up."""


class Boxes:
    """The feed of boxes that need no preparation, in their order."""

    wakes = None

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._boxes = deque(boxes)

    def take(self) -> Box | None:
        """Return the next box."""
        return self._boxes.popleft() if self._boxes else None

    @property
    def remaining(self) -> int:
        """How many boxes are still to be taken."""
        return len(self._boxes)

    def finished(self, box: Box) -> None:
        """Do nothing: nothing waits for a box."""
