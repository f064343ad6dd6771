"""Shards have each block once, and pull what the parts of a detection really pull."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.estimates import array, load_of, report
from batch.shards import LONGEST_S, MOST_CHILDREN, SHORTEST_S, blocks_of, count, indices_of, pulled_by, shards_for
from benchmarks.imagined import TERAVOXEL
from nd_synapse.blocks.block_volume import overlapping
from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection import detect
from nd_synapse.detection.budget import needs_of
from nd_synapse.detection.parts import detect_part
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from tests.detection.in_process import InProcessPool
from tests.detection.test_parts import Memory, Watching
from tests.detection.test_passes import noisy, plan

ORIGINS = st.tuples(*[st.integers(0, 20)] * 3)
SHAPES = st.tuples(*[st.integers(1, 24)] * 3)
SIZES = st.tuples(*[st.integers(2, 9)] * 3)
HALOS = st.tuples(*[st.integers(0, 6)] * 3)


def some_shards(blocks: int, data: st.DataObject) -> int:
    return data.draw(st.integers(1, min(blocks, 14)))


@given(origin=ORIGINS, shape=SHAPES, size=SIZES, data=st.data())
def test_for_any_volume_the_shards_have_each_block_once_and_in_the_order_of_the_run(
    origin: tuple[int, int, int], shape: tuple[int, int, int], size: tuple[int, int, int], data: st.DataObject
) -> None:
    box = Box.of_shape(shape, origin)
    every = list(box.tiles(size, aligned=True))
    assert count(box, size) == len(every)
    shards = some_shards(len(every), data)
    shared = [list(blocks_of(box, size, shard, shards)) for shard in range(shards)]
    assert [block for blocks in shared for block in blocks] == every
    lengths = [len(blocks) for blocks in shared]
    assert 1 <= max(lengths) - min(lengths) + 1 <= 2


@given(shape=SHAPES, size=SIZES, data=st.data())
def test_for_any_volume_a_shard_is_what_the_same_part_of_a_detection_takes(
    shape: tuple[int, int, int], size: tuple[int, int, int], data: st.DataObject
) -> None:
    """Two rooms have the rule, for a container needs no planner; this holds them together."""
    box = Box.of_shape(shape)
    shards = some_shards(count(box, size), data)
    every = list(box.tiles(size, aligned=True))
    for shard in range(shards):
        assert list(blocks_of(box, size, shard, shards)) == Part("detection", shard, shards).of(every)


@settings(max_examples=60, deadline=None)
@given(origin=ORIGINS, shape=SHAPES, size=SIZES, halo=HALOS, data=st.data())
def test_for_any_volume_what_shards_pull_is_what_listing_their_tiles_gives(
    origin: tuple[int, int, int],
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    halo: tuple[int, int, int],
    data: st.DataObject,
) -> None:
    box = Box.of_shape(shape, origin)
    shards = some_shards(count(box, size), data)
    pulled = pulled_by(box, size, shards, halo)
    for shard in range(shards):
        blocks = list(blocks_of(box, size, shard, shards))
        low, high = (
            [end(getattr(block, name)[axis] for block in blocks) for axis in range(3)]
            for end, name in ((min, "start"), (max, "stop"))
        )
        region = Box(*zip(low, high, strict=True)).grown(halo, box)
        tiles = {tile for block in blocks for tile in overlapping(block.grown(halo, box), box, size)}
        cut = [tile.intersection(region) for tile in tiles]
        assert pulled.voxels[shard] == sum(tile.voxels for tile in cut if tile)
        assert pulled.tiles[shard] == len(tiles)


class Counting(Memory):
    """A shared block store that counts its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: Counter[str] = Counter()

    def names(self, kind: str) -> set[str]:
        self.requested["names"] += 1
        return super().names(kind)

    def get(self, kind: str, name: str, most_bytes: int) -> bytes:
        self.requested["get"] += 1
        return super().get(kind, name, most_bytes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "size", "shards"),
    [
        ((6, 12, 18), (2, 5, 6), 3),
        ((5, 12, 40), (2, 12, 5), 6),
        ((3, 30, 9), (3, 3, 9), 5),
    ],
    ids=["more than a plane each", "parts of rows", "whole rows"],
)
def test_the_estimate_is_what_real_parts_pull_and_leave(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], size: tuple[int, int, int], shards: int
) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source, shared_store = Watching(**noisy(shape, np.uint8, 3).data), Counting()
    source.requested = []
    channels = len(source.channels)
    for phase in ("statistics", "detection"):
        shared_store.left.clear()
        shared_store.requested.clear()
        moved_bytes = requests = 0
        for shard in range(shards):
            source.requested.clear()
            with tempfile.TemporaryDirectory() as folder:
                whole = plan(source, Path(folder), size)
                detect_part(whole, Part(phase, shard, shards), shared_store, 2)
            pulled = pulled_by(whole.box, size, shards, whole.halo)
            assert sum(box.voxels for box in source.requested) == pulled.voxels[shard] * channels
            moved_bytes += sum(box.voxels for box in source.requested)
            requests += len(source.requested)
        estimate = array(phase, load_of(whole, push=False), needs_of(whole, 2, 8), shards, shards, 2, 8)
        assert (estimate.pulled_bytes, estimate.boss_requests) == (moved_bytes, requests)
        # a page each, of so few names
        assert (estimate.s3_puts, estimate.s3_gets) == (
            len(shared_store.left) + shared_store.requested["names"],
            shared_store.requested["get"],
        )
    source.requested.clear()
    shared_store.left.clear()
    shared_store.requested.clear()
    with tempfile.TemporaryDirectory() as folder:
        whole = plan(source, Path(folder), size)
        detect(whole, 2, shared_store=shared_store)
    last = report(load_of(whole, push=False), needs_of(whole, 2, 8), 2, 8)
    compared = 9 * size[0] * size[1] * size[2] * channels
    assert sum(box.voxels for box in source.requested) <= last.pulled_bytes + compared
    assert last.s3_gets == shared_store.requested["get"]
    assert last.s3_puts >= len(shared_store.left) + shared_store.requested["names"]


class TestRefusals:
    """What cannot be shared out is refused in words."""

    @pytest.mark.parametrize("shards", [0, -1, 11])
    def test_more_shards_than_blocks_or_none_are_refused(self, shards: int) -> None:
        with pytest.raises(UsageError, match="from 1 to 10"):
            indices_of(10, 0, shards)
        with pytest.raises(UsageError, match="a block of its own"):
            pulled_by(Box.of_shape((1, 1, 10)), (1, 1, 1), shards, (0, 0, 0))

    @pytest.mark.parametrize("shard", [-1, 3])
    def test_a_shard_that_is_none_is_refused(self, shard: int) -> None:
        with pytest.raises(UsageError, match="Shards are 0 to 2"):
            list(blocks_of(Box.of_shape((1, 1, 10)), (1, 1, 1), shard, 3))

    @pytest.mark.parametrize("size", [(0, 1, 1), (1, 1), (1, -5, 1)])
    def test_a_block_size_that_is_none_is_refused(self, size: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match="three extents"):
            count(Box.of_shape((4, 4, 4)), size)


class TestNumberOfShards:
    """Children run for minutes."""

    @given(blocks=st.tuples(st.integers(1, 4), st.integers(1, 60), st.integers(1, 60)), block_s=st.floats(0.01, 1e4))
    def test_for_any_blocks_children_take_minutes_as_far_as_that_can_be(
        self, blocks: tuple[int, int, int], block_s: float
    ) -> None:
        number = blocks[0] * blocks[1] * blocks[2]

        def child_s(shards: int) -> float:
            return block_s * number / shards

        shards = shards_for(Box.of_shape(blocks), (1, 1, 1), child_s)
        assert 1 <= shards <= min(number, MOST_CHILDREN)
        assert child_s(shards) <= LONGEST_S or shards == min(number, MOST_CHILDREN)
        assert child_s(shards) > SHORTEST_S / 2 or shards == 1

    def test_whole_rows_are_preferred_where_they_pull_less(self) -> None:
        box, size, halo = Box.of_shape((4, 40, 400)), (2, 4, 4), (1, 1, 1)

        def child_s(shards: int) -> float:
            return float(pulled_by(box, size, shards, halo).voxels.sum()) / shards / 4

        shards = shards_for(box, size, child_s)
        rows = 2 * 10
        assert shards % rows == 0 or rows % shards == 0

    def test_an_array_never_has_more_children_than_batch_takes(self) -> None:
        assert shards_for(Box.of_shape((10, 1000, 1000)), (1, 10, 10), lambda shards: 1e12 / shards) == MOST_CHILDREN


def test_a_teravoxel_in_ten_thousand_shards_is_counted_at_once() -> None:
    """No block is listed."""
    started = time.monotonic()
    pulled = pulled_by(TERAVOXEL, (32, 512, 512), MOST_CHILDREN, (3, 4, 4))
    assert time.monotonic() - started < 2
    assert pulled.voxels.sum() > TERAVOXEL.voxels
    assert pulled.voxels.min() > 0
