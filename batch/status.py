"""How a run fares, in words: from what Batch says of its jobs, and from the blocks that are committed.

It asks nobody: descriptions, finished blocks and prices are given to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batch.requests import Phase, Run
from batch.retry import SPOT, TIMED_OUT
from batch.shards import blocks_of
from nd_synapse.errors import (
    DataError,
    IncompleteError,
    NDSynapseError,
    PermissionDeniedError,
    StoppedError,
    StorageError,
    UnavailableError,
    UsageError,
)
from nd_synapse.text import one_line

__all__ = ["CANCELLED", "Attempt", "JobState", "Price", "cost_of", "describe_error", "lost_s", "progress", "told"]

CANCELLED = "cancelled by nd-synapse batch cancel"
"""The reason that `cancel` gives."""

Price = Callable[[float, int], tuple[float, float]]
"""From vCPU and MiB to US dollars a second, the least and the most."""

ENDED = ("SUCCEEDED", "FAILED")

_TOLD = 20
"""Children whose trouble is told one by one."""

_OUT_OF_MEMORY = 137
"""What a process ends with that the kernel killed; it does so for want of memory."""

_MEANINGS = {
    NDSynapseError: "a defect of nd-synapse; its log has the message",
    UsageError: "the request cannot be meant; its log says why",
    IncompleteError: "it ended, but blocks failed: the masks have holes there, which run.json names",
    DataError: "the data cannot be used; its log says why",
    UnavailableError: "BOSS or S3 did not answer",
    StorageError: "its disk is full or cannot be written to",
    StoppedError: "it was stopped by a signal",
    PermissionDeniedError: "the token or the role may not do this; its log says what",
}
EXIT_CODES = {kind.exit_code: words for kind, words in _MEANINGS.items()}
"""Exit codes of ``driver.py`` in words."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a job that has ended.

    Parameters
    ----------
    exit_code : int or None
        Of the container; None where it never ran to its end.
    reason, status_reason : str
        What Batch says; empty where it says nothing.
    started_s, stopped_s : float or None
        Seconds since 1970; None where the container never ran.
    log_stream : str or None
        Where it wrote.
    """

    exit_code: int | None
    reason: str
    status_reason: str
    started_s: float | None
    stopped_s: float | None
    log_stream: str | None

    @property
    def seconds(self) -> float:
        """How long its container was there."""
        return 0.0 if self.started_s is None or self.stopped_s is None else max(0.0, self.stopped_s - self.started_s)


@dataclass(frozen=True, slots=True)
class JobState:
    """A job, or a child of an array, as Batch describes it.

    Parameters
    ----------
    job_id : str
        Its id.
    shard : int or None
        Which child it is; None for a job that is no child.
    status : str
        ``SUBMITTED``, ``PENDING``, ``RUNNABLE``, ``STARTING``, ``RUNNING``, ``SUCCEEDED`` or ``FAILED``.
    status_reason : str
        What Batch says of it; empty where it says nothing.
    attempts : tuple of Attempt
        Those that have ended, the oldest first.
    most_attempts : int
        How often it is begun at most.
    started_s : float or None
        When the attempt began that has not ended.
    vcpus : float
        What its container gets.
    memory_mib : int
        What its container gets.
    log_group : str or None
        Where it writes.
    log_stream : str or None
        Where the last attempt wrote, or the one that has not ended writes.
    """

    job_id: str
    shard: int | None
    status: str
    status_reason: str
    attempts: tuple[Attempt, ...]
    most_attempts: int
    started_s: float | None
    vcpus: float
    memory_mib: int
    log_group: str | None
    log_stream: str | None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> JobState:
        """Read what Batch says of a job."""
        container = description.get("container", {})
        stream = container.get("logStreamName")
        needs = {need["type"]: need["value"] for need in container.get("resourceRequirements", [])}
        ended = description["status"] in ENDED
        logs = container.get("logConfiguration", {}).get("options", {})
        # the id of a child is that of its array, a colon, and its index
        _, _, index = description["jobId"].partition(":")
        return cls(
            job_id=one_line(description["jobId"]),
            shard=int(index) if index else None,
            status=one_line(description["status"]),
            status_reason=one_line(description.get("statusReason", "")),
            attempts=tuple(_attempt(attempt) for attempt in description.get("attempts", [])),
            most_attempts=int(description.get("retryStrategy", {}).get("attempts", 1)),
            started_s=None if ended else _seconds(description.get("startedAt")),
            vcpus=float(needs.get("VCPU", container.get("vcpus", 0))),
            memory_mib=int(needs.get("MEMORY", container.get("memory", 0))),
            log_group=logs.get("awslogs-group"),
            log_stream=None if stream is None else str(stream),
        )


def _attempt(description: Mapping[str, Any]) -> Attempt:
    """Read what Batch says of an attempt."""
    container = description.get("container", {})
    return Attempt(
        exit_code=None if (code := container.get("exitCode")) is None else int(code),
        reason=one_line(container.get("reason", "")),
        status_reason=one_line(description.get("statusReason", "")),
        started_s=_seconds(description.get("startedAt")),
        stopped_s=_seconds(description.get("stoppedAt")),
        log_stream=container.get("logStreamName"),
    )


def _seconds(milliseconds: int | None) -> float | None:
    """Return a time of Batch's in seconds; 0 is what it says of what has not begun."""
    return milliseconds / 1000 if milliseconds else None


def describe_error(exit_code: int | None, reason: str, status_reason: str) -> str:
    """Say in words why an attempt, or a job that never began, ended."""
    if any(status_reason.startswith(pattern.rstrip("*")) for pattern in SPOT.values()):
        return "Spot took the machine"
    if status_reason == TIMED_OUT:
        return "it took longer than its time-out"
    if status_reason == CANCELLED:
        return CANCELLED
    if status_reason.lower().startswith("dependent job"):
        return "it never began: what it waits for failed"
    if reason.startswith("OutOfMemory") or exit_code == _OUT_OF_MEMORY:
        return "it ran out of memory: a smaller --block-size, fewer --cpus or more --memory-mib help"
    if exit_code is not None:
        return f"exit code {exit_code}, {EXIT_CODES.get(exit_code, 'which is none of ours')}"
    if reason or status_reason.startswith("Task failed to start"):
        return f"the container could not be started ({reason or status_reason})"
    return status_reason or "Batch gives no reason"


def progress(run: Run, finished: set[str]) -> list[tuple[int, int]]:
    """Count the finished blocks of each shard."""
    counts = []
    for shard in range(run.shards):
        keys = ["_".join(map(str, block.start)) for block in blocks_of(run.box, run.block_size, shard, run.shards)]
        counts.append((sum(key in finished for key in keys), len(keys)))
    return counts


def cost_of(jobs: Iterable[JobState], price: Price, now_s: float) -> tuple[float, float]:
    """Add up what containers cost, those that are at work until now."""
    least = most = 0.0
    for job in jobs:
        seconds = sum(attempt.seconds for attempt in job.attempts)
        if job.started_s is not None:
            seconds += max(0.0, now_s - job.started_s)
        low, high = price(job.vcpus, job.memory_mib)
        least, most = least + seconds * low, most + seconds * high
    return least, most


def lost_s(jobs: Iterable[JobState]) -> float:
    """Add up the time of attempts that had to be made again."""
    return sum(attempt.seconds for job in jobs for attempt in job.attempts[: -1 if job.status in ENDED else None])


def told(
    run: Run,
    created: str,
    jobs: Mapping[Phase, Sequence[JobState]],
    earlier: Sequence[JobState],
    finished: Mapping[Phase, set[str]],
    price: Price,
    now_s: float,
) -> str:
    """Tell how a run fares."""
    lines = [
        f"{'run':<11} {run.address}, submitted {created}",
        f"{'blocks':<11} {run.blocks:,} in {run.shards:,} {'shard' if run.shards == 1 else 'shards'}",
    ]
    everything = [*earlier, *(job for some in jobs.values() for job in some)]
    for phase in run.phases:
        lines += _phase_lines(run, phase, jobs.get(phase, ()), finished.get(phase))
    least, most = cost_of(everything, price, now_s)
    seconds = sum(attempt.seconds for job in everything for attempt in job.attempts)
    lines.append(f"{'time':<11} {_elapsed(everything, now_s)}; containers {seconds / 3600:,.2f} h that have ended")
    lines.append(f"{'lost':<11} {lost_s(everything) / 3600:,.2f} h in attempts that were made again")
    lines.append(f"{'cost':<11} {least:,.2f} to {most:,.2f} USD for the containers, by batch/prices.json")
    return "".join(f"{line}\n" for line in lines)


def _phase_lines(run: Run, phase: Phase, jobs: Sequence[JobState], finished: set[str] | None) -> Iterator[str]:
    """Yield the lines of a phase: its state, its blocks, its shards, then each trouble."""
    shards = None if finished is None else progress(run, finished)
    states = Counter(job.status for job in jobs)
    parts = [", ".join(f"{count:,} {status.lower()}" for status, count in states.items()) or "Batch knows no job of it"]
    if shards is not None:
        done = sum(count for count, _ in shards)
        whole = sum(count == size for count, size in shards)
        parts.append(f"{done:,} of {run.blocks:,} blocks, {whole:,} of {run.shards:,} shards complete")
    yield f"{phase:<11} {'; '.join(parts)}"
    troubled = [job for job in jobs if _is_troubled(job)]
    for job in troubled[:_TOLD]:
        yield f"  {_trouble(job, shards)}"
    if len(troubled) > _TOLD:
        yield f"  and {len(troubled) - _TOLD:,} more"


def _is_troubled(job: JobState) -> bool:
    """Tell whether a job failed, or had an attempt that did."""
    return job.status == "FAILED" or len(job.attempts) > (job.status == "SUCCEEDED")


def _trouble(job: JobState, shards: Sequence[tuple[int, int]] | None) -> str:
    """Say in a line what went wrong with a job."""
    name = "" if job.shard is None else f"shard {job.shard}: "
    if not job.attempts:
        return f"{name}{describe_error(None, '', job.status_reason)}"
    last = job.attempts[-1] if job.status != "SUCCEEDED" else job.attempts[-2]
    number = len(job.attempts) - (job.status == "SUCCEEDED")
    # a job that was ended by hand says so itself, whatever its container made of it
    status_reason = job.status_reason if job.status_reason == CANCELLED else last.status_reason
    words = (
        f"{name}{describe_error(last.exit_code, last.reason, status_reason)}, attempt {number} of {job.most_attempts}"
    )
    if shards is None or job.shard is None:
        return words
    done, size = shards[job.shard]
    return f"{words}, {done:,} of {size:,} blocks kept"


def _elapsed(jobs: Sequence[JobState], now_s: float) -> str:
    """Say how long it is since the first container began, until the last ended or now."""
    begun = [attempt.started_s for job in jobs for attempt in job.attempts if attempt.started_s is not None]
    begun += [job.started_s for job in jobs if job.started_s is not None]
    if not begun:
        return "no container has begun"
    if all(job.status in ENDED for job in jobs):
        end = max(attempt.stopped_s or 0.0 for job in jobs for attempt in job.attempts)
    else:
        end = now_s
    return f"{(end - min(begun)) / 3600:,.2f} h since the first container began"
