"""Which failed attempts AWS Batch makes again: what the infrastructure lost, and never a defect or a refusal.

It retries nothing itself. Batch applies the rules; `decide` applies them as documented, for tests.

The rules of Batch (API reference, EvaluateOnExit and RetryStrategy): at most five, looked at in their order; one
matches if all of its patterns do; a pattern is a text, or the start of one with ``*`` at its end; without a match the
job is tried again, so the last rule matches all. An attempt that exceeded its time-out and a job that was terminated
are not tried again, whatever the rules say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nd_synapse.errors import StoppedError, UnavailableError, UsageError

__all__ = [
    "ATTEMPTS",
    "COMPUTE",
    "MOST_ATTEMPTS",
    "SPOT",
    "TIMED_OUT",
    "Action",
    "Compute",
    "Rule",
    "Strategy",
    "decide",
    "strategy",
]

Compute = Literal["EC2", "FARGATE"]
"""Where containers run."""

Action = Literal["RETRY", "EXIT"]
"""What becomes of a job whose attempt failed."""

COMPUTE: tuple[Compute, ...] = ("EC2", "FARGATE")

ATTEMPTS = 5
"""How often a job is begun, unless the user says otherwise."""

MOST_ATTEMPTS = 10
"""How often Batch begins one at most."""

_MOST_RULES = 5

SPOT: dict[Compute, str] = {"EC2": "Host EC2*", "FARGATE": "Your Spot Task was interrupted*"}
"""What the status reason begins with where a machine was taken away; on EC2 its name follows, in brackets, which no
pattern may have."""

TIMED_OUT = "Job attempt duration exceeded timeout"
"""The status reason of an attempt that exceeded its time-out."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a retry strategy.

    Parameters
    ----------
    action : {'RETRY', 'EXIT'}
        What is done if the rule matches.
    on_exit_code, on_reason, on_status_reason : str or None
        Patterns of the container's exit code and reason, and of the job's status reason; None matches all.
    """

    action: Action
    on_exit_code: str | None = None
    on_reason: str | None = None
    on_status_reason: str | None = None

    def matches(self, exit_code: int | None, reason: str | None, status_reason: str | None) -> bool:
        """Tell whether all patterns match."""
        code = None if exit_code is None else str(exit_code)
        pairs = ((self.on_exit_code, code), (self.on_reason, reason), (self.on_status_reason, status_reason))
        return all(pattern is None or _like(pattern, text) for pattern, text in pairs)

    def as_request(self) -> dict[str, str]:
        """Return the rule as Batch takes it."""
        patterns = {
            "onExitCode": self.on_exit_code,
            "onReason": self.on_reason,
            "onStatusReason": self.on_status_reason,
        }
        return {"action": self.action, **{key: pattern for key, pattern in patterns.items() if pattern is not None}}


@dataclass(frozen=True, slots=True)
class Strategy:
    """How often a job is begun, and after which ends again.

    Parameters
    ----------
    attempts : int
        How often at most, from 1 to 10.
    rules : tuple of Rule
        At most five.

    Raises
    ------
    UsageError
        If Batch would not take it.
    """

    attempts: int
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        """Refuse what Batch would refuse."""
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise UsageError(
                f"--attempts {self.attempts}",
                "Batch begins a job at least once, and ten times at most",
                f"Give a number from 1 to {MOST_ATTEMPTS}",
            )
        if len(self.rules) > _MOST_RULES:
            raise UsageError(
                f"{len(self.rules)} rules of retrying", f"Batch takes {_MOST_RULES} at most", "Leave some out"
            )

    def as_request(self) -> dict[str, Any]:
        """Return the strategy as ``retryStrategy`` of a request."""
        return {"attempts": self.attempts, "evaluateOnExit": [rule.as_request() for rule in self.rules]}


_STOPPED = Rule("RETRY", on_exit_code=str(StoppedError.exit_code))
"""The job was stopped by a signal, and goes on from the blocks that it committed."""

_UNAVAILABLE = Rule("RETRY", on_exit_code=str(UnavailableError.exit_code))
"""BOSS or S3 did not answer, although the job itself had asked for minutes."""

_NO_IMAGE: dict[Compute, Rule] = {
    # a task that failed to start for want of a secret or of a mount fails again: the image alone is worth another try
    "EC2": Rule("RETRY", on_reason="CannotPull*", on_status_reason="Task failed to start*"),
    # there, what the task ended of is the job's status reason itself, and the container may have none
    "FARGATE": Rule("RETRY", on_status_reason="CannotPullContainerError*"),
}

_ALL_ELSE = Rule("EXIT", on_reason="*")


def strategy(compute: Compute, attempts: int = ATTEMPTS) -> Strategy:
    """Return the rules for our jobs: five fit, so they differ by where containers run."""
    taken = Rule("RETRY", on_status_reason=SPOT[compute])
    return Strategy(attempts, (taken, _NO_IMAGE[compute], _STOPPED, _UNAVAILABLE, _ALL_ELSE))


def decide(
    strategy: Strategy, exit_code: int | None, reason: str | None, status_reason: str | None, attempt: int
) -> Action:
    """Say what Batch does after a failed attempt."""
    if attempt >= strategy.attempts or status_reason == TIMED_OUT:
        return "EXIT"
    for rule in strategy.rules:
        if rule.matches(exit_code, reason, status_reason):
            return rule.action
    return "RETRY"


def _like(pattern: str, text: str | None) -> bool:
    """Tell whether a text is as a pattern says; a lone ``*`` matches what is not there, too."""
    if pattern.endswith("*"):
        return (text or "").startswith(pattern[:-1])
    return text == pattern
