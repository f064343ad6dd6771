"""For any value of a user: an array that holds the same, or a refusal."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nd_synapse.errors import DataError
from nd_synapse.user_code import array_of, mask_of, returns_once

_NUMBERS = st.integers(-(2**64), 2**64) | st.floats() | st.booleans() | st.complex_numbers()
_VALUES = _NUMBERS | st.text(max_size=3) | st.binary(max_size=3) | st.none() | st.just(np.ma.masked)
_LISTS = st.recursive(_VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def same(one: Any, other: Any) -> bool:
    """Return whether two nested lists have the same values; nothing is equal to NaN but NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


@given(_LISTS)
def test_a_list_becomes_an_array_of_the_same_values_or_is_refused(value: Any) -> None:
    try:
        array = array_of("a value", value)
    except DataError:
        return
    assert type(array) is np.ndarray
    assert same(array.tolist(), value)


@given(arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(max_dims=3, max_side=4)))
def test_an_array_is_taken_as_it_is_or_refused(value: Any) -> None:
    array = array_of("a value", value)
    assert array.dtype == value.dtype
    assert np.shares_memory(array, value) or not value.size


@given(arrays.arrays(np.uint8, (2, 3)), arrays.arrays(np.bool_, (2, 3)))
def test_what_is_masked_belongs_to_no_mask(values: Any, masked: Any) -> None:
    assert np.array_equal(mask_of("a mask", np.ma.masked_array(values, masked)), (values != 0) & ~masked)
    assert mask_of("a mask", values.view(np.bool_)).view(np.uint8).max() <= 1


@pytest.mark.slow
def test_a_child_that_lives_on_is_a_helper() -> None:
    """It holds all that its parent had open."""
    with returns_once("a function"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_code_of_the_user_runs_in_a_process_with_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with returns_once("a function"):
            pass
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
