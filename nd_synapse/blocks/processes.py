"""Worker processes: started without the token, ended within a limit, and what their exit codes mean."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from nd_synapse.blocks.worker import SIGNALS, work
from nd_synapse.credentials import TOKEN_VARIABLE

__all__ = ["describe_death", "end_processes", "quiet_environment", "signals_held", "start_worker"]

STOP_LIMIT_S = 5.0
_JOIN_S = 0.1
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def start_worker(orders: str) -> tuple[SpawnProcess, Connection]:
    """Start a worker by spawn: it shares no locks, sockets or threads with its parent, whatever that has imported."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, orders), daemon=True)
    # the helper that multiprocessing starts beside the first worker has no token in its environment either
    with quiet_environment(), signals_held(), _main_hidden():
        process.start()
    there.close()
    return process, here


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
def quiet_environment() -> Iterator[None]:
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

    It starts sooner, a script without the usual guard cannot start workers without end, and a token on the command line
    does not reach the worker.
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


def end_processes(processes: Iterable[SpawnProcess]) -> None:
    """Wait for processes to end, with one limit for all of them; then kill those that did not."""
    for kill in (False, True):
        deadline = time.monotonic() + STOP_LIMIT_S
        for process in processes:
            if kill:
                process.kill()
        for process in processes:
            # what it forked may hold its sentinel, and `join` waits for that alone
            while process.exitcode is None and (left_s := deadline - time.monotonic()) > 0:
                process.join(min(left_s, _JOIN_S))
