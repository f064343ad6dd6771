"""What status reports: descriptions of AWS Batch and keys of finished blocks in, words out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.phases import Phase
from batch.requests import Run
from batch.runs import finished_blocks
from batch.status import CANCELLED, JobState, cost_of, describe_error, lost_s, progress, status_text
from nd_synapse import errors
from nd_synapse.detection.kinds import Kinds
from nd_synapse.geometry import Box
from tests.batch.examples import a_run, keys_of

SPOT = "Host EC2 (instance i-0737c70432d64f82a) terminated."
EXITED = "Essential container in task exited"
START_MS = 1_767_323_045_000
HOUR_MS = 3_600_000


def attempt(
    hours: float, at: float = 0, code: int | None = None, why: str = EXITED, reason: str = ""
) -> dict[str, Any]:
    """Return an attempt as Batch describes it; it began some hours after the first."""
    container: dict[str, Any] = {"logStreamName": "nd/default/1"}
    if code is not None:
        container["exitCode"] = code
    if reason:
        container["reason"] = reason
    started = START_MS + int(at * HOUR_MS)
    return {
        "container": container,
        "startedAt": started,
        "stoppedAt": started + int(hours * HOUR_MS),
        "statusReason": why,
    }


def described(status: str, *attempts: dict[str, Any], shard: int | None = None, why: str = "") -> dict[str, Any]:
    """Return a job as Batch describes it."""
    job: dict[str, Any] = {
        "jobId": "1b9d6bcd" if shard is None else f"1b9d6bcd:{shard}",
        "status": status,
        "attempts": list(attempts),
        "retryStrategy": {"attempts": 5, "evaluateOnExit": []},
        "container": {
            "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "16384"}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/nd"}},
        },
    }
    if why:
        job["statusReason"] = why
    return job


def state(status: str, *attempts: dict[str, Any], **others: Any) -> JobState:
    """Return what we make of such a description."""
    return JobState.of(described(status, *attempts, **others))


def dollar_an_hour(vcpus: float, memory_mib: int) -> tuple[float, float]:
    """Cost a quarter of a dollar a core and hour at least, and half at most."""
    return vcpus / 4 / 3600, vcpus / 2 / 3600


@pytest.mark.parametrize(
    ("code", "reason", "status_reason", "words"),
    [
        (None, "", SPOT, "Spot took the machine"),
        (137, "", SPOT, "Spot took the machine"),
        (143, "", "Your Spot Task was interrupted.", "Spot took the machine"),
        (137, "OutOfMemoryError: Container killed due to memory usage", EXITED, "--block-size"),
        (137, "", EXITED, "ran out of memory"),
        (None, "", "Job attempt duration exceeded timeout", "longer than its time-out"),
        (None, "", "Dependent Job failed", "the job before it failed"),
        (None, "", CANCELLED, CANCELLED),
        (None, "CannotPullContainerError: no basic auth", "Task failed to start", "no basic auth"),
        (None, "", "Task failed to start", "could not be started"),
        (69, "", EXITED, "exit code 69, BOSS or S3 does not answer"),
        (3, "", EXITED, "blocks failed"),
        (127, "", EXITED, "exit code 127, which is not one of ours"),
        (None, "", "the queue was deleted", "the queue was deleted"),
        (None, "", "", "gives no reason"),
    ],
)
def test_every_end_is_explained(code: int | None, reason: str, status_reason: str, words: str) -> None:
    assert words in describe_error(code, reason, status_reason)


def test_every_exit_code_of_ours_has_words() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        assert "none of ours" not in describe_error(kind.exit_code, "", EXITED)  # type: ignore[attr-defined] # errors of ours have exit codes


def test_a_shard_that_spot_took_is_reported_with_what_is_kept() -> None:
    run = a_run()
    keys = keys_of(run)
    jobs: dict[Phase, list[JobState]] = {
        "detection": [state("RUNNABLE", attempt(1, why=SPOT), attempt(0.5, 2, why=SPOT), shard=1)]
    }
    text = status_text(run, "then", jobs, [], {"detection": set(keys[8:13])}, dollar_an_hour, START_MS / 1000)
    assert "  shard 1: Spot took the machine, attempt 2 of 5, 5 of 8 blocks kept\n" in text


def test_a_whole_run_is_printed_line_by_line() -> None:
    run = a_run()
    keys = keys_of(run)
    jobs: dict[Phase, list[JobState]] = {
        "statistics": [state("SUCCEEDED", attempt(1, code=0), shard=shard) for shard in range(4)],
        "detection": [
            state("SUCCEEDED", attempt(1, 1, why=SPOT), attempt(1, 2, code=0), shard=0),
            JobState.of({**described("RUNNING", shard=1), "startedAt": START_MS + HOUR_MS}),
            state("FAILED", attempt(1, 1, code=1), shard=2),
            state("RUNNABLE", shard=3),
        ],
        "contacts": [state("PENDING", shard=shard) for shard in range(4)],
        "join": [state("PENDING")],
        "objects": [state("PENDING", shard=shard) for shard in range(4)],
        "report": [state("PENDING")],
    }
    finished: dict[Phase, set[str]] = {"statistics": set(keys), "detection": set(keys[:8] + keys[8:10] + keys[16:19])}
    finished |= {"contacts": set(keys[:16]), "join": set(keys[:3]), "objects": set()}
    text = status_text(run, "2026-01-02T03:04:05+00:00", jobs, [], finished, dollar_an_hour, START_MS / 1000 + 4 * 3600)
    assert text.splitlines() == [
        f"run         {run.address}, submitted 2026-01-02T03:04:05+00:00",
        "blocks      32 in 4 shards",
        "statistics  4 succeeded; 32 of 32 blocks, 4 of 4 shards complete",
        "detection   1 succeeded, 1 running, 1 failed, 1 runnable; 13 of 32 blocks, 1 of 4 shards complete",
        "  shard 0: Spot took the machine, attempt 1 of 5, 8 of 8 blocks kept",
        "  shard 2: exit code 1, a defect of this program, attempt 1 of 5, 3 of 8 blocks kept",
        "contacts    4 pending; 16 of 32 blocks, 2 of 4 shards complete",
        "join        1 pending; 3 of 32 blocks",
        "objects     4 pending; 0 of 32 blocks, 0 of 4 shards complete",
        "report      1 pending",
        "time        4.00 h since the first container started; 7.00 h of containers that have ended",
        "lost        1.00 h in attempts that failed",
        "cost        10.00 to 20.00 USD for the containers, by batch/prices.json",
    ]


def test_a_run_that_batch_has_forgotten_is_reported_from_its_blocks() -> None:
    """Batch keeps the descriptions of jobs for a week."""
    run = a_run()
    text = status_text(run, "then", {}, [], {"statistics": set(keys_of(run)), "detection": set()}, dollar_an_hour, 0)
    assert "Batch knows no such job; 32 of 32 blocks, 4 of 4 shards complete" in text
    assert "no container has started" in text


def test_earlier_rounds_cost_as_much() -> None:
    jobs: dict[Phase, list[JobState]] = {"report": [state("SUCCEEDED", attempt(1, 3, code=0))]}
    text = status_text(a_run(), "then", jobs, [state("FAILED", attempt(2, code=1))], {}, dollar_an_hour, 0)
    assert "cost        3.00 to 6.00 USD" in text


def test_of_many_failures_the_first_are_listed_and_the_others_counted() -> None:
    run = a_run(shards=32)
    jobs: dict[Phase, list[JobState]] = {
        "detection": [state("FAILED", attempt(1, code=1), shard=shard) for shard in range(32)]
    }
    lines = status_text(run, "then", jobs, [], {"detection": set()}, dollar_an_hour, 0).splitlines()
    assert len([line for line in lines if line.startswith("  shard")]) == 20
    assert "  and 12 more" in lines


def test_a_job_that_was_ended_by_hand_says_so_whatever_its_container_made_of_it() -> None:
    jobs: dict[Phase, list[JobState]] = {"report": [state("FAILED", attempt(1, code=75), why=CANCELLED)]}
    assert f"  {CANCELLED}, attempt 1 of 5" in status_text(a_run(), "then", jobs, [], {}, dollar_an_hour, 0)


def test_a_job_that_never_began_has_its_reason() -> None:
    jobs: dict[Phase, list[JobState]] = {"report": [state("FAILED", why="Dependent Job failed")]}
    text = status_text(a_run(), "then", jobs, [], {}, dollar_an_hour, 0)
    assert "  it never started: the job before it failed\n" in text


def test_a_container_that_runs_costs_until_now() -> None:
    job = JobState.of({**described("RUNNING", attempt(1, why=SPOT)), "startedAt": START_MS + 2 * HOUR_MS})
    now_s = START_MS / 1000 + 5 * 3600
    assert cost_of([job], dollar_an_hour, now_s) == pytest.approx((4, 8))
    assert lost_s([job]) == pytest.approx(3600)


def test_a_container_that_never_ran_costs_nothing() -> None:
    never = {"container": {"reason": "CannotPullContainerError: x"}, "statusReason": "Task failed to start"}
    job = JobState.of({**described("FAILED", never), "startedAt": 0, "stoppedAt": START_MS})
    assert cost_of([job], dollar_an_hour, START_MS / 1000) == (0, 0)


@given(
    shards=st.integers(1, 32), finished=st.sets(st.sampled_from(keys_of(a_run()))), depth=st.sampled_from([8, 11, 32])
)
def test_for_any_blocks_the_shards_add_up_to_the_whole(shards: int, finished: set[str], depth: int) -> None:
    run = a_run(shards=shards, block_size=(depth, 128, 128))
    keys = keys_of(run)
    if len(keys) < shards:
        return
    counts = progress(run, "detection", finished)
    assert len(counts) == shards
    assert sum(size for _, size in counts) == len(keys)
    assert sum(done for done, _ in counts) == len(finished & set(keys))
    assert all(0 <= done <= size for done, size in counts)


def test_shards_are_counted_as_the_children_have_them() -> None:
    """The children cut by `blocks.shared_store.Part`."""
    from nd_synapse.blocks.shared_store import Part

    run: Run = a_run(shards=5)
    blocks = list(run.box.tiles(run.block_size, aligned=True))
    for shard in range(5):
        mine = Part("detection", shard, 5).of(blocks)
        counts = progress(run, "detection", {"_".join(map(str, block.start)) for block in mine})
        assert counts[shard] == (len(mine), len(mine))
        assert sum(done for done, _ in counts) == len(mine)


def test_of_two_kinds_of_a_phase_the_one_with_the_most_blocks_counts() -> None:
    """Other code, or other findings, give blocks another kind, and the old ones stay for the rule of the bucket."""
    names = [
        *("parts-00aa/0_0_0.npz", "parts-00bb/0_0_0.npz", "parts-00bb/0_0_64.npz", "parts-00bb/notes.txt"),
        *("statistics-11/0_0_0.npz", "sums-statistics-11-4/0.npz", "labels-parts-00bb/0_0_0.npz", "run.json"),
        *(
            "joined-parts-00bb/0_0_0.npz",
            "joined-parts-00bb-012345ab/0_0_0.npz",
            "joined-parts-00bb-012345ab/0_0_64.npz",
        ),
        *("contacts-parts-00bb/0_0_0.npz", "failed-contacts-parts-00bb/0_0_0.note", "objects-parts-00bb/0_0_64.npz"),
    ]
    assert finished_blocks(names) == {
        "statistics": {"0_0_0"},
        "detection": {"0_0_0", "0_0_64"},
        "contacts": {"0_0_0"},
        "join": {"0_0_0", "0_0_64"},
        "objects": {"0_0_64"},
    }


def test_what_says_that_a_block_is_finished_is_what_the_phases_leave_of_it() -> None:
    """Of several kinds a step leaves one object, under the name of the last."""
    kinds = Kinds.of("parts-0123456789abcdef", [Box.of_shape((1, 1, 1))], (1, 1, 1))
    names = [f"{kind}/0_0_0.npz" for kind in (kinds.parts, kinds.contacts, kinds.joined, kinds.objects)]
    found = finished_blocks(names)
    assert {phase for phase, keys in found.items() if keys} == {"detection", "contacts", "join", "objects"}
