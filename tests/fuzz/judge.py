"""The one rule: a case ends in a result, or in an error of ours that says what was asked, found, and what helps."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from errors import NDSynapseError
from local_boss.replies import BossError
from tests.fuzz.cases import TOKEN

LONGEST = 3000
"""Characters of an error: who gives a page does not get it back."""


@dataclass(frozen=True)
class Target:
    """Something that takes input.

    `run` gets a case and a folder of its own; what it returns is checked by itself.
    """

    name: str
    strategy: st.SearchStrategy[Any]
    run: Callable[[Any, Path], object]
    share: int = 10
    """How many of 100 parts of all cases it gets, roughly: those that take longer get fewer."""


@dataclass
class Outcomes:
    """What became of the cases of a target."""

    results: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def cases(self) -> int:
        return self.results + self.refusals.total()


def judge(target: Target, case: Any, folder: Path, outcomes: Outcomes) -> None:
    """Run one case; anything but a result or a sound error of ours is raised."""
    try:
        target.run(case, folder)
    except NDSynapseError as error:
        check_words(error)
        outcomes.refusals[type(error).__name__] += 1
    except BossError as error:
        # the local server's own refusal: it becomes a reply
        if not error.message or not 400 <= error.status < 500:
            raise AssertionError(repr(error)) from error
        outcomes.refusals[f"HTTP {error.status}"] += 1
    else:
        outcomes.results += 1


def check_words(error: NDSynapseError) -> None:
    """Refuse an error that a user could make nothing of."""
    for part in (error.asked, error.found, error.remedy):
        assert isinstance(part, str), error.args
        assert part.strip(), error.args
    assert error.exit_code in {2, 3, 65, 69, 74, 75, 77}, f"{type(error).__name__} is no error of a user's"
    assert len(str(error)) < LONGEST, f"{len(str(error))} characters"
    assert str(error).encode("utf-8", "backslashreplace")
    assert TOKEN not in str(error), "the token shows"


def run_cases(target: Target, cases: int, folder: Path, seed_: int = 0) -> Outcomes:
    """Run so many cases of a target; the first that fails is raised, made as small as it can be."""
    outcomes = Outcomes()

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @seed(seed_)
    @given(target.strategy)
    def property_(case: Any) -> None:
        judge(target, case, folder, outcomes)

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # what a library thinks of damaged bytes is not ours to tell
            warnings.simplefilter("ignore")
            property_()
    finally:
        logging.disable(before)
    return outcomes
