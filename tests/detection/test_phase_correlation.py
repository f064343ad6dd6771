"""Patches of sections and their correlation, beside the same by NumPy without care for time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.detection.phase_correlation import Patch, correlation, phase_correlation

SIDE = 64


def patch(seed: int, dtype: type[np.unsignedinteger[Any]], padding: int) -> Patch:
    """Return a patch of noise with columns of padding."""
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (SIDE, SIDE)).astype(dtype)
    pixels[:, :padding] = 7
    found = Patch.of(pixels)
    assert found is not None
    return found


@given(
    st.integers(0, 99),
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.sampled_from([0, 8, 11]), st.sampled_from([0, 16])),
    st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
)
def test_for_any_shift_and_padding_the_correlation_is_that_of_the_tissue_that_both_have(
    seed: int, dtype: type[np.unsignedinteger[Any]], paddings: tuple[int, int], shift: tuple[int, int]
) -> None:
    one, other = (patch(seed + k, dtype, padding) for k, padding in enumerate(paddings))
    here = tuple(slice(max(0, -n), SIDE - max(0, n)) for n in shift)
    there = tuple(slice(max(0, n), SIDE - max(0, -n)) for n in shift)
    shared = one.tissue[here] & other.tissue[there]
    expected = np.corrcoef(one.pixels[here][shared], other.pixels[there][shared])[0, 1]
    assert correlation(one, other, shift) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("padding", [0, 8, 13])
def test_padding_and_the_tiles_around_it_are_no_tissue(padding: int) -> None:
    columns = -(-padding // 8) * 8 - (8 if padding % 8 else 0)
    tissue: NDArray[np.bool_] = patch(1, np.uint8, padding).tissue
    assert not tissue[:, : columns + 8 * (columns > 0)].any()
    assert tissue[:, columns + 8 * (columns > 0) :].all()


def test_what_is_displaced_has_its_peak_there() -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    one, other = Patch.of(pixels), Patch.of(np.roll(pixels, (3, -5), (0, 1)))
    assert one is not None
    assert other is not None
    surface = phase_correlation(one, other, (16, 12))
    assert surface.shape == (33, 25)
    assert surface[16 + 3, 12 - 5] == surface.max()


def test_near_shifts_are_those_of_the_whole_surface() -> None:
    one, other = patch(1, np.uint8, 0), patch(2, np.uint16, 8)
    whole = np.fft.irfft2(one.phases.conj() * other.phases, (SIDE, SIDE))
    near = phase_correlation(one, other, (5, 9))
    np.testing.assert_array_equal(near, whole[np.ix_(range(-5, 6), range(-9, 10))])


def test_frequencies_that_are_absent_count_nothing() -> None:
    stripes = np.zeros((SIDE, SIDE), np.uint8)
    stripes[::2] = 255
    one, other = Patch.of(stripes), patch(1, np.uint8, 0)
    assert one is not None
    assert np.count_nonzero(one.phases == 0) > np.count_nonzero(other.phases == 0)
    assert np.isfinite(phase_correlation(one, other, (16, 16))).all()
