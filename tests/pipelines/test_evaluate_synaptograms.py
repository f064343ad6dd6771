"""Scores of labelled cubes: what is positive, what the middle is, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.cli.evaluate import main
from nd_synapse.errors import DataError
from nd_synapse.evaluate.synaptograms import class_rule, compare, evaluate_synaptograms, read_synaptograms, score_cubes
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Detected, Finding, Pipeline, Place, Summary
from nd_synapse.pipeline.roles import Role

NAMES = ["none", "glut1", "gaba"]


@dataclass(frozen=True, slots=True)
class Middle(Pipeline):
    """Grades a voxel with what its marker is above the mean of all cubes."""

    name = "middle"
    help = "for tests"
    roles = (Role("Glut", ("vglut1",), "excitatory"), Role("Gaba", ("gad",), "inhibitory"))
    masks = ("All", "Glut", "Gaba")

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        return (1, 2, 2)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        assert place.volume == place.shape == (5, 5, 5)
        counts = {role: voxels[1:-1, 2:-2, 2:-2].ravel() for role, voxels in arrays.items()}
        return {role: np.bincount(voxels).astype(np.int64) for role, voxels in counts.items()}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        return {role: float(np.average(np.arange(len(counts)), weights=counts)) for role, counts in summary.items()}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        return Detected({})

    def scores(
        self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
    ) -> dict[str, NDArray[np.float32]]:
        inner = {role: voxels[1:-1, 2:-2, 2:-2] for role, voxels in arrays.items()}
        graded = {role: (voxels - finding[role]).astype(np.float32) for role, voxels in inner.items()}
        return {"All": np.maximum(graded["Glut"], graded["Gaba"]), **graded}


def archive(path: Path, **changes: Any) -> Path:
    """Write six cubes of known types by their middle, with a bright corner that means nothing."""
    label = np.array([0, 0, 1, 1, 2, 2])
    images = np.full((6, 2, 5, 5, 5), 10, np.uint8)
    images[:, :, 0, 0, 0] = 250
    images[label == 1, 0, 1, 3, 2] = 90
    images[label == 2, 1, 3, 1, 2] = 90
    stored = {"images_uint8": images, "channels": np.array(["VGlut1", "GAD"]), "label": label, "label_names": NAMES}
    np.savez_compressed(path, **{name: value for name, value in {**stored, **changes}.items() if value is not None})
    return path


def test_a_cube_has_the_largest_score_of_its_middle(tmp_path: Path) -> None:
    cubes = read_synaptograms(archive(tmp_path / "cubes.npz"))
    roles, scores, _ = score_cubes(Middle(), cubes)
    assert roles == {"Glut": "VGlut1", "Gaba": "GAD"}
    mean = (6 * 250 + 2 * 90 + (6 * 125 - 8) * 10) / (6 * 125)
    assert scores["Glut"].tolist() == pytest.approx([10 - mean] * 2 + [90 - mean] * 2 + [10 - mean] * 2)
    evaluation = evaluate_synaptograms(Middle(), cubes, resamples=50)
    answers = {(answer.mask, answer.question): answer for answer in evaluation.answers}
    assert answers["All", "any"].area.value == answers["All", "any"].accuracy.value == 1
    assert answers["Gaba", "inhibitory"].area.value == 1
    assert answers["Glut", "inhibitory"].area.value == 0.25
    assert evaluation.class_rule is not None
    assert (evaluation.class_rule.accuracy.value, evaluation.class_rule.majority) == (1, 0.5)


def test_the_damaged_centre_is_restored_and_rounded(tmp_path: Path) -> None:
    centre = np.full((6, 2), 12.6)
    centre[0, 1] = 300.0
    cubes = read_synaptograms(archive(tmp_path / "cubes.npz", centre_float64=centre))
    assert cubes.images.dtype == np.uint8
    assert cubes.images[1, :, 2, 2, 2].tolist() == [13, 13]
    assert cubes.images[0, 1, 2, 2, 2] == 255


def test_equal_scores_count_as_wrong() -> None:
    kind = np.array(["excitatory", "excitatory", "excitatory", "inhibitory", "none"])
    scores = {"Glut": np.array([1.0, 1, 2, 0, 9]), "Gaba": np.array([0.0, 1, 3, 1, 0])}
    rule = class_rule(scores, kind, 20)
    assert rule is not None
    assert (rule.accuracy.value, rule.majority, rule.synapses) == (0.5, 0.75, 4)
    assert class_rule({"Glut": scores["Glut"]}, kind) is None
    assert class_rule(scores, np.full(5, "none")) is None


def test_balanced_accuracy_is_given_where_scores_lie_on_both_sides_of_0() -> None:
    kind = np.array(["none", "none", "excitatory"])
    (any_synapse, _) = compare({"All": np.array([1.0, 2.0, 3.0])}, kind, 20)
    assert np.isnan(any_synapse.accuracy.value)
    assert any_synapse.area.value == 1
    (any_synapse, _) = compare({"All": np.array([-1.0, 2.0, 3.0])}, kind, 20)
    assert any_synapse.accuracy.value == 0.75


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": None}, "it holds channels, images_uint8, label_names"),
        ({"label": np.arange(6)}, "indices of label_names"),
        ({"label_names": ["none", "glut", "perhaps"]}, "'perhaps'"),
        ({"channels": ["VGlut1"]}, "names 1 channels and holds 2"),
        ({"images_uint8": np.zeros((6, 2, 4, 5, 5), np.uint8)}, "extents odd"),
        ({"images_uint8": np.zeros((6, 2, 5, 5, 5))}, "float64"),
        ({"images_uint8": np.zeros((0, 2, 5, 5, 5), np.uint8), "label": np.zeros(0, int)}, "shape"),
        ({"centre_float64": np.full((6, 2), np.nan)}, "NaN"),
        ({"images_uint8": np.array([{}] * 6, object)}, "it holds Python objects"),
    ],
    ids=["no-label", "bad-label", "unknown-name", "channels", "even", "float", "none", "nan", "pickle"],
)
def test_an_invalid_archive_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    path = archive(tmp_path / "cubes.npz", **changes)
    with pytest.raises(DataError, match=words):
        read_synaptograms(path)
    assert main(["--synaptograms", str(path)]) == DataError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_pipeline_without_scores_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Silent(Middle):
        def scores(
            self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
        ) -> dict[str, NDArray[np.float32]]:
            return {}

    with pytest.raises(DataError, match="grades no voxels"):
        evaluate_synaptograms(Silent(), read_synaptograms(archive(tmp_path / "cubes.npz")))


def test_real_synaptograms_are_scored_in_one_command(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "kdm200_dev" / "kdm200_dev.npz"
    cubes = read_synaptograms(path)
    assert {kind: int(np.count_nonzero(cubes.kind == kind)) for kind in np.unique(cubes.kind).tolist()} == {
        "none": 30,
        "excitatory": 51,
        "inhibitory": 20,
    }
    line = ["--synaptograms", str(path), "--pipeline", "probabilistic", "--out", str(tmp_path), "--resamples", "200"]
    assert main(line) == 0
    assert "any against none" in capsys.readouterr().out
    assert main([*line, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [answer["question"] for answer in shown["answers"]] == ["any", "excitatory", "inhibitory"]
    for answer in shown["answers"]:
        area = answer["area_under_roc"]
        assert 0 <= area["low"] <= area["value"] <= area["high"] <= 1
    assert len((tmp_path / "synaptograms.csv").read_text().splitlines()) == 102
    _, scores, _ = score_cubes(registry.build("probabilistic", {}), cubes)
    assert all(np.isfinite(values).all() for values in scores.values())
