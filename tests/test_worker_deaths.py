"""A worker that dies costs no block that it did not kill itself, and holds nobody up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nd_synapse.blocks import processes, worker
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed
from nd_synapse.geometry import Box
from tests.pool_functions import BOXES, children, die_at_two, die_once, note_start, starts

__all__ = ["starts"]


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    with BlockPool(2) as pool:
        outcomes = list(pool.run(die_once, Boxes(BOXES)))
    assert sorted(outcome.box.z[0] for outcome in outcomes if isinstance(outcome, Done)) == list(range(6))


@pytest.mark.slow
def test_workers_that_ignore_the_request_to_end_are_killed_together(
    starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One limit for all of them: a run that is stopped has ten seconds, however many workers it has."""
    monkeypatch.setattr(processes, "STOP_LIMIT_S", 3.0)
    with pytest.raises(KeyboardInterrupt), BlockPool(4) as pool:  # noqa: PT012 - it is raised once three are deaf
        for outcome in pool.run(deaf, Boxes(BOXES[:4])):
            assert isinstance(outcome, Done)
            stopped = time.monotonic()
            raise KeyboardInterrupt
    # one limit for each of the three would be nine seconds
    assert 3.0 <= time.monotonic() - stopped < 8.5
    assert not children()


def deaf(box: Box) -> None:
    """Ignore SIGTERM and be at work for long; but for one block, which waits until the others do."""
    if box.z[0] == 3:
        while len(list(Path(os.environ["ND_POOL_TEST_FOLDER"]).iterdir())) < 3:
            time.sleep(0.01)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_start()
    time.sleep(1000)


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.5, 0.0], ids=["seen", "unseen"])
def test_a_worker_that_died_while_it_was_idle_costs_no_block(caplog: pytest.LogCaptureFixture, wait_s: float) -> None:
    """Its death used to count as the block's: the next one ended it for good."""
    with BlockPool(2) as pool:
        assert len(list(pool.run(pid_of, Boxes(BOXES)))) == 6
        for child in children():
            child.kill()
        time.sleep(wait_s)
        outcomes = list(pool.run(pid_of, Boxes(BOXES)))
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 6
    assert ("is tried again alone" in caplog.text) <= (wait_s == 0)


def pid_of(box: Box) -> int:
    return os.getpid()


class Late(Boxes):
    """A feed whose last block comes late, and once all workers that were idle until then are dead."""

    def __init__(self) -> None:
        super().__init__(BOXES[:2])
        self.wakes, self._wake = multiprocessing.Pipe(duplex=False)  # type: ignore[assignment] # an end of a pipe can be waited for
        self.given = 0
        self.open = False

    def take(self) -> Box | None:
        if self.given == 1 and not self.open:
            return None
        self.given += 1
        return super().take()

    def finished(self, box: Box) -> None:
        if self.open:
            return
        for child in children():
            child.kill()
        time.sleep(0.2)
        self.open = True
        self._wake.send_bytes(b".")


def test_a_worker_that_died_before_its_first_block_costs_no_block(caplog: pytest.LogCaptureFixture) -> None:
    with BlockPool(2) as pool:
        outcomes = list(pool.run(pid_of, Late()))
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 2
    assert "is tried again alone" not in caplog.text


class Eager(Boxes):
    """A feed that has something new as long as it has anything."""

    def __init__(self) -> None:
        super().__init__(BOXES[2:])
        self.wakes, self._wake = multiprocessing.Pipe(duplex=False)  # type: ignore[assignment] # an end of a pipe can be waited for

    def take(self) -> Box | None:
        box = super().take()
        if self.remaining:
            self._wake.send_bytes(b".")
        return box


def die_once_then_last(box: Box) -> int:
    """Die at block 2 at once, and take long at it when it is tried again."""
    number = die_once(box)
    time.sleep(2.0 if box.z[0] == 2 else 0.5)
    return number


@pytest.mark.slow
def test_while_a_block_is_tried_alone_the_parent_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to take a core, for as long as the block took."""
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    with BlockPool(2) as pool:
        before = time.process_time()
        outcomes = list(pool.run(die_once_then_last, Eager()))
        spent_s = time.process_time() - before
    assert sorted(outcome.box.z[0] for outcome in outcomes if isinstance(outcome, Done)) == [2, 3, 4, 5]
    assert spent_s < 1.0


def fork_and_die_at_two(box: Box) -> int:
    """Die while a child lives on, which holds all that the worker had open."""
    if box.z[0] == 2 and os.fork() == 0:
        (Path(os.environ["ND_POOL_TEST_FOLDER"]) / str(os.getpid())).touch()
        time.sleep(60)
        os._exit(0)
    return die_at_two(box)


@pytest.mark.slow
def test_the_death_of_a_worker_is_seen_though_its_child_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    started = time.monotonic()
    with BlockPool(1, block_limit_s=50.0) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(fork_and_die_at_two, Boxes(BOXES))}
    taken_s = time.monotonic() - started
    for child in tmp_path.iterdir():
        os.kill(int(child.name), signal.SIGKILL)
    failed = outcomes[2]
    assert isinstance(failed, Failed)
    assert "by SIGKILL, twice" in failed.reason
    assert sum(isinstance(outcome, Done) for outcome in outcomes.values()) == 5
    assert taken_s < 30


def break_off_at_two(end: signal.Signals) -> Callable[[Box], bytes]:
    """Return a function whose worker gets a signal in the middle of sending what block 2 came to."""

    def write_half(descriptor: int, data: Any) -> None:
        """Write the half of a message, but all of its length."""
        left = memoryview(data)
        while len(left) > len(data) // 2 or (left and len(data) == worker.LENGTH.size):
            left = left[os.write(descriptor, left[:4096]) :]
        if len(data) > worker.LENGTH.size:
            os.kill(os.getpid(), end)

    def function(box: Box) -> bytes:
        if box.z[0] == 2:
            if end == signal.SIGKILL and os.fork() == 0:  # it holds all that the worker had open
                (Path(os.environ["ND_POOL_TEST_FOLDER"]) / str(os.getpid())).touch()
                time.sleep(60)
                os._exit(0)
            vars(worker)["write_all"] = write_half
        return bytes(1_000_000)

    return function


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "words"),
    [(signal.SIGKILL, "by SIGKILL, twice"), (signal.SIGSTOP, "took longer than 5 s")],
    ids=["killed", "stopped"],
)
def test_a_worker_that_ends_in_the_middle_of_its_outcome_holds_nobody_up(
    starts: Path, end: signal.Signals, words: str
) -> None:
    """The parent waited for the rest of it, for ever: no limit and no death was looked for meanwhile."""
    started = time.monotonic()
    with BlockPool(1, block_limit_s=5.0) as pool:
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(break_off_at_two(end), Boxes(BOXES))}
    taken_s = time.monotonic() - started
    for child in starts.iterdir():
        os.kill(int(child.name), signal.SIGKILL)
    failed = outcomes[2]
    assert isinstance(failed, Failed)
    assert words in failed.reason
    assert sum(isinstance(outcome, Done) for outcome in outcomes.values()) == 5
    assert taken_s < 30
