"""A pool of processes that runs a function on every block of a box.

It knows neither where voxels come from nor what is done with them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Self, TypeVar

import logs
from box import Box
from errors import NDSynapseError, UsageError

__all__ = ["BlockPool", "default_cpus"]

Result = TypeVar("Result")

_AHEAD = 2
"""Blocks handed out per worker: one to work on, one so that it need not wait for the next."""


def default_cpus() -> int:
    """Return all the cores that this process may use but one, at least one."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _start(settings: logs.LogSettings | None, setup: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Prepare a worker: the parent stops it, so that Ctrl-C is one message and not one a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.apply(settings)
    if setup is not None:
        setup(*arguments)


class BlockPool:
    """Processes that run functions on blocks.

    Workers are started by spawn: they share no locks, sockets or threads with their parent, whatever it has imported.

    Parameters
    ----------
    cpus : int
        Number of worker processes; one is a pool of one.
    setup : callable, optional
        Run once in each worker before its first block.
    arguments : tuple
        Arguments of `setup`.

    Examples
    --------
    >>> with BlockPool(2) as pool:                                      # doctest: +SKIP
    ...     for box, result in pool.run(function, box.tiles((16, 512, 512))):
    ...         ...
    """

    def __init__(self, cpus: int, setup: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> None:
        if cpus < 1:
            raise UsageError(
                f"{cpus} worker processes", "at least one is needed", "Give --cpus a number from 1 upwards"
            )
        self.cpus = cpus
        self._executor = ProcessPoolExecutor(
            cpus,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(logs.current(), setup, arguments),
        )

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers; after a failure without waiting for blocks that nobody will ask for."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[Box], Result], boxes: Iterable[Box]) -> Iterator[tuple[Box, Result]]:
        """Run a function on every box.

        Parameters
        ----------
        function : callable
            Takes a `Box`; importable by name, or a `functools.partial` of such.
        boxes : iterable of Box
            The blocks.

        Yields
        ------
        box : Box
            A block that is done, in the order of completion.
        result
            What the function returned for it.

        Raises
        ------
        NDSynapseError
            What the function raised, or that a worker died.
        """
        waiting = iter(boxes)
        running: dict[Future[Result], Box] = {}
        try:
            while True:
                while len(running) < self.cpus * _AHEAD and (box := next(waiting, None)) is not None:
                    running[self._executor.submit(function, box)] = box
                if not running:
                    return
                # no time-out here: a block's own waits are bounded, and a worker that dies ends the wait at once
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    box = running.pop(future)
                    yield box, future.result()
        except BrokenProcessPool as error:
            raise NDSynapseError(
                f"running {len(running) + 1} blocks in {self.cpus} worker processes",
                "a worker died, most often for want of memory",
                "Try a smaller --block-size or fewer --cpus",
            ) from error
