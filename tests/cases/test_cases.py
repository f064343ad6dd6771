"""Every case gives what it must."""

from pathlib import Path

import pytest

from tests.cases import Case, kinds

_CASES = [
    pytest.param(case, id=f"{kind}-{case.id}", marks=[pytest.mark.slow] if case.slow else [])
    for kind, cases in kinds().items()
    for case in cases
]


@pytest.mark.parametrize("case", _CASES)
def test_a_case_gives_what_it_must(case: Case, tmp_path: Path) -> None:
    assert case.observe(tmp_path) == case.after
