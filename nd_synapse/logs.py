"""Where log records go: to standard error and, once there is a result folder, to its job.log; never with a secret.

Worker processes send their records to their parent (`blocks/output.py`). Several jobs may run in threads of one
process: each job.log has the records of its own job, and those of threads that do not say whose they are.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from nd_synapse.credentials import Token
from nd_synapse.errors import StorageError
from nd_synapse.paths import refuse_special
from nd_synapse.redaction import Redactor, hidden, hide, words_and_environment
from nd_synapse.text import one_line, shortened

__all__ = ["LogSettings", "apply", "current", "job_log", "show", "start"]

log = logging.getLogger(__name__)

_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
_FILE_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s[%(process)d] %(message)s"
_MESSAGE = 4000
_TRACE = 20_000
"""Characters of a message, and of a traceback, that are written."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and where."""

    level: int | None = logging.INFO
    """Lowest level on standard error; None leaves it, and the levels of all loggers, to the program that imports us."""
    file: Path | None = None
    """The job.log."""


_RETRY = re.compile(r"^Retrying \(.*?\) after connection broken by '(.*)': (\S*)$", re.DOTALL)
"""What urllib3 says, with its own bookkeeping in it."""


class _Terminal(logging.StreamHandler):  # type: ignore[type-arg]  # it is generic in typeshed only
    """Writes lines to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        show(f"{self.format(record)}\n", sys.stderr)


def show(text: str, stream: TextIO | None) -> None:
    """Write a text, above a progress bar if there is one; where nothing can be written it is lost."""
    if stream is None:
        return  # it is closed
    with suppress(OSError, ValueError):
        if stream.isatty():
            from tqdm import tqdm  # only a terminal has bars

            tqdm.write(text, file=stream, end="")
        else:
            coding = getattr(stream, "encoding", None) or "utf-8"  # that of a program need not have one
            stream.write(text.encode(coding, "backslashreplace").decode(coding))
            stream.flush()


class _Lines(logging.Formatter):
    """Writes a record as one line with its time in UTC; the traceback follows below, or its first error at the end.

    Names and errors of others may have line ends, and be of any length.
    """

    def __init__(self, line: str, traces: bool) -> None:
        super().__init__(line, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        plain = copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        text, trace = super().format(plain), record.exc_text
        if not trace:
            return text
        return f"{text}\n{shortened(trace, _TRACE)}" if self._traces else f"{text}: {_first_cause(trace)}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line of a record."""
        record.message = one_line(shortened(_RETRY.sub(r"Retrying \2 after \1", record.message), _MESSAGE))
        return super().formatMessage(record)


def _first_cause(trace: str) -> str:
    """Return the exception that a traceback, or a chain of them, begins with."""
    lines = trace.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("  File ")), 0)
    first = next((line for line in lines[start:] if line and not line.startswith(" ")), lines[-1])
    return one_line(shortened(first, _MESSAGE))


class _JobLog(logging.FileHandler):
    """A log file that ends with a warning when its disk is full, instead of printing a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Warn once and stop writing if the disk is the reason."""
        cause = sys.exception()
        if not isinstance(cause, OSError):
            super().handleError(record)
            return
        # a filter: the logger is iterating over its handlers
        self.addFilter(lambda _: False)
        log.warning("%s ends here: %s; the log goes on without it", self.baseFilename, cause.strerror)

    def close(self) -> None:
        """Close the file; the last lines may be what a full disk refuses."""
        try:
            super().close()
        except OSError as cause:
            log.warning("%s is incomplete: %s", self.baseFilename, cause.strerror)


_CURRENT: LogSettings | None = None
_HANDLERS: list[logging.Handler] = []
"""Those of the current settings."""

_JOB_LOGS: list[_JobLog] = []
"""All that jobs of this process are writing."""

_JOB_FILE: ContextVar[Path | None] = ContextVar("job_file", default=None)
"""The job.log of this thread."""

_ALONE = threading.RLock()
"""Held while handlers and levels change."""


def start(words: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start logging for a command line; its secrets, and those of its environment, are hidden from here on."""
    hide(*words_and_environment(words, environ))
    apply(LogSettings())


def current() -> LogSettings | None:
    """Return the settings in force, and the job.log of this thread; None if the importing program has its own."""
    file = _JOB_FILE.get()
    return _CURRENT if file is None else replace(_CURRENT or LogSettings(level=None), file=file)


def apply(settings: LogSettings | None, handler: logging.Handler | None = None) -> None:
    """Use these settings from now on, in this process; a worker has a `handler` for all that they ask for."""
    global _CURRENT
    handlers = [] if settings is None else [handler] if handler is not None else _handlers(settings)
    with _ALONE:
        for old in _HANDLERS:
            _remove(old)
        _HANDLERS[:] = handlers
        for handler in handlers:
            logging.getLogger().addHandler(handler)
        _CURRENT = settings
        _adjust_levels()


def _remove(handler: logging.Handler) -> None:
    """Let nothing more be logged by a handler."""
    logging.getLogger().removeHandler(handler)
    handler.close()


_VERBOSE = ("botocore", "boto3", "s3transfer", "urllib3", "matplotlib", "PIL", "asyncio", "zarr", "numcodecs")

_BEFORE: dict[str | None, int] = {}
"""Former levels of the loggers that were changed; None is the root's name."""


def _adjust_levels() -> None:
    """Let all be logged that is wanted by now: a job.log takes every record, unless the program has its own levels."""
    if _CURRENT is None or _CURRENT.level is None:
        _restore_levels()
    else:
        _set_levels(logging.DEBUG if _JOB_LOGS or _CURRENT.file else _CURRENT.level)


def _set_levels(level: int) -> None:
    """Set the root to a level, and verbose libraries to warnings."""
    # these log what they find wrong with a file, and where no credentials are; our error follows, in one line
    levels: dict[str | None, int] = {
        None: level,
        **dict.fromkeys(_VERBOSE, logging.WARNING),
        **dict.fromkeys(("tifffile", "google.auth"), logging.CRITICAL),
    }
    for name, wanted in levels.items():
        logger = logging.getLogger(name)
        _BEFORE.setdefault(name, logger.level)
        logger.setLevel(wanted)


def _restore_levels() -> None:
    """Set the loggers back to their former levels."""
    while _BEFORE:
        name, level = _BEFORE.popitem()
        logging.getLogger(name).setLevel(level)


def _handlers(settings: LogSettings) -> list[logging.Handler]:
    """Build the handlers, each with the filter that removes secrets."""
    handlers: list[logging.Handler] = []
    if settings.level is not None:
        terminal = _Terminal()
        terminal.setLevel(settings.level)
        terminal.setFormatter(_Lines(_LINE, traces=False))
        handlers.append(terminal)
    if settings.file is not None:
        handlers.append(_opened(settings.file))
    for handler in handlers:
        handler.addFilter(Redactor())
    return handlers


def _opened(path: Path) -> _JobLog:
    """Open a job.log."""
    try:
        if path.exists():
            refuse_special(path)
        # a word of a command line need not be UTF-8
        file = _JobLog(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageError(
            f"opening the log {path}", str(error.strerror), "Give a --path that you may write to"
        ) from error
    file.setLevel(logging.DEBUG)
    file.setFormatter(_Lines(_FILE_LINE, traces=True))
    return file


@contextmanager
def job_log(file: Path, token: Token) -> Iterator[None]:
    """Write the log of this thread, and of those that it starts, to a file too while the context lasts."""
    with hidden(token):
        handler = _opened(file)
        handler.addFilter(lambda _: _JOB_FILE.get() in (file, None))
        handler.addFilter(Redactor())
        before = _JOB_FILE.set(file)
        with _ALONE:
            _JOB_LOGS.append(handler)
            logging.getLogger().addHandler(handler)
            _adjust_levels()
        try:
            yield
        finally:
            _JOB_FILE.reset(before)
            with _ALONE:
                _remove(handler)
                _JOB_LOGS.remove(handler)
                _adjust_levels()
