"""Limits of the machine, recognised in the errors of Python and of libraries."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from nd_synapse.errors import LimitError
from nd_synapse.redaction import describe_error

__all__ = ["limit_of"]

_OPEN_FILES = "it may open no more files", "Raise the limit with ulimit -n, or give smaller --cpus and --pulls"
_MEMORY = "it may have no more memory", "Raise the limit of ulimit -v or of the container, or use a larger machine"
_PROCESSES = "it may start no more processes or threads", "Raise the limit of ulimit -u or of the container"
_LIMITS = {
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: ("this machine may open no more files", "End other programs, or raise fs.file-max"),
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
}
_WORDS = {
    "failed to map segment": _MEMORY,
    "cannot allocate memory": _MEMORY,
    "can't start new thread": _PROCESSES,
    "too many open files": _OPEN_FILES,
}
"""Messages of libraries, and of Python itself, that come without an error number."""


def limit_of(requested: str, error: BaseException) -> LimitError | None:
    """Return the error of ours for a limit of the machine; None for any other."""
    limits = (_limit_of(cause) for cause in _causes(error))
    return next((LimitError(requested, *limit) for limit in limits if limit is not None), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes; of an ImportError also its context, since libraries import in `except`."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (error.__context__ if isinstance(error, ImportError) else None)


def _limit_of(error: BaseException) -> tuple[str, str] | None:
    """Return the limit that an exception is about, and a remedy."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.errno in _LIMITS:
        return _LIMITS[error.errno]
    if isinstance(error, ImportError | RuntimeError | OSError):
        text = describe_error(error).lower()
        return next((limit for words, limit in _WORDS.items() if words in text), None)
    return None
