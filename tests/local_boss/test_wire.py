"""Blosc on the wire: what is sound comes through, and no bytes whatever do harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nd_synapse.local_boss.codec import pack, unpack
from nd_synapse.local_boss.responses import BossError

SOUND = pack(np.arange(3000, dtype=np.uint16))


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint64]), array_shapes(min_dims=3, max_dims=4, min_side=0, max_side=9)
    )
)
def test_for_any_array_packing_and_unpacking_changes_nothing(voxels: np.ndarray) -> None:
    body = pack(np.asfortranarray(voxels))
    np.testing.assert_array_equal(unpack(body, voxels.shape, voxels.dtype.name), voxels)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_for_any_damage_a_buffer_is_refused_or_read(damage: list[tuple[int, int]]) -> None:
    """A damaged header or block must neither crash the server nor give an array of another size."""
    body = bytearray(SOUND)
    for place, value in damage:
        body[place] = value
    found: tuple[int, ...]
    try:
        found = unpack(bytes(body), (3000,), "uint16").shape
    except BossError as error:
        found = error.status, error.code
    assert found in {(3000,), (400, 2001), (400, 2002)}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64))
def test_for_any_bytes_that_are_no_buffer_there_is_a_refusal(body: bytes) -> None:
    with pytest.raises(BossError):
        unpack(body, (3000,), "uint16")
