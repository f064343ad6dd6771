"""The errors that users of nd-synapse meet, in one tree, and the exit code of each.

::

    NDSynapseError              1   a defect of this program, when raised as itself
    ├── UsageError              2   invalid request: options, ranges, names
    │   ├── RangeError              a range that is empty, reversed or outside of the volume
    │   └── UnknownNameError        no such collection, experiment, channel, pipeline
    ├── IncompleteError         3   done, but some blocks failed: the masks are empty there
    ├── DataError              65   the data cannot be used: constant, of a wrong type or size
    ├── UnavailableError       69   BOSS or S3 does not answer, after the retries
    ├── StorageError           74   a local file cannot be read or written, or a limit of this machine is reached
    │   └── LimitError              memory, open files or processes are used up
    ├── StoppedError           75   stopped by Ctrl-C or SIGTERM; the same command resumes it
    └── PermissionDeniedError  77   the token, or the AWS credentials, may not do this
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from nd_synapse.wording import as_arguments, in_command

__all__ = [
    "LOCAL",
    "REMOTE",
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
    "called",
    "closest",
    "exit_codes",
    "few",
]

_FEW = 5
"""Names of a long list that a message has."""


class NDSynapseError(Exception):
    """A failure, in three parts that a user can act on.

    Its parts name options, as commands have them; those from functions that programs call name arguments (`called`).

    Parameters
    ----------
    requested : str
        What was requested, such as ``"channel 'PSD59' of collman/exp"``.
    found : str
        What was found, such as ``"there is no such channel; it has PSD95, SYNAPSIN"``.
    remedy : str
        What to do, as a sentence without its full stop.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "a defect of this program"

    def __init__(self, requested: str, found: str, remedy: str) -> None:
        # The three parts are the exception's args, so that it survives the way out of a worker process.
        super().__init__(requested, found, remedy)
        self.requested = requested
        self.found = found
        self.remedy = remedy
        self._written = (requested, found, remedy)
        self._names: dict[str, str | Callable[[str], str]] = {}

    def call(self, names: Mapping[str, str | Callable[[str], str]]) -> None:
        """Name arguments in the place of options; those of an inner function stay where an outer one has no name."""
        self._names |= {name.replace("_", "-"): argument for name, argument in names.items()}
        others = not in_command()
        self.requested, self.found, self.remedy = (
            as_arguments(part, self._names, others=others) for part in self._written
        )

    def __str__(self) -> str:
        """Return the failure as one plain line."""
        return f"{self.requested}: {self.found}. {self.remedy}."

    def __reduce__(self) -> tuple[type[NDSynapseError], tuple[str, str, str]]:
        """Pickle by the three parts: OSError subclasses would otherwise lose them."""
        return type(self), (self.requested, self.found, self.remedy)


class UsageError(NDSynapseError, ValueError):
    """The request is invalid."""

    exit_code = 2
    meaning = "invalid request"


class RangeError(UsageError):
    """A range is empty, reversed, or outside of the volume."""


class UnknownNameError(UsageError, LookupError):
    """A name does not exist."""


class IncompleteError(NDSynapseError):
    """The job ended, but some of its blocks failed."""

    exit_code = 3
    meaning = "done, but some blocks failed"


class DataError(NDSynapseError, ValueError):
    """The data cannot be used: constant, of a wrong type or size."""

    exit_code = 65
    meaning = "the data cannot be used"


class DamagedError(DataError):
    """A file is damaged or cut short."""


class UnavailableError(NDSynapseError, ConnectionError):
    """A service does not answer, after the retries."""

    exit_code = 69
    meaning = "BOSS or S3 does not answer"


class StorageError(NDSynapseError, OSError):
    """A local file cannot be read or written."""

    exit_code = 74
    meaning = "a local file cannot be read or written, or a limit of this machine is reached"


class LimitError(StorageError):
    """The machine, or a limit on this process, has no more memory, open files or processes."""


class StoppedError(NDSynapseError):
    """The job was stopped by a signal."""

    exit_code = 75
    meaning = "stopped by Ctrl-C or SIGTERM"


class PermissionDeniedError(NDSynapseError, PermissionError):
    """The token or the role may not do what was requested."""

    exit_code = 77
    meaning = "the token, or the AWS credentials, may not do this"


LOCAL = (UsageError, DataError, StorageError)
"""How a command that works with local files may fail."""

REMOTE = (*LOCAL, UnavailableError, PermissionDeniedError)
"""How a command that asks BOSS or AWS may fail."""


@contextmanager
def called(*, anywhere: bool = False, **names: str | Callable[[str], str]) -> Iterator[None]:
    """Let errors of a function that programs call name its arguments in the place of options, see `wording`.

    `names` are option (with _) to argument where they differ; with `anywhere`, these alone, and in commands as well.
    """
    try:
        yield
    except NDSynapseError as error:
        if anywhere or not in_command():
            error.call(names)
        raise


def exit_codes(*kinds: type[NDSynapseError]) -> str:
    """Return the sentence on exit codes for the help of a command that may fail in these ways."""
    every_kind: set[type[NDSynapseError]] = {*kinds, StoppedError}
    known = sorted((kind.exit_code, kind.meaning) for kind in every_kind)
    every = [(0, "done"), *known, (NDSynapseError.exit_code, NDSynapseError.meaning)]
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in every)}."


def closest(name: str, existing: Iterable[str]) -> list[str]:
    """Return all existing names, the most similar to `name` first; case does not count."""

    def unlikeness(candidate: str) -> tuple[float, str]:
        # a program may pass something that is no text
        ratio = difflib.SequenceMatcher(None, str(name).lower(), candidate.lower()).ratio()
        return (-ratio, candidate)

    return sorted(existing, key=unlikeness)


def few(names: Sequence[str], comma: str = ", ") -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return comma.join(names[:_FEW]) + more
