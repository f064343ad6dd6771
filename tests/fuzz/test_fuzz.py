"""For any input: a result, or an error of ours that says what was asked, what was found, and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.judge import Target, run_cases
from tests.fuzz.targets import TARGETS

CASES = 2000
SHARES = sum(target.share for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_any_input_ends_in_a_result_or_in_an_error_of_ours(target: Target, tmp_path: Path) -> None:
    cases = -(-CASES * target.share // SHARES)
    assert run_cases(target, cases, tmp_path).cases >= cases


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_any_of_many_inputs_ends_so(target: Target, tmp_path: Path) -> None:
    assert run_cases(target, 20 * target.share, tmp_path, seed_=1).cases > 0
