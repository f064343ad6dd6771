"""Slices and axes come in the order of their names, and names that form none are refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.errors import UsageError
from nd_synapse.files.stacks import natural_order, open_channels, open_stack
from tests.local_boss.stack_writers import GREY


def test_numbers_in_names_order_the_slices():
    names = ["a_10.tif", "a_9.tif", "a_08.tif"]
    assert [path.name for path in natural_order([Path(name) for name in names])] == ["a_08.tif", "a_9.tif", "a_10.tif"]


def test_slices_may_count_in_steps_and_sessions():
    assert natural_order([Path("s20.tif"), Path("s0.tif"), Path("s10.tif")])[0].name == "s0.tif"
    two_numbers = [Path(f"ribbon{r}_{z}.tif") for r, z in itertools.product((2, 1), (0, 1))]
    assert natural_order(two_numbers)[0].name == "ribbon1_0.tif"


@given(
    first=st.integers(-20, 20),
    step=st.integers(1, 30),
    count=st.integers(2, 12),
    digits=st.integers(0, 2),
    prefix=st.sampled_from(["z", "img_z", "s", "PSD95-", "stack.", "sec_", "ribbon1_"]),
    suffix=st.sampled_from([".tif", ".TIF", "_c0.tif", ".ome.tiff"]),
    seed=st.randoms(use_true_random=False),
)
def test_for_any_positions_in_names_the_slices_are_in_their_order_or_refused(
    first, step, count, digits, prefix, suffix, seed
):
    positions = [first + step * number for number in range(count)]
    names = [Path(f"{prefix}{position / 10**digits:.{digits}f}{suffix}") for position in positions]
    shuffled = seed.sample(names, count)
    try:
        ordered = natural_order(shuffled)
    except UsageError:
        # -3, -2, -1 may be 3, 2, 1 behind a hyphen; two decimals may be two numbers; between two, others may be missing
        assert (count == 2 and step > 1) or any(sign in name.stem for name in names for sign in "-.")
        ordered = natural_order(shuffled, f"{prefix}{{z}}{suffix}")
    hyphens = all("-" in name.stem.removeprefix("PSD95-") for name in names)
    assert ordered == names or (hyphens and ordered == names[::-1])


@pytest.mark.parametrize("order", list(itertools.permutations("zyx")), ids="".join)
@pytest.mark.parametrize("form", ["names", "ome"])
def test_for_any_order_of_named_axes_the_stack_is_z_y_x(tmp_path, order, form):
    voxels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    turned = voxels.transpose(["zyx".index(axis) for axis in order])
    sizes = {"z": 70, "y": 101, "x": 102}
    if form == "names":
        attributes: dict[str, Any] = {"voxel_size": [sizes[axis] for axis in order], "units": ["nm"] * 3}
        zarr.create_array(tmp_path / "a.zarr", data=turned, dimension_names=order, attributes=attributes)
    else:
        group = zarr.create_group(tmp_path / "a.zarr")
        group.create_array("0", data=turned)
        scale = [{"type": "scale", "scale": [sizes[axis] / 1000 for axis in order]}]
        axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in order]
        scales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    stack = open_stack([tmp_path / "a.zarr"])
    assert np.array_equal(stack.read(0, 2), voxels)
    assert np.array_equal(stack.read(1, 2), voxels[1:])
    assert stack.voxel_size_nm == pytest.approx((70, 101, 102))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["PSD95_1.tif", "GABA_2.tif"], "differ in more than the slice number"),
        (["s1.tif", "s01.tif"], "the same slice number"),
        (["s1.tif", "s2.tif", "s4.tif"], "slices are missing"),
        (["s1.tif", "s1.tif"], "the same slice number"),
    ],
    ids=["two channels", "a number twice", "a gap", "a file twice"],
)
def test_names_that_form_no_sequence_are_refused(names, words):
    with pytest.raises(UsageError, match=words):
        natural_order([Path(name) for name in names])


def test_a_folder_of_slices_that_no_number_orders_is_to_be_renamed(tmp_path):
    """Commands that take folders have no --pattern."""
    for name in ("PSD95_1.tif", "PSD95_5.tif"):
        tifffile.imwrite(tmp_path / name, np.ones((4, 5), np.uint8), **GREY)
    with pytest.raises(UsageError, match=r"4 apart.*Rename the files"):
        open_channels(tmp_path)["PSD95"]()
