"""Synapses get their rows in the order of their first voxels, in the memory of one layer of blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.grid import blocks_of, key_of
from nd_synapse.blocks.store import MemoryStore
from nd_synapse.detection.budget import LINE_BYTES, PAIR_BYTES
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.layers import LayeredJoin
from nd_synapse.detection.numbering import number
from nd_synapse.geometry import Box

KINDS = Kinds.of("parts-00", (), (1, 1, 1))


def chosen(store: MemoryStore, box: Box, blocks: list[Box], ids: NDArray[np.uint64]) -> None:
    """Save objects as if a pipeline had chosen them, each in the block where it begins."""
    voxels = np.stack(np.unravel_index(ids.astype(np.int64) - 1, box.shape)) + np.array([box.start]).T
    for block in blocks:
        low, high = np.array([block.start]).T, np.array([block.stop]).T
        here = np.all((voxels >= low) & (voxels < high), axis=0)
        saved = {
            "ids": ids[here],
            "count": np.array([here.sum()]),
            "ends": np.array([[block.start, np.subtract(block.stop, 1)]]),
            "mask All": np.ones(here.sum(), np.bool_),
        }
        store.save(KINDS.chosen, key_of(block), saved)


@settings(max_examples=200, deadline=None)
@given(
    start=st.tuples(*[st.integers(0, 5)] * 3),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 5)] * 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_for_any_synapses_and_blocks_rows_follow_the_first_voxels(
    start: tuple[int, int, int], shape: tuple[int, int, int], size: tuple[int, int, int], share: float, seed: int
) -> None:
    box = Box.of_shape(shape, start)
    blocks, store = blocks_of(box, size), MemoryStore()
    rng = np.random.default_rng(seed)
    ids = 1 + np.flatnonzero(rng.random(box.voxels) < share).astype(np.uint64)
    chosen(store, box, blocks, ids)
    numbered = number(store, KINDS, blocks, box)
    assert (numbered.synapses, numbered.candidates) == (len(ids), len(ids))
    for block in blocks:
        own = store.load(KINDS.chosen, key_of(block))["ids"]
        rows = store.load(KINDS.rows, key_of(block))["rows"]
        assert rows.tolist() == np.searchsorted(ids, own).tolist()


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def test_numbering_takes_no_more_than_is_planned_for_the_lines_of_a_layer() -> None:
    box = Box.of_shape((4, 250_000, 8))
    blocks, store = blocks_of(box, (2, 250_000, 8)), MemoryStore()
    ids = np.arange(1, box.voxels, 1000, dtype=np.uint64)
    chosen(store, box, blocks, ids)
    with traced():
        number(store, KINDS, blocks, box)
        _, peak = tracemalloc.get_traced_memory()
    lines = 2 * 250_000
    assert lines * LINE_BYTES / 2 < peak < lines * LINE_BYTES + 2**20


def test_joining_takes_no_more_than_is_planned_for_the_pairs_of_a_layer() -> None:
    """Pairs of a layer and of the next: what is remembered of the layer before counts, too."""
    pairs, layers = 200_000, 3
    span = 10 * pairs
    rng = np.random.default_rng(1)
    joined = LayeredJoin()
    with traced():
        for layer in range(layers):
            first = 1 + layer * span
            touching = rng.integers(first, first + span, (pairs, 2), np.uint64)
            touching[:, 1] += np.uint64(span)
            joined.add(touching, first + span)
            del touching
        _, peak = tracemalloc.get_traced_memory()
    assert PAIR_BYTES * pairs / 2 < peak < PAIR_BYTES * pairs
