"""The pipeline nomads-classifier: which markers it takes, which it cannot do without, and how it classes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError, UsageError
from nd_synapse.local_boss.synthetic import generate
from pipelines.nomads_classifier import NomadsClassifier
from tests.pipelines.variants import VOXEL_SIZE_NM

GLUT, GABA = ["VGlut1", "PSD95"], ["GAD", "gephyrin"]

CHOSEN = {
    "without-synapsin": ([*GLUT, *GABA], {"vglut1", "psd95", "gad", "gephyrin"}, ("All", "Gaba", "Glut")),
    "with-synapsin": (
        ["Synapsin", *GLUT, *GABA],
        {"synapsin", "vglut1", "psd95", "gad", "gephyrin"},
        ("All", "Gaba", "Glut"),
    ),
    "synapsin-stands-in": (
        ["Synapsin", "PSD95", "gephyrin"],
        {"synapsin", "psd95", "gephyrin"},
        ("All", "Gaba", "Glut"),
    ),
    "excitatory-only": ([*GLUT, "DAPI"], {"vglut1", "psd95"}, ("All", "Glut")),
    "inhibitory-only": ([*GABA], {"gad", "gephyrin"}, ("All", "Gaba")),
    "half-a-class-is-left-out": ([*GLUT, "gephyrin"], {"vglut1", "psd95"}, ("All", "Glut")),
    "a-receptor-is-no-gaba": ([*GLUT, "GABAARa1", "gephyrin"], {"vglut1", "psd95"}, ("All", "Glut")),
}


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_markers_are_found_and_masks_are_those_of_the_classes_that_have_two(
    case: tuple[list[str], set[str], tuple[str, ...]],
) -> None:
    channels, roles, masks = case
    pipeline = NomadsClassifier()
    chosen = pipeline.choose(channels, {})
    assert set(chosen) == roles
    assert pipeline.masks_of(chosen) == masks


@pytest.mark.parametrize("channels", [["DAPI"], ["PSD95"], ["VGlut1", "gephyrin"]], ids=str)
def test_channels_of_which_no_class_can_be_made_are_refused(channels: list[str]) -> None:
    with pytest.raises(UsageError, match="Gaba needs two of synapsin, gaba or gad or vgat, gephyrin; Glut needs two"):
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


SHAPE = (9, 80, 120)
PLACES = {"Glut": (4, 20, 20), "Gaba": (4, 20, 60), "both": (4, 60, 40), "one stain": (4, 60, 80)}
SHINING = {"Glut": GLUT, "Gaba": GABA, "both": [*GLUT, *GABA], "one stain": ["PSD95"]}


def planted(names: list[str]) -> dict[str, NDArray[np.uint8]]:
    """One punctum of each class, one in which all markers shine alike, and one of a single stain, the brightest."""
    rng = np.random.default_rng(1)
    channels = {name: rng.poisson(20, SHAPE).astype(np.uint8) for name in names}
    for kind, (z, y, x) in PLACES.items():
        for name in set(SHINING[kind]) & set(names) | ({"Synapsin"} & set(names) if kind != "one stain" else set()):
            channels[name][z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 250 if kind == "one stain" else 150
    return channels


@pytest.mark.parametrize("names", [[*GLUT, *GABA], ["Synapsin", *GLUT, *GABA]], ids=["without-synapsin", "with"])
def test_each_class_has_its_mask_and_the_undecided_are_in_all_alone(names: list[str]) -> None:
    found = detect_arrays(NomadsClassifier(strictness=3.5), planted(names), VOXEL_SIZE_NM)
    assert tuple(found.masks) == ("All", "Gaba", "Glut")
    assert found.masks["All"][PLACES["one stain"]] == 0, "one bright stain is no synapse"
    table, labels = found.table, np.asarray(found.labels)
    for kind in ("Glut", "Gaba", "both"):
        place = PLACES[kind]
        assert found.masks["All"][place] == 255, kind
        assert (found.masks["Glut"][place] == 255) == (kind == "Glut")
        assert (found.masks["Gaba"][place] == 255) == (kind == "Gaba")
        row = labels[place] - 1
        assert table["class"][row] == (kind if kind != "both" else "undecided")
        assert table["score"][row] > 4
    class_scores = {kind: table["class_score"][labels[PLACES[kind]] - 1] for kind in ("Glut", "Gaba")}
    assert class_scores["Glut"] < -0.5 < 0.5 < class_scores["Gaba"]
    assert table["score"].min() >= 3.5


def test_an_excitatory_run_finds_what_is_excitatory_and_makes_no_other_mask() -> None:
    found = detect_arrays(NomadsClassifier(strictness=3.5), planted(GLUT), VOXEL_SIZE_NM)
    assert tuple(found.masks) == ("All", "Glut")
    assert np.array_equal(found.masks["All"], found.masks["Glut"])
    assert [found.masks["Glut"][place] for place in PLACES.values()] == [255, 0, 255, 0]
    assert set(found.table["class"]) == {"Glut"}


def test_a_stricter_run_finds_the_surest_of_the_same_synapses() -> None:
    """But a few: what is below the strictness has no strength, and outshines nothing beside it."""
    channels = generate((12, 160, 160), seed=3).channels
    loose, strict = (detect_arrays(NomadsClassifier(strictness=s), channels, VOXEL_SIZE_NM) for s in (2.0, 3.0))
    assert strict.table["score"].min() >= 3.0
    assert 0 < len(strict.table["id"]) < len(loose.table["id"])
    assert len(strict.table["id"]) == pytest.approx(np.count_nonzero(loose.table["score"] >= 3.0), rel=0.02)
    assert np.mean(loose.masks["All"][strict.masks["All"] > 0] > 0) > 0.99


def test_a_channel_at_another_depth_gives_the_same_synapses() -> None:
    """Levels of 16 bits are in coarser steps, and mean the same."""
    channels = generate((6, 160, 160), seed=3).channels
    deep = {name: voxels.astype(np.uint16) * 257 for name, voxels in channels.items()}
    one, other = (detect_arrays(NomadsClassifier(), each, VOXEL_SIZE_NM).masks["All"] > 0 for each in (channels, deep))
    assert np.count_nonzero(one != other) < 0.025 * np.count_nonzero(one)


def test_noise_alone_has_rare_levels_and_few_synapses() -> None:
    rng = np.random.default_rng(4)
    channels = {name: rng.poisson(20, (12, 160, 160)).astype(np.uint8) for name in ["Synapsin", *GLUT, *GABA]}
    found = detect_arrays(NomadsClassifier(), channels, VOXEL_SIZE_NM)
    per_um3 = len(found.table["id"]) / found.tissue.um3(VOXEL_SIZE_NM)
    assert per_um3 < 0.05, "where synapses are, there is one"
