"""What the blocks returned is assembled as though there were no blocks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nd_multicore
from nd_synapse.errors import DataError
from nd_synapse.multicore.results import _common_dtype
from nd_synapse.multicore.run import _declared, _working_bytes
from NeuroDataResource import get_boss_resource
from tests.multicore.ramps import ramp


def smooth(data_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sum over three slices, with a halo of one slice; and one row a block."""
    ramp_ = data_dict["ramp"].astype(np.int64)
    summed = ramp_[:-2] + ramp_[1:-1] + ramp_[2:]
    return {"summed": summed, "whole": ramp_, "lowest": np.array([ramp_[1:-1].min()])}


smooth.halo = (1, 0, 0)  # type: ignore[attr-defined] # a function declares by attributes


@pytest.mark.slow
@pytest.mark.parametrize("size", [(30, 20, 5), (7, 8, 1), (10, 20, 2)])
def test_arrays_are_assembled_and_rows_concatenated(config: Path, size: tuple[int, int, int]) -> None:
    """With a declared halo the blocks do not show; beyond the box the volume is mirrored."""
    results = nd_multicore.run_parallel(config, smooth, 2, block_size=size, pulls=3)
    inside = ramp()[1:5, :, 3:30].astype(np.int64)
    padded = np.pad(inside, ((1, 1), (0, 0), (0, 0)), mode="symmetric")
    assert np.array_equal(np.asarray(results.volumes["summed"]), padded[:-2] + padded[1:-1] + padded[2:])
    assert np.array_equal(np.asarray(results.volumes["whole"]), inside)
    blocks = nd_multicore.compute_blocks(get_boss_resource(config), size)
    assert results.rows["lowest"].tolist() == [int(ramp()[block.box.start]) for block in blocks]
    assert not results.failed


def smooth_more(data_dict: dict[str, NDArray[Any]], times: int) -> dict[str, NDArray[Any]]:
    return {"summed": times * smooth(data_dict)["summed"]}


smooth_more.halo = (1, 0, 0)  # type: ignore[attr-defined] # a function declares by attributes
smooth_more.working_bytes = 40  # type: ignore[attr-defined] # a function declares by attributes


@pytest.mark.slow
def test_a_partial_function_declares_what_its_function_does(config: Path) -> None:
    twice = partial(partial(smooth_more), times=2)
    assert _working_bytes(twice) == 40
    plain = nd_multicore.run_parallel(config, smooth, 1, (30, 20, 2)).volumes["summed"]
    assert np.array_equal(
        np.asarray(nd_multicore.run_parallel(config, twice, 1, (30, 20, 2)).volumes["summed"]), 2 * np.asarray(plain)
    )
    twice.halo = (0, 2, 0)  # type: ignore[attr-defined] # a function declares by attributes
    assert _declared(twice, "halo", None) == (0, 2, 0)


def fail_at_the_second(data_dict: dict[str, NDArray[Any]]) -> NDArray[Any]:
    block = data_dict["ramp"]
    if block.min() == int(ramp()[3, 0, 3]):
        raise ValueError("the second block")
    return block


@pytest.mark.slow
def test_a_block_that_fails_is_in_the_results_with_its_traceback(config: Path) -> None:
    results = nd_multicore.run_parallel(config, fail_at_the_second, 1, block_size=(30, 20, 3))
    assert results == ["1_0_3"]
    assert results.failed.keys() == {"3_0_3"}
    assert "ValueError: the second block" in results.failed["3_0_3"].traceback
    assembled = np.asarray(results.volumes["result"])
    assert np.array_equal(assembled[:2], ramp()[1:3, :, 3:30])
    assert not assembled[2:].any()


def objects_come(data_dict: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return np.full(data_dict["ramp"].shape, None)


@pytest.mark.slow
def test_an_array_of_objects_is_a_failure_of_its_block(config: Path) -> None:
    results = nd_multicore.run_parallel(config, objects_come, 1, (30, 20, 5))
    assert "holds objects" in results.failed["1_0_3"].reason


def types_by_block(data_dict: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return small numbers in a small type where there are no others; and no rows from the second block."""
    block = data_dict["ramp"]
    first = block.min() < int(ramp()[3, 0, 0])
    return {
        "voxels": np.full(block.shape, 200, np.uint8) if first else block,
        "rows": np.array([2**60 + 1]) if first else [],
    }


@pytest.mark.slow
def test_blocks_of_several_types_are_assembled_in_one_that_holds_them_all(config: Path) -> None:
    """The type of the first block used to cut the numbers of the others short."""
    results = nd_multicore.run_parallel(config, types_by_block, 1, (30, 20, 3))
    voxels = results.volumes["voxels"]
    assert voxels.dtype == np.uint16
    assert np.array_equal(voxels[2:4, 0:20, 0:27], ramp()[3:5, :, 3:30])
    assert (voxels[0:2, 0:20, 0:27] == 200).all()
    assert results.rows["rows"].tolist() == [2**60 + 1]
    assert results.rows["rows"].dtype == np.int64


@pytest.mark.parametrize(
    "types", [("int64", "uint64"), ("int64", "float32"), ("U3", "int8"), ("datetime64[s]", "float64")]
)
def test_types_that_none_can_hold_are_refused(types: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"'size' of all blocks: blocks returned .*, and no type holds them all"):
        _common_dtype("size", set(map(np.dtype, types)))
