"""The retry rules, applied to ends of jobs as AWS Batch reports them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.retry import ATTEMPTS, COMPUTE, Compute, retry_strategy
from benchmarks.spot import decide
from nd_synapse import errors

EXITED = "Essential container in task exited"
BOTH = COMPUTE
EC2: tuple[Compute, ...] = ("EC2",)
FARGATE: tuple[Compute, ...] = ("FARGATE",)


@dataclass(frozen=True)
class End:
    """How an attempt ended, and what has to be done."""

    on: tuple[Compute, ...]
    code: int | None
    reason: str | None
    status_reason: str | None
    action: str


OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
NO_IMAGE = "CannotPullContainerError: Error response from daemon: context canceled"
NO_IMAGE_FARGATE = "CannotPullContainerError: inspect image has been retried 5 time(s)"
NO_SECRET = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed"
NO_ANSWER = "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s"
NO_START = "CannotStartContainerError: Error response from daemon: OCI runtime create failed"
ENDS = {
    "done": End(BOTH, 0, None, EXITED, "EXIT"),
    "a defect": End(BOTH, 1, None, EXITED, "EXIT"),
    "a wrong request": End(BOTH, 2, None, EXITED, "EXIT"),
    "done, but for blocks that failed": End(BOTH, 3, None, EXITED, "EXIT"),
    "unusable data": End(BOTH, 65, None, EXITED, "EXIT"),
    "BOSS does not answer": End(BOTH, 69, None, EXITED, "RETRY"),
    "no room on the disk": End(BOTH, 74, None, EXITED, "EXIT"),
    "stopped by SIGTERM": End(BOTH, 75, None, EXITED, "RETRY"),
    "not permitted": End(BOTH, 77, None, EXITED, "EXIT"),
    "no such command": End(BOTH, 127, None, EXITED, "EXIT"),
    "out of memory": End(BOTH, 137, OUT_OF_MEMORY, EXITED, "EXIT"),
    "killed, and nobody says why": End(BOTH, 137, None, EXITED, "EXIT"),
    "longer than its time-out": End(BOTH, 75, None, "Job attempt duration exceeded timeout", "EXIT"),
    "ended by hand": End(BOTH, None, None, "cancelled by nd-synapse batch cancel", "EXIT"),
    "what it waits for failed": End(BOTH, None, None, "Dependent Job failed", "EXIT"),
    "Spot took the machine": End(EC2, None, None, "Host EC2 (instance i-0737c70432d64f82a) terminated.", "RETRY"),
    "Spot took the machine, container killed": End(
        EC2, 137, None, "Host EC2 (instance i-08784105) terminated.", "RETRY"
    ),
    "Spot took the machine, older text": End(EC2, None, None, "Host EC2 Terminated", "RETRY"),
    "Spot took the task": End(FARGATE, 143, None, "Your Spot Task was interrupted.", "RETRY"),
    "no image": End(EC2, None, NO_IMAGE, "Task failed to start", "RETRY"),
    "no image in ECR": End(EC2, None, "CannotPullECRContainerError: AccessDenied", "Task failed to start", "RETRY"),
    "no image on Fargate": End(FARGATE, None, None, NO_IMAGE_FARGATE, "RETRY"),
    "no image on Fargate, told twice": End(FARGATE, None, NO_IMAGE_FARGATE, NO_IMAGE_FARGATE, "RETRY"),
    "Docker did not answer": End(EC2, None, NO_ANSWER, "Task failed to start", "EXIT"),
    "a container that cannot be started": End(EC2, None, NO_START, "Task failed to start", "EXIT"),
    "a secret that may not be read": End(EC2, None, NO_SECRET, "Task failed to start", "EXIT"),
    "a secret that may not be read, on Fargate": End(FARGATE, None, None, NO_SECRET, "EXIT"),
}


@pytest.mark.parametrize(("compute", "name"), [(compute, name) for name, end in ENDS.items() for compute in end.on])
def test_what_the_infrastructure_lost_is_tried_again_and_nothing_else(compute: Compute, name: str) -> None:
    end = ENDS[name]
    assert decide(retry_strategy(compute), end.code, end.reason, end.status_reason, 1) == end.action


@pytest.mark.parametrize("compute", COMPUTE)
def test_the_last_attempt_is_the_last(compute: Compute) -> None:
    rules = retry_strategy(compute)
    actions = [decide(rules, 75, None, EXITED, attempt) for attempt in range(1, ATTEMPTS + 1)]
    assert actions == ["RETRY"] * (ATTEMPTS - 1) + ["EXIT"]


@pytest.mark.parametrize("compute", COMPUTE)
def test_batch_takes_the_rules(compute: Compute) -> None:
    """Five at most, of characters that its patterns may have; without a last one that matches all, it would retry."""
    request = retry_strategy(compute)
    rules = request["evaluateOnExit"]
    assert len(rules) <= 5
    assert rules[-1] == {"onReason": "*", "action": "EXIT"}
    for rule in rules:
        for key, pattern in rule.items():
            if key == "onExitCode":
                assert pattern.rstrip("*").isdigit()
            elif key != "action":
                assert all(c.isalnum() or c in ".: " for c in pattern.removesuffix("*"))


@given(code=st.none() | st.integers(0, 255), reason=st.none() | st.text(), status_reason=st.none() | st.text())
def test_for_any_end_the_exit_codes_that_are_tried_again_are_two(
    code: int | None, reason: str | None, status_reason: str | None
) -> None:
    known = ("Host EC2", "CannotPull", "Your Spot Task")
    if any(text is not None and text.startswith(known) for text in (reason, status_reason)):
        return
    again = code in (errors.StoppedError.exit_code, errors.UnavailableError.exit_code)
    for compute in COMPUTE:
        assert (decide(retry_strategy(compute), code, reason, status_reason, 1) == "RETRY") == again


@pytest.mark.parametrize(
    ("patterns", "end", "action"),
    [
        ({"onExitCode": "13*", "onStatusReason": "Host*"}, (137, None, "Host EC2 terminated"), "EXIT"),
        ({"onExitCode": "13*", "onStatusReason": "Host*"}, (137, None, EXITED), "RETRY"),
        ({"onExitCode": "13*", "onStatusReason": "Host*"}, (None, None, "Host EC2 terminated"), "RETRY"),
        ({"onExitCode": "7"}, (75, None, None), "RETRY"),
        ({"onReason": "CannotPull"}, (None, "CannotPullContainerError", None), "RETRY"),
    ],
    ids=["all match", "one differs", "one is missing", "no star, exit code", "no star, reason"],
)
def test_rules_are_applied_as_batch_documents_them(
    patterns: dict[str, str], end: tuple[int | None, str | None, str | None], action: str
) -> None:
    """All patterns have to match, without a star the whole text; without a match the job is retried."""
    assert decide({"attempts": 10, "evaluateOnExit": [{"action": "EXIT", **patterns}]}, *end, 9) == action
