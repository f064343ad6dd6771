"""Local contrast equals its definition, for any voxel size and depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError
from nd_synapse.pipeline import registry
from pipelines.local_contrast import Windows, contrast
from pipelines.slabs import Scratch, slabs
from tests.pipelines.variants import same, volume

SIZES = [(70.0, 100.0, 100.0), (50.0, 50.0, 50.0), (70.0, 64.0, 64.0), (30.0, 150.0, 100.0), (200.0, 200.0, 200.0)]


def defined(voxels: NDArray[Any], windows: Windows) -> NDArray[np.object_]:
    """Return the contrast of every voxel that has its whole window, by Python's integers."""
    (hz, cy, cx), (sy, sx) = windows.centre, windows.surround
    wide = voxels.astype(object)

    def summed(ny: int, nx: int) -> NDArray[np.object_]:
        z, y, x = (n - 2 * h for n, h in zip(voxels.shape, windows.halo, strict=True))
        total = np.zeros((z, y, x), object)
        for dz in range(-hz, hz + 1):
            for dy in range(-ny, ny + 1):
                for dx in range(-nx, nx + 1):
                    total += wide[hz + dz :, sy + dy :, sx + dx :][:z, :y, :x]
        return total

    centre, whole = (2 * cy + 1) * (2 * cx + 1), (2 * sy + 1) * (2 * sx + 1)
    return summed(cy, cx) * whole - summed(sy, sx) * centre


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("voxel_size_nm", [*SIZES, (8.0, 8.0, 8.0)], ids=str)
@pytest.mark.parametrize("kind", ["random", "bright-half"])
def test_contrast_is_the_nearest_float32_of_the_exact_value(
    voxel_size_nm: tuple[float, float, float], dtype: type[np.unsignedinteger[Any]], kind: str
) -> None:
    """Windows of small voxels hold sums beyond 32 bits."""
    windows = Windows.of(voxel_size_nm)
    shape = tuple(n + 2 * h for n, h in zip((2, 3, 4), windows.halo, strict=True))
    top = np.iinfo(dtype).max
    voxels = np.random.default_rng(0).integers(0, top + 1, shape).astype(dtype)
    if kind == "bright-half":
        voxels[:, :, : shape[2] // 2], voxels[:, :, shape[2] // 2 :] = top, 0
    found = contrast(voxels, windows, Scratch())[:, :, :4]
    assert np.array_equal(found, defined(voxels, windows).astype(np.float64).astype(np.float32))


@given(st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 9000)))
def test_for_any_block_the_slabs_tile_it(shape: tuple[int, int, int]) -> None:
    covered = np.zeros(shape[:2], np.int64)
    for z, y in slabs(shape):
        covered[z, y] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("voxel_size_nm", SIZES[1:], ids=str)
@pytest.mark.parametrize("name", ["nomads-unsupervised", "nomads-classifier"])
def test_for_other_voxel_sizes_too_the_result_is_that_of_one_block(
    name: str, voxel_size_nm: tuple[float, float, float]
) -> None:
    pipeline = registry.build(name, {})
    channels = volume(pipeline, (7, 30, 40), np.uint16, "spots", 4)
    whole, parts = (
        detect_arrays(pipeline, channels, voxel_size_nm, block_size=size) for size in ((7, 30, 40), (3, 11, 17))
    )
    same(whole, parts)


def test_voxel_sizes_in_micrometres_are_refused() -> None:
    with pytest.raises(DataError, match="Give sizes in nanometres"):
        Windows.of((0.07, 0.1, 0.1))


@pytest.mark.parametrize("name", ["nomads-unsupervised", "nomads-classifier", "probabilistic"])
def test_arrays_of_the_other_byte_order_are_the_same_numbers(name: str) -> None:
    pipeline = registry.build(name, {})
    channels = volume(pipeline, (4, 30, 30), np.uint16, "spots", 4)
    other = {channel: voxels.astype(">u2") for channel, voxels in channels.items()}
    one, two = (detect_arrays(pipeline, voxels, SIZES[0]) for voxels in (channels, other))
    assert np.array_equal(one.masks["All"], two.masks["All"])
