"""Evaluations of points and of labels against cases worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError, UsageError
from nd_synapse.evaluate import Extent, Synapses, evaluate_labels, evaluate_points
from nd_synapse.evaluate.synapses import synapses_of_labels
from nd_synapse.evaluate.truth import labelled
from nd_synapse.geometry import Box
from nd_synapse.local_boss.synthetic import generate
from nd_synapse.pipeline import registry
from tests.pipelines.variants import VOXEL_SIZE_NM


def points(*rows: tuple[float, float, float], **columns: Any) -> Synapses:
    return Synapses(np.array(rows, np.float64).reshape(-1, 3), **{k: np.asarray(v) for k, v in columns.items()})


class TestPoints:
    """Points are matched one to one within a distance."""

    def test_counts_of_a_hand_worked_case(self) -> None:
        """Two of three synapses found, one of them twice, and a detection in the void."""
        truth = points((0, 0, 0), (0, 0, 5), (0, 0, 9), kind=["a", "a", "b"], volume_um3=[0.001, 0.005, 0.02])
        found = points((0, 0, 0.1), (0, 0, 0.2), (0, 0, 5.1), (0, 7, 7))
        evaluation = evaluate_points(truth, found, 300)
        assert evaluation.pairs.tolist() == [[0, 0], [1, 2]]
        assert (evaluation.missed.tolist(), evaluation.false_alarms.tolist()) == ([2], [1, 3])
        assert (evaluation.precision.value, evaluation.recall.value) == (2 / 4, 2 / 3)
        assert evaluation.f1.value == pytest.approx(2 * 2 / (4 + 3))
        assert (evaluation.merged, evaluation.doubled) == (0, 1)
        assert {name: (g.matched, g.total) for name, g in evaluation.by_kind.items()} == {"a": (2, 2), "b": (0, 1)}
        assert [g.total for g in evaluation.truth_by_size.values()] == [1, 0, 1, 1]
        assert evaluation.curve is None

    def test_a_detection_that_covers_two_synapses_finds_one_of_them(self) -> None:
        evaluation = evaluate_points(points((0, 0, 0), (0, 0, 0.4)), points((0, 0, 0.2)), 300)
        assert (evaluation.hits, evaluation.merged) == (1, 1)

    def test_average_precision_follows_the_largest_matching_at_each_threshold(self) -> None:
        """The best detection is right, the second a double of it, the third right."""
        truth = points((0, 0, 0), (0, 0, 5))
        found = points((0, 0, 0.2), (0, 0, 0.1), (0, 0, 5), score=[0.9, 0.8, 0.1])
        curve = evaluate_points(truth, found, 300).curve
        assert curve is not None
        assert curve.average_precision == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)

    def test_classes_of_the_detections_are_counted_by_the_type_of_their_synapse(self) -> None:
        truth = points((0, 0, 0), (0, 0, 5), (0, 0, 9), kind=["glut", "gaba", "gaba"])
        found = points((0, 0, 0), (0, 0, 5), (0, 7, 7), kind=["Glut", "Glut", "Gaba"])
        classes = evaluate_points(truth, found).classes
        assert classes == {"glut": {"Glut": 1, "Gaba": 0}, "gaba": {"Glut": 1, "Gaba": 0}}

    def test_a_border_takes_pairs_as_a_whole(self) -> None:
        """A synapse inside keeps its detection outside; one outside takes its detection with it."""
        extent = Extent(Box((0, 10), (0, 10), (0, 100)), (1000.0, 1000.0, 100.0))
        truth = points((5, 5, 1.05), (5, 5, 0.85), (5, 5, 0.2))
        found = points((5, 5, 0.95), (5, 5, 1.0), (5, 5, 0.05), (5, 5, 9.9), (5, 5, 5))
        evaluation = evaluate_points(truth, found, 150, extent=extent, border_nm=(0, 0, 1000))
        assert (len(evaluation.truth), evaluation.hits, len(evaluation.false_alarms)) == (1, 1, 1)
        assert evaluation.left_out == (2, 3)

    def test_no_detections_give_a_recall_of_0(self) -> None:
        evaluation = evaluate_points(points((0, 0, 0)), points(), 300)
        assert (evaluation.recall.value, evaluation.f1.value) == (0, 0)
        assert np.isnan(evaluation.precision.value)

    def test_no_synapses_are_refused(self) -> None:
        with pytest.raises(DataError, match="none in the truth"):
            evaluate_points(points(), points((0, 0, 0)))

    @pytest.mark.parametrize("distance", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_distance_that_is_not_above_0_is_refused(self, distance: float) -> None:
        with pytest.raises(UsageError, match="above 0"):
            evaluate_points(points((0, 0, 0)), points((0, 0, 0)), distance)


class TestLabels:
    """Objects are matched one to one where they overlap."""

    EXTENT = Extent(Box((0, 1), (0, 1), (0, 12)), VOXEL_SIZE_NM)

    def test_counts_of_a_hand_worked_case(self) -> None:
        truth = np.array([[[5, 5, 5, 0, 9, 9, 0, 0, 7, 0, 0, 0]]])
        found = np.array([[[0, 0, 3, 3, 3, 0, 0, 0, 2, 0, 1, 1]]])
        any_voxel = evaluate_labels(truth, found, self.EXTENT, scores={1: 0.5, 2: 0.9, 3: 0.7})
        assert (any_voxel.hits, any_voxel.merged, len(any_voxel.false_alarms)) == (2, 1, 1)
        assert any_voxel.pairs.tolist() == [[1, 1], [2, 2]], "of two equal matchings the one of more overlap"
        assert any_voxel.curve is not None
        assert any_voxel.curve.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
        assert evaluate_labels(truth, found, self.EXTENT, 0.5).hits == 1

    def test_an_object_against_itself_is_whole(self) -> None:
        labels = np.arange(12).reshape(1, 1, 12)
        evaluation = evaluate_labels(labels, labels, self.EXTENT, 1.0)
        assert (evaluation.precision.value, evaluation.recall.value) == (1, 1)

    def test_a_mask_is_cut_into_components_and_labels_are_left_alone(self) -> None:
        mask = np.zeros((2, 3, 6), np.uint8)
        mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 2, 4] = 255
        assert sorted(np.unique(labelled(mask), return_counts=True)[1].tolist()) == [1, 2, 33]
        labels = np.array([[[1, 0, 1, 4]]], np.uint16)
        assert labelled(labels).tolist() == labels.tolist()

    def test_centroids_and_volumes_are_those_of_the_object_table(self) -> None:
        volume = generate((12, 96, 96), VOXEL_SIZE_NM, 3)
        found = detect_arrays(registry.build("nomads-unsupervised", {}), volume.channels, VOXEL_SIZE_NM)
        synapses, ids, voxels = synapses_of_labels(np.asarray(found.labels), VOXEL_SIZE_NM)
        assert ids.tolist() == found.table["id"].tolist()
        assert voxels.tolist() == found.table["voxels"].tolist()
        np.testing.assert_allclose(synapses.centre_um[:, 0], found.table["centroid_z_um"], rtol=1e-12)


def test_scores_of_columns_of_other_lengths_are_refused() -> None:
    some = points((0, 0, 0))
    with pytest.raises(DataError, match="column score"):
        replace(some, score=np.zeros(2))
    with pytest.raises(DataError, match="NaN"):
        replace(some, score=np.array([np.nan]))
