"""A worker that cannot begin, or cannot load what it is to run, ends the run at once and by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nd_synapse.blocks import pool as block_pool
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, InWorkerError
from nd_synapse.blocks.processes import signals_held
from nd_synapse.errors import DataError, LimitError, NDSynapseError, UsageError
from nd_synapse.geometry import Box
from tests.pool_functions import BOXES, LIMIT_S, children, double, note_start, starts

__all__ = ["starts"]


def test_no_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="--cpus"):
        BlockPool(0)


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


def test_a_function_that_workers_cannot_load_ends_the_run_at_once(starts: Path) -> None:
    """It used to cost two processes a block, and was reported as a lack of memory."""
    with pytest.raises(UsageError, match="ModuleNotFoundError: No module named 'elsewhere'") as failure:  # noqa: SIM117 - in one statement the line is too long
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
