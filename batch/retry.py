"""Retry rules of AWS Batch: after a lost machine or a service that did not answer, never after a defect or a refusal.

Batch (API reference, EvaluateOnExit and RetryStrategy) takes at most five rules and uses the first whose patterns all
match; a pattern is a text, or the start of one with ``*`` at its end. Without a match the job is retried, so the last
rule matches all. An attempt that exceeded its time-out and a terminated job are never retried.
"""

from __future__ import annotations

from typing import Any, Literal

from nd_synapse.errors import StoppedError, UnavailableError

__all__ = ["ATTEMPTS", "COMPUTE", "MOST_ATTEMPTS", "SPOT", "TIMED_OUT", "Compute", "retry_strategy"]

Compute = Literal["EC2", "FARGATE"]
"""Where containers run."""

COMPUTE: tuple[Compute, ...] = ("EC2", "FARGATE")

ATTEMPTS = 5
"""How often a job is started at most, unless the user says otherwise."""

MOST_ATTEMPTS = 10
"""The limit of Batch."""

SPOT: dict[Compute, str] = {"EC2": "Host EC2*", "FARGATE": "Your Spot Task was interrupted*"}
"""The status reason where a machine was taken away; on EC2 its name follows in brackets, which no pattern may have."""

TIMED_OUT = "Job attempt duration exceeded timeout"
"""The status reason of an attempt that exceeded its time-out."""

_NO_IMAGE: dict[Compute, dict[str, str]] = {
    # a task that failed to start because a secret or a mount is missing fails again; an image may come the next time
    "EC2": {"onReason": "CannotPull*", "onStatusReason": "Task failed to start*"},
    # there, the reason of the task is the job's status reason itself, and the container may have none
    "FARGATE": {"onStatusReason": "CannotPullContainerError*"},
}


def retry_strategy(compute: Compute, attempts: int = ATTEMPTS) -> dict[str, Any]:
    """Return the ``retryStrategy`` of our jobs; with five rules at most, they differ by where containers run."""
    retried = [
        {"onStatusReason": SPOT[compute]},
        _NO_IMAGE[compute],
        # stopped by a signal: it goes on from its finished blocks
        {"onExitCode": str(StoppedError.exit_code)},
        # BOSS or S3 did not answer, although the job itself had retried for minutes
        {"onExitCode": str(UnavailableError.exit_code)},
    ]
    rules = [{"action": "RETRY", **patterns} for patterns in retried]
    return {"attempts": attempts, "evaluateOnExit": [*rules, {"action": "EXIT", "onReason": "*"}]}
