"""The pipeline nomads-classifier: which markers it takes, which it cannot do without, and how it classes."""

from __future__ import annotations

import numpy as np
import pytest

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError, UsageError
from nd_synapse.pipeline import registry
from pipelines.nomads_classifier import NomadsClassifier
from tests.pipelines.variants import VOXEL_SIZE_NM

GLUT, GABA = ["VGlut1", "PSD95"], ["GAD", "gephyrin"]

CHOSEN = {
    "all-of-their-own": ([*GLUT, *GABA], {"vglut1", "psd95", "gad", "gephyrin"}),
    "synapsin-is-not-needed": (["Synapsin_a", "Synapsin_b", *GLUT, *GABA], {"vglut1", "psd95", "gad", "gephyrin"}),
    "synapsin-stands-in": (["Synapsin", "PSD95", "gephyrin"], {"synapsin", "psd95", "gephyrin"}),
    "a-receptor-is-no-gaba": (["Synapsin", *GLUT, "GABAARa1", "gephyrin"], {"synapsin", "vglut1", "psd95", "gephyrin"}),
}


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_markers_are_found(case: tuple[list[str], set[str]]) -> None:
    channels, roles = case
    assert set(NomadsClassifier().choose(channels, {})) == roles


MISSING = {
    "no-inhibitory-marker": ([*GLUT, "Synapsin"], "Gaba needs gaba or gad or vgat and gephyrin"),
    "one-side-and-no-synapsin": ([*GLUT, "gephyrin"], "Gaba needs gaba or gad or vgat "),
    "a-receptor-alone": ([*GLUT, "GABAARa1", "gephyrin"], "Gaba needs gaba or gad or vgat "),
    "nothing": (["DAPI"], "Gaba needs .* Glut needs"),
}


@pytest.mark.parametrize("case", MISSING.values(), ids=MISSING)
def test_missing_markers_are_named(case: tuple[list[str], str]) -> None:
    channels, words = case
    with pytest.raises(UsageError, match=words):
        NomadsClassifier().choose(channels, {})


def test_an_empty_name_leaves_a_marker_out() -> None:
    channels = [*GLUT, "GluN1", *GABA]
    assert "glun1" in NomadsClassifier().choose(channels, {})
    assert "glun1" not in NomadsClassifier().choose(channels, {"glun1": ""})


def test_a_constant_marker_is_named_with_what_leaves_it_out() -> None:
    rng = np.random.default_rng(0)
    channels = {name: rng.integers(0, 50, (4, 30, 30)).astype(np.uint8) for name in [*GLUT, *GABA]}
    channels["GluN1"] = np.zeros((4, 30, 30), np.uint8)
    with pytest.raises(DataError, match=r"'GluN1'.*--channels glun1="):
        detect_arrays(NomadsClassifier(), channels, VOXEL_SIZE_NM)


def test_each_class_has_its_mask_and_the_undecided_are_in_all_alone() -> None:
    """One punctum of each class, and one in which all markers shine alike."""
    rng = np.random.default_rng(1)
    shape = (9, 80, 80)
    channels = {name: rng.poisson(20, shape).astype(np.uint8) for name in [*GLUT, *GABA]}
    places = {"Glut": (4, 20, 20), "Gaba": (4, 20, 60), "both": (4, 60, 40)}
    for name, voxels in channels.items():
        for kind, (z, y, x) in places.items():
            if kind == "both" or name in {"Glut": GLUT, "Gaba": GABA}[kind]:
                voxels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 150
    found = detect_arrays(registry.build("nomads-classifier", {}), channels, VOXEL_SIZE_NM)
    for kind, place in places.items():
        assert found.masks["All"][place] == 255, kind
        assert (found.masks["Glut"][place] == 255) == (kind == "Glut")
        assert (found.masks["Gaba"][place] == 255) == (kind == "Gaba")
    table = found.table
    labels = np.asarray(found.labels)
    classes = {kind: table["class"][labels[place] - 1] for kind, place in places.items()}
    assert classes == {"Glut": "Glut", "Gaba": "Gaba", "both": "undecided"}
    scores = {kind: table["class_score"][labels[place] - 1] for kind, place in places.items()}
    assert scores["Glut"] < -0.5 < 0.5 < scores["Gaba"]
    assert abs(scores["both"]) < 0.2
