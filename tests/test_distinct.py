"""The distinct values of arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from nd_synapse.blocks.distinct import distinct


@given(arrays_of.arrays(st.sampled_from([np.uint16, np.int64]), arrays_of.array_shapes(max_dims=2, min_side=0)))
def test_for_any_values_they_are_those_of_numpy(values: np.ndarray) -> None:
    np.testing.assert_array_equal(distinct(values), np.unique(values))
    if values.size and values.ndim == 2:
        np.testing.assert_array_equal(distinct(values, axis=0), np.unique(values, axis=0))
