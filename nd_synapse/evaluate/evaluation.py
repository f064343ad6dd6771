"""An evaluation: detections compared with truth, and the rule by which they were matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UsageError, called
from nd_synapse.evaluate.matching import Candidates, gains, match, overlapping, within_distance
from nd_synapse.evaluate.metrics import Curve, Rate, f1_of_counts, precision_recall_curve, proportion
from nd_synapse.evaluate.synapses import Extent, Synapses, synapses_of_labels

__all__ = ["SIZE_EDGES_UM3", "Evaluation", "Group", "evaluate_labels", "evaluate_points", "join", "with_synapses"]

SIZE_EDGES_UM3 = (0.0012, 0.0042, 0.0109)
"""Volumes at which size classes are cut: those that 10, 50 and 90 % of the synaptic clefts annotated in electron
microscopy stay below (Collman et al. 2015, J. Neurosci. 35:5792). A detection has the size of its mask instead."""


@dataclass(frozen=True, slots=True)
class Group:
    """How many of some synapses were found, or of some detections were right."""

    matched: int
    total: int

    @property
    def rate(self) -> Rate:
        """The share that is matched, with Wilson's interval."""
        return proportion(self.matched, self.total)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of comparing detections with truth."""

    rule: str
    """What counted as a match, as a sentence without its full stop."""
    truth: Synapses
    """Without those excluded by the border, as for `detections`."""
    detections: Synapses
    pairs: NDArray[np.int64]
    """Row of the synapse and of its detection, shape (hits, 2), ordered by the former."""
    merged: int
    """Missed synapses in reach of a detection that is matched with another synapse."""
    doubled: int
    """False alarms in reach of a synapse that is matched with another detection."""
    right: NDArray[np.bool_]
    """Which detections add a hit to those of higher score, or without scores have a synapse; shape (detections,)."""
    curve: Curve | None
    """Precision and recall over the scores; None where detections have no scores."""
    left_out: tuple[int, int]
    """Number of synapses and of detections excluded by the border."""

    @property
    def hits(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    @property
    def missed(self) -> NDArray[np.int64]:
        """Rows of the synapses without detection."""
        return np.setdiff1d(np.arange(len(self.truth)), self.pairs[:, 0])

    @property
    def false_alarms(self) -> NDArray[np.int64]:
        """Rows of the detections without synapse."""
        return np.setdiff1d(np.arange(len(self.detections)), self.pairs[:, 1])

    @property
    def precision(self) -> Rate:
        """The share of the detections that are synapses; NaN without detections."""
        return proportion(self.hits, len(self.detections))

    @property
    def recall(self) -> Rate:
        """The share of the synapses that are detected."""
        return proportion(self.hits, len(self.truth))

    @property
    def f1(self) -> Rate:
        """Harmonic mean of precision and recall; 0 without detections."""
        return f1_of_counts(self.hits, len(self.truth) - self.hits, len(self.detections) - self.hits)

    @property
    def by_kind(self) -> dict[str, Group]:
        """Synapses found, by their type; empty where types are not known."""
        return {} if self.truth.kind is None else _groups(self.truth.kind, self.pairs[:, 0])

    @property
    def truth_by_size(self) -> dict[str, Group]:
        """Synapses found, by their volume; empty where it is not known."""
        return _by_size(self.truth.volume_um3, self.pairs[:, 0])

    @property
    def detections_by_size(self) -> dict[str, Group]:
        """Detections that are synapses, by their volume; empty where it is not known."""
        return _by_size(self.detections.volume_um3, self.pairs[:, 1])

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """Pairs by the synapse's type and by the class that the detection was given; empty where either is unknown."""
        if self.truth.kind is None or self.detections.kind is None:
            return {}
        given = np.unique(self.detections.kind).tolist()
        kinds, classes = self.truth.kind[self.pairs[:, 0]], self.detections.kind[self.pairs[:, 1]]
        return {
            kind: {name: int(np.count_nonzero((kinds == kind) & (classes == name))) for name in given}
            for kind in np.unique(self.truth.kind).tolist()
        }


@called()
def evaluate_points(
    truth: Synapses,
    detections: Synapses,
    max_distance_nm: float = 300.0,
    *,
    extent: Extent | None = None,
    border_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    may_be_empty: bool = False,
) -> Evaluation:
    """Match centres one to one within a distance: as many pairs as possible, and of those the least total distance.

    Synapses nearer than `border_nm` (z, y, x) to a face of `extent` are excluded after the matching, with their
    detections, and so are unmatched detections there. A truth without synapses is refused unless it `may_be_empty`, as
    that of one image of several.
    """
    if not 0 < max_distance_nm < np.inf:
        raise UsageError(
            f"matching within {max_distance_nm:g} nm", "the distance is not above 0", "Give a length above 0"
        )
    candidates = within_distance(truth.centre_um, detections.centre_um, max_distance_nm / 1000)
    rule = f"one to one, centres at most {max_distance_nm:g} nm apart; most pairs, then least total distance"
    evaluation = _evaluate(rule, truth, detections, candidates, extent, border_nm)
    return evaluation if may_be_empty else with_synapses(evaluation)


@called()
def evaluate_labels(
    truth: NDArray[Any],
    detected: NDArray[Any],
    extent: Extent,
    min_iou: float = 0.0,
    *,
    scores: dict[int, float] | None = None,
    border_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    may_be_empty: bool = False,
) -> Evaluation:
    """Match objects of two label volumes, shape (z, y, x), one to one where they overlap; 0 is background.

    As many pairs as possible whose intersection over union is at least `min_iou` (0: one shared voxel), and of those
    the largest total. `scores` are those of the detected labels; the rest is as of `evaluate_points`.
    """
    if truth.shape != detected.shape:
        raise DataError(
            f"labels of the shape {truth.shape}", f"the detections have the shape {detected.shape}", "Give the same box"
        )
    if not 0 <= min_iou <= 1:
        raise UsageError(f"an overlap of {min_iou:g}", "intersection over union is from 0 to 1", "Give such a number")
    synapses, ids, sizes = synapses_of_labels(truth, extent.voxel_size_nm)
    found, found_ids, found_sizes = synapses_of_labels(detected, extent.voxel_size_nm)
    if scores is not None:
        graded = np.array([scores[label] for label in found_ids.tolist()], np.float64)
        found = Synapses(found.centre_um, score=graded, volume_um3=found.volume_um3)
    candidates = overlapping(_numbered(truth, ids), _numbered(detected, found_ids), (sizes, found_sizes), min_iou)
    least = "at least one voxel shared" if min_iou == 0 else f"intersection over union at least {min_iou:g}"
    rule = f"one to one, {least}; most pairs, then largest total of intersection over union"
    evaluation = _evaluate(rule, synapses, found, candidates, extent, border_nm)
    return evaluation if may_be_empty else with_synapses(evaluation)


def with_synapses(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation, or refuse it if its truth has no synapse."""
    if not len(evaluation.truth):
        excluded = evaluation.left_out[0]
        where = f"all {excluded:,} are nearer to the border" if excluded else "none in the truth"
        raise DataError("synapses to be found", f"there are none: {where}", "Give a truth with synapses that count")
    return evaluation


def join(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation of several images as one; centres stay those of each image."""
    if len(evaluations) == 1:
        return evaluations[0]
    truth, detections = (Synapses.join([getattr(one, side) for one in evaluations]) for side in ("truth", "detections"))
    before = np.cumsum([(0, 0)] + [(len(one.truth), len(one.detections)) for one in evaluations], axis=0)
    right = np.concatenate([one.right for one in evaluations])
    return Evaluation(
        rule=evaluations[0].rule,
        truth=truth,
        detections=detections,
        pairs=np.concatenate([one.pairs + start for one, start in zip(evaluations, before[:-1], strict=True)]),
        merged=sum(one.merged for one in evaluations),
        doubled=sum(one.doubled for one in evaluations),
        right=right,
        curve=None if detections.score is None else precision_recall_curve(right, detections.score, len(truth)),
        left_out=(sum(one.left_out[0] for one in evaluations), sum(one.left_out[1] for one in evaluations)),
    )


def _numbered(labels: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels (z, y, x) numbered from 1 without gaps, in the order of `ids`."""
    numbers = np.zeros(labels.shape, np.int64)
    inside = labels != 0
    numbers[inside] = np.searchsorted(ids, labels[inside]) + 1
    return numbers


def _evaluate(
    rule: str,
    truth: Synapses,
    detections: Synapses,
    candidates: Candidates,
    extent: Extent | None,
    border_nm: tuple[float, float, float],
) -> Evaluation:
    """Match, exclude the border, and count."""
    pairs = match(candidates)
    kept = _away_from_border(truth, detections, pairs, extent, border_nm)
    synapses, found = truth.take(kept[0]), detections.take(kept[1])
    # A pair stays or goes as a whole, so the rest of the largest matching is the largest matching of the rest.
    rows = [np.cumsum(side) - 1 for side in kept]
    inside = pairs[kept[0][pairs[:, 0]]]
    left = candidates.among(*kept)
    matched = np.stack([rows[0][inside[:, 0]], rows[1][inside[:, 1]]], axis=1)
    near = np.setdiff1d(left.truth, matched[:, 0]), np.setdiff1d(left.detection, matched[:, 1])
    left_out = (len(truth) - len(synapses), len(detections) - len(found))
    if found.score is None:
        right, curve = np.isin(np.arange(len(found)), matched[:, 1]), None
    else:
        right = gains(left, np.argsort(-found.score, kind="stable"))
        curve = precision_recall_curve(right, found.score, left.truths)
    return Evaluation(rule, synapses, found, matched, len(near[0]), len(near[1]), right, curve, left_out)


def _away_from_border(
    truth: Synapses,
    detections: Synapses,
    pairs: NDArray[np.int64],
    extent: Extent | None,
    border_nm: tuple[float, float, float],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which synapses, and which detections, are not excluded by the border: shape (rows,) each."""
    if not any(border_nm):
        return np.ones(len(truth), np.bool_), np.ones(len(detections), np.bool_)
    if extent is None or not all(0 <= width < np.inf for width in border_nm):
        found = "the volume is not known" if extent is None else "it is not three lengths from 0 upwards"
        raise UsageError(f"a border of {border_nm} nm", found, "Give the ranges of the volume, and lengths in nm")
    border_um = np.asarray(border_nm) / 1000
    counted = [np.all(extent.depth_um(side.centre_um) >= border_um, axis=1) for side in (truth, detections)]
    # a detection is excluded with its synapse
    counted[1][pairs[:, 1]] = counted[0][pairs[:, 0]]
    return counted[0], counted[1]


def _groups(names: NDArray[np.str_], matched: NDArray[np.int64]) -> dict[str, Group]:
    """Count by name."""
    return {
        name: Group(int(np.count_nonzero(names[matched] == name)), int(np.count_nonzero(names == name)))
        for name in np.unique(names).tolist()
    }


def _by_size(volume_um3: NDArray[np.float64] | None, matched: NDArray[np.int64]) -> dict[str, Group]:
    """Count by size class, the smallest first."""
    if volume_um3 is None:
        return {}
    low, middle, high = (f"{edge:g}" for edge in SIZE_EDGES_UM3)
    names = (f"below {low}", f"{low} to {middle}", f"{middle} to {high}", f"{high} and above")
    place = np.searchsorted(SIZE_EDGES_UM3, volume_um3, side="right")
    return {
        name: Group(int(np.count_nonzero(place[matched] == k)), int(np.count_nonzero(place == k)))
        for k, name in enumerate(names)
    }
