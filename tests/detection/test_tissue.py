"""Tissue is counted by section and tile, the same from any blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.detection.tissue import Tissue, lost_to_padding
from nd_synapse.geometry import Box


@given(
    box=st.builds(Box.of_shape, st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(0, 30)] * 3)),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 99),
)
def test_for_any_box_and_blocks_tiles_count_what_is_tissue(box: Box, size: tuple[int, int, int], seed: int) -> None:
    """And what is in the bricks: voxels whose neighbours on the low side, or on the high side, all are tissue."""
    padding = np.random.default_rng(seed).random(box.shape) < 0.3
    around = np.pad(padding, 1, constant_values=True)
    inner = slice(1, -1)
    low = around[:-2, inner, inner] | around[inner, :-2, inner] | around[inner, inner, :-2]
    high = around[2:, inner, inner] | around[inner, 2:, inner] | around[inner, inner, 2:]
    blocks = list(box.tiles(size, aligned=True))
    tissue = Tissue.of_blocks(box, blocks)
    for block in blocks:
        here = block.slices(box.start)
        tissue.without(block, box, lost_to_padding(padding[here], [low[here], high[here]], block, box))
    expected = [~padding, ~padding & ~low, ~padding & ~high]
    for found, marked in zip(tissue.counts, expected, strict=True):
        ys, xs = (
            [a - start for a in edges.tolist()]
            for edges, start in zip((tissue.y_edges, tissue.x_edges), box.start[1:], strict=True)
        )
        assert (ys[-1], xs[-1]) == box.shape[1:]
        assert len(ys) - 1 == min(8, box.shape[1])
        for (section, row, column), count in np.ndenumerate(found):
            assert count == np.count_nonzero(marked[section, ys[row] : ys[row + 1], xs[column] : xs[column + 1]])
    assert tissue.total == np.count_nonzero(~padding)


def test_a_block_that_failed_has_no_tissue() -> None:
    box = Box.of_shape((2, 10, 12))
    tissue = Tissue.of_blocks(box, list(box.tiles((2, 5, 12)))[:1])
    assert tissue.fraction == 0.5
    assert tissue.um3((50, 100, 100)) == pytest.approx(0.06)
