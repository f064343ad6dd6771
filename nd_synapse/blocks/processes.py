"""Worker processes: started with an environment of their own, ended within a limit, and what their exit codes mean."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe

from nd_synapse.blocks.worker import SIGNALS
from nd_synapse.credentials import TOKEN_VARIABLE
from nd_synapse.errors import StorageError
from nd_synapse.limits import limit_of

__all__ = ["describe_death", "end_processes", "environment_of_workers", "signals_held", "start_worker"]

STOP_LIMIT_S = 5.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_WITHHELD = re.compile(rf"{TOKEN_VARIABLE}|AWS_.*")

_PROGRAM = """
import gc, sys
gc.disable()
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
try:
    sys.path[:], sys.argv[:], orders = pipe.recv()
except EOFError:
    sys.exit()
from nd_synapse.blocks.worker import work
work(pipe, orders)
"""
"""It imports nothing from the working folder by itself, and never the main program of its parent: a script without the
usual guard cannot start workers without end. Nothing is collected until it is set up: modules stay."""


def environment_of_workers(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of workers: libraries of one thread, no token, and nothing that opens AWS."""
    kept = {name: value for name, value in environ.items() if not _WITHHELD.fullmatch(name)}
    # more threads than cores only get in the way
    return {**kept, **dict.fromkeys(_THREADS, "1")}


def start_worker(orders: str) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a worker: it shares no locks, sockets or threads with its parent, whatever that has imported.

    Nothing of this process changes meanwhile: others of its threads may start workers, too, or ask AWS.
    """
    here, there = Pipe()
    command = [sys.executable, *_flags(), "-c", _PROGRAM, str(there.fileno())]
    try:
        with signals_held(), _started():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment_of_workers(os.environ),
                pass_fds=[there.fileno()],
            )
    except BaseException:
        here.close()
        raise
    finally:
        there.close()
    # it may have ended; then the reader finds out. A token on the command line does not reach it
    with suppress(BrokenPipeError, ConnectionResetError):
        here.send((sys.path, sys.argv[:1], orders))
    return process, here


@contextmanager
def _started() -> Iterator[None]:
    """Name what this machine lacks to start a process."""
    requested = "starting a worker process"
    try:
        yield
    except OSError as error:
        limit = limit_of(requested, error)
        if limit is not None:
            raise limit from error
        remedy = "Use the Python that nd-synapse was installed for"
        raise StorageError(requested, f"{error.filename or sys.executable}: {error.strerror}", remedy) from error


def _flags() -> list[str]:
    """Return the options of this Python, such as -W and -X."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
    return flags


def describe_death(code: int) -> tuple[str, str]:
    """Return how a process ended, by its exit code, and what to do about it."""
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    if code >= 0:
        return f"with exit code {code}", "something that the function calls ends its process: let it raise instead"
    if name == "SIGKILL":
        return f"by {name}", "most often because memory ran out: give a smaller --block-size or fewer --cpus"
    if name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"):
        return (
            f"by {name}",
            "a crash in C code, of the function or of a library that it calls: try it on this block alone",
        )
    return f"by {name}", "somebody sent it this signal: see who does"


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back, so that no worker is left half started or half ended.

    A process that is started meanwhile has them blocked until it unblocks them itself.
    """
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


def end_processes(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Wait for processes to end, with one limit for all of them; then kill those that did not."""
    for kill in (False, True):
        deadline = time.monotonic() + STOP_LIMIT_S
        for process in processes:
            if kill:
                process.kill()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
