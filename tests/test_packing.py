"""Arrays packed and unpacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import Bits
from nd_synapse.blocks.packing import pack, sealed, unpack, unpacked_bytes, unsealed

ARRAYS = arrays_of.arrays(
    st.one_of(
        arrays_of.boolean_dtypes(),
        arrays_of.integer_dtypes(),
        arrays_of.unsigned_integer_dtypes(),
        arrays_of.floating_dtypes(),
        arrays_of.datetime64_dtypes(),
        arrays_of.unicode_string_dtypes(),
    ),
    arrays_of.array_shapes(min_dims=0, min_side=0, max_side=5),
)


@given(st.data(), arrays_of.arrays(np.bool_, arrays_of.array_shapes(min_dims=3, max_dims=3, max_side=19)))
def test_for_any_mask_any_part_of_it_comes_back_from_its_bits(data: st.DataObject, inside: NDArray[np.bool_]) -> None:
    mask = inside * np.uint8(255)
    bits = Bits.of(mask)
    assert bits.nbytes == mask.shape[0] * mask.shape[1] * -(-mask.shape[2] // 8)
    part: Any = data.draw(st.tuples(*(st.slices(n).map(lambda s: slice(s.start, s.stop)) for n in mask.shape)))
    found = Bits(bits, mask.shape)
    assert (found.shape, found.dtype) == (mask.shape, mask.dtype)
    np.testing.assert_array_equal(found[part], mask[part])


@given(st.dictionaries(st.text(), ARRAYS, max_size=5))
def test_for_any_arrays_names_types_shapes_and_values_come_back(arrays: dict[str, NDArray[Any]]) -> None:
    packed = pack(arrays)
    found = unpack(packed)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable
    assert (unpacked_bytes(packed) or 0) >= sum(array.nbytes for array in arrays.values())


def test_views_that_are_not_contiguous_are_packed_as_they_read() -> None:
    whole = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    views = {"turned": whole.T, "part": whole[1:3, ::2, 4:1:-1], "fortran": np.asfortranarray(whole)}
    found = unpack(pack(views))
    for name, view in views.items():
        np.testing.assert_array_equal(found[name], view)


@pytest.mark.parametrize("damage", ["cut short", "nothing", "of another kind"])
def test_damaged_bytes_are_a_value_error(damage: str) -> None:
    packed = pack({"numbers": np.arange(1000)})
    damaged = {"cut short": packed[:100], "nothing": b"", "of another kind": pack({})[:8] + packed[8:]}[damage]
    with pytest.raises(ValueError, match=": "):
        unpack(damaged)
    with pytest.raises(ValueError, match="check sum"):
        unsealed(sealed(packed, "kind/key"), "kind/other")
