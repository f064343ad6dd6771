"""The check of registration finds the shifts that were planted, and says so where it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.detection.registration import (
    BEYOND,
    MOST_RUNS,
    RUN_SECTIONS,
    UNSURE,
    WITHIN,
    Registration,
    measure_registration,
)
from nd_synapse.geometry import Box
from nd_synapse.local_boss.synthetic import generate

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
SHAPE = (4, 704, 720)
CHANNELS = ("Synapsin", "PSD95")

Images = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def sample() -> dict[str, NDArray[np.uint8]]:
    drawn = generate(SHAPE, VOXEL_SIZE_NM, seed=3).channels
    return {name: drawn[name] for name in CHANNELS}


def measured(images: Images, origin: tuple[int, int, int] = (0, 0, 0)) -> Registration:
    box = Box.of_shape(next(iter(images.values())).shape, origin)
    return measure_registration(images, list(images), box, VOXEL_SIZE_NM)


def outcomes(registration: Registration) -> set[str]:
    return {pair.outcome for pair in registration.pairs}


def planted(voxels: NDArray[Any], shifts: list[tuple[int, int]], padding: int) -> NDArray[Any]:
    """Return sections of which each is moved by (y, x) pixels; what comes in is padding."""
    moved = np.full_like(voxels, padding)
    y, x = voxels.shape[1:]
    for to, section, (dy, dx) in zip(moved, voxels, shifts, strict=True):
        to[max(0, dy) : y + min(0, dy), max(0, dx) : x + min(0, dx)] = section[
            max(0, -dy) : y + min(0, -dy), max(0, -dx) : x + min(0, -dx)
        ]
    return moved


SHIFTS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=SHAPE[0], max_size=SHAPE[0])


@settings(max_examples=12, deadline=None)
@given(synapsin=SHIFTS, psd95=SHIFTS, padding=st.sampled_from([0, 128, 255]))
def test_any_planted_shift_of_sections_and_channels_is_found_to_the_pixel(
    sample: Images, synapsin: list[tuple[int, int]], psd95: list[tuple[int, int]], padding: int
) -> None:
    """Puncta of the two channels are 100 to 200 nm apart in any direction: across channels, a pixel more or less."""
    shifts = {"Synapsin": synapsin, "PSD95": psd95}
    found = measured({name: planted(sample[name], shifts[name], padding) for name in CHANNELS})
    assert len(found.pairs) == 3 + 3 + 4
    for pair in found.pairs:
        (one, other), (z, w) = pair.channels, pair.sections
        expected = np.subtract(shifts[other][w], shifts[one][z])
        assert pair.shift_px is not None, pair
        assert np.abs(np.subtract(pair.shift_px, expected)).max() <= (0 if pair.is_neighbours else 1), (pair, expected)
        if pair.is_neighbours:
            assert pair.shift_nm == round(100 * float(np.hypot(*expected)))
            assert pair.outcome == (BEYOND if pair.shift_nm > 300 else WITHIN)


def test_the_synthetic_sample_is_registered(sample: Images) -> None:
    found = measured(sample, origin=(10, 300, 40))
    assert outcomes(found) == {WITHIN}
    assert {pair.shift_px for pair in found.pairs} == {(0, 0)}
    assert [pair.sections for pair in found.pairs][:4] == [(10, 10), (10, 11), (10, 11), (11, 11)]


def test_the_real_volume_is_not_registered(shared_data: Path) -> None:
    found = measured(
        {name: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for name in ("SYNAPSIN", "PSD95")}
    )
    for pair in found.pairs:
        print(pair)
    psd95, synapsin, across = (
        found.relations()[key] for key in (("PSD95", "PSD95"), ("SYNAPSIN", "SYNAPSIN"), ("SYNAPSIN", "PSD95"))
    )
    assert all(pair.outcome == BEYOND for pair in psd95)
    assert psd95[0].shift_px == (14, 19)
    assert all((pair.correlation or 0) > 0.3 > 0.2 > (pair.unshifted or 0) for pair in psd95)
    assert all(max(map(abs, pair.shift_px or (99,))) <= 6 for pair in synapsin)
    assert sum(pair.outcome == BEYOND for pair in synapsin) >= 3
    assert sum(pair.outcome == BEYOND for pair in across) >= 6
    assert max(max(map(abs, pair.shift_px or (0,))) for pair in across) >= 10


def test_sections_that_have_nothing_in_common_cannot_be_told(sample: Images) -> None:
    """Each is moved by more than what is looked for."""
    far = {
        name: np.stack([np.roll(section, (150 * i, 170 * i), (0, 1)) for i, section in enumerate(voxels)])
        for name, voxels in sample.items()
    }
    found = [pair for pair in measured(far).pairs if pair.is_neighbours]
    assert {pair.outcome for pair in found} == {UNSURE}
    assert all(pair.fields == 4 and pair.shift_px is None for pair in found)


@pytest.mark.slow
def test_sections_that_have_nothing_in_common_raise_no_alert_in_any_channel(shared_data: Path) -> None:
    volumes = dict(generate((24, 768, 768), VOXEL_SIZE_NM).channels)
    for name in ("SYNAPSIN", "PSD95", "GLUR1", "LY"):
        volumes[f"real {name}"] = tifffile.imread(shared_data / "at_example" / f"{name}.tif")
    pairs = alerts = 0
    for name, voxels in volumes.items():
        for turn in range(5):
            far = voxels.copy()
            for z in range(1, len(far), 2):
                far[z] = np.roll(voxels[z], (100 + z % 3 * 150 + turn * 11, 120 + z % 4 * 110 + turn * 37), (0, 1))
            found = measured({name: far}).pairs
            pairs, alerts = pairs + len(found), alerts + sum(pair.outcome != UNSURE for pair in found)
    print(f"{pairs} pairs of unrelated sections, {alerts} of which got a shift")
    assert alerts <= pairs / 500


def test_noise_cannot_be_told() -> None:
    noise = np.random.default_rng(0).poisson(20, (6, 400, 400)).astype(np.uint16)
    assert outcomes(measured({"one": noise[:3], "two": noise[3:]})) == {UNSURE}


def test_a_missing_section_cannot_be_told_and_the_others_can(sample: Images) -> None:
    missing = sample["PSD95"].copy()
    missing[1] = 7
    found = measured({"PSD95": missing}).pairs
    assert [pair.outcome for pair in found] == [UNSURE, UNSURE, WITHIN]
    assert [pair.fields for pair in found] == [0, 0, 4]


def test_a_periodic_section_cannot_be_told() -> None:
    """It fits as well one period farther on."""
    y, x = np.ogrid[:512, :512]
    waves = np.rint(100 + 40 * np.sin(y * (2 * np.pi / 8)) + 40 * np.sin(x * (2 * np.pi / 8))).astype(np.uint8)
    rng = np.random.default_rng(0)
    noisy = np.stack([waves + rng.integers(0, 9, waves.shape, np.uint8) for _ in range(3)])
    assert outcomes(measured({"waves": noisy})) == {UNSURE}


def test_neither_a_black_frame_nor_uneven_light_hides_a_shift(sample: Images) -> None:
    """Both are at the same place in every section."""
    shifts = [(0, 0), (9, -5), (0, 0), (-12, 3)]
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    light = 1.5 - (((y - 352) / 352) ** 2 + ((x - 360) / 360) ** 2) / 2
    moved = np.rint((planted(sample["PSD95"], shifts, 22) + 30.0) * light).clip(1, 255).astype(np.uint8)
    moved[:, :60] = moved[:, -60:] = 0
    moved[:, :, :60] = moved[:, :, -60:] = 0
    found = measured({"PSD95": moved}).pairs
    assert [pair.shift_px for pair in found] == [(9, -5), (-9, 5), (-12, 3)]


@pytest.mark.parametrize("size", [(1, 100, 77), (3, 512, 64), (4, 704, 720)])
def test_blocks_do_not_show(sample: Images, size: tuple[int, int, int]) -> None:
    box = Box.of_shape(SHAPE, (5, 30, 70))

    def stored(voxels: NDArray[Any]) -> BlockVolume:
        return BlockVolume(lambda block: voxels[block.slices(box.start)], box, size, voxels.dtype)

    images = {name: stored(voxels) for name, voxels in sample.items()}
    assert measure_registration(images, CHANNELS, box, VOXEL_SIZE_NM) == measured(sample, box.start)


def test_a_shift_in_fine_pixels_is_found_to_the_width_of_three_to_a_punctum(sample: Images) -> None:
    fine = sample["PSD95"][:2, :, :].repeat(3, 1).repeat(3, 2)
    box = Box.of_shape(fine.shape)
    moved = planted(fine, [(0, 0), (27, -15)], 22)
    (pair,) = measure_registration({"PSD95": moved}, ["PSD95"], box, (70.0, 33.3, 33.3)).pairs
    assert (pair.outcome, pair.shift_px) == (BEYOND, (27, -15))


def test_of_a_deep_box_runs_are_measured_spread_over_its_depth() -> None:
    shape = (1000, 64, 64)
    deep = np.broadcast_to(np.random.default_rng(0).integers(0, 99, (1, 64, 64), np.uint8), shape)
    found = measured({"deep": deep}, origin=(7, 0, 0))
    starts = [pair.sections[0] for pair in found.pairs]
    assert RUN_SECTIONS * (MOST_RUNS - 1) < found.sections <= RUN_SECTIONS * MOST_RUNS
    assert found.of_sections == 1000
    assert starts[0] == 7
    assert starts[-1] == 1005
    assert len(found.pairs) == found.sections - MOST_RUNS


@pytest.mark.parametrize("shape", [(3, 63, 900), (1, 300, 300)])
def test_a_small_box_and_a_single_section_of_one_channel_have_no_pairs(shape: tuple[int, int, int]) -> None:
    assert measured({"one": np.ones(shape, np.uint8)}).pairs == ()
