"""The voxel store by itself, against a plain array."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.errors import DataError, RangeError, StorageError
from nd_synapse.geometry import Box, Range
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.models import Channel
from nd_synapse.local_boss.voxels import VoxelStore

EXTENT = (35, 520, 515)
SAMPLES = 2
numbers = count(1)
ranges = [
    st.tuples(st.integers(0, n - 1), st.integers(1, n)).map(lambda p, n=n: (p[0], min(p[0] + p[1], n)))  # type: ignore[misc] # a default binds n
    for n in EXTENT
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VoxelStore]:
    boss = Boss(tmp_path_factory.mktemp("voxels"))
    yield boss.voxels
    boss.close()


def channel(datatype: str = "uint8") -> Channel:
    return Channel(next(numbers), "c", "e", "ch", "", False, "u", "image", datatype, 0, 0, EXTENT, SAMPLES, (), ())


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(*ranges, st.sampled_from([(0, 1), (1, 2), (0, 2), (1, 4)]), st.integers(0, 99), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_for_any_writes_and_erasures_the_store_equals_an_array(store: VoxelStore, steps: list) -> None:
    """For any boxes and time samples, later than those of the experiment included, non-zero voxels win."""
    ch = channel()
    model = np.zeros((6, *EXTENT), np.uint8)
    for z, y, x, times, seed, erase in steps:
        box = Box(z, y, x)
        target = model[(slice(*times), *box.slices())]
        if erase:
            store.erase(ch, 0, box, times)
            target[...] = 0
        else:
            data = np.random.default_rng(seed).integers(0, 2, target.shape, np.uint8) * (seed + 1)
            data.flags.writeable = False
            store.write(ch, 0, box, times, data)
            np.copyto(target, data, where=data != 0)
    np.testing.assert_array_equal(store.read(ch, 0, Box.of_shape(EXTENT), (0, 6)), model)
    box = Box(*steps[0][:3])
    np.testing.assert_array_equal(store.read(ch, 0, box, (0, 2)), model[(slice(0, 2), *box.slices())])
    kept = sum(int(np.count_nonzero(data)) for _, _, data in store.chunks(ch, 0))
    assert kept == np.count_nonzero(model)


def test_only_the_chunks_that_a_box_touches_are_read(store: VoxelStore, tmp_path: Path) -> None:
    """Every other chunk is damaged, and the read does not notice."""
    boss = Boss(tmp_path)
    ch = channel()
    boss.voxels.write(ch, 0, Box.of_shape(EXTENT), (0, 1), np.ones((1, *EXTENT), np.uint8))
    chunks = tmp_path / "voxels" / str(ch.id) / "0" / "c" / "0"
    for chunk in chunks.glob("*/*/*"):
        if chunk.relative_to(chunks).parts != ("1", "0", "1"):
            chunk.write_bytes(b"damaged")
    inside = Box((16, 32), (0, 512), (512, 515))
    assert boss.voxels.read(ch, 0, inside, (0, 1)).all()
    with pytest.raises(StorageError):
        boss.voxels.read(ch, 0, Box((15, 32), (0, 512), (512, 515)), (0, 1))


def test_resolutions_are_apart(store: VoxelStore) -> None:
    ch, box = channel(), Box.of_shape((1, 1, 1))
    store.write(ch, 1, box, (0, 1), np.full((1, 1, 1, 1), 5, np.uint8))
    assert store.read(ch, 0, box, (0, 1)).sum() == 0
    assert store.read(ch, 1, box, (0, 1)).sum() == 5


def test_reading_beyond_the_array_gives_zeros(store: VoxelStore) -> None:
    ch = channel("uint64")
    store.write(ch, 0, Box((34, 35), (519, 520), (514, 515)), (0, 1), np.full((1, 1, 1, 1), 2**64 - 1, np.uint64))
    found = store.read(ch, 0, Box((34, 36), (519, 522), (514, 517)), (0, 3))
    assert found.shape == (3, 2, 3, 3)
    assert found.dtype == np.uint64
    assert np.argwhere(found).tolist() == [[0, 0, 0, 0]]


def test_a_write_that_does_not_fit_is_refused(store: VoxelStore) -> None:
    ch, box = channel(), Box.of_shape((1, 2, 3))
    wrong: list[NDArray[Any]] = [
        np.ones((1, 1, 2, 2), np.uint8),
        np.ones((1, 2, 3), np.uint8),
        np.ones((1, 1, 2, 3), np.uint16),
    ]
    for data in wrong:
        with pytest.raises(DataError):
            store.write(ch, 0, box, (0, 1), data)
    with pytest.raises(RangeError, match="frame"):
        store.write(ch, 0, Box((35, 36), (0, 1), (0, 1)), (0, 1), np.ones((1, 1, 1, 1), np.uint8))
    assert not list(store.chunks(ch, 0))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    boss = Boss(tmp_path)
    (tmp_path / "voxels").write_text("in the way")
    with pytest.raises(StorageError, match="write z 0:1"):
        boss.voxels.write(channel(), 0, Box.of_shape((1, 1, 1)), (0, 1), np.ones((1, 1, 1, 1), np.uint8))


@pytest.mark.slow
def test_for_any_box_and_time_samples_the_walk_is_over_what_is_stored_in_them(store: VoxelStore) -> None:
    """The same as reading the box, without the parts where nothing was stored."""
    ch = channel()
    for z, y, x, time in [(0, 0, 0, 0), (17, 511, 1, 0), (34, 519, 514, 1), (16, 3, 512, 0)]:
        box = Box((z, z + 1), (y, y + 1), (x, x + 1))
        store.write(ch, 0, box, (time, time + 1), np.full((1, 1, 1, 1), 1 + z, np.uint8))
    whole = store.read(ch, 0, Box.of_shape(EXTENT), (0, SAMPLES))

    @settings(max_examples=50, deadline=None)
    @given(*ranges, st.sampled_from([(0, 1), (1, 2), (0, 2), (0, 10**12), (1, 1)]))
    def compare(z: Range, y: Range, x: Range, times: Range) -> None:
        box = Box(z, y, x)
        found = np.zeros_like(whole)
        for time, part, voxels in store.chunks(ch, 0, box, times):
            assert box.contains(part)
            assert times[0] <= time < times[1]
            found[(time, *part.slices())] = voxels
        expected = np.zeros_like(whole)
        inside = (slice(*times), *box.slices())
        expected[inside] = whole[inside]
        np.testing.assert_array_equal(found, expected)

    compare()


def test_cutting_a_box_takes_no_memory_for_the_cuts() -> None:
    """A frame of BOSS may have 2^31 voxels along each axis."""
    tracemalloc.start()
    try:
        assert next(Box.of_shape((1, 1, 10**6)).tiles((1, 1, 1), aligned=True)) == Box((0, 1), (0, 1), (0, 1))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20
