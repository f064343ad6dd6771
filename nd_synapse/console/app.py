"""What every command does beside its work: it handles signals, reports errors, writes to standard output, and ends."""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from traceback import extract_tb
from typing import IO, NoReturn

from nd_synapse import logs, wording
from nd_synapse.console import signals
from nd_synapse.credentials import take_environment
from nd_synapse.errors import NDSynapseError, StoppedError, StorageError, UsageError
from nd_synapse.limits import limit_of
from nd_synapse.machine import check_environment, settings_of_libraries
from nd_synapse.redaction import describe_error, redacted
from nd_synapse.text import one_line, shortened

__all__ = [
    "GOES_ON",
    "STARTS_OVER",
    "end",
    "guarded",
    "log_error",
    "log_startup_error",
    "log_uncaught",
    "run",
    "translated",
    "write_stderr",
    "write_stdout",
]

log = logging.getLogger(__name__)

Command = Callable[[list[str], Mapping[str, str]], int]
"""Runs a command with its words and the environment, and returns its exit code."""

GOES_ON = "The same command goes on where it was"
STARTS_OVER = "The same command starts over"

_PART = 600
"""Characters of each part of an error that are logged."""

_OF_FILES = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EROFS,
}


def run(command: Command, argv: Sequence[str] | None, *, remedy: str = GOES_ON) -> int:
    """Run a command; return its exit code, whatever happens."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    signals.handle()
    environ = take_environment()
    logs.start(arguments, environ)

    def work() -> int:
        _check_folder()
        check_environment(environ)
        code = command(arguments, environ)
        write_stdout("")  # flushes what others have printed
        return code

    with wording.command():
        return guarded(work, StoppedError("the command", "it was stopped by a signal", remedy))


def guarded(work: Callable[[], int], stopped: StoppedError) -> int:
    """Do some work and return its exit code; log the error that ends it."""
    try:
        return work()
    except NDSynapseError as error:
        return log_error(error)
    except KeyboardInterrupt:
        return log_error(stopped)
    except SystemExit as end:
        if not end.code:
            raise  # after a help
        return log_uncaught(end)
    except BaseException as error:  # noqa: BLE001 - users get a sentence, the traceback goes to job.log
        return log_uncaught(error)


def end(code: int) -> NoReturn:
    """End the process of a command."""
    # a signal while Python ends would change the exit code
    signals.ignore()
    # libraries such as asyncio log while Python shuts down
    logging.disable()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _give_up(stream)
    # or Python looks for garbage among all that was imported, and then frees it anyway
    gc.freeze()
    sys.exit(code)


def write_stdout(text: str) -> int:
    """Write to standard output at once; return 0, the exit code of a command that does nothing else."""
    try:
        if text:
            sys.stdout.write(redacted(text))
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # the reader of a closed pipe has read enough
            found = (getattr(error, "strerror", None) or str(error)).lower()
            raise StorageError("standard output", found, "Send it where there is room") from error
    return 0


def write_stderr(text: str) -> None:
    """Write to standard error what is no log record, such as the traceback of a user's function."""
    try:
        sys.stderr.write(redacted(text))
        sys.stderr.flush()
    except (OSError, ValueError):
        _give_up(sys.stderr)


def log_error(error: NDSynapseError) -> int:
    """Log a failure in one line, its causes to the file only; return its exit code."""
    # redacted before it is shortened: part of a token would not be recognized
    parts = (error.requested, error.found, error.remedy)
    log.error("%s: %s. %s.", *(one_line(shortened(redacted(str(part)), _PART)) for part in parts))
    log.debug("caused by", exc_info=error)
    return error.exit_code


def log_uncaught(error: BaseException) -> int:
    """Log in one line an error that is none of ours: a limit of the machine, or else a defect."""
    meant = translated(error)
    if meant is not None:
        return log_error(meant)
    place = "".join(
        f", at {Path(frame.filename).name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)[-1:]
    )
    suspects = settings_of_libraries(os.environ)
    log.critical(
        "a defect of nd-synapse, please report it, with job.log if there is one: %s%s%s",
        describe_error(error),
        place,
        f"; or one of {', '.join(suspects)} in the environment, which go to libraries: try without" if suspects else "",
    )
    log.debug("traceback", exc_info=error)
    return NDSynapseError.exit_code


def log_startup_error(error: BaseException) -> int:
    """Log an error that ended a command while it was being imported."""
    if logs.current() is None:
        logs.start(sys.argv[1:], os.environ)
    try:
        check_environment(os.environ)
    except UsageError as fault:  # it may be what an import failed on
        return log_error(fault)
    return log_uncaught(error)


def translated(error: BaseException) -> NDSynapseError | None:
    """Return the error of ours for a limit of the machine, a full disk or a missing module; None for any other."""
    limit = limit_of("the command", error)
    if limit is not None:
        return limit
    if isinstance(error, ModuleNotFoundError):
        found = f"there is no module {error.name}"
        return StorageError("the command", found, "Install what requirements.txt names, or use the Python that has it")
    if isinstance(error, OSError) and error.errno in _OF_FILES and error.filename is not None:
        requested, found = f"the file {os.fsdecode(error.filename)}", str(error.strerror).lower()
        return StorageError(requested, found, "Check its name, its permissions, and the room on its disk")
    return None


def _check_folder() -> None:
    """Refuse a working directory that was removed: worker processes cannot be started in it."""
    try:
        Path.cwd()
    except OSError as error:
        found = "it does not exist any more" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise StorageError("the working directory", found, "Change to a folder that exists") from error


def _give_up(stream: IO[str]) -> None:
    """Redirect a stream that cannot be written to nowhere: Python would try again at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # it is closed, or no file
        log.debug("a standard stream cannot be replaced")
