"""A pool outlives what goes wrong in its blocks: nothing hangs, nothing vanishes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nd_synapse.blocks import worker
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed
from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box
from tests.pool_functions import BOXES, LIMIT_S, children, die_at_two, double


def fail_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise ZeroDivisionError("no such block")
    return box.z[0]


def refuse_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise StorageError("a block", "the disk is full", "Free space")
    return box.z[0]


def crash_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os.abort()
    return box.z[0]


def fault_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return box.z[0]


def interrupt_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise KeyboardInterrupt("stop")
    return box.z[0]


def close_at_two(box: Box) -> int:
    if box.z[0] == 2:
        raise GeneratorExit
    return box.z[0]


def leave_at_two(box: Box) -> int:
    if box.z[0] == 2:
        sys.exit("enough")
    return box.z[0]


def exit_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os._exit(9)
    return box.z[0]


def answer_twice(box: Box) -> int:
    """Send each outcome twice, from the first block on."""
    if box.z[0] == 0:
        send: Any = worker._send_outcome
        worker._send_outcome = lambda pipe, outcome: [send(pipe, outcome), send(pipe, outcome)][0]
    return double(box)


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
        (die_at_two, "by SIGKILL, twice; most often because memory ran out: give a smaller --block-size"),
        (crash_at_two, "by SIGABRT, twice; a crash in C code"),
        (fault_at_two, "by SIGSEGV, twice; a crash in C code"),
        (exit_at_two, "with exit code 9, twice; something that the function calls ends its process"),
        (leave_at_two, "SystemExit: enough"),
        (interrupt_at_two, "KeyboardInterrupt: stop"),
        (close_at_two, "GeneratorExit"),
        (unsendable_at_two, "cannot be sent"),
    ],
    ids=["raise", "kill", "abort", "fault", "exit", "leave", "interrupt", "close", "unsendable"],
)
def test_a_block_that_fails_costs_itself_alone(function: object, words: str, cpus: int) -> None:
    with BlockPool(cpus) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(function, Boxes(BOXES))}  # type: ignore[arg-type] # some are no functions
    assert outcomes.keys() == set(range(6))
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, Failed)]
    assert [outcome.box.z[0] for outcome in failed] == [2]
    assert words in failed[0].reason
    assert ("ZeroDivisionError" in failed[0].traceback) == (function is fail_at_two)


def test_an_outcome_that_comes_again_counts_once() -> None:
    """It was taken for that of the next block, whose own outcome ended the run."""
    with BlockPool(1) as pool:
        outcomes = list(pool.run(answer_twice, Boxes(BOXES)))
    assert [(o.box, o.result) for o in outcomes if isinstance(o, Done)] == [(box, 2 * box.z[0]) for box in BOXES]


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
    with pytest.raises(StorageError, match="the disk is full"), BlockPool(2) as pool:
        list(pool.run(refuse_at_two, Boxes(BOXES)))
    assert not children()


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


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with BlockPool(1) as pool:
        for outcome in pool.run(double, Boxes(BOXES)):
            assert isinstance(outcome, Done)
            assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_outcomes_may_be_large() -> None:
    def large(box: Box) -> bytes:
        return bytes([box.z[0]]) * 50_000_000

    with BlockPool(2) as pool:
        for outcome in pool.run(large, Boxes(BOXES)):
            assert isinstance(outcome, Done)
            assert outcome.result == bytes([outcome.box.z[0]]) * 50_000_000


@pytest.mark.slow
def test_an_outcome_that_waited_for_a_busy_parent_is_not_late() -> None:
    """It does not fit into a pipe, so its worker waits until the parent reads."""
    with BlockPool(2, block_limit_s=4.0) as pool:
        outcomes = []
        for outcome in pool.run(lambda box: bytes(5_000_000), Boxes(BOXES)):
            outcomes.append(outcome)
            if len(outcomes) == 1:
                time.sleep(5.0)
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 6


class Homesick:
    """What can be loaded where it was made alone."""

    def __reduce__(self) -> Any:
        return only_in, (os.getpid(),)


def only_in(pid: int) -> Homesick:
    if os.getpid() != pid:
        raise OSError("far from home")
    return Homesick()


def homesick_at_two(box: Box) -> object:
    return Homesick() if box.z[0] == 2 else box.z[0]


def test_a_result_that_the_parent_cannot_load_costs_its_block_alone() -> None:
    with BlockPool(2) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(homesick_at_two, Boxes(BOXES))}
    failed = outcomes[2]
    assert isinstance(failed, Failed)
    assert "cannot be loaded by the parent: OSError: far from home" in failed.reason
    assert sum(isinstance(outcome, Done) for outcome in outcomes.values()) == 5
