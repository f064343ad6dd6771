"""Tissue is counted by section and tile, the same from any blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.detection.tissue import Tissue, tile_counts
from nd_synapse.geometry import Box


@given(
    box=st.builds(Box.of_shape, st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(0, 30)] * 3)),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 99),
)
def test_for_any_box_and_blocks_tiles_count_what_is_tissue(box: Box, size: tuple[int, int, int], seed: int) -> None:
    padding = np.random.default_rng(seed).random(box.shape) < 0.3
    blocks = list(box.tiles(size, aligned=True))
    tissue = Tissue.of_blocks(box, blocks)
    for block in blocks:
        tissue.voxels[block.slices(box.start)[0]] -= tile_counts(padding[block.slices(box.start)], block, box)
    ys, xs = (
        (edges - start).tolist() for edges, start in zip((tissue.y_edges, tissue.x_edges), box.start[1:], strict=True)
    )
    assert (ys[-1], xs[-1]) == box.shape[1:]
    assert len(ys) - 1 == min(8, box.shape[1])
    for (_, row, column), count in np.ndenumerate(tissue.voxels[:1]):
        tile = padding[0, ys[row] : ys[row + 1], xs[column] : xs[column + 1]]
        assert count == np.count_nonzero(~tile)
    assert tissue.total == np.count_nonzero(~padding)


def test_a_block_that_failed_has_no_tissue() -> None:
    box = Box.of_shape((2, 10, 12))
    tissue = Tissue.of_blocks(box, list(box.tiles((2, 5, 12)))[:1])
    assert tissue.fraction == 0.5
    assert tissue.um3((50, 100, 100)) == pytest.approx(0.06)
