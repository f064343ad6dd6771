"""``nd-synapse multicore``, also ``python -m nd_multicore``: runs a function of the user on every block."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from nd_synapse import logs
from nd_synapse.blocks.worker import InWorkerError
from nd_synapse.cli.options import add_blocks, add_verbosity, add_workers, level_of, search_working_folder
from nd_synapse.console import app
from nd_synapse.console.parser import Parser, add_value
from nd_synapse.credentials import TOKEN_VARIABLE
from nd_synapse.errors import REMOTE, IncompleteError, NDSynapseError, StoppedError, exit_codes
from nd_synapse.importing import load_function
from nd_synapse.multicore import run
from nd_synapse.progress import reporting
from nd_synapse.values import parse_path

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse multicore") -> int:
    """Run the command and return its exit code."""

    def command(words: list[str], environ: Mapping[str, str]) -> int:
        return _run(parser(prog).parse_args(words), environ)

    return app.run(command, argv)


def parser(prog: str) -> Parser:
    """Return the parser."""
    p = Parser(
        prog=prog,
        description="Run a function on every block of a BOSS volume, and print the keys of the blocks.",
        epilog=exit_codes(IncompleteError, *REMOTE),
    )
    p.add_argument("config", help="neurodata.cfg with the box and the channels")
    p.add_argument("function", help="package.module:function, called with a dictionary of channel to (z, y, x) array")
    add_workers(p)
    add_blocks(p, (10, 1000, 1000), "10,1000,1000")
    add_value(
        p, "--scratch", parse_path, "keep finished blocks here: the same command resumes a stopped run", metavar="DIR"
    )
    add_verbosity(p)
    return p


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run what the command line requests; return the exit code."""
    logs.apply(logs.LogSettings(level_of(options)))
    search_working_folder(options.function)
    function = load_function(options.function)
    if TOKEN_VARIABLE in environ:
        # where `run_parallel` looks for it; the user's module was imported without it, and workers do not get it
        os.environ[TOKEN_VARIABLE] = environ[TOKEN_VARIABLE]
    z, y, x = options.block_size
    try:
        with reporting(not options.quiet) as progress:
            results = run.run_parallel(
                options.config,
                function,
                options.cpus,
                (x, y, z),
                pulls=options.pulls,
                scratch=options.scratch,
                memory_bytes=options.memory,
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
    # tracebacks of the user's function, each once
    for trace in dict.fromkeys(failed.traceback for failed in results.failed.values()):
        app.write_stderr(trace)
    if results.failed:
        count = len(results.failed)
        raise IncompleteError(f"{options.function} on every block", f"{count} blocks failed", "Correct the function")
    return 0
