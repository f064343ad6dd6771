"""What a run took and cost beside what was planned, phase by phase, from the times of its own containers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch.phases import Phase
from batch.plan import duration
from batch.prices import Range
from batch.requests import Run
from batch.status import ENDED, JobState, Price, cost_of

__all__ = ["comparison_text"]


def comparison_text(run: Run, rounds: Sequence[tuple[Phase, Sequence[JobState]]], price: Price, now_s: float) -> str:
    """Return a line for each phase of which a container has started; `rounds` are all jobs that were submitted."""
    return "".join(f"{'planned':<11} {line}\n" for line in _lines(run, rounds, price, now_s))


def _lines(run: Run, rounds: Sequence[tuple[Phase, Sequence[JobState]]], price: Price, now_s: float) -> Iterator[str]:
    """Yield the comparison of each phase."""
    for phase in run.phases:
        planned, states = run.planned.get(phase), [jobs for of, jobs in rounds if of == phase]
        spans = [span for jobs in states if (span := _span_s(jobs, now_s)) is not None]
        if planned is None or not spans:
            continue
        resources = run.resources(phase)
        least, most = price(resources.vcpus, resources.memory_mib)
        expected = planned.container_s[0] * least, planned.container_s[1] * most
        cost = cost_of((job for jobs in states for job in jobs), price, now_s)
        has_ended = all(job.status in ENDED for job in states[-1])
        yield (
            f"{phase}: {duration(planned.seconds[0])} to {duration(planned.seconds[1])} and {_usd(expected)}; "
            f"{'took' if has_ended else 'until now'} {duration(sum(spans))} and {_usd(cost)}"
        )


def _span_s(jobs: Sequence[JobState], now_s: float) -> float | None:
    """Return the time from the first start to the last end, or to now; None if no container has started."""
    attempts = [attempt for job in jobs for attempt in job.attempts]
    running = [job.started_s for job in jobs if job.started_s is not None]
    begun = [attempt.started_s for attempt in attempts if attempt.started_s is not None] + running
    if not begun:
        return None
    ends = [attempt.stopped_s for attempt in attempts if attempt.stopped_s is not None]
    return max(0.0, (now_s if running else max(ends, default=now_s)) - min(begun))


def _usd(amount: Range) -> str:
    """Format a range of amounts."""
    return f"{amount[0]:,.2f} to {amount[1]:,.2f} USD"
