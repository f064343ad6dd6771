"""Accuracy of the pipelines: on planted synapses, and against the labels of experts. Nothing was fitted to either."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import matched
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.evaluate.synaptograms import evaluate_synaptograms, read_synaptograms
from nd_synapse.local_boss.synthetic import Parameters, SyntheticVolume, generate
from nd_synapse.pipeline import registry

HALF = replace(Parameters(), punctum_brightness=Parameters().punctum_brightness / 2)


@cache
def sample(half_signal: bool) -> SyntheticVolume:
    return generate((24, 384, 384), seed=1, parameters=HALF if half_signal else None)


@cache
def found_in(name: str, half_signal: bool) -> Found:
    volume = sample(half_signal)
    return detect_arrays(registry.build(name, {}), volume.channels, volume.voxel_size_nm)


PLANTED = {
    # name: (pipeline, mask, planted synapses, F1 at least, F1 at half the signal at least)
    "two-markers": ("nomads-unsupervised", "All", "excitatory", 0.93, 0.90),
    "every-synapse": ("nomads-classifier", "All", "all", 0.95, 0.90),
    "excitatory": ("nomads-classifier", "Glut", "excitatory", 0.94, 0.89),
    "inhibitory": ("nomads-classifier", "Gaba", "inhibitory", 0.96, 0.91),
}


@pytest.mark.parametrize("half_signal", [False, True], ids=["full-signal", "half-signal"])
@pytest.mark.parametrize("case", PLANTED.values(), ids=PLANTED)
def test_planted_synapses_are_found(case: tuple[str, str, str, float, float], half_signal: bool) -> None:
    name, mask, planted, least, least_at_half = case
    evaluation = matched(sample(half_signal), found_in(name, half_signal), mask, planted)
    assert evaluation.f1.value >= (least_at_half if half_signal else least)


def test_experts_agree_with_the_classifier(shared_data: Path) -> None:
    cubes = read_synaptograms(shared_data / "kdm200_dev" / "kdm200_dev.npz")
    evaluation = evaluate_synaptograms(registry.build("nomads-classifier", {}), cubes, resamples=100)
    areas = {(answer.mask, answer.question): answer.area.value for answer in evaluation.answers}
    assert areas["All", "any"] >= 0.80
    assert areas["Glut", "excitatory"] >= 0.85
    assert areas["Gaba", "inhibitory"] >= 0.92
    assert evaluation.class_rule is not None
    assert evaluation.class_rule.accuracy.value >= 0.90


def test_experts_agree_with_two_markers_on_what_is_a_synapse(shared_data: Path) -> None:
    cubes = read_synaptograms(shared_data / "kdm200_dev" / "kdm200_dev.npz")
    evaluation = evaluate_synaptograms(registry.build("nomads-unsupervised", {}), cubes, resamples=100)
    areas = {answer.question: answer.area.value for answer in evaluation.answers}
    assert areas["any"] >= 0.75
    assert areas["excitatory"] >= 0.75


def test_puncta_that_lie_apart_are_rarely_a_synapse() -> None:
    """A punctum of one marker alone is no synapse, however bright."""
    volume = sample(half_signal=False)
    lonely = {
        name: voxels if name == "Synapsin" else np.roll(voxels, 40, 2) for name, voxels in volume.channels.items()
    }
    both = len(found_in("nomads-unsupervised", False).table["id"])
    shifted = detect_arrays(registry.build("nomads-unsupervised", {}), lonely, volume.voxel_size_nm)
    assert len(shifted.table["id"]) < 0.35 * both
