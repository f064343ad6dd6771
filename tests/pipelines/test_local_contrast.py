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
from pipelines import widths
from pipelines.local_contrast import contrast, dark_level, mirror_level, signed_counts
from pipelines.masked_contrast import Partial
from pipelines.slabs import Scratch, slabs
from pipelines.windows import Windows
from tests.pipelines.variants import same, volume

SIZES = [
    (70.0, 100.0, 100.0),
    (50.0, 50.0, 50.0),
    (70.0, 64.0, 64.0),
    (30.0, 150.0, 100.0),
    (200.0, 200.0, 200.0),
    (70.0, 100.0, 230.0),
    (70.0, 230.0, 230.0),
]


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
                    total += (hz + 1 - abs(dz)) * wide[hz + dz :, sy + dy :, sx + dx :][:z, :y, :x]
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


@given(st.integers(0, 99), st.sampled_from(SIZES), st.sampled_from([np.uint8, np.uint16]))
def test_for_any_tissue_the_contrast_is_that_of_what_is_there(
    seed: int, voxel_size_nm: tuple[float, float, float], dtype: type[np.unsignedinteger[Any]]
) -> None:
    """Times the root of the share of the centre's weight that is there: as noisy as a whole window."""
    windows, random = Windows.of(voxel_size_nm), np.random.default_rng(seed)
    (hz, cy, cx), (sy, sx) = windows.centre, windows.surround
    shape = tuple(n + 2 * h for n, h in zip((2, 5, 90), windows.halo, strict=True))
    voxels = random.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    tissue = np.ones(shape, np.bool_)
    for section in tissue:
        section[:, : random.integers(0, 20)] = False
        section[:, 70 + random.integers(0, 40) :] = False
    found = contrast(voxels, windows, Scratch(), Partial.of(tissue, windows))[:, :, :90]
    whole = contrast(voxels, windows, Scratch())[:, :, :90]
    every = (hz + 1) ** 2 * (2 * cy + 1) * (2 * cx + 1)
    weights = (hz + 1 - np.abs(np.arange(-hz, hz + 1)))[:, np.newaxis, np.newaxis]
    unit = every * (2 * sy + 1) * (2 * sx + 1)
    for (z, y, x), value in np.ndenumerate(found):
        around = (slice(z, z + 2 * hz + 1), slice(y, y + 2 * sy + 1), slice(x, x + 2 * sx + 1))
        inner = (slice(None), slice(sy - cy, sy + cy + 1), slice(sx - cx, sx + cx + 1))
        window, there = voxels[around].astype(np.int64), tissue[around] * weights
        if not there[hz, sy, sx]:
            assert value == 0
        elif tissue[around].all():
            assert value == whole[z, y, x]
        else:
            means = [np.average(window[part], weights=there[part]) for part in (inner, slice(None))]
            expected = (means[0] - means[1]) * np.sqrt(there[inner].sum() / every) * unit
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-6 * unit)


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


def test_sums_over_many_small_voxels_at_padding_fit() -> None:
    """Half of the widest windows of voxels of 3 nm: as bright within as around, and then with a dark surround."""
    windows = Windows.of((3.0, 3.0, 3.0), 760.0)
    of_centre, of_whole = (windows.section_weights * n // 2 for n in (windows.centre_pixels, windows.whole_pixels))
    centre, whole = (np.array([[[n]]], np.int64) for n in (of_centre, of_whole))
    partial = Partial([], [], np.zeros(1, np.int64), centre.ravel(), whole.ravel())
    top = np.iinfo(np.uint16).max
    assert partial.contrasts(centre * top, whole * top, windows) == [0]
    seen = partial.contrasts(centre * top, centre * top, windows) / windows.voxels
    assert seen == pytest.approx(top * (1 - of_centre / of_whole) * 0.5**0.5, rel=1e-3)


def test_voxel_sizes_in_micrometres_are_refused() -> None:
    with pytest.raises(DataError, match="Give sizes in nanometres"):
        Windows.of((0.07, 0.1, 0.1))


def test_puncta_that_are_too_wide_to_be_summed_are_refused() -> None:
    with pytest.raises(DataError, match=r"10000 nm in voxels of 10 x 10 x 10 nm.*more voxels than can be summed"):
        Windows.of((10.0, 10.0, 10.0), 10_000.0)
    widest = widths.candidates((3.0, 3.0, 3.0))[-1]
    assert Windows.of((3.0, 3.0, 3.0), widest).voxels * np.iinfo(np.uint16).max <= np.iinfo(np.int64).max


@pytest.mark.parametrize("name", ["nomads-unsupervised", "nomads-classifier", "probabilistic"])
def test_arrays_of_the_other_byte_order_are_the_same_numbers(name: str) -> None:
    pipeline = registry.build(name, {})
    channels = volume(pipeline, (4, 30, 30), np.uint16, "spots", 4)
    other = {channel: voxels.astype(">u2") for channel, voxels in channels.items()}
    one, two = (detect_arrays(pipeline, voxels, SIZES[0]) for voxels in (channels, other))
    assert np.array_equal(one.masks["All"], two.masks["All"])


def test_the_mirror_level_of_dark_spots_is_that_of_the_faintest_contrast() -> None:
    """Bright voxels are more than three times as many at any magnitude."""
    contrasts = np.array([1.0] * 40 + [-8.0] * 5 + [0.0] * 100, np.float32)
    assert mirror_level(signed_counts(contrasts)) == 1.0
    assert mirror_level(signed_counts(np.abs(contrasts))) is None


def test_the_dark_level_is_the_magnitude_that_one_in_a_hundred_negative_contrasts_exceeds() -> None:
    contrasts = np.array([1.0] * 400 + [-2.0] * 198 + [-8.0] * 2 + [0.0] * 100, np.float32)
    assert dark_level(signed_counts(contrasts)) == 2.0
    assert dark_level(signed_counts(np.append(contrasts, np.float32(-8)))) == 8.0
    assert dark_level(signed_counts(np.abs(contrasts))) == 0.0
