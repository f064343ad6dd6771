"""The command line of nd_multicore: ``python -m nd_multicore``.

It runs nothing on blocks itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import logs
import nd_multicore
import stopping
from block_pool import InWorkerError
from command_line import Parser, block_size_of, gib_of
from detection.plan import DEFAULT_PULLS
from errors import IncompleteError, NDSynapseError, StoppedError, UsageError
from importing import function_of
from progress import told

__all__ = ["main"]


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
    parser = Parser(prog="nd_multicore", description="Run a function on every block of a BOSS volume.")
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
    # the token stays in the environment, where the historical function looks for it; workers do not get it
    logs.begin(sys.argv[1:] if argv is None else argv, os.environ)
    try:
        options = parser.parse_args(argv)
    except UsageError as error:
        sys.stderr.write(logs.told(f"{error}\n"))
        return error.exit_code
    stopping.hear()
    try:
        code = _shell(options)
        stopping.ignore()
    except KeyboardInterrupt:
        remedy = "The same command goes on where it was" if options.scratch else "Nothing is kept without --scratch"
        stopped = StoppedError("the run", "it was stopped by a signal", remedy)
        sys.stderr.write(f"{stopped}\n")
        code = stopped.exit_code
    return code


def _shell(options: argparse.Namespace) -> int:
    """Run what the command line asks for; return the exit code."""
    logs.apply(logs.LogSettings(logging.WARNING if options.quiet else logging.INFO))
    try:
        sys.path.append(str(Path.cwd()))
        function = function_of(options.function)
        z, y, x = block_size_of(options.block_size)
        memory = gib_of("--memory", options.memory)
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
            sys.stderr.write(logs.told(f"{failed.traceback}block {failed.box} failed: {failed.reason}\n"))
        if results.failed:
            count = len(results.failed)
            raise IncompleteError(
                f"{options.function} on every block", f"{count} blocks failed", "Correct the function"
            )
    except NDSynapseError as error:
        cause = error.__cause__ if isinstance(error.__cause__, InWorkerError) else ""
        sys.stderr.write(logs.told(f"{cause}{error}\n"))
        return error.exit_code
    return 0
