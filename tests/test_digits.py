"""The digits of the table."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.geometry import nearest_voxel
from nd_synapse.job.digits import rounded, voxel_of

_FLOATS = st.floats(-1e21, 1e21).filter(lambda value: value == 0 or abs(value) > 1e-15)


@given(st.lists(_FLOATS, min_size=1))
def test_a_measure_has_six_significant_digits_and_is_as_near_as_they_allow(values):
    for value, found in zip(values, rounded("mean_PSD95", np.array(values)).tolist(), strict=True):
        digits = f"{found!r:}".split("e")[0].replace(".", "").replace("-", "").strip("0")
        assert len(digits) <= 6
        assert abs(found - value) <= 0.5000001 * 10 ** (np.floor(np.log10(abs(value))) - 5) if value else found == 0


@given(st.integers(1, 4000), st.integers(0, 2**31))
def test_a_centroid_has_four_decimals_and_still_gives_its_voxel(voxels, total):
    (found,) = rounded("centroid_z_voxel", np.array([total / voxels])).tolist()
    assert len(repr(found).partition(".")[2]) <= 4
    assert voxel_of(found, voxels) == nearest_voxel(total, voxels)


def test_whole_numbers_text_and_what_is_missing_stay():
    for values in (np.arange(3), np.array(["excitatory"]), np.array([True]), np.array([np.nan, np.inf, 0.0, -0.0])):
        assert np.array_equal(rounded("x", values), values, equal_nan=values.dtype.kind == "f")
    assert str(rounded("centroid_z_um", np.array([-1e-9])).tolist()) == "[0.0]"


def test_a_column_keeps_its_type():
    score = rounded("score", np.array([1.2345678, np.nan], np.float32))
    assert (score.dtype.name, [str(value) for value in score]) == ("float32", ["1.23457", "nan"])
