"""A pool that outlives what goes wrong in its blocks: nothing hangs, nothing vanishes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from block_pool import BlockPool, Boxes, Done, Failed
from box import Box
from errors import StorageError, UsageError

BOXES = list(Box.of_shape((6, 1, 1)).tiles((1, 1, 1)))
LIMIT_S = 60


def double(box: Box) -> int:
    return 2 * box.z[0]


def fail_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise ZeroDivisionError("no such block")
    return box.z[0]


def refuse_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise StorageError("a block", "the disk is full", "Free space")
    return box.z[0]


def die_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return box.z[0]


def crash_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os.abort()
    return box.z[0]


def exit_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os._exit(9)
    return box.z[0]


def die_once(box: Box) -> int:
    """Die at block 2 the first time, as at want of memory that others took."""
    mark = Path(os.environ["ND_POOL_TEST_FOLDER"]) / "died"
    if box.z[0] == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return box.z[0]


def hang_at_two(box: Box) -> int:
    if box.z[0] == 2:
        time.sleep(1000)
    return box.z[0]


def unsendable_at_two(box: Box) -> object:
    return (lambda: None) if box.z[0] == 2 else box.z[0]


@pytest.mark.parametrize("cpus", [1, 3])
def test_every_block_is_done_once(cpus: int) -> None:
    with BlockPool(cpus) as pool:
        for _ in range(2):  # the workers stay
            outcomes = list(pool.run(double, Boxes(BOXES)))
            assert sorted((o.box, o.result) for o in outcomes if isinstance(o, Done)) == [
                (box, 2 * box.z[0]) for box in BOXES
            ]


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fail_at_two, "ZeroDivisionError: no such block"),
        (die_at_two, "SIGKILL, twice"),
        (crash_at_two, "SIGABRT, twice"),
        (exit_at_two, "exit code 9, twice"),
        (unsendable_at_two, "cannot be sent"),
    ],
    ids=["raise", "kill", "crash", "exit", "unsendable"],
)
def test_a_block_that_fails_costs_itself_alone(function: object, words: str, cpus: int) -> None:
    with BlockPool(cpus) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(function, Boxes(BOXES))}  # type: ignore[arg-type]
    assert outcomes.keys() == set(range(6))
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, Failed)]
    assert [outcome.box.z[0] for outcome in failed] == [2]
    assert words in failed[0].reason
    assert ("ZeroDivisionError" in failed[0].traceback) == (function is fail_at_two)


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    with BlockPool(2) as pool:
        outcomes = list(pool.run(die_once, Boxes(BOXES)))
    assert sorted(outcome.box.z[0] for outcome in outcomes if isinstance(outcome, Done)) == list(range(6))


def test_a_block_that_hangs_is_ended_at_its_limit() -> None:
    started = time.monotonic()
    with BlockPool(2, block_limit_s=1.0) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(hang_at_two, Boxes(BOXES))}
    assert time.monotonic() - started < LIMIT_S
    hung = outcomes[2]
    assert isinstance(hung, Failed)
    assert "took longer" in hung.reason
    assert sum(isinstance(outcome, Done) for outcome in outcomes.values()) == 5


def test_a_full_disk_ends_the_run_and_the_workers() -> None:
    before = set(psutil.Process().children())
    with pytest.raises(StorageError, match="the disk is full"), BlockPool(2) as pool:
        list(pool.run(refuse_at_two, Boxes(BOXES)))
    left = [
        child for child in set(psutil.Process().children()) - before if "resource_tracker" not in str(child.cmdline())
    ]
    assert not left


def test_functions_of_nowhere_travel_by_value() -> None:
    """What is typed in a notebook has no module that a worker could import."""
    offset = 5
    with BlockPool(1) as pool:
        outcomes = list(pool.run(lambda box: box.z[0] + offset, Boxes(BOXES)))
    assert sorted(outcome.result for outcome in outcomes if isinstance(outcome, Done)) == list(range(5, 11))


def threads_of_a_library(box: Box) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_libraries_keep_to_one_thread_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with BlockPool(1) as pool:
        (outcome,) = pool.run(threads_of_a_library, Boxes(BOXES[:1]))
    assert isinstance(outcome, Done)
    assert outcome.result == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_no_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="--cpus"):
        BlockPool(0)
