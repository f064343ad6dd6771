"""What every pipeline keeps: one suite, run on each that is registered and on some variants."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.evaluate.detections import is_adjustable, permissive
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline, Place
from tests.pipelines.variants import KINDS, VARIANTS, VOXEL_SIZE_NM, built, channel_names, same, volume

Channels = dict[str, NDArray[Any]]
DTYPES: list[type[np.unsignedinteger[Any]]] = [np.uint8, np.uint16]

every_pipeline = pytest.mark.parametrize("variant", VARIANTS)


def found_in(pipeline: Pipeline, channels: Channels, size: tuple[int, int, int]) -> Found | str:
    """Return what was found, or the message for data in which nothing can be detected."""
    try:
        return detect_arrays(pipeline, channels, VOXEL_SIZE_NM, block_size=size, scores=True, threads=1)
    except DataError as error:
        return str(error)


@every_pipeline
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 22), st.integers(1, 22)),
    size=st.tuples(st.integers(1, 8), st.integers(1, 23), st.integers(2, 23)),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_for_any_volume_and_blocks_the_result_is_that_of_one_block(
    variant: str,
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    dtype: type[np.unsignedinteger[Any]],
    kind: str,
    seed: int,
) -> None:
    """Statistics, masks, labels, table and scores; some blocks are thinner than the halo."""
    pipeline = built(variant)
    channels = volume(pipeline, shape, dtype, kind, seed)
    before = {name: voxels.tobytes() for name, voxels in channels.items()}
    same(found_in(pipeline, channels, shape), found_in(pipeline, channels, size))
    assert before == {name: voxels.tobytes() for name, voxels in channels.items()}


@every_pipeline
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_form_of_the_contract(variant: str, dtype: type[np.unsignedinteger[Any]]) -> None:
    pipeline = built(variant)
    found = detect_arrays(pipeline, volume(pipeline, (6, 60, 70), dtype, "spots"), VOXEL_SIZE_NM, scores=True)
    assert tuple(found.masks) == pipeline.masks
    assert found.table["id"].tolist() == list(range(1, len(found.table["id"]) + 1))
    assert len(found.table["id"]) > 0
    first, *others = found.masks.values()
    assert set(np.unique(first)) <= {0, 255}
    assert all(not np.any(mask[first == 0]) for mask in others), "the first mask holds every synapse"
    assert np.array_equal(np.unique(np.asarray(found.labels)[first > 0]), found.table["id"])
    assert json.loads(json.dumps(found.finding, allow_nan=False)) == found.finding
    for name, values in found.table.items():
        assert values.shape == found.table["id"].shape
        assert values.dtype.kind in "biufU"
        # of few detections none is known
        assert values.dtype.kind != "f" or np.isfinite(values).all() or name == "confidence"
    for scores in found.scores.values():
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()


@every_pipeline
def test_a_pickled_pipeline_gives_the_same(variant: str) -> None:
    pipeline = built(variant)
    channels = volume(pipeline, (5, 30, 30), np.uint8, "spots")
    other = pickle.loads(pickle.dumps(pipeline))
    first = found_in(pipeline, channels, (5, 30, 30))
    same(first, found_in(pipeline, channels, (5, 30, 30)))
    same(first, found_in(other, channels, (5, 30, 30)))


@every_pipeline
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (1, 1, 40), (2, 3, 3), (40, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_small_and_constant_volumes_give_a_result_or_a_message(
    variant: str, shape: tuple[int, int, int], kind: str
) -> None:
    """No warning, no NaN, and no error but one that names the channel."""
    pipeline = built(variant)
    for dtype in DTYPES:
        found = found_in(pipeline, volume(pipeline, shape, dtype, kind), shape)
        if isinstance(found, str):
            assert any(name in found for name in channel_names(pipeline)), found


def memory_of(
    pipeline: Pipeline, shape: tuple[int, int, int], dtype: type[np.unsignedinteger[Any]]
) -> tuple[int, int, int]:
    """Return the bytes that counting and detecting take, and those that are declared for the voxels."""
    channels = volume(pipeline, shape, dtype, "spots")
    box = Box.of_shape(shape)
    roles = pipeline.choose(list(channels), {})
    arrays = {role: mirrored(channels[name], box, pipeline.halo(VOXEL_SIZE_NM)) for role, name in roles.items()}
    place = Place((0, 0, 0), shape, shape, VOXEL_SIZE_NM)
    with_halo = next(iter(arrays.values())).size
    finding = pipeline.learn(pipeline.summarise(arrays, place), roles)
    tracemalloc.start()
    try:
        pipeline.summarise(arrays, place)
        counting = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        detected = pipeline.detect(arrays, finding, place)
        detecting = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert detected.sets
    return counting, detecting, pipeline.working_bytes * with_halo


@pytest.mark.slow
@every_pipeline
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_memory_that_a_block_takes_is_declared(variant: str, dtype: type[np.unsignedinteger[Any]]) -> None:
    counting, detecting, declared = memory_of(built(variant), (16, 200, 200), dtype)
    # a table of all grey values, such as a histogram, does not grow with the block
    tables = 64 * 2**20 if dtype == np.uint16 else 2**20
    assert counting < declared + tables
    assert detecting < declared + 2**20


@pytest.mark.parametrize("variant", ["nomads-unsupervised", "nomads-classifier", "puncta"])
@pytest.mark.parametrize("shape", [(8, 64, 64), (32, 16, 512)], ids=str)
def test_tables_and_slabs_of_a_small_block_are_in_what_a_worker_has_whatever_its_block(
    variant: str, shape: tuple[int, int, int]
) -> None:
    """They are more than is declared for so few voxels; a worker without a block takes 45 of its 60 MiB."""
    counting, detecting, declared = memory_of(built(variant), shape, np.uint16)
    assert max(counting, detecting) < declared + 12 * 2**20


@pytest.mark.parametrize("variant", [name for name in VARIANTS if is_adjustable(built(name))])
def test_scores_tell_what_a_higher_strictness_finds(variant: str) -> None:
    """To a twentieth, as `nd-synapse evaluate` asks for its advice."""
    name, given = VARIANTS[variant]
    pipeline, lax = built(variant), registry.build(name, permissive(name, given))
    channels = volume(pipeline, (5, 70, 70), np.uint8, "spots")
    found, more = (detect_arrays(each, channels, VOXEL_SIZE_NM, threads=1) for each in (pipeline, lax))
    kept = np.count_nonzero(more.table["score"] >= found.finding.get("strictness", pipeline.settings["strictness"]))
    assert kept == pytest.approx(len(found.table["id"]), rel=0.05, abs=2)


@every_pipeline
def test_every_parameter_has_a_help_and_a_default_that_parses(variant: str) -> None:
    name, _ = VARIANTS[variant]
    pipeline = built(variant)
    assert pipeline.name.replace("-", "").replace("_", "").isalnum()
    assert pipeline.help
    assert set(pipeline.settings) == {parameter.name for parameter in registry.parameters(name)}
    for parameter in registry.parameters(name):
        assert parameter.help
        if parameter.default != "":
            assert parameter.parse(str(parameter.default)) == parameter.default
    for role in pipeline.roles:
        assert role.help
        assert all(marker == marker.lower() for marker in role.markers)


@every_pipeline
def test_wrong_parameters_are_refused(variant: str) -> None:
    name, _ = VARIANTS[variant]
    with pytest.raises(UsageError, match=r"Correct the name in parameters"):
        registry.build(name, {"no_such_parameter": "1"})
    for parameter in registry.parameters(name):
        wrong = "no such choice" if parameter.choices else "not a number"
        if parameter.choices or not isinstance(parameter.default, str):
            with pytest.raises(UsageError, match=parameter.name):
                registry.build(name, {parameter.name: wrong})
        if parameter.minimum is not None:
            with pytest.raises(UsageError, match="smallest value"):
                registry.build(name, {parameter.name: str(parameter.minimum - 1)})


@every_pipeline
def test_channels_that_are_missing_are_named(variant: str) -> None:
    pipeline = built(variant)
    with pytest.raises(DataError):
        pipeline.choose([], {})
    if pipeline.roles:
        with pytest.raises((UnknownNameError, UsageError), match="DAPI"):
            pipeline.choose(["DAPI", "LY"], {})
