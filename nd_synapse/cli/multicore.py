"""The command line of nd_multicore: ``python -m nd_multicore``.

It runs nothing on blocks itself.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nd_synapse import logs
from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.blocks.pool import InWorkerError
from nd_synapse.console import app
from nd_synapse.console.parser import IntOption, Parser, PathOption
from nd_synapse.errors import (
    DataError,
    IncompleteError,
    NDSynapseError,
    PermissionDeniedError,
    StoppedError,
    StorageError,
    UnavailableError,
    UsageError,
    exit_codes,
)
from nd_synapse.importing import load_function
from nd_synapse.multicore import run
from nd_synapse.progress import told
from nd_synapse.values import parse_block_size, parse_gib

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse multicore") -> int:
    """Run ``python -m nd_multicore neurodata.cfg package.module:function``."""
    parser = Parser(
        prog=prog,
        description="Run a function on every block of a BOSS volume.",
        epilog=exit_codes(
            UsageError, IncompleteError, DataError, UnavailableError, StorageError, PermissionDeniedError
        ),
    )
    parser.add_argument("config", help="neurodata.cfg with the box and the channels")
    parser.add_argument(
        "function", help="package.module:function, called with a dictionary of channel to (z, y, x) array"
    )
    parser.add_argument(
        "--cpus",
        action=IntOption,
        least=1,
        most=run.MOST,
        help="worker processes (default: all cores but one, at least one)",
    )
    parser.add_argument("--block-size", default="10,1000,1000", metavar="Z,Y,X", help="default: %(default)s")
    parser.add_argument(
        "--pulls",
        action=IntOption,
        least=1,
        most=run.MOST,
        default=DEFAULT_PULLS,
        help="cutouts in flight (default: %(default)s)",
    )
    parser.add_argument("--memory", metavar="GIB", help="memory to use; default: what the container or machine has")
    parser.add_argument(
        "--scratch", action=PathOption, metavar="DIR", help="keep finished blocks here: the same command goes on"
    )
    parser.add_argument("--quiet", action="store_true", help="only warnings and failures on standard error")

    def command(words: list[str], _environ: Mapping[str, str]) -> int:
        return _run(parser.parse_args(words))

    # the token stays in the environment, where the historical function looks for it; workers do not get it
    return app.run(command, argv, keep_token=True)


def _run(options: argparse.Namespace) -> int:
    """Run what the command line asks for; return the exit code."""
    logs.apply(logs.LogSettings(logging.WARNING if options.quiet else logging.INFO))
    sys.path.append(str(Path.cwd()))
    function = load_function(options.function)
    z, y, x = parse_block_size(options.block_size)
    memory = parse_gib("--memory", options.memory)
    try:
        with told(not options.quiet) as progress:
            results = run.run_parallel(
                options.config,
                function,
                options.cpus,
                (x, y, z),
                pulls=options.pulls,
                scratch=options.scratch,
                memory_bytes=memory,
                progress=progress,
            )
    except KeyboardInterrupt:
        remedy = app.GOES_ON if options.scratch else "Nothing is kept without --scratch"
        raise StoppedError("the run", "it was stopped by a signal", remedy) from None
    except NDSynapseError as error:
        if isinstance(error.__cause__, InWorkerError):
            app.write_stderr(str(error.__cause__))
        raise
    app.write_stdout("".join(f"{key}\n" for key in results))
    # the user's own function is what they tell of; each of its failures once
    for trace in dict.fromkeys(failed.traceback for failed in results.failed.values()):
        app.write_stderr(trace)
    if results.failed:
        count = len(results.failed)
        raise IncompleteError(f"{options.function} on every block", f"{count} blocks failed", "Correct the function")
    return 0
