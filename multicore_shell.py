"""The command line of nd_multicore: ``python -m nd_multicore``.

It runs nothing on blocks itself.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import logs
import nd_multicore
from block_pool import InWorkerError
from detection.plan import DEFAULT_PULLS
from errors import IncompleteError, NDSynapseError, StoppedError, UsageError
from progress import told

__all__ = ["main"]

_STOP_LIMIT_S = 9


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m nd_multicore neurodata.cfg package.module:function``.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process where None.

    Returns
    -------
    int
        The exit code, see `errors`.
    """
    parser = argparse.ArgumentParser(prog="nd_multicore", description="Run a function on every block of a BOSS volume.")
    parser.add_argument("config", help="neurodata.cfg with the box and the channels")
    parser.add_argument(
        "function", help="package.module:function, called with a dictionary of channel to (z, y, x) array"
    )
    parser.add_argument("--cpus", type=int, help="worker processes (default: all cores but one, at least one)")
    parser.add_argument("--block-size", default="10,1000,1000", metavar="Z,Y,X", help="default: %(default)s")
    parser.add_argument("--pulls", type=int, default=DEFAULT_PULLS, help="cutouts in flight (default: %(default)s)")
    parser.add_argument("--memory", metavar="GIB", help="memory to use; default: what the container or machine has")
    parser.add_argument("--scratch", metavar="DIR", help="keep finished blocks here: the same command goes on")
    parser.add_argument("--quiet", action="store_true", help="only warnings and failures on standard error")
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = _shell(options)
        _ignore_signals()
    except KeyboardInterrupt:
        remedy = "The same command goes on where it was" if options.scratch else "Nothing is kept without --scratch"
        stopped = StoppedError("the run", "it was stopped by a signal", remedy)
        sys.stderr.write(f"{stopped}\n")
        code = stopped.exit_code
    return code


def _ignore_signals() -> None:
    """Let signals pass unheard from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stop(*_: object) -> None:
    """Interrupt the run, once: who sends a signal often, or two kinds, means the same as who sends one."""
    _ignore_signals()
    # an interrupt is lost where Python cannot raise it, and what it ends may hang
    signal.signal(signal.SIGALRM, lambda *_: os._exit(StoppedError.exit_code))
    signal.alarm(_STOP_LIMIT_S)
    raise KeyboardInterrupt


def _shell(options: argparse.Namespace) -> int:
    """Run what the command line asks for; return the exit code."""
    logs.apply(logs.LogSettings(logging.WARNING if options.quiet else logging.INFO))
    try:
        function = _import_function(options.function)
        z, y, x = _block_size(options.block_size)
        memory = None if options.memory is None else _gib(options.memory)
        with told(not options.quiet) as progress:
            results = nd_multicore.run_parallel(
                options.config,
                function,
                options.cpus,
                (x, y, z),
                pulls=options.pulls,
                scratch=options.scratch,
                memory_bytes=memory,
                progress=progress,
            )
        sys.stdout.write("".join(f"{key}\n" for key in results))
        for failed in results.failed.values():
            sys.stderr.write(f"{failed.traceback}block {failed.box} failed: {failed.reason}\n")
        if results.failed:
            count = len(results.failed)
            raise IncompleteError(
                f"{options.function} on every block", f"{count} blocks failed", "Correct the function"
            )
    except NDSynapseError as error:
        cause = error.__cause__ if isinstance(error.__cause__, InWorkerError) else ""
        sys.stderr.write(f"{cause}{error}\n")
        return error.exit_code
    return 0


def _block_size(text: str) -> tuple[int, int, int]:
    """Read a block size, z, y, x."""
    try:
        z, y, x = (int(number) for number in text.split(","))
    except ValueError:
        z = y = x = 0
    if min(z, y, x) < 1:
        found = "it is not three whole numbers from 1 upwards"
        raise UsageError(f"--block-size {text}", found, "Give z,y,x such as --block-size 10,1000,1000")
    return z, y, x


def _gib(text: str) -> int:
    """Read a size in GiB as bytes."""
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 2**20:
        raise UsageError(f"--memory {text}", "it is no size in GiB above 0", "Give it such as --memory 1.5")
    return int(size * 2**30)


def _import_function(path: str) -> nd_multicore.BlockFunction:
    """Import ``package.module:function`` from the working folder or the environment."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"function {path!r}", "it is not of the form package.module:function", "Write it so")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function: nd_multicore.BlockFunction = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"function {path!r}", str(error), "Check module and function name") from error
    except (Exception, SystemExit) as error:
        found = f"importing {module} ends with {type(error).__name__}: {error}"
        raise UsageError(f"function {path!r}", found, "Correct the module") from error
    if not callable(function):
        raise UsageError(f"function {path!r}", f"it is {type(function).__name__}, not a function", "Check its name")
    return function
