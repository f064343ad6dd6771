"""A simulated run on machines that are taken away does each block, and pays for what is done twice."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.estimates import middle
from batch.plan import BatchPlan
from batch.planning import Wishes, planned
from benchmarks.imagined import plan_over
from benchmarks.spot import RATES, arrays_of, main, simulate
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY
from tests.markdown import fenced, section

MEASUREMENTS = REPOSITORY / "docs" / "measurements.md"


@cache
def some_plan(shards: int = 30, compute: str = "EC2") -> BatchPlan:
    return planned(plan_over(Box.of_shape((64, 8192, 10_240))), Wishes(shards=shards, compute=compute))  # type: ignore[arg-type] # the name of a kind


def test_without_interruptions_each_child_has_one_attempt_and_nothing_is_lost() -> None:
    plan = some_plan()
    outcome = simulate(plan, 0.0)
    children = sum(phase.jobs for phase in arrays_of(plan))
    assert children == 5 * 30
    assert (outcome.attempts, outcome.interruptions, outcome.begun_twice, outcome.lost_s) == (children, 0, 0, 0.0)
    assert outcome.resumes == 0
    low, high = plan.seconds
    assert low < outcome.seconds < high
    low, high = plan.cost.spot
    assert low < outcome.usd < high


@settings(max_examples=10, deadline=None)
@given(
    rate=st.floats(0, 4),
    seed=st.integers(0, 10_000),
    shards=st.integers(2, 60),
    compute=st.sampled_from(["EC2", "FARGATE"]),
)
def test_for_any_rate_the_run_ends_and_what_it_lost_is_accounted_for(
    rate: float, seed: int, shards: int, compute: str
) -> None:
    plan = some_plan(shards, compute)
    outcome = simulate(plan, rate, seed)
    assert outcome == simulate(plan, rate, seed), "what is drawn depends on the seed alone"
    children = sum(phase.jobs for phase in arrays_of(plan))
    assert outcome.attempts >= children
    if not outcome.resumes:
        assert outcome.attempts == children + outcome.interruptions
    assert outcome.begun_twice <= outcome.interruptions * plan.child.cpus
    assert 0 <= outcome.lost_s < outcome.machine_s
    # what was kept is the whole of the blocks' time: without losses, no more than each child's start and its blocks
    useful_s = outcome.machine_s - outcome.lost_s
    work_s = sum(phase.jobs * middle(phase.work_s) for phase in arrays_of(plan))
    starts_s = sum(phase.jobs * phase.fixed_s[1] for phase in arrays_of(plan))
    assert 0.8 * work_s < useful_s < 1.2 * work_s + starts_s + outcome.interruptions * middle(plan.phases[0].work_s)
    if not outcome.interruptions:
        assert outcome.lost_s == 0


def test_no_more_children_run_at_a_time_than_planned() -> None:
    """What all of them take together cannot be had in less time than that by so many."""
    plan = some_plan(60)
    outcome = simulate(plan, 1.0)
    single_s = sum(middle(phase.child_s) for phase in plan.phases if phase.jobs == 1)
    assert outcome.seconds - single_s >= outcome.machine_s / max(phase.at_once for phase in plan.phases)
    narrow = replace(plan, phases=tuple(replace(phase, at_once=1) for phase in plan.phases))
    assert simulate(narrow, 0.0).seconds - single_s == pytest.approx(simulate(narrow, 0.0).machine_s)


def test_a_run_that_never_ends_is_refused() -> None:
    with pytest.raises(UsageError, match="lower rate"):
        simulate(some_plan(), 500.0)


NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def same_figures(shown: str, printed: str) -> None:
    assert NUMBER.sub("N", shown) == NUMBER.sub("N", printed)
    for one, other in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        assert float(one.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=0.1, abs=5)


class TestCommand:
    """``python -m benchmarks.spot`` prints a plan and a table."""

    def test_the_document_shows_what_the_command_prints(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Figures nearly so: another version of NumPy may draw other numbers."""
        assert main([]) == 0
        plan, _, table = capsys.readouterr().out.partition("\n\n")
        document = section(MEASUREMENTS, "Spot interruptions")
        (shown,) = fenced(document)
        for line in shown.splitlines():
            (same,) = (printed for printed in plan.splitlines() if printed[:14] == line[:14])
            same_figures(line, same)
        rows = [line for line in document.splitlines() if line.startswith("|")]
        assert len(rows) == 2 + len(RATES)
        for row, line in zip(rows, table.splitlines(), strict=True):
            same_figures(row, line)

    def test_other_volumes_and_rates_are_simulated_as_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = "--shape 64 8192 8192 --compute FARGATE --shards 20 --attempts 3 --rates 0 2 --seed 4"
        assert main(words.split()) == 0
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert len(rows) == 4
        assert "| 100 | 0 |" in rows[2]
