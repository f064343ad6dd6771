"""For any input: a result, or an error of ours that says what was asked, what was found, and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from nd_synapse.errors import UsageError
from tests.fuzz.judge import ENOUGH, Target, run_cases, shallow
from tests.fuzz.targets import TARGETS

CASES = 2000
SHARES = sum(target.share for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_any_input_ends_in_a_result_or_in_an_error_of_ours(target: Target, tmp_path: Path) -> None:
    cases = -(-CASES * target.share // SHARES)
    outcomes = run_cases(target, cases, tmp_path)
    assert outcomes.cases >= cases
    assert not shallow(target, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_any_of_many_inputs_ends_so_and_none_of_the_targets_is_shallow(target: Target, tmp_path: Path) -> None:
    assert not shallow(target, run_cases(target, ENOUGH, tmp_path, seed_=1))


def test_each_target_has_a_name_of_its_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def refuse_all_but(least: int) -> Target:
    """Return a target that refuses what is below a number, in one place of ours."""

    def run(number: int, folder: Path) -> None:
        if number < least:
            raise UsageError("a number", "it is too small", "Give a larger one")

    return Target("numbers", st.integers(0, 10**6), run, results=0.2, places=0)


def test_as_many_cases_run_as_were_asked_for_even_of_a_target_that_has_few(tmp_path: Path) -> None:
    few = Target("few", st.integers(0, 3), lambda number, folder: None)
    assert run_cases(few, 50, tmp_path).cases >= 50


def test_a_target_most_of_whose_cases_are_refused_is_shallow(tmp_path: Path) -> None:
    target = refuse_all_but(10**6)
    assert "cases end in a result, 20% should" in shallow(target, run_cases(target, ENOUGH, tmp_path))


def test_a_target_whose_refusals_end_in_fewer_places_than_it_promises_is_shallow(tmp_path: Path) -> None:
    target = Target("few places", st.integers(0, 10**6), lambda number, folder: None, places=1)
    found = shallow(target, run_cases(target, ENOUGH, tmp_path))
    assert found == "cases are refused in 0 places, 1 should be met"


def test_a_target_that_is_deep_enough_is_not_shallow(tmp_path: Path) -> None:
    target = refuse_all_but(10)
    assert not shallow(target, run_cases(target, ENOUGH, tmp_path))
