"""Objects measured in blocks and joined equal objects measured at once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.detection import objects
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)

shapes = st.tuples(*[st.integers(1, 12)] * 3)


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Box, tuple[int, int, int]]:
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]))
    volume = Box.of_shape(shape, draw(st.tuples(*[st.integers(0, 9)] * 3)))
    return mask, volume, draw(st.tuples(*[st.integers(1, 7)] * 3))


def in_blocks(
    mask: NDArray[np.bool_], volume: Box, size: tuple[int, int, int], image: NDArray[np.uint16], aligned: bool = False
) -> tuple[objects.Parts, NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int64]]:
    labels = np.zeros(mask.shape, objects.id_dtype(volume))
    parts = []
    tiles = list(volume.tiles(size, aligned))
    for box in tiles:
        here = box.slices(volume.start)
        labelled = objects.label(mask[here], box, volume)
        labels[here] = labelled.ids_of(labelled.numbers)
        parts.append(objects.measure(labelled, box, [("intensity:image", image[here]), ("max:image", image[here])]))
    pairs = []
    for axis in range(3):
        cuts = {box.stop[axis] - volume.start[axis] for box in tiles} - {mask.shape[axis]}
        pairs += [objects.neighbours_across(labels.take(cut - 1, axis), labels.take(cut, axis)) for cut in cuts]
    found, joint = objects.join(parts[::-1], pairs)
    return found, labels, joint.part_ids, joint.object_rows


@settings(max_examples=300, deadline=None)
@given(masks(), st.booleans())
def test_for_any_mask_and_blocks_the_objects_are_those_of_the_whole(
    case: tuple[NDArray[np.bool_], Box, tuple[int, int, int]], aligned: bool
) -> None:
    mask, volume, size = case
    image = np.random.default_rng(1).integers(0, 65536, mask.shape, dtype=np.uint16)
    whole, *_ = in_blocks(mask, volume, volume.shape, image)
    blocks, labels, part_ids, rows = in_blocks(mask, volume, size, image, aligned)
    for name, values in whole.items():
        assert blocks[name].tobytes() == values.tobytes(), name
        assert blocks[name].dtype == values.dtype
    # what every voxel belongs to is what scipy says, in the order of first voxels
    reference, count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert count == len(whole["id"])
    numbers = np.zeros(mask.shape, np.int64)
    numbers[mask] = rows[np.searchsorted(part_ids, labels[mask])] + 1
    assert np.array_equal(numbers, reference)


@settings(max_examples=60, deadline=None)
@given(masks())
def test_for_any_mask_the_measures_are_those_of_each_object_by_itself(
    case: tuple[NDArray[np.bool_], Box, tuple[int, int, int]],
) -> None:
    mask, volume, size = case
    image = np.random.default_rng(2).integers(0, 65536, mask.shape, dtype=np.uint16)
    found, *_ = in_blocks(mask, volume, size, image)
    table = dict(objects.table(found, volume, VOXEL_SIZE_NM))
    reference, count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert table["id"].tolist() == list(range(1, count + 1))
    for number in range(1, count + 1):
        row = number - 1
        places = np.argwhere(reference == number)
        assert table["voxels"][row] == len(places)
        assert table["volume_um3"][row] == pytest.approx(len(places) * 0.0007)
        assert table["slices"][row] == np.ptp(places[:, 0]) + 1
        assert table["max_image"][row] == image[tuple(places.T)].max()
        assert table["mean_image"][row] == pytest.approx(image[tuple(places.T)].mean())
        for axis, name in enumerate("zyx"):
            absolute = places[:, axis] + volume.start[axis]
            assert table[f"centroid_{name}_voxel"][row] == pytest.approx(absolute.mean())
            assert table[f"centroid_{name}_um"][row] == pytest.approx(absolute.mean() * VOXEL_SIZE_NM[axis] / 1000)
            assert (table[f"start_{name}"][row], table[f"stop_{name}"][row]) == (absolute.min(), absolute.max() + 1)
        border = np.any(places == 0) or np.any(places == np.array(mask.shape) - 1)
        assert table["touches_border"][row] == border


CORNERS = {
    "face": ((3, 3, 3), (4, 3, 3)),
    "edge": ((3, 3, 3), (4, 4, 3)),
    "corner": ((3, 3, 3), (4, 4, 4)),
    "back-corner": ((3, 4, 4), (4, 3, 3)),
    "side-corner": ((3, 4, 3), (4, 3, 4)),
}


@pytest.mark.parametrize("places", CORNERS.values(), ids=CORNERS)
def test_two_voxels_that_touch_across_eight_blocks_are_one_object(places: tuple[tuple[int, int, int], ...]) -> None:
    mask = np.zeros((8, 8, 8), np.bool_)
    for place in places:
        mask[place] = True
    found, *_ = in_blocks(mask, Box.of_shape(mask.shape), (4, 4, 4), np.zeros(mask.shape, np.uint16))
    assert found["voxels"].tolist() == [2]


def test_a_thread_through_many_blocks_is_one_object() -> None:
    """A diagonal snake that leaves and enters blocks again and again."""
    mask = np.zeros((30, 30, 30), np.bool_)
    for step in range(30):
        mask[step, step, 29 - step] = mask[step, 29 - step, step] = True
    found, *_ = in_blocks(mask, Box.of_shape(mask.shape), (3, 4, 5), np.zeros(mask.shape, np.uint16))
    _, count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert len(found["id"]) == count
    assert found["voxels"].sum() == np.count_nonzero(mask)


def test_what_touches_nothing_is_joined_without_scipy() -> None:
    """Its import takes longer than a small box."""
    program = """
import sys
import numpy as np
from nd_synapse.detection.objects import Joint
assert Joint(np.array([5, 2, 9]), [np.empty((0, 2), int)]).object_rows.tolist() == [0, 1, 2]
assert "scipy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=60)


def test_ids_fit_a_volume_beyond_thirty_two_bits() -> None:
    volume = Box((0, 5000), (0, 2000), (0, 2000))
    assert objects.id_dtype(volume) == np.uint64
    corner = Box((4999, 5000), (1999, 2000), (1999, 2000))
    labelled = objects.label(np.ones((1, 1, 1), np.bool_), corner, volume)
    assert labelled.ids.tolist() == [volume.voxels]


def test_strided_voxels_are_labelled_as_contiguous_ones() -> None:
    """cc3d 4.1.1 misses objects in some strided views; a block of a volume is one."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        volume = rng.random(rng.integers(1, 9, 3)) < 0.3
        start = [int(rng.integers(0, n)) for n in volume.shape]
        view = volume[tuple(slice(s, None) for s in start)]
        labelled = objects.label(view, Box.of_shape(view.shape), Box.of_shape(view.shape))
        reference, count = ndimage.label(view, np.ones((3, 3, 3)))
        assert len(labelled.ids) == count
        assert np.array_equal(labelled.numbers, reference)
