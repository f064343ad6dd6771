"""The state of a run as text, from Batch's descriptions of its jobs and the finished blocks; it sends no request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batch.phases import PHASES, Phase
from batch.requests import Run
from batch.retry import SPOT, TIMED_OUT
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.shared_store import Part
from nd_synapse.errors import NDSynapseError
from nd_synapse.text import one_line

__all__ = [
    "CANCELLED",
    "Attempt",
    "JobState",
    "Price",
    "cost_of",
    "describe_error",
    "lost_s",
    "progress",
    "status_text",
]

CANCELLED = "cancelled by nd-synapse batch cancel"
"""The reason that `cancel` gives to Batch."""

Price = Callable[[float, int], tuple[float, float]]
"""From vCPU and MiB to US dollars a second, the least and the most."""

ENDED = ("SUCCEEDED", "FAILED")

_MOST_LISTED = 20
"""Failed children that are listed."""

_OUT_OF_MEMORY = 137
"""Exit code of a process that the kernel killed, nearly always because memory ran out."""

_KINDS: list[type[NDSynapseError]] = [NDSynapseError, *NDSynapseError.__subclasses__()]
EXIT_CODES = {kind.exit_code: kind.meaning for kind in _KINDS}
"""Exit codes of a job in words."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a job that has ended."""

    exit_code: int | None
    """None if the container never ran to its end."""
    reason: str
    status_reason: str
    """Batch's reason; may be empty."""
    started_s: float | None
    stopped_s: float | None
    """Seconds since 1970; None where the container never ran."""
    log_stream: str | None
    """The log that it wrote to."""

    @property
    def seconds(self) -> float:
        """How long its container ran."""
        return 0.0 if self.started_s is None or self.stopped_s is None else max(0.0, self.stopped_s - self.started_s)


@dataclass(frozen=True, slots=True)
class JobState:
    """A job, or a child of an array, as Batch describes it."""

    job_id: str
    shard: int | None
    """Index of the child; None for a job that is no child."""
    status: str
    status_reason: str
    """Batch's reason; may be empty."""
    attempts: tuple[Attempt, ...]
    """Those that have ended, the oldest first."""
    most_attempts: int
    """Limit of its attempts."""
    started_s: float | None
    """Start of the attempt that has not ended."""
    vcpus: float
    """Virtual cores of its container."""
    memory_mib: int
    """Memory of its container."""
    log_group: str | None
    """The group of its logs."""
    log_stream: str | None
    """The log of the last attempt."""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> JobState:
        """Parse Batch's description of a job."""
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
    """Parse Batch's description of an attempt."""
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
    """Convert a time of Batch to seconds; 0 and None mean that it has not come."""
    return milliseconds / 1000 if milliseconds else None


def describe_error(exit_code: int | None, reason: str, status_reason: str) -> str:
    """Explain the end of an attempt, or of a job that never started."""
    if any(status_reason.startswith(pattern.rstrip("*")) for pattern in SPOT.values()):
        return "Spot took the machine"
    if status_reason == TIMED_OUT:
        return "it took longer than its time-out"
    if status_reason == CANCELLED:
        return CANCELLED
    if status_reason.lower().startswith("dependent job"):
        return "it never started: the job before it failed"
    if reason.startswith("OutOfMemory") or exit_code == _OUT_OF_MEMORY:
        return "it ran out of memory: a smaller --block-size, fewer --cpus or more --memory-mib help"
    if exit_code is not None:
        return f"exit code {exit_code}, {EXIT_CODES.get(exit_code, 'which is not one of ours')}"
    if reason or status_reason.startswith("Task failed to start"):
        return f"the container could not be started ({reason or status_reason})"
    return status_reason or "Batch gives no reason"


def progress(run: Run, phase: Phase, finished: set[str]) -> list[tuple[int, int]]:
    """Count the finished blocks of each shard of a phase."""
    every = [key_of(block) for block in run.box.tiles(run.block_size, aligned=True)]
    children = run.children(phase)
    shards = [Part("detection", shard, children).of(every) for shard in range(children)]
    return [(sum(key in finished for key in keys), len(keys)) for keys in shards]


def cost_of(jobs: Iterable[JobState], price: Price, now_s: float) -> tuple[float, float]:
    """Add up the cost of containers, up to now."""
    least = most = 0.0
    for job in jobs:
        seconds = sum(attempt.seconds for attempt in job.attempts)
        if job.started_s is not None:
            seconds += max(0.0, now_s - job.started_s)
        low, high = price(job.vcpus, job.memory_mib)
        least, most = least + seconds * low, most + seconds * high
    return least, most


def lost_s(jobs: Iterable[JobState]) -> float:
    """Add up the time of failed attempts."""
    return sum(attempt.seconds for job in jobs for attempt in job.attempts[: -1 if job.status in ENDED else None])


def status_text(
    run: Run,
    created: str,
    jobs: Mapping[Phase, Sequence[JobState]],
    earlier: Sequence[JobState],
    finished: Mapping[Phase, set[str]],
    price: Price,
    now_s: float,
) -> str:
    """Return the state of a run as text."""
    lines = [
        f"{'run':<11} {run.address}, submitted {created}",
        f"{'blocks':<11} {run.blocks:,} in {run.shards:,} {'shard' if run.shards == 1 else 'shards'}",
    ]
    everything = [*earlier, *(job for some in jobs.values() for job in some)]
    for phase in run.phases:
        lines += _phase_lines(run, phase, jobs.get(phase, ()), finished.get(phase))
    least, most = cost_of(everything, price, now_s)
    seconds = sum(attempt.seconds for job in everything for attempt in job.attempts)
    lines.append(f"{'time':<11} {_elapsed(everything, now_s)}; {seconds / 3600:,.2f} h of containers that have ended")
    lines.append(f"{'lost':<11} {lost_s(everything) / 3600:,.2f} h in attempts that failed")
    lines.append(f"{'cost':<11} {least:,.2f} to {most:,.2f} USD for the containers, by batch/prices.json")
    return "".join(f"{line}\n" for line in lines)


def _phase_lines(run: Run, phase: Phase, jobs: Sequence[JobState], finished: set[str] | None) -> Iterator[str]:
    """Yield the lines of a phase: its state, its blocks, its shards, then each failure."""
    shards = None if finished is None else progress(run, phase, finished)
    states = Counter(job.status for job in jobs)
    parts = [", ".join(f"{count:,} {status.lower()}" for status, count in states.items()) or "Batch knows no such job"]
    if shards is not None:
        done = sum(count for count, _ in shards)
        whole = sum(count == size for count, size in shards)
        complete = f", {whole:,} of {len(shards):,} shards complete" if PHASES[phase].is_array else ""
        parts.append(f"{done:,} of {run.blocks:,} blocks{complete}")
    yield f"{phase:<11} {'; '.join(parts)}"
    failed = [job for job in jobs if _has_failed(job)]
    for job in failed[:_MOST_LISTED]:
        yield f"  {_failure(job, shards)}"
    if len(failed) > _MOST_LISTED:
        yield f"  and {len(failed) - _MOST_LISTED:,} more"


def _has_failed(job: JobState) -> bool:
    """Return whether a job or one of its attempts failed."""
    return job.status == "FAILED" or len(job.attempts) > (job.status == "SUCCEEDED")


def _failure(job: JobState, shards: Sequence[tuple[int, int]] | None) -> str:
    """Describe the last failure of a job in a line."""
    name = "" if job.shard is None else f"shard {job.shard}: "
    if not job.attempts:
        return f"{name}{describe_error(None, '', job.status_reason)}"
    last = job.attempts[-1] if job.status != "SUCCEEDED" else job.attempts[-2]
    number = len(job.attempts) - (job.status == "SUCCEEDED")
    # a cancelled job says so itself, whatever exit code its container had
    status_reason = job.status_reason if job.status_reason == CANCELLED else last.status_reason
    words = (
        f"{name}{describe_error(last.exit_code, last.reason, status_reason)}, attempt {number} of {job.most_attempts}"
    )
    if shards is None or job.shard is None:
        return words
    done, size = shards[job.shard]
    return f"{words}, {done:,} of {size:,} blocks kept"


def _elapsed(jobs: Sequence[JobState], now_s: float) -> str:
    """Return the time from the start of the first container to the end of the last, or to now."""
    begun = [attempt.started_s for job in jobs for attempt in job.attempts if attempt.started_s is not None]
    begun += [job.started_s for job in jobs if job.started_s is not None]
    if not begun:
        return "no container has started"
    if all(job.status in ENDED for job in jobs):
        end = max(attempt.stopped_s or 0.0 for job in jobs for attempt in job.attempts)
    else:
        end = now_s
    return f"{(end - min(begun)) / 3600:,.2f} h since the first container started"
