"""What every command does beside its work: it hears signals, tells errors, writes to standard output, and ends.

It knows no command. What comes before it, while a command is being imported, is `beginning`'s.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from traceback import extract_tb
from typing import IO, Any, NoReturn

from nd_synapse import logs
from nd_synapse.console import signals
from nd_synapse.credentials import taken_environment
from nd_synapse.errors import LimitError, NDSynapseError, StoppedError, StorageError
from nd_synapse.text import describe_error, one_line, shortened

__all__ = [
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
"""What runs a command by its words and the environment, and returns its exit code."""

GOES_ON = "The same command goes on where it was"

_PART = 600
"""Characters of each part of an error that are told."""

_OURS = Path(__file__).resolve().parent

_OPEN_FILES = "it may open no more files", "Raise the limit with ulimit -n, or give smaller --cpus and --pulls"
_MEMORY = "it may have no more memory", "Raise the limit of ulimit -v or of the container, or use a larger machine"
_PROCESSES = "it may start no more processes or threads", "Raise the limit of ulimit -u or of the container"
_LIMITS = {
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: ("this machine may open no more files", "Let other programs end, or raise fs.file-max"),
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
}
_WORDS = {
    "failed to map segment": _MEMORY,
    "cannot allocate memory": _MEMORY,
    "can't start new thread": _PROCESSES,
    "too many open files": _OPEN_FILES,
}
"""What libraries, and Python itself, write where they keep no number of the error."""

_OF_FILES = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EROFS,
}

_lost = 0
"""The exit code for output that could not be written, 0 as long as there is none."""


def run(command: Command, argv: Sequence[str] | None, *, remedy: str = GOES_ON, keep_token: bool = False) -> int:
    """Run a command, whatever comes of it."""
    global _lost
    _lost = 0
    arguments = list(sys.argv[1:] if argv is None else argv)
    signals.hear()
    _open_streams()
    environ = dict(os.environ) if keep_token else taken_environment()
    logs.begin(arguments, environ)

    def there() -> int:
        _check_folder()
        return command(arguments, environ)

    try:
        code = guarded(there, StoppedError("the command", "it was stopped by a signal", remedy))
    except SystemExit:  # after a help
        raise SystemExit(write_stdout("")) from None
    return code or write_stdout("")  # what Python still holds of the output


def guarded(work: Callable[[], int], stopped: StoppedError) -> int:
    """Do some work, and tell what ends it before its end."""
    try:
        return work()
    except NDSynapseError as error:
        return log_error(error)
    except KeyboardInterrupt:
        return log_error(stopped)
    except SystemExit as end:
        if not end.code:
            raise
        return log_uncaught(end)
    except BaseException as error:  # noqa: BLE001 - a defect meets the user here: a sentence, not a page
        return log_uncaught(error)


def end(code: int) -> NoReturn:
    """End the process of a command."""
    # what is done is told; a signal that comes while Python ends would change the exit code
    signals.ignore()
    # what libraries lament while Python takes them apart, such as asyncio its tasks, has no place below the last line
    logging.disable()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _give_up(stream)
    sys.exit(code)


def write_stdout(text: str) -> int:
    """Write to standard output, now."""
    global _lost
    try:
        if text:
            sys.stdout.write(logs.told(text))
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # who closed a pipe has read enough
            found = (getattr(error, "strerror", None) or str(error)).lower()
            _lost = log_error(StorageError("standard output", found, "Send it where there is room"))
    return _lost


def write_stderr(text: str) -> None:
    """Write to standard error what is no message, such as the traceback of a function of the user's own."""
    try:
        sys.stderr.write(logs.told(text))
        sys.stderr.flush()
    except (OSError, ValueError):
        _give_up(sys.stderr)


def log_error(error: NDSynapseError) -> int:
    """Log a failure in one line, its causes to the file alone."""
    # tokens go first: a part of one, left by a cut, nobody would know
    parts = [one_line(shortened(logs.told(str(part)), _PART)) for part in (error.requested, error.found, error.remedy)]
    log.error("%s: %s. %s.", *parts)
    log.debug("caused by", exc_info=error)
    return error.exit_code


def log_uncaught(error: BaseException) -> int:
    """Log in one line what is none of our errors: what it means, if that is known, otherwise a defect."""
    meant = translated(error)
    if meant is not None:
        return log_error(meant)
    place = "".join(f", at {Path(frame.filename).name}:{frame.lineno}" for frame in _frames(error)[-1:])
    log.critical(
        "a defect of nd-synapse, please report it, with job.log if there is one: %s%s", describe_error(error), place
    )
    log.debug("traceback", exc_info=error)
    return NDSynapseError.exit_code


def log_startup_error(error: BaseException) -> int:
    """Log what ended a command while it was being imported."""
    _open_streams()
    if logs.current() is None:
        logs.begin(sys.argv[1:], os.environ)
    return log_uncaught(error)


def translated(error: BaseException) -> NDSynapseError | None:
    """Return what a failure of the surroundings means, which may meet any line of ours."""
    for cause in _causes(error):
        limit = _limit_of(cause)
        if limit is not None:
            return LimitError("the command", *limit)
    if isinstance(error, ModuleNotFoundError):
        found = f"there is no module {error.name}"
        return StorageError("the command", found, "Install what requirements.txt names, or use the Python that has it")
    if isinstance(error, OSError) and error.errno in _OF_FILES and error.filename is not None:
        found = str(error.strerror).lower()
        return StorageError(
            f"the file {os.fsdecode(error.filename)}", found, "Check its name, its permissions, and for room"
        )
    if isinstance(error, FileNotFoundError):
        try:
            _check_folder()
        except StorageError as gone:
            return gone
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it; of what it merely came upon, only where something is imported."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        came_upon = error.__context__ if isinstance(error, ImportError) else None
        error = error.__cause__ or came_upon  # type: ignore[assignment]  # the loop ends with None


def _limit_of(error: BaseException) -> tuple[str, str] | None:
    """Return which limit an exception tells of, and what helps."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.errno in _LIMITS:
        return _LIMITS[error.errno]
    if isinstance(error, ImportError | RuntimeError | OSError):
        text = describe_error(error).lower()
        return next((limit for words, limit in _WORDS.items() if words in text), None)
    return None


def _frames(error: BaseException) -> list[Any]:
    """Return the frames of our own modules in a traceback."""
    return [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).parent.is_relative_to(_OURS)]


def _check_folder() -> None:
    """Refuse a working directory that is gone: worker processes could not be started in it, nor names be looked up."""
    try:
        Path.cwd()
    except OSError as error:
        found = "it is not there any more" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise StorageError("the working directory", found, "Change to a folder that exists") from error


def _open_streams() -> None:
    """Replace the streams that whoever started us has closed, and let the others take whatever a name has in it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as we run
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up(stream: IO[str]) -> None:
    """Let a stream that cannot be written lead nowhere: Python would try the same at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # it is closed, or no file
        log.debug("a standard stream cannot be replaced")
