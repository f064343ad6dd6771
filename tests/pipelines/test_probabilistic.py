"""The pipeline probabilistic: its definition, voxel by voxel, for any blocks."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Place
from pipelines.probabilistic import Probabilistic
from pipelines.query import Query
from tests.pipelines.variants import VOXEL_SIZE_NM, same

Volumes = Mapping[str, NDArray[Any]]


def run(pipeline: Probabilistic, volumes: Volumes, size: tuple[int, int, int] | None = None) -> Found:
    """Run a pipeline on volumes by role, block by block."""
    shape = next(iter(volumes.values())).shape
    roles = {role: role for role in volumes}
    return detect_arrays(
        pipeline, volumes, VOXEL_SIZE_NM, chosen=roles, threads=1, scores=True, block_size=size or shape
    )


def map_by_definition(voxels: NDArray[Any], slices: int, width: int) -> NDArray[np.float64]:
    """Steps 1 to 3."""
    depth, rows, columns = voxels.shape
    log_p = np.empty(voxels.shape)
    for z, plane in enumerate(voxels.astype(float)):
        mean, std = plane.mean(), plane.std()
        for r, c in product(range(rows), range(columns)):
            deviation = (plane[r, c] - mean) / std if std else 0.0
            log_p[z, r, c] = math.log(math.erfc(-deviation / math.sqrt(2)) / 2)
    flat = np.empty(voxels.shape)
    shift = width // 2 - 1
    for z, r, c in np.ndindex(*voxels.shape):
        total = 0.0
        for dr, dc in product(range(width), repeat=2):
            row, column = r + dr - shift, c + dc - shift
            if 0 <= row < rows and 0 <= column < columns:
                total += log_p[z, row, column]
        flat[z, r, c] = math.exp(total / width**2)
    spanning = np.empty(voxels.shape)
    for z in range(depth):
        if slices == 1 or depth == 1:
            partners = []
        elif slices == 2:
            partners = [z + 1] if z < depth - 1 else [z - 1]
        else:
            partners = [other for other in (z - 1, z + 1) if 0 <= other < depth]
        unlike = sum((flat[z] - flat[other]) ** 2 for other in partners)
        spanning[z] = flat[z] * np.exp(-unlike)
    return spanning


def by_definition(query: Query, volumes: Volumes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probabilities, and where rounding may decide: at 0.5, or between two windows."""
    width = query.punctum
    maps = {
        side: [
            map_by_definition(volumes[side + (str(n) if n > 1 else "")], marker.slices, width)
            for n, marker in enumerate(getattr(query, side), 1)
        ]
        for side in ("presynaptic", "postsynaptic")
    }
    base, adjacent = maps["postsynaptic"], maps["presynaptic"]
    if not base:
        base, adjacent = adjacent, []
    result, unsure = np.zeros(base[0].shape), np.zeros(base[0].shape, bool)
    if len(base) == 1 and not adjacent:
        return base[0], unsure
    depth, rows, columns = volumes["presynaptic" if query.presynaptic else "postsynaptic"].shape
    margin = math.ceil(1.5 * width)
    for z in range(depth):
        for r, c in product(range(margin, rows - margin), range(margin, columns - margin)):
            unsure[z, r, c] = abs(base[0][z, r, c] - 0.5) < 1e-5
            if base[0][z, r, c] < 0.5:
                continue
            value = base[0][z, r, c]
            if adjacent:
                windows = [
                    (
                        other,
                        slice(r - 3 * width // 2 + 1 + k * width, r - 3 * width // 2 + 1 + (k + 1) * width),
                        slice(c - 3 * width // 2 + 1 + m * width, c - 3 * width // 2 + 1 + (m + 1) * width),
                    )
                    for other in (z - 1, z, z + 1)
                    if 0 <= other < depth
                    for k in range(3)
                    for m in range(3)
                ]
                means = [adjacent[0][window].mean() for window in windows]
                best = int(np.argmax(means))
                close = sum(mean > means[best] - 1e-5 for mean in means) > 1
                unsure[z, r, c] |= close and len(adjacent) > 1
                for channel in adjacent:
                    value *= channel[windows[best]].mean()
            first = slice(r - width // 2 + 1, r + width // 2 + 1), slice(c - width // 2 + 1, c + width // 2 + 1)
            for channel in base[1:]:
                value *= channel[z][first].mean()
            result[z, r, c] = value
    return result, unsure


def side(word: str) -> st.SearchStrategy[str]:
    """A side of a query: none to two channels, a third of which changes nothing new."""
    spans = st.lists(st.integers(1, 3), max_size=2)
    return spans.map(lambda numbers: ",".join(f"{word}{n}:{slices}" for n, slices in enumerate(numbers)))


QUERIES = st.tuples(
    side("pre"), side("post"), st.sampled_from([2, 2, 4]), st.sampled_from([0.0, 0.3, 0.5, 0.9])
).filter(lambda query: bool(query[0] or query[1]))
DTYPES = st.sampled_from([np.uint8, np.uint16])


def puncta(shape: tuple[int, ...], dtype: type, seed: int) -> NDArray[Any]:
    """Puncta on noise, so that every probability occurs; some slices dim."""
    random = np.random.default_rng(seed)
    voxels = random.poisson(60, shape).astype(float)
    for _ in range(min(max(1, int(np.prod(shape)) // 60), 2000)):
        z, y, x = (random.integers(0, n) for n in shape)
        voxels[z : z + 3, y : y + 4, x : x + 4] += random.uniform(20, 120)
    voxels *= random.uniform(0.6, 1.0, (shape[0], 1, 1))
    voxels[0, 0, 0] = 0  # never constant
    return np.clip(voxels * (1 if dtype == np.uint8 else 20), 0, np.iinfo(dtype).max).astype(dtype)


def prepared(query: tuple[str, str, int, float], shape: tuple[int, int, int], dtype: type, seed: int) -> Any:
    pipeline = Probabilistic(*query)
    volumes = {role.name: puncta(shape, dtype, seed + n) for n, role in enumerate(pipeline.roles)}
    return pipeline, volumes


@pytest.mark.slow
@given(QUERIES, st.tuples(st.integers(1, 4), st.integers(1, 19), st.integers(2, 19)), DTYPES, st.integers(0, 999))
def test_for_any_query_the_probabilities_are_those_of_the_definition(
    query: tuple[str, str, int, float], shape: tuple[int, int, int], dtype: type, seed: int
) -> None:
    pipeline, volumes = prepared(query, shape, dtype, seed)
    found = run(pipeline, volumes)
    scores, detected = found.scores["All"], found.masks["All"] > 0
    expected, unsure = by_definition(pipeline.requested, volumes)
    assert scores.dtype == np.float32
    assert np.all((np.abs(scores - expected) < 1e-5) | unsure)
    unsure |= np.abs(expected - pipeline.threshold) < 1e-5
    assert np.all((detected == (expected > pipeline.threshold)) | unsure)
    largest = ndimage.maximum(scores, np.asarray(found.labels), found.table["id"])
    assert np.all(np.abs(found.table["probability"] - largest) <= 0.51 / 65535)


@pytest.mark.slow
@given(
    QUERIES,
    st.tuples(st.integers(1, 6), st.integers(2, 40), st.integers(2, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 17), st.integers(1, 17)),
    DTYPES,
    st.integers(0, 999),
)
def test_for_any_blocks_no_byte_differs_from_the_whole(
    query: tuple[str, str, int, float],
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    dtype: type,
    seed: int,
) -> None:
    """Most of these blocks are thinner than their halo."""
    pipeline, volumes = prepared(query, shape, dtype, seed)
    z, y, x = (max(n, extent // 5) for n, extent in zip(size, shape, strict=True))
    same(run(pipeline, volumes), run(pipeline, volumes, (z, y, x)))


@pytest.mark.slow
def test_tiles_within_a_block_do_not_show() -> None:
    pipeline, volumes = prepared(("a:3,b:2", "c:2,d:3", 2, 0.5), (20, 70, 2100), np.uint8, 0)
    whole = run(pipeline, volumes)
    assert whole.masks["All"].any()
    same(whole, run(pipeline, volumes, (7, 33, 999)))


@given(st.integers(0, 70), st.integers(1, 300), st.integers(0, 999))
def test_for_any_place_in_memory_an_exponential_has_the_same_bytes(start: int, length: int, seed: int) -> None:
    """A vectorised function that treats the rest of a row differently would let blocks show."""
    values = (-np.random.default_rng(seed).exponential(5, 400)).astype(np.float32)
    one_by_one = np.array([np.exp(values[k : k + 1])[0] for k in range(start, min(start + length, 400))])
    assert np.exp(values[start : start + length]).tobytes() == one_by_one.tobytes()


@pytest.mark.slow
def test_the_published_mask_is_reproduced_voxel_for_voxel(shared_data: Path) -> None:
    files = {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95", "mask": "published_detections_mask"}
    volumes = {role: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for role, name in files.items()}
    published = volumes.pop("mask") != 0
    pipeline = Probabilistic()
    whole = run(pipeline, volumes)
    assert np.array_equal(whole.masks["All"] > 0, published)
    assert len(whole.table["id"]) == 2477
    same(whole, run(pipeline, volumes, (3, 600, 700)))


@pytest.mark.parametrize("slices", [2, 3])
def test_in_one_slice_a_punctum_spans_what_there_is(slices: int) -> None:
    pipeline, volumes = prepared((f"a:{slices}", f"b:{slices}", 2, 0.5), (1, 30, 30), np.uint8, 3)
    flat, _ = prepared(("a:1", "b:1", 2, 0.5), (1, 30, 30), np.uint8, 3)
    same(run(pipeline, volumes), run(flat, volumes))


@pytest.mark.parametrize("extent", [2, 5, 6])
def test_in_a_volume_narrower_than_both_borders_nothing_is_scored(extent: int) -> None:
    pipeline, volumes = prepared(("a", "b", 2, 0.0), (3, extent, 40), np.uint8, 0)
    assert not run(pipeline, volumes).scores["All"].any()
    wider, volumes = prepared(("a", "b", 2, 0.0), (3, 7, 400), np.uint8, 0)
    found = run(wider, volumes).scores["All"]
    assert found[:, 3].any()
    assert not np.delete(found, 3, axis=1).any()


def test_a_single_channel_gives_its_own_map_up_to_the_borders() -> None:
    for query in (("a:2", "", 2, 0.9), ("", "a:2", 2, 0.9)):
        pipeline, volumes = prepared(query, (3, 20, 20), np.uint8, 1)
        scores = run(pipeline, volumes).scores["All"]
        assert np.allclose(scores, map_by_definition(next(iter(volumes.values())), 2, 2), atol=1e-5)
        assert scores.min() > 0
        assert pipeline.halo(VOXEL_SIZE_NM) == (1, 1, 1)


def test_a_constant_slice_has_a_probability_of_a_half() -> None:
    """A section that was lost is all zeros."""
    pipeline, volumes = prepared(("a:2", "b:2", 2, 0.5), (5, 60, 60), np.uint8, 5)
    for voxels in volumes.values():
        voxels[2] = 0
    found = run(pipeline, volumes)
    assert np.isfinite(found.scores["All"]).all()
    assert found.masks["All"].any(axis=(1, 2)).tolist() == [True, True, False, True, True]
    assert np.all(
        run(Probabilistic("a:1", ""), {"presynaptic": volumes["presynaptic"]}).scores["All"][2, :-1, :-1] == 0.5
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_channel_is_named(value: int, dtype: type) -> None:
    pipeline, volumes = prepared(("a", "b", 2, 0.5), (3, 9, 9), dtype, 0)
    volumes["postsynaptic"] = np.full((3, 9, 9), value, dtype)
    with pytest.raises(DataError, match=r"'postsynaptic' \(postsynaptic\).*no slice of the box"):
        run(pipeline, volumes)


def test_slices_of_failed_blocks_do_not_stop_the_others() -> None:
    """A block that fails leaves no counts; its neighbours still see its voxels in their halo."""
    pipeline, volumes = prepared(("a:2", "b:2", 2, 0.5), (6, 60, 60), np.uint8, 5)
    halo = pipeline.halo(VOXEL_SIZE_NM)
    cut = []
    for box in Box.of_shape((6, 60, 60)).tiles((3, 60, 60)):
        arrays = {role: mirrored(voxels, box, halo) for role, voxels in volumes.items()}
        cut.append((arrays, Place(box.start, box.shape, (6, 60, 60), VOXEL_SIZE_NM)))
    for (arrays, place), (others, there) in (cut, cut[::-1]):
        finding = pipeline.learn(pipeline.summarise(arrays, place), {})
        assert pipeline.detect(arrays, finding, place).sets["All"].any()
        assert not pipeline.detect(others, finding, there).sets["All"].any()


def test_a_slice_as_large_as_memory_has_an_exact_standard_deviation() -> None:
    """Half of 2**31 voxels at the top of uint16: squares alone would need 64 bits and more."""
    top, half = 65535, 2**30
    summary = {"voxels": np.array([2 * half])}
    values = {"sum": top * half, "low": top * (top % 256) * half, "high": top * (top // 256) * half}
    summary |= {f"{name}:presynaptic": np.array([value], np.int64) for name, value in values.items()}
    finding = Probabilistic("a", "").learn(summary, {})
    assert finding == {"mean:presynaptic": [top / 2], "std:presynaptic": [top / 2]}


@pytest.mark.slow
@given(DTYPES, st.integers(0, 999), st.booleans())
def test_for_any_voxels_means_and_deviations_are_those_of_the_slices(dtype: type, seed: int, extreme: bool) -> None:
    random = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    voxels = random.choice([0, top], (3, 9, 11)) if extreme else random.integers(0, top + 1, (3, 9, 11))
    pipeline = Probabilistic("a", "")
    volumes: Volumes = {"presynaptic": voxels.astype(dtype)}
    finding = run(pipeline, volumes, (2, 4, 5)).finding
    assert finding["mean:presynaptic"] == pytest.approx(voxels.mean(axis=(1, 2)), rel=1e-12)
    assert finding["std:presynaptic"] == pytest.approx(voxels.std(axis=(1, 2)), rel=1e-12)


def test_voxels_far_below_the_mean_have_no_probability_and_no_warning() -> None:
    voxels = np.full((2, 50, 50), 60_000, np.uint16) + np.random.default_rng(0).integers(0, 2, (2, 50, 50)).astype("u2")
    voxels[:, 20, 20] = 0
    found = run(Probabilistic("a", ""), {"presynaptic": voxels}).scores["All"]
    assert found[0, 20, 20] == 0
    assert np.isfinite(found).all()


def test_objects_are_ranked_by_their_largest_probability() -> None:
    objects = {"voxels": np.array([1, 4, 9]), "max_probability": np.array([65535, 60000, 59000])}
    chosen = Probabilistic(min_voxels=4).select(objects, {})
    assert chosen.masks["All"].tolist() == [False, True, True]
    assert chosen.columns["probability"].tolist() == [1.0, 60000 / 65535, 59000 / 65535]


def test_a_pipeline_can_be_pickled() -> None:
    pipeline = Probabilistic("a:3,b", "c:1", 4, 0.7)
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
