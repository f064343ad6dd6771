"""Parts joined a layer at a time are the parts joined at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nd_synapse.detection.layers import LayeredJoin

LAYER = 100
"""Ids of a layer."""


def at_once(pairs: NDArray[Any]) -> dict[int, int]:
    """Return the lowest id that each touching part is joined to."""
    nodes, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(pairs.shape)
    graph = coo_array((np.ones(len(pairs)), (place[:, 0], place[:, 1])), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    return {int(node): int(nodes[component == of].min()) for node, of in zip(nodes, component, strict=True)}


def by_layers(pairs: NDArray[Any], layers: int) -> dict[int, int]:
    """Return the same, a layer at a time."""
    layered, found = LayeredJoin(), []
    for layer in range(layers):
        of_layer = pairs[pairs[:, 0] // LAYER == layer]
        found.append(layered.add(of_layer, (layer + 1) * LAYER))
    parts = np.concatenate([parts for parts, _ in found])
    assert len(np.unique(parts)) == len(parts)
    roots = np.concatenate([layered.settled(roots) for _, roots in found])
    return dict(zip(parts.tolist(), roots.tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(
    layers=st.integers(1, 7),
    parts=st.integers(1, LAYER - 1),
    density=st.floats(0, 1.5),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.uint32, np.uint64]),
)
def test_for_any_parts_that_touch_the_objects_are_those_of_one_graph(
    layers: int, parts: int, density: float, seed: int, dtype: Any
) -> None:
    """Many of these objects begin in several places, which meet only in a later layer."""
    rng = np.random.default_rng(seed)
    count = int(density * parts * layers)
    low = rng.integers(0, layers, count)
    high = np.minimum(low + rng.integers(0, 2, count), layers - 1)
    pairs = np.stack([low, high], axis=1) * LAYER + rng.integers(1, parts + 1, (count, 2))
    pairs = np.unique(np.sort(pairs, axis=1), axis=0).astype(dtype).reshape(-1, 2)
    assert by_layers(pairs, layers) == (at_once(pairs) if count else {})


def test_two_beginnings_that_meet_in_the_last_layer_are_one_object() -> None:
    pairs = np.array([[1, 101], [2, 102], [101, 201], [102, 202], [201, 202]], np.uint32)
    assert set(by_layers(pairs, 3).values()) == {1}


def test_the_memory_of_a_join_is_that_of_a_layer() -> None:
    """What is remembered of the layers before are the objects that reach the next one."""
    layered = LayeredJoin()
    for layer in range(50):
        first = layer * LAYER + 1
        layered.add(np.array([[first, first + LAYER], [first + 1, first + 2]], np.uint32), (layer + 1) * LAYER)
        assert len(layered._parts) == 1
    assert layered.settled(np.array([7], np.uint32)).tolist() == [7]
