"""A pool of processes that runs a function on blocks, and survives what goes wrong in them.

Each worker has a pipe of its own, so the parent always knows which block a worker has:

- a function that raises costs its block, which is reported with its traceback; a disk that fails ends the run;
- a worker that dies (killed, out of memory, a crash in C) is noticed at once; its block is tried again *alone*, with no
  other block at work, and reported if it kills that worker, too;
- a worker that cannot start, or cannot load the function, ends the run: no block would fare better;
- a block that takes longer than its limit is reported and its worker killed, even in the middle of sending its result;
- when the parent dies, its workers see their pipes closed, and end.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import cloudpickle

from nd_synapse import logs
from nd_synapse.blocks.output import Output, join_all
from nd_synapse.blocks.processes import (
    describe_death,
    end_processes,
    signals_held,
    start_worker,
)
from nd_synapse.blocks.worker import LENGTH, Done, Failed, InWorkerError, Ready, Trouble, unpacked
from nd_synapse.errors import LimitError, StorageError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.importing import refuse_nested
from nd_synapse.machine import check_environment
from nd_synapse.redaction import REASON, TRACEBACK, redacted
from nd_synapse.text import shortened

__all__ = ["BlockPool", "Boxes", "Done", "Failed", "Feed", "InWorkerError"]

log = logging.getLogger(__name__)

BLOCK_LIMIT_S = 3600.0
"""Longest time that a block may take; a pipeline that takes an hour for one has stopped."""

_START_LIMIT_S = 120.0
_LOOK_EVERY_S = 1.0
_PIECE_BYTES = 1 << 20
_PROCESSES = Path("/proc")


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


@dataclass(slots=True)
class _Worker:
    """A worker process as its parent sees it; it `started` when it got its block, was ready, or last sent."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    output: Output
    box: Box | None = None
    started: float = 0.0
    ready: bool = False
    alone: bool = field(default=False)
    received: bytearray = field(default_factory=bytearray)

    def messages(self) -> list[Any] | None:
        """Return the messages that came whole by now, without waiting for the rest; None at the end of the pipe."""
        while self.pipe.poll():
            try:
                piece = os.read(self.pipe.fileno(), _PIECE_BYTES)
            except OSError:
                piece = b""
            if not piece:
                return None
            # it may have waited for us: the rest has the whole limit
            self.started = time.monotonic()
            self.received += piece
            if whole := self._whole_messages():
                return whole
        return []

    def _whole_messages(self) -> list[Any]:
        """Take the whole messages out of what was received."""
        found = []
        while len(self.received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self.received)
            end = LENGTH.size + size
            if len(self.received) < end:
                break
            with memoryview(self.received) as view, view[LENGTH.size : end] as packed:
                found.append(self._loaded(packed))
            del self.received[:end]
        return found

    def _loaded(self, packed: memoryview) -> Any:
        """Load a message; a result that cannot be loaded here is a failure of its block."""
        try:
            message = unpacked(packed)
        except Exception as error:
            if self.box is None:
                raise
            reason = f"its result cannot be loaded by the parent: {type(error).__name__}: {error}"
            message = Failed(self.box, reason, traceback.format_exc())
        if isinstance(message, Failed):
            # what a function raises may hold anything, and goes into files
            reason, trace = redacted(message.reason), redacted(message.traceback)
            return replace(message, reason=shortened(reason, REASON), traceback=shortened(trace, TRACEBACK))
        return message


class BlockPool:
    """`cpus` worker processes that run functions on blocks; `setup(*arguments)` is run once in each, before all else.

    What may be large, the setup and the function, lies in files without a name: a worker that never reads its pipe
    would block the parent, and a named file would be left behind by a parent that is killed.
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
        refuse_nested("a pool of worker processes")
        check_environment(os.environ)
        self.cpus = cpus
        self._block_limit_s = block_limit_s
        self._setup = (logs.current(), setup, arguments)
        self._workers: list[_Worker] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        """Return the pool; its workers start with the first run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers: at once after a failure, for what they do is committed whole or not at all."""
        with signals_held():
            for worker in self._workers:
                worker.pipe.close()
                if kind is not None or worker.box is not None or not worker.ready:
                    worker.process.terminate()
            end_processes([worker.process for worker in self._workers])
            join_all([worker.output for worker in self._workers])
            for file in self._files:
                file.close()
            self._workers.clear()
            self._files.clear()

    def run(self, function: Callable[[Box], Any], feed: Feed) -> Iterator[Done | Failed]:
        """Run a function on every block of a feed."""
        again: deque[Box] = deque()
        orders = self._orders(function)
        # they import what they need while the feed gets its first block ready
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
        """Write setup and function to a file without a name; return where workers find it while the pool lives."""
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
            # without a name where there is /proc: nothing is left of it when this process is killed
            opened = _PROCESSES / f"{os.getpid()}/fd"
            file: IO[bytes] = tempfile.TemporaryFile() if opened.is_dir() else tempfile.NamedTemporaryFile()  # noqa: SIM115 - kept open
            self._files.append(file)
            pickle.dump(packed, file)
            file.flush()
        except OSError as error:
            requested = f"writing what worker processes are to do to {tempfile.gettempdir()}"
            raise StorageError(
                requested, str(error.strerror), "Free space there, or set TMPDIR to another folder"
            ) from error
        return file.name if isinstance(file.name, str) else str(opened / str(file.fileno()))

    def _hand_out(self, orders: str, feed: Feed, again: deque[Box]) -> None:
        """Give blocks to idle workers; a block whose worker died is tried when no other is at work."""
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
        """Return whether one more worker may be at work."""
        return len(busy) < self.cpus and not any(worker.alone for worker in busy)

    def _tend_idle(self) -> None:
        """Read what idle workers sent, and remove those that died: no block was the cause."""
        for worker in [worker for worker in self._workers if worker.box is None]:
            gone = worker.process.poll() is not None
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
            # one that never started is reported by _collect, which sees its end
        worker.box, worker.started, worker.alone = box, time.monotonic(), alone
        return True

    def _start(self, orders: str) -> _Worker:
        """Start a worker."""
        process, pipe = start_worker(orders)
        worker = _Worker(process, pipe, Output(process))
        self._workers.append(worker)
        return worker

    def _collect(self, busy: list[_Worker], feed: Feed, again: deque[Box]) -> Iterator[Done | Failed]:
        """Wait until something happens, and return the outcomes that it brought."""
        now = time.monotonic()
        limits = [worker.started + self._limit_s(worker) - now for worker in busy]
        waited: list[Any] = [worker.pipe for worker in busy]
        # while nobody may take it, news of the feed can wait; they would wake us again and again
        if feed.wakes is not None and self._room(busy) and not again:
            waited.append(feed.wakes)
        # what the function forked may hold the pipe of a worker that died: its exit code is checked as well
        happened = wait(waited, timeout=max(0.0, min([_LOOK_EVERY_S, *limits])))
        for worker in busy:
            if worker.pipe in happened:
                yield from self._receive(worker, again)
            elif worker.pipe.poll():
                # it came while the outcome of another was handled: it is neither lost nor late
                continue
            elif worker.process.poll() is not None:
                yield from self._bury(worker, again)
            elif time.monotonic() - worker.started > self._limit_s(worker):
                yield self._cut_off(worker)

    def _limit_s(self, worker: _Worker) -> float:
        """Return how long the worker may take for what it is at."""
        return self._block_limit_s if worker.ready else _START_LIMIT_S

    def _receive(self, worker: _Worker, again: deque[Box]) -> Iterator[Done | Failed]:
        """Return the outcome that a worker sent, if it is one, and came whole."""
        messages = worker.messages()
        if messages is None:
            yield from self._bury(worker, again)
        for message in messages or ():
            self._note(worker, message)
            if isinstance(message, Ready):
                continue
            if message.box != worker.box:
                log.warning("an outcome of block %s came again, and is left out", message.box)
                continue
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
        """Remove a worker that died; its block is tried again alone, once."""
        self._remove(worker)
        if worker.box is None:
            raise AssertionError("only workers with a block are read from")
        how, remedy = describe_death(worker.process.returncode or 0)
        if not worker.alone:
            log.warning("the worker of block %s was ended %s; the block is tried again alone", worker.box, how)
            again.append(worker.box)
        elif worker.ready:
            yield Failed(worker.box, f"its worker process was ended {how}, twice; {remedy}")
        else:
            if worker.process.returncode > 0:
                remedy = "See what it wrote to standard error"
            raise LimitError("starting a worker process", f"it was ended {how} before it could begin, twice", remedy)

    def _cut_off(self, worker: _Worker) -> Failed:
        """End a worker that takes too long."""
        limit_s = self._limit_s(worker)
        worker.process.kill()
        self._remove(worker)
        if worker.box is None:
            raise AssertionError("only a worker with a block can be late")
        if not worker.ready:
            remedy = "See what keeps the machine busy, or what the function's module does when it is imported"
            raise LimitError("starting a worker process", f"it could not begin within {limit_s:.0f} s", remedy)
        return Failed(worker.box, f"it took longer than {limit_s:.0f} s and was ended")

    def _remove(self, worker: _Worker) -> None:
        """Remove a worker that ended, or is about to."""
        end_processes([worker.process])
        join_all([worker.output])
        self._workers.remove(worker)
        worker.pipe.close()


def _name(function: Callable[..., Any]) -> str:
    """Return the name of a function for messages; of a `partial`, that of its function."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", None) or repr(inner))
