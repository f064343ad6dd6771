"""The number of a child in an array of jobs, from the environment that its scheduler gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nd_synapse.errors import UsageError
from nd_synapse.values import parse_int

__all__ = ["INDEX_VARIABLES", "array_index"]

_MOST = 2**31


class _Scheduler(NamedTuple):
    """The variables of a scheduler; where it has none for the last three, arrays have to start at 0."""

    task: str
    first: str = ""
    last: str = ""
    step: str = ""
    at_first: int = 0
    """The first index, where the variable for it is not set."""


_SCHEDULERS = (
    _Scheduler("AWS_BATCH_JOB_ARRAY_INDEX"),
    _Scheduler("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"),
    _Scheduler("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE", 1),
    _Scheduler("PBS_ARRAY_INDEX"),
)

INDEX_VARIABLES = tuple(scheduler.task for scheduler in _SCHEDULERS)

_UNSET = ("", "undefined")
"""What Grid Engine sets in a job that is no array."""


def array_index(environ: Mapping[str, str], count: int) -> int | None:
    """Return the number of this child, from 0, in an array of so many; None where this is no array."""
    found = {
        scheduler.task: _index(scheduler, environ, count)
        for scheduler in _SCHEDULERS
        if environ.get(scheduler.task, "") not in _UNSET
    }
    if len(set(found.values())) > 1:
        values = ", ".join(f"{name}={environ[name]} (part {index} of {count})" for name, index in found.items())
        raise UsageError("the number of this part", f"two schedulers contradict: {values}", "Give --shard")
    return next(iter(found.values()), None)


def _index(scheduler: _Scheduler, environ: Mapping[str, str], count: int) -> int:
    """Return the number of this child by one scheduler; an array may start anywhere and leave out numbers."""

    def number(name: str, default: int, least: int = 0) -> int:
        text = environ.get(name, "")
        if text in _UNSET:
            return default
        try:
            return parse_int(name, text, least, _MOST)
        except UsageError as error:
            raise UsageError(f"{name}={text}", error.found, "Leave it to the scheduler, or give --shard") from error

    index = number(scheduler.task, 0)
    first, step = number(scheduler.first, scheduler.at_first), number(scheduler.step, 1, 1)
    last = number(scheduler.last, first + (count - 1) * step)
    if last != first + (count - 1) * step:
        # some children were submitted again: which of them the first one is, nobody says
        raise UsageError(
            f"{scheduler.task}={index}",
            f"the array has the numbers {first} to {last} in steps of {step}, and --shards is {count}",
            "Submit all of the array, whose finished parts end at once, or give --shard",
        )
    return (index - first) // step
