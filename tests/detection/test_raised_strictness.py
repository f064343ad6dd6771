"""Where chance makes much, the strictness is raised to the best expected F1, in any blocks and parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.shared_store import Part, Phase
from nd_synapse.detection import chance
from nd_synapse.detection.chance import Sample
from nd_synapse.detection.confidence import Chance, shortest_strictness
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.on_disk import Means, detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part, masks_of_part
from nd_synapse.errors import DataError
from nd_synapse.evaluate.evaluation import evaluate_points
from nd_synapse.evaluate.synapses import Synapses
from nd_synapse.job.digits import rounded
from nd_synapse.local_boss.synthetic import SyntheticVolume
from nd_synapse.pipeline.contract import Chosen, Finding, Objects, Summary
from pipelines.local_contrast import bin_of
from pipelines.nomads_unsupervised import NomadsUnsupervised
from pipelines.puncta import Puncta
from tests.detection.arrays import VOXEL_SIZE_NM, Arrays, same
from tests.detection.in_process import InProcessPool
from tests.detection.parts import PHASES, Memory, loaded
from tests.detection.test_chance import Spots, pairs_and_orphans, planned, scores

SIZE = (8, 70, 100)
BY_CHANCE = (400, 1800)
"""Spots that both channels share, and others of each."""


class Rising(Spots):
    """Chooses by a strictness that is raised."""

    raises_strictness = True

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        return {"strictness": 13.0}

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        chosen = super().select(objects, finding)
        kept = chosen.masks["All"] & (np.asarray(chosen.columns["score"]) >= finding["strictness"])
        return Chosen({"All": kept}, chosen.columns)


def in_one(source: Arrays, folder: Path, size: tuple[int, int, int] = SIZE) -> Detection:
    return loaded(detect(planned(source, folder, size, Rising()), 2))


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)


def f1(volume: SyntheticVolume, pipeline: NomadsUnsupervised, marker: tuple[str, str], excitatory: bool) -> float:
    """Return how well a kind of synapses is found."""
    channels = {name: volume.channels[name] for name in marker}
    roles = dict(zip(("presynaptic", "postsynaptic"), marker, strict=True))
    found = detect_arrays(pipeline, channels, volume.voxel_size_nm, chosen=roles)
    truth = volume.synapses.centre_um[volume.synapses.excitatory == excitatory]
    places = np.stack([found.table[f"centroid_{axis}_um"] for axis in "zyx"], axis=1)
    return 2 * len(evaluate_points(Synapses(truth), Synapses(places)).pairs) / (len(truth) + len(places))


def test_rare_synapses_among_dim_puncta_are_found_better_and_clean_ones_as_before() -> None:
    from benchmarks.data_sets import synthetic

    shape, inhibitory = (24, 384, 384), ("GAD", "gephyrin")
    dim, clean = synthetic("dim partners", shape), synthetic("sample", shape)
    lax, auto = NomadsUnsupervised(strictness=1.6), NomadsUnsupervised()
    assert f1(dim, lax, inhibitory, False) < 0.45
    assert f1(dim, auto, inhibitory, False) > 0.6
    excitatory = ("Synapsin", "PSD95")
    assert f1(dim, auto, excitatory, True) >= f1(dim, lax, excitatory, True) - 0.01
    assert f1(clean, auto, excitatory, True) == f1(clean, lax, excitatory, True)


@pytest.mark.parametrize("size", [(8, 128, 256), (5, 70, 150), (16, 32, 512)])
def test_blocks_do_not_show(tmp_path: Path, size: tuple[int, int, int]) -> None:
    source = pairs_and_orphans(*BY_CHANCE)
    expected = detect_arrays(Rising(), source.data, VOXEL_SIZE_NM)
    found = in_one(source, tmp_path, size)
    assert expected.chance.least_score is not None
    assert found.finding == expected.finding == {"strictness": expected.chance.least_score}
    assert found.chance == expected.chance
    assert np.asarray(found.masks["All"]).tobytes() == expected.masks["All"].tobytes()
    assert np.asarray(found.labels).tobytes() == np.asarray(expected.labels).tobytes()
    assert found.table["score"].min() >= expected.chance.least_score


def test_what_is_kept_is_what_that_strictness_keeps_and_the_figures_are_of_it() -> None:
    source = pairs_and_orphans(*BY_CHANCE)
    every = detect_arrays(Spots(), source.data, VOXEL_SIZE_NM, sampled=True)
    found = detect_arrays(Rising(), source.data, VOXEL_SIZE_NM)
    kept = every.table["score"] >= found.finding["strictness"]
    assert 100 < np.count_nonzero(kept) < len(kept)
    assert found.table["score"].tobytes() == every.table["score"][kept].tobytes()
    assert found.chance.share < every.chance.share
    assert f"raised to {found.finding['strictness']:g}:" in found.chance.words(9)
    assert "raised" not in every.chance.words(9)
    assert abs(found.table["confidence"].mean() - (1 - found.chance.share)) < 0.05
    # among all, those that are kept have the largest expected F1, but for what bins hide
    confidence = every.table["confidence"].astype(float)

    def expected(least: float) -> float:
        some = every.table["score"] >= least
        return float(2 * confidence[some].sum() / (np.count_nonzero(some) + confidence.sum()))

    assert expected(found.finding["strictness"]) > max(map(expected, every.table["score"])) - 0.02


@pytest.mark.parametrize("count", [1, 3])
def test_in_parts_the_result_is_that_of_one_job_and_each_field_is_searched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(chance, "_FIELD", (16, 64, 64))
    source, shared_store = pairs_and_orphans(*BY_CHANCE), Memory()
    alone = in_one(source, tmp_path / "alone")
    for phase in PHASES:
        for index in range(1 if phase == "join" else count):
            plan = planned(source, tmp_path / f"{phase}{index}", SIZE, Rising())
            assert detect_part(plan, Part(phase, index, count), shared_store, 2) == []
    last = loaded(detect(planned(source, tmp_path / "last", SIZE, Rising()), 2, shared_store=shared_store))
    assert alone.chance.fields > 1
    same(alone, last)
    assert last.resumed["objects"] > 0
    assert len(shared_store.left) == len(set(shared_store.left))
    assert sum(kind.startswith("chance-") for kind, _ in shared_store.left) == alone.chance.fields


@pytest.mark.parametrize("phases", [PHASES, ()], ids=["after all phases", "alone"])
def test_masks_of_parts_are_those_of_one_job_and_have_its_identity(tmp_path: Path, phases: tuple[Phase, ...]) -> None:
    source, shared_store = pairs_and_orphans(*BY_CHANCE), Memory()
    alone = in_one(source, tmp_path / "alone")
    for phase in phases:
        detect_part(planned(source, tmp_path / phase, SIZE, Rising()), Part(phase, 0, 1), shared_store, 2)
    plan = planned(source, tmp_path / "push", SIZE, Rising())
    part = Part("push", 0, 2)
    boxes = part.of(plan.blocks())
    with masks_of_part(plan, part, boxes, Means(2, shared_store=shared_store)) as found:
        assert found.identity() == alone.identity
        mask = found.volumes(["All"])["All"]
        for box in boxes:
            here = box.slices(plan.box.start)
            assert np.array_equal(mask[here], np.asarray(alone.masks["All"])[here])
        assert found.identity() == alone.identity


@pytest.mark.parametrize("damage", [lambda body, _: body[:-9], lambda _, other: other], ids=["cut", "traded"])
def test_a_damaged_field_is_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes, bytes], bytes]
) -> None:
    monkeypatch.setattr(chance, "_FIELD", (16, 64, 64))
    source, shared_store = pairs_and_orphans(*BY_CHANCE), Memory()
    for phase in PHASES:
        plan = planned(source, tmp_path / phase, SIZE, Rising())
        detect_part(plan, Part(phase, 0, 1), shared_store, 2)
        if phase == "contacts":
            one, other, *_ = (key for key in shared_store.things if key[0].startswith("chance-"))
            sound = shared_store.things[one]
            shared_store.things[one] = damage(sound, shared_store.things[other])
    last = loaded(detect(planned(source, tmp_path / "last", SIZE, Rising()), 2, shared_store=shared_store))
    assert shared_store.things[one] == sound
    same(in_one(source, tmp_path / "alone"), last)


class Broken(Rising):
    """Fails on fields, which are wider than the blocks of the test."""

    def detect(self, arrays: Any, finding: Finding, place: Any) -> Any:
        if place.shape[2] > SIZE[2] + 10:
            raise ValueError("too wide")
        return super().detect(arrays, finding, place)


def test_a_field_that_fails_ends_the_run_which_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """A worker may lack memory once: without its field the strictness would be another."""
    plan = planned(pairs_and_orphans(*BY_CHANCE), tmp_path / "both", SIZE, Broken())
    with pytest.raises(DataError, match=r"step chance.*too wide"):
        detect(plan, 2)
    again = loaded(detect(replace(plan, pipeline=Rising()), 2))
    assert again.resumed["detect"] == again.blocks
    same(again, in_one(pairs_and_orphans(*BY_CHANCE), tmp_path / "fresh"))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 5000), st.integers(1, 800))
def test_for_any_counts_the_figures_of_what_is_kept_lie_within_their_bounds(
    found: int, null: int, null_voxels: int
) -> None:
    every, kept = (Chance.of(Sample(), 1, scores(found, null, null_voxels), raises=raises) for raises in (False, True))
    assert 0 <= kept.share_at_least <= kept.share <= kept.share_at_most <= 1
    assert 0 < kept.detections <= every.detections == found
    assert kept.share <= every.share
    if kept.least_score is None:
        assert kept == every
    else:
        assert found >= 100
        assert kept.detections < found
        assert set(kept.curve) < set(every.curve)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_for_any_scores_what_is_printed_keeps_what_was_kept(seed: int) -> None:
    """Scores are the ends of bins here: 2.99999976 must not become 3."""
    rng = np.random.default_rng(seed)

    def ends_of_bins(shape: float, count: int) -> NDArray[np.float32]:
        bits = (1.6 + rng.gamma(shape, 0.3, count)).astype(np.float32).view(np.uint32)
        return (bits | np.uint32(0xFFFF)).view(np.float32)

    found, null = np.concatenate([ends_of_bins(1, 1500), ends_of_bins(9, 300)]), ends_of_bins(1, 12_000)
    nowhere = np.full((len(null), 2), np.nan, np.float32)
    raised = Chance.of(Sample(), 1, chance.Scores(found, null, nowhere, nowhere, 100, 800), raises=True)
    assert raised.least_score is not None
    (printed,) = re.findall(r"raised to ([0-9.]+):", raised.words(9))
    assert float(printed) == raised.least_score
    assert np.count_nonzero(found >= np.float32(printed)) == raised.detections


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=30), st.data())
def test_the_shortest_strictness_of_a_table_finds_the_rows_of_its_score(
    values: list[float], data: st.DataObject
) -> None:
    """Of `evaluate` as well: 4.24999952 with the six digits of a table would be 4.25, which is in the next bin."""
    bins = np.array([bin_of(value) for value in values], np.uint16)
    ones = np.ones(len(bins))
    objects: dict[str, NDArray[Any]] = {"max_evidence": bins, "voxels": ones.astype(np.int64), "volume_um3": ones}
    scored = Puncta().select(objects, {"strictness": 0.1}).columns["score"]
    in_table = rounded("score", scored)
    assert np.array_equal(in_table, scored)
    as_printed = np.array([float(str(score)) for score in in_table])
    least = float(data.draw(st.sampled_from(as_printed.tolist())))
    for scores_of in (as_printed, in_table.astype(np.float64)):
        strictness = shortest_strictness(least, scores_of)
        assert 0 < least - strictness <= max(least, 1) / 100 or strictness == least
        found = Puncta().select(objects, {"strictness": strictness}).masks["All"]
        assert np.array_equal(found, as_printed >= least)


@pytest.mark.parametrize(
    ("scores_of", "least", "wanted"),
    [
        ([0.1, 0.11], 0.11, 0.11),  # 0.1 would keep both
        ([0.05, 0.06], 0.06, 0.06),  # not 0.059: people wrote six hundredths
        ([0.7, 0.7 + 1e-12], 0.7 + 1e-12, 0.7 + 1e-12),  # nearer than 32 bits tell apart
        ([-0.65, -0.64], -0.64, -0.64),
        ([0.5, 80.3], 80.3, 80.0),  # not 1, which keeps the same two and is far from what was tried
        ([0.0019], 0.0019, 0.0019),
        ([0.0], 0.0, 0.0),
    ],
)
def test_scores_of_few_digits_are_strictnesses(scores_of: list[float], least: float, wanted: float) -> None:
    assert shortest_strictness(least, np.array(scores_of)) == wanted


class Silent(Rising):
    """Learns no strictness that could be raised."""

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        return {}


def test_a_pipeline_that_learns_no_strictness_is_told_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"returned none as strictness.*raises_strictness"):
        detect(planned(pairs_and_orphans(*BY_CHANCE), tmp_path, SIZE, Silent()), 2)


def test_where_all_is_chance_nothing_is_better_than_what_there_is() -> None:
    all_of_chance: NDArray[Any] = np.linspace(1, 9, 4000, dtype=np.float32)
    nowhere = np.full((4000, 2), np.nan, np.float32)
    none = chance.Scores(np.linspace(1, 9, 200, dtype=np.float32), all_of_chance, nowhere, nowhere, 100, 100)
    assert Chance.of(Sample(), 1, none, raises=True).least_score is None
    assert Chance.of(Sample(), 1, none, raises=True).share == 1
