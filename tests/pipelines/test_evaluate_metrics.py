"""Figures of merit against cases worked by hand and against counting the slow way."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.evaluate.metrics import (
    area_under_roc,
    balanced_accuracy,
    bootstrap,
    f1_of_counts,
    precision_recall_curve,
    proportion,
)


def area_by_counting(score: list[float], positive: list[bool]) -> float:
    """Return the share of pairs of a positive and a negative in which the positive scores higher."""
    above = [s for s, p in zip(score, positive, strict=True) if p]
    below = [s for s, p in zip(score, positive, strict=True) if not p]
    wins = sum((a > b) + (a == b) / 2 for a in above for b in below)
    return wins / (len(above) * len(below)) if above and below else math.nan


scored = st.lists(st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 2.0]), st.booleans()), max_size=30)


@given(scored)
def test_for_any_scores_the_area_is_that_of_counting_all_pairs(rows: list[tuple[float, bool]]) -> None:
    score, positive = [s for s, _ in rows], [p for _, p in rows]
    area = area_under_roc(np.array(score), np.array(positive, np.bool_))
    assert area.tolist() == pytest.approx([area_by_counting(score, positive)], nan_ok=True)


@given(scored, st.integers(0, 1000))
def test_for_any_weights_the_area_is_that_of_repeating_the_rows(rows: list[tuple[float, bool]], seed: int) -> None:
    """The bootstrap draws by weights."""
    times = np.random.default_rng(seed).integers(0, 3, len(rows))
    repeated = [row for row, n in zip(rows, times.tolist(), strict=True) for _ in range(n)]
    score, positive = np.array([s for s, _ in rows]), np.array([p for _, p in rows], np.bool_)
    weighted = area_under_roc(score, positive, times[None].astype(np.float64))
    assert weighted.tolist() == pytest.approx(
        [area_by_counting([s for s, _ in repeated], [p for _, p in repeated])], nan_ok=True
    )


@given(st.integers(0, 200), st.integers(1, 200))
def test_for_any_proportion_the_interval_holds_it_and_stays_within_0_and_1(hits: int, of: int) -> None:
    rate = proportion(min(hits, of), of)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    f1 = f1_of_counts(min(hits, of), of, 3)
    assert 0 <= f1.low <= f1.value <= f1.high <= 1


def test_the_interval_is_wilsons() -> None:
    """81 of 263, from Newcombe 1998 (Stat. Med. 17:857), table I, method 3."""
    rate = proportion(81, 263)
    assert (rate.low, rate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert proportion(0, 20).high == pytest.approx(0.1611, abs=5e-5)


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    hits, missed, false_alarms = 30, 10, 20
    precision, recall = 30 / 50, 30 / 40
    assert f1_of_counts(hits, missed, false_alarms).value == pytest.approx(
        2 * precision * recall / (precision + recall)
    )


def test_rates_of_nothing_are_nan() -> None:
    assert math.isnan(proportion(0, 0).value)
    assert math.isnan(f1_of_counts(0, 0, 0).low)
    assert math.isnan(area_under_roc(np.array([1.0]), np.array([True]))[0])
    assert math.isnan(bootstrap(lambda _: np.array([math.nan]), np.array([True]), 10, 0).high)


def test_average_precision_of_a_hand_worked_ranking() -> None:
    """Hit, miss, hit, hit of five synapses: 1 * 1/5 + 2/3 * 1/5 + 3/4 * 1/5."""
    curve = precision_recall_curve(np.array([True, False, True, True]), np.array([4.0, 3.0, 2.0, 1.0]), 5)
    assert curve.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 5)
    assert curve.recall.tolist() == pytest.approx([0.2, 0.2, 0.4, 0.6])
    assert curve.f1.max() == pytest.approx(2 * 3 / 9)


def test_equal_scores_are_taken_together() -> None:
    """Their order in the table is chance."""
    curve = precision_recall_curve(np.array([True, False]), np.array([1.0, 1.0]), 2)
    assert (curve.threshold.tolist(), curve.average_precision) == ([1.0], 0.25)


def test_a_curve_of_no_detection_is_empty() -> None:
    curve = precision_recall_curve(np.empty(0, np.bool_), np.empty(0), 3)
    assert (len(curve.threshold), curve.average_precision) == (0, 0.0)


def test_balanced_accuracy_is_the_mean_of_both_shares() -> None:
    positive = np.array([True] * 8 + [False] * 2)
    assert balanced_accuracy(np.ones(10, np.bool_), positive).tolist() == [0.5]
    assert balanced_accuracy(np.array([True] * 6 + [False] * 4), positive).tolist() == [(6 / 8 + 1) / 2]


def test_the_bootstrap_is_reproducible_and_covers_a_known_area() -> None:
    """For normal scores one standard deviation apart the area is 0.760."""
    rng = np.random.default_rng(3)
    positive = np.arange(400) < 200
    covered = 0
    for _ in range(20):
        figure = partial(area_under_roc, rng.standard_normal(400) + positive, positive)
        rate = bootstrap(figure, positive, 400, 0)
        assert rate == bootstrap(figure, positive, 400, 0)
        covered += rate.low <= 0.7602 <= rate.high
    assert covered >= 17  # 19 are expected
