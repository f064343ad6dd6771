"""Numbers at their ends: no NaN where none is meant, no overflow, for volumes of any extremity."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pipelines
from boss.voxels import REQUEST_VOXELS, request_size
from box import Box
from detection.in_memory import detect_arrays
from detection.outcome import Brightness
from errors import DataError, NDSynapseError
from nd_boss import check_mask
from tests.fuzz.judge import check_words
from tests.pipelines.variants import VARIANTS, VOXEL_SIZE_NM, built, channel_names

SHAPES = {
    "one voxel": (1, 1, 1),
    "one slice": (1, 9, 8),
    "one row": (1, 1, 30),
    "one column": (12, 1, 1),
    "cube": (5, 9, 8),
}
EMPTY_CELLS = ("contrast_", "window_mean_", "elongation")
"""Columns that may have no value, as docs/results.md says."""


def _noise(shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _one_bright(shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    voxels = np.zeros(shape, dtype)
    voxels.flat[voxels.size // 2] = np.iinfo(dtype).max
    return voxels


FILLINGS = {
    "all zero": np.zeros,
    "all at the top": lambda shape, dtype: np.full(shape, np.iinfo(dtype).max, dtype),
    "one voxel at the top": _one_bright,
    "both ends": lambda shape, dtype: (np.indices(shape).sum(axis=0) % 2 * np.iinfo(dtype).max).astype(dtype),
    "noise": _noise,
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_pipeline_takes_any_volume_or_says_why_not(variant: str, dtype: type[np.unsignedinteger[Any]]) -> None:
    """All values of table and scores are finite, but where a cell has no value; masks are 0 and 255."""
    pipeline = built(variant)
    for shape, filling in itertools.product(SHAPES.values(), FILLINGS.values()):
        volume = np.asarray(filling(shape, dtype))
        volume.flags.writeable = False
        channels = {name: np.roll(volume, shift, axis=-1) for shift, name in enumerate(channel_names(pipeline))}
        try:
            with np.errstate(all="raise", under="ignore"):
                found = detect_arrays(pipeline, channels, VOXEL_SIZE_NM, scores=True)
        except DataError as error:
            check_words(error)
            continue
        for name, mask in found.masks.items():
            assert set(np.unique(mask)) <= {0, 255}, name
        for name, values in {**found.table, **found.scores}.items():
            if values.dtype.kind == "f" and not name.startswith(EMPTY_CELLS):
                assert np.isfinite(values).all(), name


@pytest.mark.parametrize("sign", [0, 2**16 - 1])
def test_brightness_of_2_to_the_31_voxels_is_exact(sign: int) -> None:
    """A teravoxel at the top of uint16, too: the sums are Python's own integers."""
    for voxels in (2**31, 2**31 + 1, 10**12):
        brightness = Brightness.of_sums(voxels, voxels * sign, voxels * sign * sign)
        assert (brightness.mean, brightness.sd) == (sign, 0.0)


sides = st.integers(1, 2**31 - 1)


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(sides, sides, sides))
def test_for_any_box_up_to_the_largest_of_boss_its_voxels_and_requests_are_right(shape: tuple[int, int, int]) -> None:
    box = Box.of_shape(shape)
    assert box.voxels == shape[0] * shape[1] * shape[2]
    assert isinstance(box.voxels, int)
    size = request_size(shape)
    assert all(n > 0 for n in size)
    assert np.prod([min(n, extent) for n, extent in zip(size, shape, strict=True)], dtype=object) <= REQUEST_VOXELS


class _Huge:
    """A mask that nobody could hold."""

    shape = (2**31, 1, 1)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, index: object) -> NDArray[np.uint8]:
        raise AssertionError("it is checked without being read")


def test_a_mask_of_2_to_the_31_voxels_is_checked_without_being_read() -> None:
    check_mask(_Huge(), Box((0, 2**31), (0, 1), (0, 1)), "All")
    with pytest.raises(DataError, match="its shape is"):
        check_mask(_Huge(), Box((0, 2**31 - 1), (0, 1), (0, 1)), "All")


@settings(max_examples=60, deadline=None)
@given(
    nm=st.tuples(*[st.floats(1e-6, 1e9)] * 3),
    name=st.sampled_from(pipelines.names()),
)
def test_for_any_size_of_a_voxel_the_halo_of_a_pipeline_is_whole_numbers(
    nm: tuple[float, float, float], name: str
) -> None:
    """Or the pipeline says that it cannot be."""
    try:
        halo = pipelines.build(name, {}).halo(nm)
    except NDSynapseError as error:
        check_words(error)
        return
    assert all(isinstance(n, int) and n >= 0 for n in halo)
