"""The trivial detectors of the benchmark find what they should, so that it means something to beat them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import BOTH, Entry, Figures, judged, on_points
from benchmarks.baselines import BASELINES, maxima, response, thresholds
from benchmarks.data_sets import DataSet, Labelled
from nd_synapse.errors import UsageError
from nd_synapse.evaluate.metrics import Rate

SIZE_NM = (70.0, 100.0, 100.0)
PLACES = [(6, 10, 10), (6, 10, 30), (12, 30, 20), (12, 34, 42)]


def blobs(places: list[tuple[int, int, int]], seed: int) -> np.ndarray:
    """Return blobs of 150 nm in noise."""
    grid = np.moveaxis(np.mgrid[:18, :48, :56], 0, -1) * SIZE_NM
    light = sum(
        80 * np.exp(-np.sum((grid - np.array(place) * SIZE_NM) ** 2, axis=-1) / (2 * 150**2)) for place in places
    )
    noisy = 20 + light + np.random.default_rng(seed).normal(0, 2, grid.shape[:3])
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize(("what", "sigma", "rule"), BASELINES, ids=[what for what, *_ in BASELINES])
def test_a_blob_of_both_markers_is_found_and_a_lone_one_is_not(what: str, sigma: float, rule: str) -> None:
    """The voxel-wise minimum: neither marker alone is enough."""
    del what
    markers = [blobs(PLACES[:3], 0), blobs([*PLACES[:2], PLACES[3]], 1)]
    both = response(markers, SIZE_NM, sigma)
    places, values = maxima(both)
    found = places[values >= max(thresholds(both, values, rule), values.max() / 3)]
    assert np.abs(np.array(sorted(found.tolist())) - PLACES[:2]).max() <= 1


def test_brightness_of_a_channel_changes_nothing() -> None:
    voxels = blobs(PLACES, 0)
    assert np.allclose(
        response([voxels], SIZE_NM, 1.5), response([voxels.astype(np.uint16) * 100], SIZE_NM, 1.5), atol=1e-4
    )


def test_otsu_parts_two_groups() -> None:
    low, high = np.random.default_rng(0).normal([[1], [5]], [[0.1], [0.5]], (2, 300))
    threshold = thresholds(np.zeros((1, 1, 1), np.float32), np.concatenate([low, high]), "otsu")
    assert low.max() <= threshold < high.min()


def test_a_pipeline_below_a_trivial_detector_is_marked() -> None:
    def row(f1: float) -> Figures:
        return Figures(0.5, 0.5, np.nan, {"F1": Rate(f1, f1 - 0.05, f1 + 0.05)})

    assert judged(row(0.8), [row(0.84)], {}) == ""
    assert "F1 BEATEN" in judged(row(0.8), [row(0.5), row(0.86)], {})
    assert "F1 0.06 BELOW TRIVIAL" in judged(row(0.8), [row(0.86)], {})
    assert judged(row(0.8), [row(0.5)], {"F1": 0.9}) == "F1 BELOW 0.90"


@pytest.mark.parametrize(("broken", "good", "message"), [
    ("nomads-unsupervised", False, "nomads-unsupervised All: NO FIGURES"),
    ("nomads-2018", True, "nomads-2018 All does not run: it is broken"),
])  # fmt: skip
def test_a_pipeline_of_ours_that_does_not_run_is_a_failure(
    broken: str, good: bool, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was published by others is left out."""
    run = accuracy.detections

    def run_others(entry: Entry, *arguments: Any) -> Any:
        if entry.name == broken:
            raise UsageError(broken, "it is broken", "Mend it")
        return run(entry, *arguments)

    entries = (Entry("nomads-unsupervised"), Entry("nomads-2018"))
    monkeypatch.setitem(accuracy.TASKS, "synthetic", (replace(BOTH, entries=entries),))
    monkeypatch.setattr(accuracy, "detections", run_others)
    monkeypatch.setattr(accuracy, "judged", lambda *_: "")
    channels = {"Synapsin": blobs(PLACES[:3], 0), "PSD95": blobs([*PLACES[:2], PLACES[3]], 1)}
    image = Labelled(channels, SIZE_NM, {"excitatory": np.array(PLACES[:2]) * SIZE_NM / 1000})
    assert on_points([DataSet("two blobs", [image], 300.0)]) == good
    assert message in capsys.readouterr().out
