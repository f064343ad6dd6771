"""Numbers at their ends: no NaN where none is meant, no overflow, for volumes of any extremity."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_boss import check_mask
from nd_synapse.blocks.grid import mirrored
from nd_synapse.boss.cutouts import REQUEST_VOXELS, request_size
from nd_synapse.detection import features, objects
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.outcome import Brightness
from nd_synapse.detection.shape import PRODUCT_SUMS
from nd_synapse.errors import DataError, NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Place
from pipelines import probability
from tests.fuzz.cases import check_words
from tests.pipelines.variants import EVERY, VARIANTS, VOXEL_SIZE_NM, built, channel_names, volume

SHAPES = {
    "one voxel": (1, 1, 1),
    "one slice": (1, 9, 8),
    "one row": (1, 1, 30),
    "one column": (12, 1, 1),
    "cube": (5, 9, 8),
}
DETECTING = ("function", "probabilistic-low")
"""Variants that find objects even in volumes of these sizes."""
EMPTY_CELLS = ("contrast_", "confidence")
"""Columns that may have no value, as docs/results.md says; infinite is none."""


def _noise(shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _one_bright(shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    voxels = np.zeros(shape, dtype)
    voxels.flat[voxels.size // 2] = np.iinfo(dtype).max
    return voxels


FILLINGS = {
    "all zero": np.zeros,
    "all at the top": lambda shape, dtype: np.full(shape, np.iinfo(dtype).max, dtype),
    "one voxel at the top": _one_bright,
    "both ends": lambda shape, dtype: (np.indices(shape).sum(axis=0) % 2 * np.iinfo(dtype).max).astype(dtype),
    "noise": _noise,
}


def _check_finite(what: str, value: Any) -> None:
    """Refuse NaN and infinity in what a pipeline learned, whatever holds it."""
    if isinstance(value, str | bytes):
        return
    values = np.asarray(value)
    if values.dtype.kind in "fc":
        assert np.isfinite(values).all(), what


def _check_cells(table: Mapping[str, NDArray[Any]]) -> None:
    """Refuse NaN where a cell may not be empty, infinity anywhere, and what is below 0 and cannot be."""
    for name, values in table.items():
        if values.dtype.kind == "f":
            assert not np.isinf(values).any(), name
            assert name.startswith(EMPTY_CELLS) or not np.isnan(values).any(), name
        elif values.dtype.kind == "i":
            assert name.startswith("start_") or (values >= 0).all(), name


def _check_sums(table: Mapping[str, NDArray[Any]], labels: NDArray[Any], channels: Mapping[str, NDArray[Any]]) -> None:
    """Hold the sums of the first objects against sums that cannot overflow."""
    for row in range(min(len(table["id"]), 3)):
        inside = labels == row + 1
        assert table["voxels"][row] == np.count_nonzero(inside)
        for name, voxels in channels.items():
            total = sum(voxels[inside].tolist())
            assert table[f"sum_{name}"][row] == total, name
            assert table[f"mean_{name}"][row] == pytest.approx(total / np.count_nonzero(inside)), name


@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_pipeline_takes_any_volume_or_says_why_not(variant: str, dtype: type[np.unsignedinteger[Any]]) -> None:
    """All values of table, scores and finding are finite, but where a cell has no value; masks are 0 and 255."""
    pipeline = built(variant)
    count = 0
    fillings: Any = FILLINGS.values()
    for shape, filling in itertools.product(SHAPES.values(), fillings):
        voxels = np.asarray(filling(shape, dtype))
        voxels.flags.writeable = False
        channels = {name: np.roll(voxels, shift, axis=-1) for shift, name in enumerate(channel_names(pipeline))}
        try:
            with np.errstate(all="raise", under="ignore"):
                found = detect_arrays(pipeline, channels, VOXEL_SIZE_NM, scores=True)
        except DataError as error:
            check_words(error)
            continue
        for name, mask in found.masks.items():
            assert set(np.unique(mask)) <= {0, 255}, name
        for name, value in {**found.finding, **found.scores}.items():
            _check_finite(name, value)
        _check_cells(found.table)
        _check_sums(found.table, np.asarray(found.labels), channels)
        count += len(found.table["id"])
    if variant in DETECTING:
        assert count, "none of these volumes has an object, so that no feature was measured"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_features_of_an_object_that_is_the_whole_volume_are_exact(
    shape: tuple[int, int, int], dtype: type[np.unsignedinteger[Any]]
) -> None:
    """One voxel, one slice, one row: all at the top of the type, and nothing round it."""
    top = int(np.iinfo(dtype).max)
    channels = {name: np.full(shape, top, dtype) for name in ("one", "two")}
    table = detect_arrays(built("function"), channels, VOXEL_SIZE_NM).table
    voxels = int(np.prod(shape))
    assert table["voxels"].tolist() == [voxels]
    assert table["elongation"][0] >= 1
    for name in channels:
        assert (table[f"sum_{name}"][0], table[f"mean_{name}"][0]) == (top * voxels, top)
        assert table[f"window_mean_{name}"][0] == top
        assert table[f"contrast_{name}"][0] in (0.0, pytest.approx(float("nan"), nan_ok=True))
    _check_cells(table)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "function"])
@pytest.mark.parametrize("kind", ["spots", "noise", "zero", "constant", "saturated", "one-constant"])
def test_a_pipeline_learns_finite_numbers_from_the_counts_of_2_to_the_31_voxels(variant: str, kind: str) -> None:
    """Of the same volume so often that its voxels are more than 2^31, and more than 2^40: the finding is finite."""
    pipeline = built(variant)
    channels = volume(pipeline, (4, 40, 40), np.uint16, kind)
    roles = pipeline.choose(list(channels), {})
    halo = pipeline.halo(VOXEL_SIZE_NM)
    box = Box.of_shape((4, 40, 40))
    arrays = {role: mirrored(channels[channel], box, halo) for role, channel in roles.items()}
    counts = pipeline.summarise(arrays, Place((0, 0, 0), box.shape, box.shape, VOXEL_SIZE_NM))
    for times in (2**19, 2**28):
        summary = {name: np.asarray(values) * times for name, values in counts.items()}
        try:
            with np.errstate(all="raise", under="ignore"):
                finding = pipeline.learn(summary, roles)
        except DataError as error:
            check_words(error)
            continue
        for name, value in finding.items():
            _check_finite(name, value)


def _huge_object(side: tuple[int, int, int], top: int) -> dict[str, NDArray[Any]]:
    """Return the sums of a cuboid that nobody could hold, as `objects.measure` keeps them: modulo 2^64."""
    z, y, x = side
    voxels = z * y * x

    def along(n: int, power: int) -> int:
        """Return the sum of 0, 1, ..., n - 1, or of their squares."""
        return n * (n - 1) // 2 if power == 1 else n * (n - 1) * (2 * n - 1) // 6

    first = {axis: along(n, 1) * (voxels // n) for axis, n in zip("zyx", side, strict=True)}
    values: dict[str, int] = {
        "id": 0,
        "voxels": voxels,
        "intensity:one": voxels * top,
        **dict.fromkeys(objects.RIMS, 0),
    }
    for axis, n in zip("zyx", side, strict=True):
        values |= {f"sum_{axis}": first[axis], f"start_{axis}": 0, f"stop_{axis}": n}
    for name, (a, b) in PRODUCT_SUMS.items():
        if a == b:
            values[name] = along(side[a], 2) * (voxels // side[a])
        else:
            values[name] = along(side[a], 1) * along(side[b], 1) * (voxels // side[a] // side[b])
    return {name: np.array([value % 2**64], np.uint64).view(np.int64) for name, value in values.items()}


@pytest.mark.parametrize("side", [(1, 1, 2**31 - 1), (1, 2**16, 2**15), (2**11, 2**10, 2**10 + 1)])
def test_the_table_of_an_object_of_2_to_the_31_voxels_is_exact(side: tuple[int, int, int]) -> None:
    """At the top of uint16, and along the whole of the longest box of BOSS: no sum overflows, no cell is empty."""
    top, voxels = 2**16 - 1, side[0] * side[1] * side[2]
    box, measured = Box.of_shape(side), _huge_object(side, top)
    plan: Any = SimpleNamespace(box=box, voxel_size_nm=VOXEL_SIZE_NM, reach=(1, 2, 2))
    with np.errstate(all="raise", under="ignore"):
        table = dict(objects.table(measured, box, VOXEL_SIZE_NM))
        sums = {key: np.array([top * (voxels if "around" in key else 1)]) for key in features.sums_of("one")}
        sums |= dict.fromkeys(features.COUNTS, np.array([1]))
        table |= dict(features.columns(plan, measured, np.array([0]), sums))
    assert table["voxels"].tolist() == [voxels]
    assert [table[f"centroid_{axis}_voxel"][0] for axis in "zyx"] == [(n - 1) / 2 for n in side]
    assert (table["mean_one"][0], int(table["sum_one"][0])) == (top, voxels * top)
    assert np.isfinite(table["equivalent_diameter_um"]).all()
    assert np.isfinite(table["volume_um3"]).all()
    if float(voxels) * max(side) ** 2 < 2**63:
        assert table["elongation"][0] == pytest.approx(_elongation(side))
    else:
        # its second moments do not fit 63 bits, as `shape.elongation` says
        assert np.isnan(table["elongation"][0])


def _elongation(side: tuple[int, int, int]) -> float:
    """Return the longest over the middle axis of a cuboid."""
    *_, middle, longest = sorted(n * size for n, size in zip(side, VOXEL_SIZE_NM, strict=True))
    return longest / middle


@pytest.mark.parametrize("top", [2**8 - 1, 2**16 - 1])
@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("std", [0.0, 1e-12, 0.5])
def test_log_probabilities_are_no_nan_whatever_the_deviation_of_a_slice(top: int, mean: float, std: float) -> None:
    """A deviation of 0, of nearly 0, and half of the type: none is above 0, the brightest voxel stands out."""
    with np.errstate(all="raise", under="ignore"):
        logs = probability.log_table(mean * top, std * top, top, 2)
    assert not np.isnan(logs).any()
    assert (logs <= 0).all()
    assert np.isfinite(logs[-1])


@pytest.mark.parametrize("sign", [0, 2**16 - 1])
def test_brightness_of_2_to_the_31_voxels_is_exact(sign: int) -> None:
    """A teravoxel at the top of uint16, too: the sums are Python's own integers."""
    for voxels in (2**31, 2**31 + 1, 10**12):
        brightness = Brightness.of_sums(voxels, voxels * sign, voxels * sign * sign)
        assert (brightness.mean, brightness.sd) == (sign, 0.0)


sides = st.integers(1, 2**31 - 1)


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(sides, sides, sides))
def test_for_any_box_up_to_the_largest_of_boss_its_voxels_and_requests_are_right(shape: tuple[int, int, int]) -> None:
    box = Box.of_shape(shape)
    assert box.voxels == shape[0] * shape[1] * shape[2]
    assert isinstance(box.voxels, int)
    size = request_size(shape)
    assert all(n > 0 for n in size)
    assert np.prod([min(n, extent) for n, extent in zip(size, shape, strict=True)], dtype=object) <= REQUEST_VOXELS


class _Huge:
    """A mask that nobody could hold."""

    shape = (2**31, 1, 1)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, index: object) -> NDArray[np.uint8]:
        raise AssertionError("it is checked without being read")


def test_a_mask_of_2_to_the_31_voxels_is_checked_without_being_read() -> None:
    check_mask(_Huge(), Box((0, 2**31), (0, 1), (0, 1)), "All")
    with pytest.raises(DataError, match="its shape is"):
        check_mask(_Huge(), Box((0, 2**31 - 1), (0, 1), (0, 1)), "All")


@settings(max_examples=60, deadline=None)
@given(
    nm=st.tuples(*[st.floats(1e-6, 1e9)] * 3),
    name=st.sampled_from(registry.names()),
)
def test_for_any_size_of_a_voxel_the_halo_of_a_pipeline_is_whole_numbers(
    nm: tuple[float, float, float], name: str
) -> None:
    """Or the pipeline says that it cannot be."""
    try:
        halo = registry.build(name, {}).halo(nm)
    except NDSynapseError as error:
        check_words(error)
        return
    assert all(isinstance(n, int) and n >= 0 for n in halo)
