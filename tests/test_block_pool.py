"""A pool that outlives what goes wrong in its blocks: nothing hangs, nothing vanishes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from nd_synapse.blocks import pool as block_pool
from nd_synapse.blocks import processes, worker
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed, InWorkerError
from nd_synapse.blocks.processes import signals_held
from nd_synapse.errors import DataError, LimitError, NDSynapseError, StorageError, UsageError
from nd_synapse.geometry import Box

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


def die_once(box: Box) -> int:
    """Die at block 2 the first time, as when others took the memory."""
    mark = Path(os.environ["ND_POOL_TEST_FOLDER"]) / "died"
    if box.z[0] == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
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


def children() -> set[psutil.Process]:
    """Return the workers of this process."""
    return {child for child in psutil.Process().children() if "nd_synapse.blocks.worker" in str(child.cmdline())}


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
        outcomes = {outcome.box.z[0]: outcome for outcome in pool.run(function, Boxes(BOXES))}  # type: ignore[arg-type]
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


def test_no_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="--cpus"):
        BlockPool(0)


def note_start() -> None:
    """Count the workers that were set up."""
    (Path(os.environ["ND_POOL_TEST_FOLDER"]) / f"started-{os.getpid()}").touch()


def fail_to_start() -> None:
    note_start()
    raise ZeroDivisionError("no such set-up")


def refuse_to_start() -> None:
    note_start()
    raise DataError("a set-up", "it has no data", "Bring some")


def die_at_start() -> None:
    note_start()
    os.kill(os.getpid(), signal.SIGKILL)


def stop_at_start() -> None:
    """Read nothing any more, as a worker on a machine that swaps."""
    os.kill(os.getpid(), signal.SIGSTOP)


def explode() -> None:
    raise ModuleNotFoundError("No module named 'elsewhere'")


class Unloadable:
    """What can be pickled here, and cannot be loaded in a worker."""

    def __call__(self, box: Box) -> int:
        return box.z[0]

    def __reduce__(self) -> Any:
        return explode, ()


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    return tmp_path


def test_a_function_that_workers_cannot_load_ends_the_run_at_once(starts: Path) -> None:
    """It used to cost two processes a block, and was reported as a lack of memory."""
    with pytest.raises(UsageError, match="ModuleNotFoundError: No module named 'elsewhere'") as failure:  # noqa: SIM117
        with BlockPool(1, note_start) as pool:
            list(pool.run(Unloadable(), Boxes(BOXES)))
    assert isinstance(failure.value.__cause__, InWorkerError)
    assert "in explode" in str(failure.value.__cause__)
    assert len(list(starts.iterdir())) == 1
    assert not children()


def test_a_later_function_that_workers_cannot_load_ends_its_run() -> None:
    with BlockPool(1) as pool:
        assert len(list(pool.run(double, Boxes(BOXES)))) == 6
        with pytest.raises(UsageError, match="No module named 'elsewhere'"):
            list(pool.run(Unloadable(), Boxes(BOXES)))


@pytest.mark.parametrize(
    ("setup", "kind", "words", "workers"),
    [
        (fail_to_start, NDSynapseError, "setting a worker process up: ZeroDivisionError: no such set-up", 1),
        (refuse_to_start, DataError, "a set-up: it has no data", 1),
        (die_at_start, LimitError, "ended by SIGKILL before it could begin, twice.*--block-size", 2),
    ],
    ids=["raise", "refuse", "die"],
)
def test_a_worker_that_cannot_begin_ends_the_run(
    starts: Path, setup: Any, kind: type[NDSynapseError], words: str, workers: int
) -> None:
    with pytest.raises(kind, match=words) as failure, BlockPool(1, setup) as pool:
        list(pool.run(double, Boxes(BOXES)))
    assert type(failure.value) is kind
    assert ("in fail_to_start" in str(failure.value.__cause__)) == (setup is fail_to_start)
    assert len(list(starts.iterdir())) == workers
    assert not children()


@pytest.mark.slow
def test_a_worker_that_never_begins_is_ended_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the function is: nothing is sent to a worker that it would have to read first."""
    monkeypatch.setattr(block_pool, "_START_LIMIT_S", 2.0)
    ballast = os.urandom(2**20)
    started = time.monotonic()
    with pytest.raises(LimitError, match="could not begin within 2 s"), BlockPool(1, stop_at_start) as pool:
        list(pool.run(lambda box: len(ballast), Boxes(BOXES)))
    assert time.monotonic() - started < LIMIT_S
    assert not children()


def test_a_function_may_hold_fifty_megabytes() -> None:
    ballast = os.urandom(50 * 2**20)
    with BlockPool(2) as pool:
        for _ in range(2):
            outcomes = list(pool.run(lambda box: len(ballast) + box.z[0], Boxes(BOXES)))
            assert sorted(o.result - len(ballast) for o in outcomes if isinstance(o, Done)) == list(range(6))


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with BlockPool(1) as pool:
        for outcome in pool.run(double, Boxes(BOXES)):
            assert isinstance(outcome, Done)
            assert not list(tmp_path.iterdir())


def test_a_function_that_cannot_be_pickled_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="cannot be pickled"), BlockPool(1) as pool:
        list(pool.run(lambda box: lock.locked(), Boxes(BOXES)))


def test_a_signal_that_comes_while_a_worker_starts_waits_until_it_is_known() -> None:
    """A process half started would be nobody's to end."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(len(came)))
    try:
        with signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert not came
        assert came == [0]
    finally:
        signal.signal(signal.SIGTERM, before)


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
        self.wakes, self._wake = multiprocessing.Pipe(duplex=False)  # type: ignore[assignment]
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
        self.wakes, self._wake = multiprocessing.Pipe(duplex=False)  # type: ignore[assignment]

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
