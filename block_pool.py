"""A pool of processes that runs a function on blocks, and outlives what goes wrong in them.

It knows neither where voxels come from nor what is done with them: a `Feed` tells which block may be worked on next.

A worker is a process of its own with a pipe of its own, so that the parent always knows which block a worker has:

- a function that raises costs its block, which is reported with its traceback; a disk that fails ends the run;
- a worker that dies (killed, out of memory, a crash in C) is seen at once; its block is tried again *alone*, with no
  other block at work, and reported if it takes that worker along too;
- a block that takes longer than its limit is ended with its worker and reported;
- when the parent dies, its workers see their pipes closed, and end.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import cloudpickle

import logs
from box import Box
from credentials import TOKEN_VARIABLE
from errors import NDSynapseError, StorageError, UsageError

__all__ = ["BlockPool", "Boxes", "Done", "Failed", "Feed", "default_cpus"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

BLOCK_LIMIT_S = 3600.0
"""Longest time that a block may take; a pipeline that takes an hour for one has stopped."""

_PR_SET_PDEATHSIG = 1
_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 5.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def default_cpus() -> int:
    """Return all the cores that this process may use but one, at least one."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


@dataclass(frozen=True, slots=True)
class Done:
    """A block that is done.

    Parameters
    ----------
    box : Box
        The block.
    result : object
        What the function returned.
    seconds : float
        How long it took.
    peak_bytes : int
        Largest memory that its worker had by then.
    """

    box: Box
    result: Any
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A block that could not be done.

    Parameters
    ----------
    box : Box
        The block.
    reason : str
        What happened, in a line.
    traceback : str
        The function's traceback; empty where the worker died.
    """

    box: Box
    reason: str
    traceback: str = ""


class Feed(Protocol):
    """Where a pool gets its blocks from."""

    def take(self) -> Box | None:
        """Return a block that may be worked on now, None if there is none (yet)."""

    @property
    def remaining(self) -> int:
        """How many blocks are still to be taken."""

    @property
    def wakes(self) -> Connection | None:
        """What becomes readable when `take` may have something new; None where that never changes."""

    def finished(self, box: Box) -> None:
        """Hear that a block was done or given up."""


class Boxes:
    """The feed of boxes that need no preparation.

    Parameters
    ----------
    boxes : iterable of Box
        The boxes, in the order in which they are handed out.
    """

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
        """Do nothing: nobody waits for a box."""


@dataclass(slots=True)
class _Worker:
    """A worker process as its parent sees it."""

    process: SpawnProcess
    pipe: Connection
    box: Box | None = None
    started: float = 0.0
    ready: bool = False
    alone: bool = field(default=False)


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
    block_limit_s : float
        Longest time that a block may take.

    Examples
    --------
    >>> with BlockPool(2) as pool:                                      # doctest: +SKIP
    ...     for outcome in pool.run(function, Boxes(box.tiles((16, 512, 512)))):
    ...         ...
    """

    def __init__(
        self,
        cpus: int,
        setup: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        *,
        block_limit_s: float = BLOCK_LIMIT_S,
    ) -> None:
        if cpus < 1:
            raise UsageError(
                f"{cpus} worker processes", "at least one is needed", "Give --cpus a number from 1 upwards"
            )
        self.cpus = cpus
        self._block_limit_s = block_limit_s
        # by value where it must be: a pipeline of a notebook is in no module that a worker could import
        settings = logs.current()
        # a worker has no use for the token, so it does not get it: not to hide it from its log either
        self._setup = (settings and replace(settings, tokens=()), cloudpickle.dumps((setup, arguments)))
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        """Return the pool; its workers start with the first run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers: at once after a failure, for what they are at is committed whole or not at all."""
        for worker in self._workers:
            worker.pipe.close()
            if kind is not None or worker.box is not None:
                worker.process.terminate()
        for worker in self._workers:
            _end(worker.process)
        self._workers.clear()

    def run(self, function: Callable[[Box], Any], feed: Feed) -> Iterator[Done | Failed]:
        """Run a function on every block of a feed.

        Parameters
        ----------
        function : callable
            Takes a `Box`.
        feed : Feed
            The blocks.

        Yields
        ------
        Done or Failed
            An outcome a block, in the order of completion.

        Raises
        ------
        NDSynapseError
            A `StorageError` of the function: no other block would fare better; or what `setup` raised.
        """
        again: deque[Box] = deque()
        # by value where it must be: a function of a notebook or of a script is in no module that a worker could import
        packed = cloudpickle.dumps(function)
        # they load what they need while the feed gets its first block ready
        while len(self._workers) < min(self.cpus, feed.remaining):
            self._start()
        while True:
            self._hand_out(packed, feed, again)
            busy = [worker for worker in self._workers if worker.box is not None]
            if not busy and not again and not feed.remaining:
                return
            for outcome in self._collect(busy, feed, again):
                feed.finished(outcome.box)
                yield outcome

    def _hand_out(self, packed: bytes, feed: Feed, again: deque[Box]) -> None:
        """Give blocks to idle workers; one whose worker died is tried when nobody else is at work."""
        while True:
            busy = sum(worker.box is not None for worker in self._workers)
            if any(worker.alone and worker.box is not None for worker in self._workers) or busy >= self.cpus:
                return
            if again and busy:
                return
            alone = bool(again)
            box = again.popleft() if again else feed.take()
            if box is None:
                return
            worker = next((worker for worker in self._workers if worker.box is None), None) or self._start()
            worker.box, worker.started, worker.alone = box, time.monotonic(), alone
            try:
                worker.pipe.send_bytes(packed)
                worker.pipe.send(box)
            except (BrokenPipeError, ConnectionResetError):
                log.debug("the worker for block %s ended before it took it", box)  # _collect sees its sentinel

    def _start(self) -> _Worker:
        """Start a worker."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        # numpy's libraries read these when they are loaded, in the child; more threads than cores only get in the way
        before = {name: os.environ.get(name) for name in (*_THREADS, TOKEN_VARIABLE)}
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        os.environ.pop(TOKEN_VARIABLE, None)
        try:
            process = context.Process(target=_work, args=(there, *self._setup), daemon=True)
            with _main_hidden():
                process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        there.close()
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker

    def _collect(self, busy: list[_Worker], feed: Feed, again: deque[Box]) -> Iterator[Done | Failed]:
        """Wait until something happens, and return the outcomes that it brought."""
        now = time.monotonic()
        limits = [worker.started + self._limit_s(worker) - now for worker in busy]
        waited: list[Any] = [thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)]
        # with all hands full, what the feed has new can wait; it would wake us again and again
        if feed.wakes is not None and len(busy) < self.cpus:
            waited.append(feed.wakes)
        happened = wait(waited, timeout=max(0.0, min(limits, default=self._block_limit_s)))
        for worker in busy:
            if worker.pipe in happened:
                yield from self._hear(worker, again)
            elif worker.process.sentinel in happened:
                yield from self._bury(worker, again)
            elif time.monotonic() - worker.started > self._limit_s(worker):
                yield self._cut_off(worker)

    def _limit_s(self, worker: _Worker) -> float:
        """Return how long the worker may take for what it is at."""
        return self._block_limit_s + (0.0 if worker.ready else _START_LIMIT_S)

    def _hear(self, worker: _Worker, again: deque[Box]) -> Iterator[Done | Failed]:
        """Return the outcome that a worker sent."""
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker, again)
            return
        if isinstance(outcome, BaseException):
            raise outcome
        worker.box, worker.ready = None, True
        yield outcome

    def _bury(self, worker: _Worker, again: deque[Box]) -> Iterator[Failed]:
        """Take leave of a worker that died; its block is tried again alone, once."""
        _end(worker.process)
        self._workers.remove(worker)
        worker.pipe.close()
        code = worker.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if worker.box is None:
            return
        if worker.alone:
            reason = f"its worker process was ended {how}, twice; most often for want of memory: try smaller blocks"
            yield Failed(worker.box, reason)
            return
        log.warning("the worker of block %s was ended %s; the block is tried again alone", worker.box, how)
        again.append(worker.box)

    def _cut_off(self, worker: _Worker) -> Failed:
        """End a worker that takes too long."""
        worker.process.kill()
        _end(worker.process)
        self._workers.remove(worker)
        worker.pipe.close()
        if worker.box is None:
            raise AssertionError("only a worker with a block can be late")
        return Failed(worker.box, f"it took longer than {self._limit_s(worker):.0f} s and was ended")


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep a new worker from running the main program again, as spawn would have it.

    It needs nothing of it, starts sooner, and a script without the usual guard cannot start workers without end.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _end(process: SpawnProcess) -> None:
    """Wait for a process to end, and make it."""
    process.join(_STOP_LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join(_STOP_LIMIT_S)


def _work(pipe: Connection, settings: logs.LogSettings | None, packed_setup: bytes) -> None:
    """Run blocks until the pipe is closed: the life of a worker."""
    # the parent ends its workers: Ctrl-C at a terminal is one message then, and not one a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # a worker whose parent is killed would otherwise work on until its block is done
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logs.apply(settings)
    try:
        setup, arguments = pickle.loads(packed_setup)  # noqa: S301 - our parent wrote it
        if setup is not None:
            setup(*arguments)
        known, function = b"", _no_function
        while True:
            packed = pipe.recv_bytes()
            box = pipe.recv()
            if packed != known:
                known, function = packed, pickle.loads(packed)  # noqa: S301 - our parent wrote it
            _send(pipe, _attempt(function, box))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.debug("the parent is gone, or done")
    except NDSynapseError as error:
        pipe.send(error)


def _no_function(box: Box) -> None:
    """Stand for the function until the first one comes."""


def _send(pipe: Connection, outcome: Done | Failed | NDSynapseError) -> None:
    """Send an outcome; a result that cannot travel is a failure of its block."""
    try:
        pipe.send(outcome)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        if not isinstance(outcome, Done):
            raise
        pipe.send(Failed(outcome.box, f"its result cannot be sent to the parent: {error}", traceback.format_exc()))


def _attempt(function: Callable[[Box], Any], box: Box) -> Done | Failed | NDSynapseError:
    """Run a function on a block, and return whatever comes of it."""
    started = time.monotonic()
    try:
        result = function(box)
    except StorageError as error:
        return error  # a disk that is full for one block is full for all
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises costs its block, and no more
        return Failed(box, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Done(box, result, time.monotonic() - started, _peak_bytes())


def _peak_bytes() -> int:
    """Return the largest memory that this process had; getrusage would count what its parent had when it started it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
