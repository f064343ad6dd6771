"""A pool without processes, for properties that need thousands of blocks: it hands them out and ends them in any order.

It is no substitute where processes matter: `tests/test_block_pool.py` and `tests/test_resume.py` have real ones.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from nd_synapse.blocks.pool import Done, Failed, Feed
from nd_synapse.geometry import Box


class InProcessPool:
    """Runs blocks in this process, several begun before the first ends, in an order drawn from a seed."""

    seed = 0

    def __init__(self, cpus: int, setup: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._cpus = cpus
        self._random = random.Random(self.seed)
        setup(*arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, function: Callable[[Box], Any], feed: Feed) -> Iterator[Done | Failed]:
        """Take as many blocks as there are workers, and run one of them, whichever it is."""
        begun: list[Box] = []
        while begun or feed.remaining:
            while len(begun) < self._cpus and (box := feed.take()) is not None:
                begun.append(box)
            if not begun:
                assert feed.wakes is not None
                assert feed.wakes.poll(30), "nothing came"
                continue
            box = begun.pop(self._random.randrange(len(begun)))
            started = time.perf_counter()
            try:
                result = function(box)
                outcome: Done | Failed = Done(box, result, time.perf_counter() - started, 0)
            except ValueError as error:  # what functions of these tests fail with; all else is a mistake of a test
                outcome = Failed(box, f"ValueError: {error}", traceback.format_exc())
            feed.finished(box)
            yield outcome
