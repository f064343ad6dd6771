"""Where log records go: to standard error and, once there is a result folder, to its job.log; never with a token.

It decides nothing about what is logged. Worker processes write to the same places by the same settings.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from credentials import Redactor, Token
from errors import StorageError

__all__ = ["LogSettings", "apply", "current", "job_log", "progress"]

_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
_FILE_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s[%(process)d] %(message)s"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and where.

    Parameters
    ----------
    level : int
        Lowest level that standard error shows; job.log holds INFO and above in any case.
    tokens : tuple of Token
        What no record may show.
    file : Path or None
        The job.log.
    """

    level: int = logging.INFO
    tokens: tuple[Token, ...] = ()
    file: Path | None = None


_CURRENT: LogSettings | None = None


class _Terminal(logging.StreamHandler):  # type: ignore[type-arg]  # it is generic in typeshed only
    """Writes lines to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a failure to do so goes the way of all logging failures."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except (OSError, ValueError):
            self.handleError(record)


def current() -> LogSettings | None:
    """Return the settings in force, None where nobody applied any: then Python's own defaults hold."""
    return _CURRENT


def apply(settings: LogSettings | None) -> None:
    """Log by `settings` from now on, in this process.

    Parameters
    ----------
    settings : LogSettings or None
        None changes nothing: the program that imports us decides.

    Raises
    ------
    StorageError
        If job.log cannot be opened.
    """
    global _CURRENT
    if settings is None:
        return
    handlers: list[logging.Handler] = [_Terminal()]
    handlers[0].setLevel(settings.level)
    handlers[0].setFormatter(_formatter(_LINE))
    if settings.file is not None:
        try:
            handlers.append(logging.FileHandler(settings.file, encoding="utf-8"))
        except OSError as error:
            raise StorageError(
                f"opening the log {settings.file}", str(error.strerror), "Give a --path that you may write to"
            ) from error
        handlers[1].setLevel(min(settings.level, logging.INFO))
        handlers[1].setFormatter(_formatter(_FILE_LINE))
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "belongs_to_job", False):
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        handler.belongs_to_job = True  # type: ignore[attr-defined]
        handler.addFilter(Redactor(*settings.tokens))
        root.addHandler(handler)
    root.setLevel(min(settings.level, logging.INFO))
    for chatty in ("botocore", "boto3", "s3transfer", "urllib3", "matplotlib", "PIL", "asyncio"):
        logging.getLogger(chatty).setLevel(max(settings.level, logging.WARNING))
    _CURRENT = settings


def _formatter(line: str) -> logging.Formatter:
    """Return a formatter with times in UTC."""
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


@contextmanager
def job_log(file: Path) -> Iterator[None]:
    """Write the log to a file too while the context lasts.

    Parameters
    ----------
    file : Path
        The job.log; lines are added to one that exists.

    Yields
    ------
    None
        Once.

    Raises
    ------
    StorageError
        If it cannot be opened.
    """
    before = _CURRENT
    if before is None:
        # imported as a library: the log of the program that imports us is its own
        before = LogSettings(level=logging.CRITICAL)
    apply(replace(before, file=file))
    try:
        yield
    finally:
        apply(before)


@contextmanager
def progress(shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far the steps of a job are: bars on a terminal, a line at the end of each step elsewhere.

    Parameters
    ----------
    shown : bool
        Whether anything is shown.

    Yields
    ------
    callable
        To be called with the step, the blocks done, and the blocks in all.
    """
    logger = logging.getLogger("progress")
    bar: tqdm | None = None
    terminal = shown and sys.stderr.isatty()

    def report(step: str, done: int, total: int) -> None:
        nonlocal bar
        if terminal:
            if bar is not None and bar.desc.strip() != step:
                bar.close()
                bar = None
            if bar is None:
                bar = tqdm(total=total, desc=f"{step:<10}", unit="block", leave=False)
            bar.update(done - bar.n)
        elif shown and done == total:
            logger.info("%s: %d of %d blocks", step, done, total)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
