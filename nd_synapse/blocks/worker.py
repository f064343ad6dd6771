"""What runs in a worker process of a pool, and what it sends to its parent."""

from __future__ import annotations

import ctypes
import gc
import io
import logging
import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from nd_synapse import logs
from nd_synapse.blocks.output import RecordSender, write_all
from nd_synapse.errors import NDSynapseError, StorageError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.importing import importing, in_worker
from nd_synapse.limits import limit_of
from nd_synapse.redaction import describe_error, format_traceback
from nd_synapse.user_code import restored

__all__ = ["LENGTH", "SIGNALS", "Done", "Failed", "InWorkerError", "Ready", "Trouble", "unpacked", "work"]

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a job to stop."""

LENGTH = struct.Struct("!Q")
"""The length before each message to the parent, which reads in pieces: a worker may die, or stop, in the middle."""

_PR_SET_PDEATHSIG = 1

_MOST = 100_000
"""Characters of a failure that the parent gets, which knows the secrets, and shortens it once they are removed."""
_LOADING = "loading the function in a worker process"


@dataclass(frozen=True, slots=True)
class Done:
    """A block that is done."""

    box: Box
    result: Any
    """What the function returned."""
    seconds: float
    peak_bytes: int
    """Largest memory that its worker had by then."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A block that could not be done."""

    box: Box
    reason: str
    traceback: str = ""
    """The function's traceback; empty where the worker died."""


class Ready:
    """What a worker sends when it was set up."""


class Trouble(Exception):  # noqa: N818 - a message as much as an error
    """What a worker sends when it cannot start: what it was doing, the error in a line, the traceback."""

    def __init__(self, what: str, reason: str, traceback: str) -> None:
        super().__init__(what, reason, traceback)
        self.what = what
        self.reason = reason
        self.traceback = traceback

    def translated(self) -> NDSynapseError:
        """Return the error for the user."""
        if self.what == _LOADING:
            remedy = "Correct it; what it needs must be installed, or in a folder on PYTHONPATH"
            return UsageError(self.what, self.reason, remedy)
        return NDSynapseError(self.what, self.reason, "See the traceback in the log, and report it if it is a defect")


class InWorkerError(Exception):
    """The cause of an error that happened in a worker; its text is the traceback there."""


def work(pipe: Connection, orders: str) -> None:
    """Run blocks until the pipe is closed: the life of a worker."""
    # the parent ends its workers, so that Ctrl-C at a terminal gives one message and not one a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # a worker whose parent is killed would otherwise work on until its block is done; only Linux has this
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    in_worker()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a worker that is killed has printed what it said
    own = os.getpid()
    try:
        packed_setup, packed_function = _read(orders)
        with _reported("setting a worker process up"):
            settings, setup, arguments = pickle.loads(packed_setup)  # noqa: S301 - our parent wrote it
            logs.apply(settings, RecordSender())
            if setup is not None:
                setup(*arguments)
        function = _function(packed_function)
        del packed_setup, packed_function
        gc.freeze()
        gc.enable()
        _send(pipe, Ready())
        while True:
            wanted, box = pipe.recv()
            if wanted != orders:
                _give_back()
                orders, function = wanted, _function(_read(wanted)[1])
            outcome = _attempt(function, box)
            if os.getpid() != own:
                os._exit(0)  # what the function forked has come back: its worker alone answers
            _send_outcome(pipe, outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.debug("the parent is gone, or done")
    except (NDSynapseError, Trouble) as error:
        _send(pipe, error)


def _give_back() -> None:
    """Give memory that is free back to the system: the next pass may need less, and its parent more."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not every C library has it
    if trim is not None:
        trim(0)


def _read(orders: str) -> tuple[bytes, bytes]:
    """Read setup and function, packed, as the parent wrote them."""
    with _reported("reading what a worker process is to do"), Path(orders).open("rb") as file:
        packed: tuple[bytes, bytes] = pickle.load(file)  # noqa: S301 - our parent wrote it
    return packed


def _function(packed: bytes) -> Callable[[Box], Any]:
    """Load a function."""
    with _reported(_LOADING), importing("the module of the function"):
        function: Callable[[Box], Any] = pickle.loads(packed)  # noqa: S301 - our parent wrote it
    return function


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Raise any failure to start as `Trouble`, but for what the machine lacks."""
    try:
        yield
    except NDSynapseError:
        raise
    except BaseException as error:
        limit = limit_of(what, error)
        if limit is not None:
            raise limit from error
        if isinstance(error, OSError) and what != _LOADING:
            raise StorageError(
                what, describe_error(error), "Check the folder for temporary files, and /proc"
            ) from error
        raise Trouble(what, describe_error(error), format_traceback(error)) from error


def _send_outcome(pipe: Connection, outcome: Done | Failed | NDSynapseError) -> None:
    """Send an outcome; a result that cannot travel is a failure of its block."""
    try:
        packed = ForkingPickler.dumps(outcome)
    except BaseException as error:
        if not isinstance(outcome, Done):
            raise
        reason = f"its result cannot be sent to the parent: {describe_error(error, _MOST)}"
        packed = ForkingPickler.dumps(Failed(outcome.box, reason, format_traceback(error, _MOST)))
    _send_packed(pipe, packed)


def _send(pipe: Connection, message: object) -> None:
    """Send a message."""
    _send_packed(pipe, ForkingPickler.dumps(message))


def _send_packed(pipe: Connection, packed: Any) -> None:
    """Send the length of a message, and the message."""
    write_all(pipe.fileno(), LENGTH.pack(len(packed)))
    write_all(pipe.fileno(), packed)


def unpacked(packed: Any) -> Any:
    """Load a message of a worker."""
    return pickle.loads(packed)  # noqa: S301 - our worker wrote it


def _attempt(function: Callable[[Box], Any], box: Box) -> Done | Failed | NDSynapseError:
    """Run a function on a block, and return its outcome."""
    started = time.monotonic()
    try:
        with restored():
            result = function(box)
    except StorageError as error:
        return error  # a disk that is full for one block is full for all
    except BaseException as error:  # noqa: BLE001 - whatever a pipeline raises costs its block, and no more
        return Failed(box, describe_error(error, _MOST), format_traceback(error, _MOST))
    return Done(box, result, time.monotonic() - started, _peak_bytes())


def _peak_bytes() -> int:
    """Return the largest memory that this process had; getrusage would count what its parent had when it started it."""
    with suppress(OSError):  # not every system lets it be read
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
