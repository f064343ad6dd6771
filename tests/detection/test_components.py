"""Connected components as scipy finds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit

from nd_synapse.blocks.components import components
from nd_synapse.detection.density import student_t


def least_of_scipy(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the least member of each component that scipy finds."""
    number = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)[1]
    least = np.full(n, n)
    np.minimum.at(least, number, np.arange(n))
    return least[number]


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_for_any_graph_each_component_has_its_least_member(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(components(n, a, b), least_of_scipy(n, a, b))


@pytest.mark.parametrize("form", ["chain", "chain at random", "star"])
def test_long_and_wide_components_are_found(form: str) -> None:
    n = 100_000
    a, b = np.arange(n - 1), np.arange(1, n)
    if form == "chain at random":
        order = np.random.default_rng(0).permutation(n)
        a, b = order[a], order[b]
    elif form == "star":
        a = np.full(n - 1, n // 2)
    assert len(np.unique(components(n, a, b)[b])) == 1


@pytest.mark.parametrize("degrees", range(1, 64))
def test_quantiles_of_student_are_those_of_scipy(degrees: int) -> None:
    for level in (0.5, 0.9, 0.95, 0.999):
        assert student_t(degrees, level) == pytest.approx(stdtrit(degrees, (1 + level) / 2), rel=1e-12)
