"""A detection in any blocks, by any number of workers, is the detection in one block."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.overview import Overview
from nd_synapse.errors import DataError, UnavailableError
from nd_synapse.geometry import Box, Range
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import Arrays, Loaded, noisy, plan, same
from tests.detection.in_process import InProcessPool
from tests.pipelines.variants import EVERY, built, volume


@pytest.mark.parametrize("variant", EVERY)
def test_block_size_and_workers_do_not_show(tmp_path: Path, variant: str) -> None:
    """Blocks that do not divide the box, blocks of one voxel's thickness, one worker, two and three, real processes."""
    source = Arrays(**volume(built(variant), (7, 30, 41), np.uint16, "spots", 3))
    first: Detection | None = None
    for number, (size, cpus) in enumerate([((7, 30, 41), 1), ((3, 8, 9), 3), ((1, 30, 7), 2)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = detect(plan(source, folder, size, variant=variant), cpus)
        assert found.blocks > 1 or number == 0
        first = first or found
        same(first, found)
    assert first is not None
    assert first.candidates > 0


@pytest.mark.parametrize("variant", EVERY)
@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 20), st.integers(2, 20)),
    size=st.tuples(st.integers(1, 7), st.integers(3, 21), st.integers(3, 21)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    kind=st.sampled_from(["spots", "spots", "spots", "half-saturated", "one-bright", "constant"]),
    workers=st.integers(1, 5),
    order=st.integers(0, 1000),
    data=st.data(),
)
def test_for_any_box_blocks_and_order_the_detection_is_that_of_the_box_alone(
    variant: str,
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    dtype: type[np.unsignedinteger[Any]],
    kind: str,
    workers: int,
    order: int,
    data: st.DataObject,
) -> None:
    """The requested box has borders of its own: what lies beyond them does not matter."""
    source = Arrays(**volume(built(variant), shape, dtype, kind, order))
    ranges = []
    for length in shape:
        start = data.draw(st.integers(0, length - 1))
        ranges.append((start, data.draw(st.integers(start + 1, length))))
    box = Box(*ranges)
    alone = Arrays(box.start, **{name: voxels[box.slices()] for name, voxels in source.data.items()})

    def found(whose: Arrays, blocks: tuple[int, int, int]) -> Detection | str:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
            patch.setattr(InProcessPool, "seed", order)
            try:
                detection = detect(plan(whose, Path(folder), blocks, box, variant), workers)
            except DataError as error:
                return str(error)
            # masks and labels are read from the folder
            arrays = {name: Loaded(mask) for name, mask in detection.masks.items()}
            return replace(detection, masks=arrays, labels=Loaded(detection.labels))  # type: ignore[arg-type] # arrays in the place of files

    expected, blockwise = found(alone, box.shape), found(source, size)
    if isinstance(expected, str) or isinstance(blockwise, str):
        assert expected == blockwise
    else:
        same(expected, blockwise)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_for_any_box_and_halo_the_volume_is_mirrored_at_its_borders(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    halo = data.draw(st.tuples(*[st.integers(0, 9)] * 3))
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    box = Box(*((s, data.draw(st.integers(s + 1, n))) for s, n in zip(starts, shape, strict=True)))
    volume = np.arange(int(np.prod(shape))).reshape(shape)
    padded = np.pad(volume, [(h, h) for h in halo], mode="symmetric")
    window = tuple(slice(a, b + 2 * h) for (a, b), h in zip(box.ranges, halo, strict=True))
    assert np.array_equal(mirrored(volume, box, halo), padded[window])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)), st.integers(1, 13), st.integers(0, 9))
def test_for_any_blocks_the_overview_is_the_maximum_projection(
    shape: tuple[int, int, int], size: int, seed: int
) -> None:
    volume = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    box = Box.of_shape(shape, (3, 5, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nd_synapse.detection.overview.LONGEST_SIDE", 10)
        whole = None
        for tile in box.tiles((2, size, size)):
            whole = Overview.of_block(volume[tile.slices(box.start)], tile, box).merged_into(whole)
    side = -(-max(shape[1:]) // 10)
    height, width = (-(-n // side) for n in shape[1:])
    padded = np.zeros((height * side, width * side), np.uint8)
    padded[: shape[1], : shape[2]] = volume.max(axis=0)
    assert whole is not None
    assert np.array_equal(whole, padded.reshape(height, side, width, side).max(axis=(1, 3)))


class Away(Arrays):
    """A source that cannot be reached for one block."""

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        if z_range[0] == 4:
            raise UnavailableError("a block", "BOSS is away", "Try again")
        return super().get_cutout(channel, z_range, y_range, x_range)


def test_data_that_cannot_be_had_end_the_detection(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (8, 20, 20), dtype=np.uint8)
    with pytest.raises(UnavailableError, match="BOSS is away"):
        detect(plan(Away(pre=voxels, post=voxels), tmp_path, (4, 20, 20)), 2)


def test_a_box_without_synapses_gives_empty_masks_and_an_empty_table(tmp_path: Path) -> None:
    voxels = noisy((4, 20, 20), np.uint8, 0)
    large = replace(plan(voxels, tmp_path, (4, 10, 20)), pipeline=NomadsUnsupervised(min_voxels=100000, strictness=0.5))
    found = detect(large, 1)
    assert found.candidates > 0
    assert len(found.table["id"]) == 0
    assert not np.asarray(found.masks["All"]).any()
