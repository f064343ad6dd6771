"""Arrays have children of minutes, and estimates are near what the parts of a detection really pull."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.estimates import load_of
from batch.phases import LAST, children_of
from batch.planning import Wishes, phase_of
from batch.shards import CHILD_S, MOST_CHILDREN, pulled_by, shards_for
from nd_synapse.blocks.block_volume import overlapping
from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection.budget import needs_of
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.parts import detect_part
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from tests.detection.arrays import noisy, plan
from tests.detection.in_process import InProcessPool
from tests.detection.parts import Memory, Watching

SIZE, HALO = (32, 512, 512), (3, 4, 4)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.sampled_from([32, 64, 96]), st.integers(3_000, 12_000), st.integers(3_000, 12_000)),
    shards=st.integers(1, 60),
)
def test_for_any_volume_the_estimate_is_near_what_listing_tiles_gives(shape: tuple[int, int, int], shards: int) -> None:
    box = Box.of_shape(shape)
    every = list(box.tiles(SIZE, aligned=True))
    shards = min(shards, len(every))
    voxels = count = 0
    for shard in range(shards):
        blocks = Part("detection", shard, shards).of(every)
        low, high = (
            [end(getattr(block, name)[axis] for block in blocks) for axis in range(3)]
            for end, name in ((min, "start"), (max, "stop"))
        )
        region = Box(*zip(low, high, strict=True)).grown(HALO, box)
        tiles = {tile for block in blocks for tile in overlapping(block.grown(HALO, box), box, SIZE)}
        voxels += sum(cut.voxels for tile in tiles if (cut := tile.intersection(region)))
        count += len(tiles)
    near, near_tiles = pulled_by(box, SIZE, shards, HALO)
    assert near >= box.voxels
    assert 0.8 * voxels <= near <= 1.35 * voxels
    assert 0.75 * count <= near_tiles <= 1.1 * count


class Counting(Memory):
    """A shared block store that counts its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: Counter[str] = Counter()

    def names(self, kind: str) -> set[str]:
        self.requested["names"] += 1
        return super().names(kind)

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        self.requested["get"] += 1
        return super().get(kind, name, most_bytes)


@pytest.mark.slow
def test_the_estimate_is_near_what_real_parts_pull_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, size, shards = (6, 12, 18), (2, 5, 6), 3
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source, shared_store = Watching(**noisy(shape, np.uint8, 3).data), Counting()
    source.requested = []
    channels = len(source.channels)
    for phase in ("statistics", "detection", "contacts", "join", "objects"):
        shared_store.left.clear()
        shared_store.requested.clear()
        moved_bytes = requests = 0
        for shard in range(children_of(phase, shards)):
            source.requested.clear()
            with tempfile.TemporaryDirectory() as folder:
                whole = plan(source, Path(folder), size)
                detect_part(whole, Part(phase, shard, shards), shared_store, 2)
            moved_bytes += sum(box.voxels for box in source.requested)
            requests += len(source.requested)
        load = load_of(whole, push=False)
        estimate = phase_of(phase, load, needs_of(whole, 2, 8), Wishes(), shards)
        # a page each, of so few names
        puts, gets = len(shared_store.left) + shared_store.requested["names"], shared_store.requested["get"]
        if phase == "objects":
            # in a volume so small hardly any block has a synapse
            assert requests < estimate.boss_requests
            assert moved_bytes < estimate.pulled_bytes
            assert (puts, gets) < (estimate.s3_puts, estimate.s3_gets)
            continue
        assert (estimate.pulled_bytes, estimate.boss_requests) == pytest.approx((moved_bytes, requests), rel=0.4)
        assert estimate.s3_puts == puts
        assert estimate.s3_gets == gets if phase != "contacts" else gets <= estimate.s3_gets < 1.5 * gets
    source.requested.clear()
    shared_store.left.clear()
    shared_store.requested.clear()
    with tempfile.TemporaryDirectory() as folder:
        whole = plan(source, Path(folder), size)
        detect(whole, 2, shared_store=shared_store)
    last = phase_of(LAST, load, needs_of(whole, 2, 8), Wishes(), shards)
    compared = 9 * size[0] * size[1] * size[2] * channels
    assert sum(box.voxels for box in source.requested) <= last.pulled_bytes + compared
    assert 0.8 * last.s3_gets <= shared_store.requested["get"] <= last.s3_gets
    assert not shared_store.left


def test_more_shards_than_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="a block of its own"):
        pulled_by(Box.of_shape((1, 1, 10)), (1, 1, 1), 11, (0, 0, 0))


@given(blocks=st.tuples(*[st.integers(1, 60)] * 3), block_s=st.floats(0.01, 1e4))
def test_for_any_blocks_there_are_few_children_that_take_minutes(blocks: tuple[int, int, int], block_s: float) -> None:
    number = blocks[0] * blocks[1] * blocks[2]
    shards = shards_for(Box.of_shape(blocks), (1, 1, 1), lambda shards: block_s * number / shards)
    assert 1 <= shards <= min(number, MOST_CHILDREN)
    assert block_s * number / shards <= CHILD_S or shards == min(number, MOST_CHILDREN)
    assert shards == 1 or block_s * number / (shards / 2 - 1 or 0.5) > CHILD_S


def test_children_have_even_parts_of_rows_where_there_are_such() -> None:
    shards = shards_for(Box.of_shape((2, 245, 245)), (1, 1, 1), lambda shards: 1_700_000 / shards)
    assert shards == 980
