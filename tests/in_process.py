"""Command lines run in this process, and what such a run changes in it put back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import driver
from nd_synapse import logs, redaction
from nd_synapse.cli import multicore, report
from nd_synapse.console import commands

__all__ = ["main", "restored"]


def main(*words: str) -> int:
    """Run a command as ``python WORDS`` does, and return its exit code; a help ends with 0."""
    door, *rest = words
    try:
        match door:
            case "driver.py":
                return driver.main(rest)
            case "nd_multicore":
                return multicore.main(rest, prog=door)
            case "pymeda_driver":
                return report.main(rest, prog=door)
        return commands.run(rest)
    except SystemExit as end:
        if end.code:
            raise
        return 0


@contextmanager
def restored() -> Iterator[None]:
    """Put back signal handlers, path, environment and logging."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, path, environ = [signal.getsignal(number) for number in numbers], list(sys.path), dict(os.environ)
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environ)
        logs.apply(None)
        redaction._known.clear()
