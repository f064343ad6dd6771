"""What is expected by chance: figure and confidence are right where the truth is known, and the same for any blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.detection.chance import Sample, Scores, sample_of
from nd_synapse.detection.confidence import Chance, _falling
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.padding import RIM
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Null, Objects, Pipeline, Place
from tests.detection.arrays import ROLES, VOXEL_SIZE_NM, Arrays, noisy, plan
from tests.detection.in_process import InProcessPool

SHAPE = (8, 128, 256)


def spots(rng: np.random.Generator, bright: NDArray[np.int64], dim: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Noise, with a spot of 3 x 3 x 3 voxels at each of some places (n, 3)."""
    image = rng.normal(30, 4, SHAPE)
    for group, level in ((bright, (25, 90)), (dim, (15, 50))):
        for z, y, x in group:
            image[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] += rng.uniform(*level)
    voxels: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return voxels


def places(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Random places (n, 3)."""
    return rng.integers(0, SHAPE, (count, 3))


def pairs_and_orphans(pairs: int, orphans: int) -> Arrays:
    """A source with spots that both channels share, and with others of each alone."""
    rng = np.random.default_rng(1)
    shared = places(rng, pairs)
    return Arrays(**{name: spots(rng, shared, places(rng, orphans)) for name in ROLES.values()})


TWO_SIDES = Null(("presynaptic",))


@dataclass(frozen=True)
class Spots(Pipeline):
    """What is three standard deviations above the noise in every marker; the score is how far, in the dimmest."""

    null: Null | None = TWO_SIDES
    markers: tuple[tuple[str, str], ...] = tuple(ROLES.items())

    name = "spots"
    help = "bright spots"

    def choose(self, channels: Any, chosen: Mapping[str, str]) -> dict[str, str]:
        del channels, chosen
        return dict(self.markers)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        del finding, place
        # the noise of a mirrored image is elsewhere
        levels = [30 if len(self.markers) > 1 else round(np.median(voxels)) for voxels in arrays.values()]
        above = np.min([np.maximum(v.astype(int) - n, 0) for v, n in zip(arrays.values(), levels, strict=True)], axis=0)
        return Detected({"All": above > 12}, {"above": above.astype(np.uint16)})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        del finding
        large = np.asarray(objects["voxels"]) > (3 if len(self.markers) > 1 else 0)
        return Chosen({"All": large}, {"score": np.asarray(objects["max_above"], np.float32)})


def sampled(source: Arrays, pipeline: Pipeline | None = None) -> Found:
    return detect_arrays(pipeline or Spots(), source.data, VOXEL_SIZE_NM, sampled=True)


def planned(source: Arrays, folder: Path, size: tuple[int, int, int], pipeline: Pipeline | None = None) -> Plan:
    return replace(plan(source, folder, size), pipeline=pipeline or Spots())


def test_where_markers_are_independent_all_detections_are_expected_by_chance() -> None:
    found = sampled(pairs_and_orphans(0, 2000))
    assert found.chance.detections > 100
    assert found.chance.share > 0.85
    assert found.table["confidence"].mean() < 0.15


def test_where_all_spots_are_shared_none_is_expected_by_chance() -> None:
    """Most of what the shifts bring together are puncta of true pairs, which are not free."""
    found = sampled(pairs_and_orphans(300, 0))
    assert found.chance.share < 0.02 < found.chance.share_at_most
    assert found.table["confidence"].mean() > 0.97


def test_of_detections_of_some_confidence_that_share_is_right() -> None:
    found = sampled(pairs_and_orphans(300, 700))
    shared = places(np.random.default_rng(1), 300)
    centres = np.stack([found.table[f"centroid_{axis}_voxel"] for axis in "zyx"], axis=1)
    distances = np.abs(centres[:, None] - shared).max(axis=2)
    right = (distances <= 1.5).any(axis=1)
    confidence, chance = found.table["confidence"], found.chance
    assert 0.2 < right.mean() < 0.8
    assert abs(confidence.mean() - right.mean()) < 0.06
    assert chance.share_at_least <= chance.share <= chance.share_at_most
    for some in (confidence < 0.5, confidence >= 0.5):
        assert np.count_nonzero(some) > 30
        assert abs(confidence[some].mean() - right[some].mean()) < 0.1
    # the surer by score, the surer by confidence
    order = np.argsort(found.table["score"])
    assert (np.diff(confidence[order]) >= 0).all()


def test_of_one_marker_what_the_mirrored_image_has_is_expected_by_chance() -> None:
    rng = np.random.default_rng(3)
    found = sampled(Arrays(pre=spots(rng, places(rng, 300), places(rng, 0))), Spots(Null(), (("marker", "pre"),)))
    tail = found.table["score"] <= 14
    assert found.chance.shifts == 0
    assert found.chance.null_voxels == found.chance.voxels
    assert found.chance.share_at_least <= found.chance.share <= found.chance.share_at_most
    assert 0.1 < found.chance.share < 0.5
    assert found.table["confidence"][tail].mean() < 0.6
    assert found.table["confidence"][found.table["score"] > 25].mean() > 0.95


@pytest.mark.parametrize("size", [(8, 128, 256), (5, 70, 150), (16, 32, 512)])
def test_blocks_and_workers_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Any) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source = pairs_and_orphans(400, 1800)
    expected, found = sampled(source), detect(planned(source, tmp_path, size), 3)
    assert found.chance == expected.chance
    assert found.chance.curve
    assert found.table["confidence"].tobytes() == expected.table["confidence"].tobytes()


def test_padding_is_no_part_of_the_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source = pairs_and_orphans(400, 1000)
    whole = sampled(source).chance
    padded = Arrays(**{name: np.where(np.arange(SHAPE[2]) < 100, 0, v) for name, v in source.data.items()})
    expected, found = sampled(padded), detect(planned(padded, tmp_path, (5, 70, 150)), 3)
    assert found.chance == expected.chance
    assert expected.chance.voxels == SHAPE[0] * SHAPE[1] * (SHAPE[2] - 100 - RIM)
    assert expected.chance.null_voxels < 8 * expected.chance.voxels
    assert abs(expected.chance.share_at_most - whole.share_at_most) < 0.1
    assert abs(expected.chance.share - whole.share) < 0.1


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(*[st.integers(0, 50)] * 3),
    st.sampled_from([5.0, 30.0, 100.0, 2000.0]),
)
def test_for_any_box_fields_lie_in_it_apart_and_are_few(shape: Any, start: Any, pixel_nm: float) -> None:
    box = Box.of_shape(shape, start)
    facts = replace(plan(noisy((1, 2, 2), np.uint8, 0), Path(), (1, 1, 1)), box=box, code="none")
    sample = sample_of(replace(facts, voxel_size_nm=(70.0, pixel_nm, pixel_nm)))
    assert bool(sample.reason) != bool(sample.fields)
    assert all(box.contains(field) for field in sample.fields)
    assert sum(field.voxels for field in sample.fields) <= 2**21
    for number, field in enumerate(sample.fields):
        assert not any(map(field.intersection, sample.fields[:number]))
    assert all(0 < max(abs(y), abs(x)) <= 64 for y, x in sample.shifts)


def test_a_large_box_is_sampled_all_over() -> None:
    box = Box.of_shape((100, 5000, 3000))
    facts = replace(plan(noisy((1, 2, 2), np.uint8, 0), Path(), (1, 1, 1)), box=box, code="none")
    around = Box.around(sample_of(facts).fields)
    assert len(sample_of(facts).shifts) == 8
    assert all(2 * n > length for n, length in zip(around.shape[1:], box.shape[1:], strict=True))


@pytest.mark.parametrize(
    ("width", "pipeline", "reason"),
    [
        (9, Spots(), "too narrow"),
        (60, Spots(markers=tuple(dict.fromkeys(ROLES, "pre").items())), "pre is a marker of both"),
        (60, Spots(markers=(("presynaptic", "pre"),)), "no markers of two sides"),
        (60, Spots(null=None), "does not say"),
    ],
    ids=["narrow", "one channel", "one side", "no null"],
)
def test_where_there_is_no_figure_the_reason_is_given(width: int, pipeline: Pipeline, reason: str) -> None:
    found = sampled(noisy((2, width, width), np.uint8, 0), pipeline)
    assert reason in found.chance.reason
    assert reason in found.chance.words(3)
    assert np.isnan(found.table.get("confidence", np.full(1, np.nan))).all()


def test_few_detections_give_a_figure_and_no_confidence() -> None:
    found = sampled(pairs_and_orphans(10, 10))
    assert 0 < found.chance.detections < 100
    assert not found.chance.curve
    assert np.isnan(found.table["confidence"]).all()


class Frail(Spots):
    """Fails on fields, which are wider than the blocks of the test."""

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        if place.shape[2] > 40:
            raise ValueError("too wide")
        return super().detect(arrays, finding, place)


def test_a_field_that_fails_costs_the_figure_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source = pairs_and_orphans(400, 1800)
    found = detect(planned(source, tmp_path, (8, 128, 40), Frail()), 2)
    assert not found.failed_blocks
    assert len(found.table["id"]) > 400
    assert "fields failed" in found.chance.reason
    assert np.isnan(found.table["confidence"]).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 20)), min_size=1, max_size=30))
def test_for_any_counts_pooled_shares_fall_and_keep_their_sum(bins: list[tuple[float, int]]) -> None:
    weights, counts = zip(*bins, strict=True)
    small = [min(weight, float(count)) for weight, count in bins]
    shares = _falling(small, counts)
    assert len(shares) == len(counts)
    assert (np.diff(shares) <= 0).all()
    assert (shares >= 0).all()
    assert np.isclose((shares * counts).sum(), sum(small))
    assert (_falling(weights, counts) <= 1).all()


def test_a_figure_in_words_has_its_bounds() -> None:
    chance = Chance(
        reason="", shifts=8, fields=2, voxels=10, detections=5, share=0.2, share_at_least=0.1, share_at_most=0.4
    )
    assert chance.words(1000).startswith("Of 1,000 detections about 200 (100 to 400) are expected by chance")
    assert chance.record(1000)["expected_at_most"] == 400


def scores(found: int, null: int, null_voxels: int = 800) -> Scores:
    ascending = np.linspace(1, 9, found, dtype=np.float32)
    partners = np.full((null, 2), np.nan, np.float32)
    return Scores(ascending, np.linspace(1, 9, null, dtype=np.float32), partners, partners, 100, null_voxels)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 5000), st.integers(1, 800))
def test_for_any_counts_the_estimate_lies_within_its_bounds(found: int, null: int, null_voxels: int) -> None:
    chance = Chance.of(Sample(), 1, scores(found, null, null_voxels))
    assert not chance.reason
    assert 0 <= chance.share_at_least <= chance.share <= chance.share_at_most <= 1
    assert bool(chance.curve) == (found >= 100)


@pytest.mark.parametrize("without", [scores(0, 5), scores(5, 0, 0)], ids=["detections", "tissue"])
def test_fields_without_detections_or_tissue_give_a_reason(without: Scores) -> None:
    assert "no detection, or no tissue" in Chance.of(Sample(), 1, without).reason


def test_a_null_without_detections_makes_all_as_sure_as_it_can_show() -> None:
    """None in a null as large as the fields leaves three false ones possible among the hundred."""
    confidence = Chance.of(Sample(), 1, scores(100, 0, 100)).confidence(np.array([1.0, 9.0]))
    assert confidence.tolist() == pytest.approx([0.97, 0.97])


def test_what_was_not_measured_is_not_zero() -> None:
    assert "is not known" in Chance().words(3)
    assert Chance().record(3) == {"reason": "it was not measured"}


def test_pixels_too_small_for_a_shift_give_a_reason() -> None:
    facts = plan(noisy((2, 200, 200), np.uint8, 0), Path(), (2, 200, 200))
    assert "too small to shift" in sample_of(replace(facts, voxel_size_nm=(70.0, 4.0, 4.0))).reason


def test_a_figure_from_few_detections_says_so() -> None:
    few = Chance(reason="", fields=2, shifts=8, voxels=10, detections=5)
    assert "uncertain" in few.words(9)
    assert "uncertain" not in replace(few, detections=100).words(9)
