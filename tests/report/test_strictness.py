"""The figure of the count by strictness, against plain counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.report.figures_strictness import STRICTNESS, kept
from nd_synapse.report.plot import show
from tests.report.examples import FACTS, draw, subject, synapses

STRICT = replace(FACTS, parameters={"strictness": "4.0"})
numbers_of_scores = st.lists(st.floats(-1e6, 1e6), max_size=40)


@given(numbers_of_scores, numbers_of_scores)
def test_for_any_scores_as_many_are_kept_as_are_large_enough(scores: list[float], least: list[float]) -> None:
    counted = [sum(score >= one for score in scores) for one in least]
    assert kept(np.array(scores), np.array(least)).tolist() == counted


def test_the_curve_starts_with_all_synapses_at_the_strictness_of_the_run() -> None:
    table = synapses(500)
    drawing = draw("strictness", subject(table, STRICT))
    (axes,) = drawing.figure.axes
    curve, own = axes.lines
    along, counts = np.asarray(curve.get_xdata(), float), np.asarray(curve.get_ydata(), float)
    assert (along[0], counts[0]) == (4.0, 500)
    assert np.all(np.diff(counts) <= 0)
    assert counts.tolist() == [np.count_nonzero(table["score"] >= least) for least in along]
    assert set(np.asarray(own.get_xdata(), float)) == {4.0}
    assert own.get_label() == "this run: 4"
    assert "500 synapses" in drawing.caption


def test_the_numbers_are_those_of_a_run_that_keeps_such_a_share() -> None:
    table = synapses(500)
    drawing = draw("strictness", subject(table, STRICT))
    assert drawing.numbers is not None
    for least, number, share in drawing.numbers.rows:
        assert np.count_nonzero(table["score"] >= float(least)) == pytest.approx(int(number), abs=1)
        assert float(share.split()[0]) == pytest.approx(int(number) / 5, abs=0.1)


def test_an_automatic_strictness_is_marked_where_it_came_to() -> None:
    run = replace(FACTS, parameters={"strictness": "auto"}, finding={"strictness": "5.5"})
    assert "(dashed: 5.5, that of this run)" in draw("strictness", subject(synapses(50), run)).caption


def test_without_a_strictness_it_is_the_score_and_nothing_is_marked() -> None:
    axes = draw("strictness", subject(synapses(50))).figure.axes[0]
    assert axes.get_xlabel() == "Score"
    assert len(axes.lines) == 1


def test_without_scores_the_reason_is_given() -> None:
    table = {name: values for name, values in synapses(50).items() if name != "score"}
    (plot,) = STRICTNESS
    assert "no column “score”" in show(plot, subject(table, STRICT)).reason


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_equal_scores_are_drawn(n: int) -> None:
    table = synapses(n) | {"score": np.full(n, 7.0)}
    shown = show(STRICTNESS[0], subject(table, STRICT))
    assert shown.image
    assert not shown.failed
