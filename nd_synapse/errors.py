"""The errors that users of nd-synapse meet, in one tree, and the exit code of each.

It is not the place where foreign exceptions are translated: every door (BOSS, S3, files) does that itself, once.

::

    NDSynapseError              1   a defect of ours, when raised as itself
    ├── UsageError              2   the request cannot be meant: options, ranges, names
    │   ├── RangeError              a range that is empty, reversed or outside of the volume
    │   └── UnknownNameError        no such collection, experiment, channel, pipeline
    ├── IncompleteError         3   done, but for blocks that failed: the masks have holes there
    ├── DataError              65   the data cannot be used: constant, of a wrong type or size
    ├── UnavailableError       69   BOSS or S3 does not answer, after the retries
    ├── StorageError           74   a local file cannot be read or written, or a limit of this machine is met
    │   └── LimitError              memory, open files, processes: there are no more of them for us
    ├── StoppedError           75   stopped by Ctrl-C or SIGTERM; the same command goes on
    └── PermissionDeniedError  77   the token, or the AWS credentials, may not do this
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar

__all__ = [
    "DataError",
    "IncompleteError",
    "LimitError",
    "NDSynapseError",
    "PermissionDeniedError",
    "RangeError",
    "StoppedError",
    "StorageError",
    "UnavailableError",
    "UnknownNameError",
    "UsageError",
    "closest",
    "exit_codes",
    "few",
]

_FEW = 5
"""Names that are told of many."""


class NDSynapseError(Exception):
    """A failure in the user's words.

    Parameters
    ----------
    asked : str
        What was asked for, such as ``"channel 'PSD59' of collman/exp"``.
    found : str
        What was found instead, such as ``"there is no such channel; it has PSD95, SYNAPSIN"``.
    remedy : str
        What the user can do next, as a sentence without its full stop.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "a defect of ours"

    def __init__(self, requested: str, found: str, remedy: str) -> None:
        # The three parts are the exception's args, so that it survives the way out of a worker process.
        super().__init__(requested, found, remedy)
        self.requested = requested
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the failure as one plain line."""
        return f"{self.requested}: {self.found}. {self.remedy}."

    def __reduce__(self) -> tuple[type[NDSynapseError], tuple[str, str, str]]:
        """Pickle by the three parts: OSError subclasses would otherwise lose them."""
        return type(self), (self.requested, self.found, self.remedy)


class UsageError(NDSynapseError, ValueError):
    """The request itself is wrong."""

    exit_code = 2
    meaning = "the request cannot be meant"


class RangeError(UsageError):
    """A range is empty, reversed, or outside of the volume."""


class UnknownNameError(UsageError, LookupError):
    """Something was asked for by a name that does not exist."""


class IncompleteError(NDSynapseError):
    """The job ended, but some of its blocks failed."""

    exit_code = 3
    meaning = "done, but for blocks that failed"


class DataError(NDSynapseError, ValueError):
    """The data cannot be used: constant, of a wrong type or size."""

    exit_code = 65
    meaning = "the data cannot be used"


class UnavailableError(NDSynapseError, ConnectionError):
    """A service does not answer, after the retries."""

    exit_code = 69
    meaning = "BOSS or S3 does not answer"


class StorageError(NDSynapseError, OSError):
    """A local file cannot be read or written."""

    exit_code = 74
    meaning = "a local file cannot be read or written, or a limit of this machine is met"


class LimitError(StorageError):
    """The machine, or a limit on this process, has no more memory, open files or processes."""


class StoppedError(NDSynapseError):
    """The job was stopped by a signal."""

    exit_code = 75
    meaning = "stopped by Ctrl-C or SIGTERM"


class PermissionDeniedError(NDSynapseError, PermissionError):
    """The token or the role may not do what was asked."""

    exit_code = 77
    meaning = "the token, or the AWS credentials, may not do this"


def exit_codes(*kinds: type[NDSynapseError]) -> str:
    """Say what the exit codes of a command mean, for the end of its help.

    Parameters
    ----------
    *kinds : type of NDSynapseError
        How it may fail, beside that everything may have a defect, or be stopped.

    Returns
    -------
    str
        A sentence.
    """
    every_kind: set[type[NDSynapseError]] = {*kinds, StoppedError}
    told = sorted((kind.exit_code, kind.meaning) for kind in every_kind)
    every = [(0, "done"), *told, (NDSynapseError.exit_code, NDSynapseError.meaning)]
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in every)}."


def closest(name: str, existing: Iterable[str]) -> list[str]:
    """Order the names that exist by their likeness to the one that was asked for.

    Parameters
    ----------
    name : str
        The name that was asked for.
    existing : iterable of str
        The names that exist.

    Returns
    -------
    list of str
        All of `existing`, the most similar first; upper and lower case count as alike.
    """

    def unlikeness(candidate: str) -> tuple[float, str]:
        # what a program asks for by mistake may be no text
        ratio = difflib.SequenceMatcher(None, str(name).lower(), candidate.lower()).ratio()
        return (-ratio, candidate)

    return sorted(existing, key=unlikeness)


def few(names: Sequence[str], comma: str = ", ") -> str:
    """Name the first of many.

    Parameters
    ----------
    names : sequence of str
        All of them.
    comma : str
        What stands between two.

    Returns
    -------
    str
        Some, and how many more there are.
    """
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return comma.join(names[:_FEW]) + more
