"""A pool of processes that runs a function on blocks, and outlives what goes wrong in them.

It knows neither where voxels come from nor what is done with them: a `Feed` tells which block may be worked on next.

A worker is a process of its own with a pipe of its own, so that the parent always knows which block a worker has:

- a function that raises costs its block, which is reported with its traceback; a disk that fails ends the run;
- a worker that dies (killed, out of memory, a crash in C) is seen at once; its block is tried again *alone*, with no
  other block at work, and reported if it takes that worker along too;
- a worker that cannot even begin, or cannot load the function, ends the run: no block would fare better;
- a block that takes longer than its limit is ended with its worker and reported, also where that stopped, or died, in
  the middle of what it sends: nothing is waited for that has only begun to come;
- when the parent dies, its workers see their pipes closed, and end.

What may be large, the setup and the function, lies in files that are in no folder: a pipe that nobody reads would hold
up whoever writes to it, and what a killed parent had in a folder would stay there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import IO, Any, Protocol, Self

import cloudpickle

from nd_synapse import logs
from nd_synapse.blocks.worker import LENGTH, SIGNALS, Done, Failed, InWorkerError, Ready, Trouble, unpacked, work
from nd_synapse.credentials import TOKEN_VARIABLE
from nd_synapse.errors import NDSynapseError, StorageError, UsageError
from nd_synapse.geometry import Box

__all__ = ["BlockPool", "Boxes", "Done", "Failed", "Feed", "InWorkerError"]

log = logging.getLogger(__name__)

BLOCK_LIMIT_S = 3600.0
"""Longest time that a block may take; a pipeline that takes an hour for one has stopped."""

_START_LIMIT_S = 120.0
_LOOK_EVERY_S = 1.0
_STOP_LIMIT_S = 5.0
_JOIN_S = 0.1
_PIECE_BYTES = 1 << 20
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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
    """A worker process as its parent sees it; it `started` when it got its block, was ready, or began to tell."""

    process: SpawnProcess
    pipe: Connection
    box: Box | None = None
    started: float = 0.0
    ready: bool = False
    alone: bool = field(default=False)
    heard: bytearray = field(default_factory=bytearray)

    def messages(self) -> list[Any] | None:
        """Return what came whole by now, without waiting for the rest of what has begun; None where the pipe ends."""
        while self.pipe.poll():
            try:
                piece = os.read(self.pipe.fileno(), _PIECE_BYTES)
            except OSError:
                piece = b""
            if not piece:
                return None
            if not self.heard:
                # it may have waited for us: what is yet to come has the limit anew
                self.started = time.monotonic()
            self.heard += piece
            if whole := self._whole():
                return whole
        return []

    def _whole(self) -> list[Any]:
        """Take the messages that are whole out of what was heard."""
        found = []
        while len(self.heard) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self.heard)
            end = LENGTH.size + size
            if len(self.heard) < end:
                break
            with memoryview(self.heard) as view, view[LENGTH.size : end] as packed:
                found.append(self._loaded(packed))
            del self.heard[:end]
        return found

    def _loaded(self, packed: memoryview) -> Any:
        """Load a message; a result that cannot be loaded here is a failure of its block."""
        try:
            return unpacked(packed)
        except Exception as error:
            if self.box is None:
                raise
            reason = f"its result cannot be loaded by the parent: {type(error).__name__}: {error}"
            return Failed(self.box, reason, traceback.format_exc())


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
        settings = logs.current()
        # a worker has no use for the token, so it does not get it: not to hide it from its log either
        self._setup = (settings and replace(settings, tokens=()), setup, arguments)
        self._workers: list[_Worker] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        """Return the pool; its workers start with the first run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers: at once after a failure, for what they are at is committed whole or not at all."""
        # the helper of multiprocessing may have to be started again
        with _environment(), _undisturbed():
            for worker in self._workers:
                worker.pipe.close()
                if kind is not None or worker.box is not None or not worker.ready:
                    worker.process.terminate()
            _end([worker.process for worker in self._workers])
            for file in self._files:
                file.close()
            self._workers.clear()
            self._files.clear()

    def run(self, function: Callable[[Box], Any], feed: Feed) -> Iterator[Done | Failed]:
        """Run a function on every block of a feed."""
        again: deque[Box] = deque()
        orders = self._orders(function)
        # they load what they need while the feed gets its first block ready
        while len(self._workers) < min(self.cpus, feed.remaining):
            self._start(orders)
        while True:
            self._hand_out(orders, feed, again)
            busy = [worker for worker in self._workers if worker.box is not None]
            if not busy and not again and not feed.remaining:
                return
            for outcome in self._collect(busy, feed, again):
                feed.finished(outcome.box)
                yield outcome

    def _orders(self, function: Callable[[Box], Any]) -> str:
        """Write setup and function to a file; return where workers find it while the pool lives."""
        try:
            # by value where it must be: what a script or a notebook defines is in no module that workers could import
            packed = cloudpickle.dumps(self._setup), cloudpickle.dumps(function)
        except Exception as error:
            raise UsageError(
                f"sending {_name(function)} to worker processes",
                f"it cannot be pickled: {error}",
                "Let it hold no locks, open files or connections",
            ) from error
        try:
            # a file in no folder, so that nothing is left of it whatever ends the parent
            file = tempfile.TemporaryFile()  # noqa: SIM115 - workers of later runs read it as well
            self._files.append(file)
            pickle.dump(packed, file)
            file.flush()
        except OSError as error:
            requested = f"writing what worker processes are to do to {tempfile.gettempdir()}"
            raise StorageError(
                requested, str(error.strerror), "Free space there, or set TMPDIR to another folder"
            ) from error
        return f"/proc/{os.getpid()}/fd/{file.fileno()}"

    def _hand_out(self, orders: str, feed: Feed, again: deque[Box]) -> None:
        """Give blocks to idle workers; one whose worker died is tried when nobody else is at work."""
        self._tend_idle()
        while True:
            busy = [worker for worker in self._workers if worker.box is not None]
            if not self._room(busy) or (again and busy):
                return
            alone = bool(again)
            box = again.popleft() if again else feed.take()
            if box is None:
                return
            while not self._give(box, alone, orders):
                log.debug("the worker for block %s had ended before it was given to it", box)

    def _room(self, busy: list[_Worker]) -> bool:
        """Tell whether one more worker may be at work."""
        return len(busy) < self.cpus and not any(worker.alone for worker in busy)

    def _tend_idle(self) -> None:
        """Hear what idle workers say, and let go of those that died: no block had a part in it."""
        for worker in [worker for worker in self._workers if worker.box is None]:
            gone = worker.process.exitcode is not None
            if worker.pipe.poll():
                messages = worker.messages()
                gone = gone or messages is None
                for message in messages or ():
                    self._note(worker, message)
            if gone:
                self._remove(worker)

    def _give(self, box: Box, alone: bool, orders: str) -> bool:
        """Give a block to an idle worker, or a new one; return False if it turns out to have died while it was idle."""
        worker = next((worker for worker in self._workers if worker.box is None), None) or self._start(orders)
        try:
            # a few hundred bytes: the pipe takes them even if the worker never reads them
            worker.pipe.send((orders, box))
        except (BrokenPipeError, ConnectionResetError):
            if worker.ready:
                self._remove(worker)
                return False
            # one that never began is told of by _collect, which sees its sentinel
        worker.box, worker.started, worker.alone = box, time.monotonic(), alone
        return True

    def _start(self, orders: str) -> _Worker:
        """Start a worker."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, orders), daemon=True)
        # the helper that multiprocessing starts beside the first worker has no token in its environment either
        with _environment(), _undisturbed(), _main_hidden():
            process.start()
        there.close()
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker

    def _collect(self, busy: list[_Worker], feed: Feed, again: deque[Box]) -> Iterator[Done | Failed]:
        """Wait until something happens, and return the outcomes that it brought."""
        now = time.monotonic()
        limits = [worker.started + self._limit_s(worker) - now for worker in busy]
        waited: list[Any] = [thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)]
        # while nobody may take it, what the feed has new can wait; it would wake us again and again
        if feed.wakes is not None and self._room(busy) and not again:
            waited.append(feed.wakes)
        # what the function forked may hold pipe and sentinel of a worker that died: its exit code is asked for as well
        happened = wait(waited, timeout=max(0.0, min([_LOOK_EVERY_S, *limits])))
        for worker in busy:
            if worker.pipe in happened:
                yield from self._hear(worker, again)
            elif worker.pipe.poll():
                # it came while somebody was at the outcome of another: it is neither lost nor late
                continue
            elif worker.process.exitcode is not None:
                yield from self._bury(worker, again)
            elif time.monotonic() - worker.started > self._limit_s(worker):
                yield self._cut_off(worker)

    def _limit_s(self, worker: _Worker) -> float:
        """Return how long the worker may take for what it is at."""
        return self._block_limit_s if worker.ready else _START_LIMIT_S

    def _hear(self, worker: _Worker, again: deque[Box]) -> Iterator[Done | Failed]:
        """Return the outcome that a worker sent, if it is one, and came whole."""
        messages = worker.messages()
        if messages is None:
            yield from self._bury(worker, again)
        for message in messages or ():
            self._note(worker, message)
            if not isinstance(message, Ready):
                worker.box = None
                yield message

    def _note(self, worker: _Worker, message: Any) -> None:
        """Note that a worker is ready; raise what ends the run."""
        if isinstance(message, Trouble):
            raise message.translated() from InWorkerError(message.traceback)
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Ready):
            worker.ready, worker.started = True, time.monotonic()

    def _bury(self, worker: _Worker, again: deque[Box]) -> Iterator[Failed]:
        """Take leave of a worker that died; its block is tried again alone, once."""
        self._remove(worker)
        if worker.box is None:
            raise AssertionError("only workers with a block are listened to")
        how, remedy = _death(worker.process.exitcode or 0)
        if not worker.alone:
            log.warning("the worker of block %s was ended %s; the block is tried again alone", worker.box, how)
            again.append(worker.box)
        elif worker.ready:
            yield Failed(worker.box, f"its worker process was ended {how}, twice; {remedy}")
        else:
            raise NDSynapseError(
                "starting a worker process", f"it was ended {how} before it could begin, twice", remedy
            )

    def _cut_off(self, worker: _Worker) -> Failed:
        """End a worker that takes too long."""
        limit_s = self._limit_s(worker)
        worker.process.kill()
        self._remove(worker)
        if worker.box is None:
            raise AssertionError("only a worker with a block can be late")
        if not worker.ready:
            remedy = "See what keeps the machine busy, or what the function's module does when it is imported"
            raise NDSynapseError("starting a worker process", f"it could not begin within {limit_s:.0f} s", remedy)
        return Failed(worker.box, f"it took longer than {limit_s:.0f} s and was ended")

    def _remove(self, worker: _Worker) -> None:
        """Let go of a worker that ended, or is about to."""
        _end([worker.process])
        self._workers.remove(worker)
        worker.pipe.close()


def _name(function: Callable[..., Any]) -> str:
    """Return how a function is called in messages; a `partial` by what it calls."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", None) or repr(inner))


def _death(code: int) -> tuple[str, str]:
    """Tell from an exit code how a process ended, and what to do about it."""
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    if code >= 0:
        return f"with exit code {code}", "something that the function calls ends its process: let it raise instead"
    if name == "SIGKILL":
        return f"by {name}", "most often for want of memory: give a smaller --block-size or fewer --cpus"
    if name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"):
        return (
            f"by {name}",
            "a crash in C code, of the function or of a library that it calls: try it on this block alone",
        )
    return f"by {name}", "somebody sent it this signal: see who does"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back: a worker half started, or half ended, would be nobody's.

    A process that is started meanwhile has them blocked until it unblocks them itself.
    """
    # it is started with the first worker, and would unblock them
    resource_tracker.ensure_running()
    came: list[int] = []
    handlers = {}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # the kernel gives a signal to any thread that has not blocked it, and Python passes it on to this one
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def _environment() -> Iterator[None]:
    """Give a new worker an environment of its own: libraries of one thread, and no token."""
    # numpy's libraries read these when they are loaded, in the child; more threads than cores only get in the way
    before = {name: os.environ.get(name) for name in (*_THREADS, TOKEN_VARIABLE)}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    os.environ.pop(TOKEN_VARIABLE, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep a new worker from running the main program again, as spawn would have it, and from its command line.

    It needs nothing of it, starts sooner, and a script without the usual guard cannot start workers without end. What
    the command line says, a token among it, is nothing that a worker could tell.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    words = sys.argv
    sys.argv = words[:1]
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        sys.argv = words
        for name, value in hidden.items():
            setattr(main, name, value)


def _end(processes: Iterable[SpawnProcess]) -> None:
    """Wait for processes to end, all of them so long, and make them."""
    for make_them in (False, True):
        deadline = time.monotonic() + _STOP_LIMIT_S
        for process in processes:
            if make_them:
                process.kill()
        for process in processes:
            # what it forked may hold its sentinel, and `join` waits for that alone
            while process.exitcode is None and (left_s := deadline - time.monotonic()) > 0:
                process.join(min(left_s, _JOIN_S))
