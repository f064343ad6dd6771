"""The one rule: a case ends in a result, or in an error of ours that says what was asked, found, and what helps."""

from __future__ import annotations

import io
import itertools
import logging
import math
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from nd_synapse.errors import NDSynapseError
from nd_synapse.local_boss.responses import BossError
from tests.fuzz.cases import TOKEN

LONGEST = 3000
"""Characters of an error: who gives a page does not get it back."""

ENOUGH = 300
"""Cases from which on a target must be as deep as it promises; of fewer, one has to end in a result."""

REPOSITORY = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Target:
    """Something that takes input.

    `run` gets a case and a folder of its own; what it returns is checked by itself.
    """

    name: str
    strategy: st.SearchStrategy[Any]
    run: Callable[[Any, Path], object]
    share: int = 10
    """How many parts of all cases it gets: those that take longer get fewer."""
    results: float = 0.2
    """The least share of its cases that ends in a result: fewer, and most cases end at the first thing that is read."""
    places: int = 3
    """In how many lines of ours its cases are refused at least: fewer, and what comes behind the first is not met."""


@dataclass
class Outcomes:
    """What became of the cases of a target."""

    results: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)

    @property
    def cases(self) -> int:
        return self.results + self.refusals.total()

    @property
    def most_frequent_place(self) -> str:
        """Where most refusals end, and which share of them."""
        if not self.places:
            return "none"
        ((place, count),) = self.places.most_common(1)
        return f"{count / self.places.total():.0%} {place}"


def shallow(target: Target, outcomes: Outcomes) -> str:
    """Say why a target reaches too little of what it is about, or nothing."""
    cases = outcomes.cases
    # few cases need one result, where any is promised
    if outcomes.results < (cases * target.results if cases >= ENOUGH else min(1.0, math.ceil(target.results))):
        return f"{outcomes.results} of {cases} cases end in a result, {target.results:.0%} should"
    if cases >= ENOUGH and len(outcomes.places) < target.places:
        return f"cases are refused in {len(outcomes.places)} places, {target.places} should be met"
    return ""


def judge(target: Target, case: Any, folder: Path, outcomes: Outcomes) -> None:
    """Run one case; anything but a result or a sound error of ours is raised."""
    try:
        target.run(case, folder)
    except NDSynapseError as error:
        check_words(error)
        outcomes.refusals[type(error).__name__] += 1
        outcomes.places[place_of(error)] += 1
    except BossError as error:
        # the local server's own refusal: it becomes a reply
        if not error.message or not 400 <= error.status < 500:
            raise AssertionError(repr(error)) from error
        outcomes.refusals[f"HTTP {error.status}"] += 1
        outcomes.places[place_of(error)] += 1
    else:
        outcomes.results += 1


def check_words(error: NDSynapseError) -> None:
    """Refuse an error that a user could make nothing of."""
    for part in (error.requested, error.found, error.remedy):
        assert isinstance(part, str), error.args
        assert part.strip(), error.args
    assert error.exit_code in {2, 3, 65, 69, 74, 75, 77}, f"{type(error).__name__} is no error of a user's"
    assert len(str(error)) < LONGEST, f"{len(str(error))} characters"
    assert str(error).encode("utf-8", "backslashreplace")
    assert TOKEN not in str(error), "the token shows"


def place_of(error: BaseException) -> str:
    """Return the line of ours that raised an error, and of one that was translated the line that led to it."""
    # one that was told anew `from None` has what led to it all the same
    places = [_innermost(one) for one in (error, error.__cause__ or error.__context__) if one is not None]
    return " < ".join(dict.fromkeys(place for place in places if place)) or "tests"


def _innermost(error: BaseException) -> str:
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file.startswith(f"{REPOSITORY}/") and not file.startswith(f"{REPOSITORY}/tests/"):
            return f"{file.removeprefix(f'{REPOSITORY}/')}:{line}"
    return ""


def run_cases(target: Target, cases: int, folder: Path, seed_: int = 0) -> Outcomes:
    """Run so many cases of a target, or more; the first that fails is raised, made as small as it can be."""
    outcomes = Outcomes()

    def run_round(number: int) -> None:
        @settings(
            max_examples=cases - outcomes.cases,
            deadline=None,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @seed(seed_ + 1_000_003 * number)
        @given(target.strategy)
        def property_(case: Any) -> None:
            try:
                judge(target, case, folder, outcomes)
            except Exception as error:
                error.add_note(f"a case of the target {target.name}: {case!r:.2000}")
                raise

        property_()

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # what a library thinks of damaged bytes is not ours to tell
            warnings.simplefilter("ignore")
            # hypothesis may stop before it has drawn as many as it was asked for
            for number in itertools.count():
                if outcomes.cases >= cases:
                    break
                run_round(number)
    finally:
        logging.disable(before)
    return outcomes


def quietly(run: Callable[[Any, Path], object]) -> Callable[[Any, Path], None]:
    """Let a command line ask for help: it prints, and ends with 0."""

    def silent(case: Any, folder: Path) -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                run(case, folder)
            except SystemExit as end:
                if end.code != 0:
                    raise AssertionError(f"it exits with {end.code}") from end

    return silent


@contextmanager
def untold() -> Iterator[None]:
    """Let the errors of a command line reach the judge: its `main` would print them, and return their exit codes."""
    with mock.patch("shell.guarded", lambda work, stopped: work()), mock.patch("stopping.hear"):
        yield
