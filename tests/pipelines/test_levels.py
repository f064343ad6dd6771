"""Levels and their rarities: exact sums, exact shares, whatever the depth and wherever the tissue ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.levels import histograms, learn, least_level, levels, rarities, unit
from pipelines.windows import Windows

WINDOWS = Windows.of((70.0, 100.0, 100.0))
WIDE = Windows.of((40.0, 30.0, 50.0))


def boxed(voxels: NDArray[Any], half: tuple[int, ...]) -> NDArray[np.int64]:
    """Sum boxes, with a triangle of weights along z, of voxels that are mirrored at the border; of their shape."""
    sums = voxels.astype(np.int64)
    for axis, n in enumerate(half):
        weights = np.ones(2 * n + 1, np.int64) if axis else n + 1 - np.abs(np.arange(-n, n + 1))
        sums = ndimage.correlate1d(sums, weights, axis=axis, mode="reflect")
    return sums


def with_halo(voxels: NDArray[Any], windows: Windows) -> NDArray[Any]:
    return np.pad(voxels, [(n, n) for n in windows.halo], mode="symmetric")


@pytest.mark.parametrize("windows", [WINDOWS, WIDE], ids=["punctum-of-3", "wide"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_are_the_exact_sums_in_steps_that_fit_16_bits(windows: Windows, dtype: type[np.unsignedinteger]) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, np.iinfo(dtype).max, (9, 21, 17), dtype, endpoint=True)
    sums = boxed(voxels, windows.centre)
    found = levels(sums.astype(np.uint64), voxels.dtype, windows)
    assert np.array_equal(found, sums // unit(voxels.dtype, windows))
    counted = histograms({"a": with_halo(voxels, windows)}, windows, 0)["a"]
    assert np.array_equal(counted, np.bincount(found[:, ::4].ravel()))
    if (windows, dtype) == (WINDOWS, np.uint8):
        assert unit(voxels.dtype, windows) == 1


def test_a_punctum_that_reaches_out_of_the_tissue_has_the_mean_of_what_is_there() -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 256, (5, 20, 20), np.uint8)
    tissue = np.ones(voxels.shape, np.bool_)
    tissue[:, :7] = tissue[2, :, 15:] = False
    counted = histograms({"a": with_halo(voxels, WINDOWS)}, WINDOWS, 0, with_halo(tissue, WINDOWS))["a"]
    sums, there = boxed(np.where(tissue, voxels, 0), WINDOWS.centre), boxed(tissue, WINDOWS.centre)
    expected = (sums * 36 // np.maximum(there, 1))[:, ::4][tissue[:, ::4]]
    assert np.array_equal(counted, np.bincount(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_counts_of_blocks_add_up_to_those_of_the_whole(dtype: type[np.unsignedinteger]) -> None:
    voxels = np.random.default_rng(0).integers(0, 3000, (6, 50, 30)).astype(dtype)
    padded = with_halo(voxels, WINDOWS)
    whole = histograms({"a": padded}, WINDOWS, 0)["a"]
    total = np.zeros_like(whole)
    for start, stop in ((0, 3), (3, 17), (17, 50)):
        part = histograms({"a": padded[:, start : stop + 2 * WINDOWS.halo[1]]}, WINDOWS, start)["a"]
        total[: len(part)] += part
    assert np.array_equal(total, whole)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=300))
def test_for_any_counts_a_rarity_is_the_share_above_and_half_of_the_equal(counts: list[int]) -> None:
    """Exact at levels that are kept, and in between not further from it than to the next one."""
    learned = learn(np.array(counts, np.int64))
    if learned is None:
        assert np.count_nonzero(counts) < 2
        return
    table, total = rarities(learned), sum(counts)
    exact = {k: (sum(counts[k + 1 :]) + n / 2) / total for k, n in enumerate(counts) if n}
    assert all(table[level] == pytest.approx(exact[level]) for level in learned["levels"])
    kept = [exact[level] for level in learned["levels"]]
    for level, rarity in exact.items():
        around = [max(r for r in kept if r <= rarity), min(r for r in kept if r >= rarity)]
        assert around[0] <= table[level] * (1 + 1e-12)
        assert table[level] <= around[1] * (1 + 1e-12)
    assert np.all(np.diff(table) <= 0)
    assert table[-1] > 0
    for rarity in (0.001, 0.1, 0.5):
        least = least_level(table, rarity)
        assert least == len(table) - 1 or table[least] <= rarity
        assert least == 0 or table[least - 1] > rarity


def test_few_levels_are_kept_of_many() -> None:
    learned = learn(np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(65536) / 3000)))
    assert learned is not None
    assert len(learned["levels"]) == len(learned["twice_above"]) < 600
