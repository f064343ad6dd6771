"""Matching takes as many pairs as there can be, and of those the best."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.evaluate import matching
from nd_synapse.evaluate.matching import Candidates, gains, match, overlapping, within_distance

Points = NDArray[np.float64]


def on_a_line(*x: float) -> Points:
    return np.array([[0.0, 0.0, one] for one in x]).reshape(-1, 3)


def costs(candidates: Candidates) -> dict[tuple[int, int], float]:
    ends = zip(candidates.truth.tolist(), candidates.detection.tolist(), strict=True)
    return dict(zip(ends, candidates.cost.tolist(), strict=True))


def best_by_trying_all(candidates: Candidates) -> tuple[int, float]:
    """Return the largest number of pairs and their least total cost, from every assignment that there is."""
    allowed = costs(candidates)
    places = list(range(candidates.detections)) + [-1] * candidates.truths
    tried = set(permutations(places, candidates.truths))
    sums = []
    for assignment in tried:
        pairs = [pair for pair in enumerate(assignment) if pair in allowed]
        sums.append((-len(pairs), sum(allowed[pair] for pair in pairs)))
    most, cost = min(sums)
    return -most, cost


@st.composite
def graphs(draw: st.DrawFn) -> Candidates:
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    every = [(i, j) for i in range(n) for j in range(m)]
    edges = sorted(draw(st.sets(st.sampled_from(every))))
    cost = draw(st.lists(st.integers(0, 8), min_size=len(edges), max_size=len(edges)))
    ends = np.array(edges, np.int64).reshape(-1, 2)
    return Candidates(ends[:, 0], ends[:, 1], np.array(cost, np.float64) / 8, n, m)


@given(graphs())
def test_for_any_small_graph_the_pairs_are_the_best_of_all_assignments(candidates: Candidates) -> None:
    pairs = match(candidates)
    allowed = costs(candidates)
    assert all(len(set(side)) == len(side) for side in pairs.T.tolist())
    cost = sum(allowed[(i, j)] for i, j in pairs.tolist())
    assert (len(pairs), cost) == pytest.approx(best_by_trying_all(candidates))


@given(graphs(), st.randoms(use_true_random=False))
def test_for_any_order_the_gains_are_the_largest_matching_of_each_beginning(
    candidates: Candidates, random: object
) -> None:
    order = np.arange(candidates.detections)
    random.shuffle(order)  # type: ignore[attr-defined] # Hypothesis's own random numbers
    gain = gains(candidates, order)
    everyone = np.ones(candidates.truths, np.bool_)
    for taken in range(candidates.detections + 1):
        first = np.isin(np.arange(candidates.detections), order[:taken])
        assert np.count_nonzero(gain & first) == len(match(candidates.among(everyone, first)))


@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(0, 60))
def test_for_any_points_the_order_of_rows_changes_neither_count_nor_distance(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.random((n, 3)), rng.random((m, 3))
    there = within_distance(truth, found, 0.3)
    turned = within_distance(truth[::-1], found[::-1], 0.3)
    pairs, again = match(there), match(turned)
    assert len(pairs) == len(again)
    apart = np.linalg.norm(truth[pairs[:, 0]] - found[pairs[:, 1]], axis=1)
    apart_again = np.linalg.norm(truth[::-1][again[:, 0]] - found[::-1][again[:, 1]], axis=1)
    assert apart.sum() == pytest.approx(apart_again.sum())
    assert np.count_nonzero(gains(there, np.arange(m))) == len(pairs)


def test_a_closest_pair_does_not_waste_two() -> None:
    """The case of the module's drawing."""
    pairs = match(within_distance(on_a_line(0, 3), on_a_line(2, 6), 3.0))
    assert pairs.tolist() == [[0, 0], [1, 1]]


def test_of_equally_many_pairs_the_nearer_ones_are_taken() -> None:
    assert match(within_distance(on_a_line(0), on_a_line(0.25, -0.125), 0.3)).tolist() == [[0, 1]]


@pytest.mark.parametrize("voxels", [1, 2, 3, 7])
def test_a_pair_at_just_the_largest_distance_is_close_enough(voxels: int) -> None:
    """Three times 0.1 is 0.30000000000000004."""
    found = on_a_line(voxels * 0.1)
    assert len(match(within_distance(on_a_line(0), found, voxels * 100 / 1000))) == 1
    assert len(match(within_distance(on_a_line(0), found, voxels * 0.0999))) == 0


def test_distance_is_in_space_and_not_in_a_projection() -> None:
    truth, found = np.zeros((1, 3)), np.array([[0.4, 0.0, 0.0]])
    assert len(match(within_distance(truth, found, 0.3))) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_matches_nothing(n: int, m: int) -> None:
    candidates = within_distance(np.zeros((n, 3)), np.zeros((m, 3)), 0.3)
    assert match(candidates).shape == (0, 2)
    assert gains(candidates, np.arange(m)).tolist() == [False] * m


def test_more_pairs_than_memory_is_planned_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MAX_PAIRS", 99)
    with pytest.raises(DataError, match="100 pairs are that close"):
        within_distance(np.zeros((10, 3)), np.zeros((10, 3)), 0.3)


def test_overlap_counts_shared_voxels_once_for_each_pair() -> None:
    truth = np.array([[[1, 1, 1, 0, 2, 2]]])
    found = np.array([[[0, 1, 1, 1, 1, 0]]])
    candidates = overlapping(truth, found, (np.array([3, 2]), np.array([4])), 0.0)
    assert costs(candidates) == {(0, 0): pytest.approx(1 - 2 / 5), (1, 0): pytest.approx(1 - 1 / 5)}
    assert match(candidates).tolist() == [[0, 0]]
    assert costs(overlapping(truth, found, (np.array([3, 2]), np.array([4])), 0.3)).keys() == {(0, 0)}


def test_ten_thousand_dense_points_are_matched() -> None:
    """Ten times as dense as tissue: connected parts are matched on their own, or the time would be quadratic."""
    rng = np.random.default_rng(1)
    truth, found = rng.random((10_000, 3)) * 10, rng.random((10_000, 3)) * 10
    candidates = within_distance(truth, found, 0.3)
    assert np.count_nonzero(gains(candidates, np.arange(10_000))) == len(match(candidates))
