"""The strictness to use, from labelled images: the least score at which F1 is best, and what to expect there.

The unit of resampling is a *tile*: an image, or a part of one where there are few images. Labels differ more
from image to image than from synapse to synapse, so intervals come from drawing tiles with replacement.

F1 is flat near its best, so the best score of the labels as they are is much a matter of chance. The strictness is the
median of the best scores of the resamples (bagging; Breiman 1996), its interval their middle 95 %. Precision and recall
at a strictness that was chosen on the same labels flatter; those to expect come from tiles that were left out when it
was chosen (cross-validation; Stone 1974).

Breiman, L. (1996). Bagging predictors. Machine Learning 24(2), 123-140. doi:10.1007/BF00058655

Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American Statistician 69(4), 371-386.
doi:10.1080/00031305.2015.1089789

Stone, M. (1974). Cross-validatory choice and assessment of statistical predictions. J. R. Stat. Soc. B 36(2), 111-147.
doi:10.1111/j.2517-6161.1974.tb00994.x
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.confidence import shortest_strictness
from nd_synapse.evaluate.evaluation import Evaluation
from nd_synapse.evaluate.metrics import Rate, ratio, resampled
from nd_synapse.evaluate.synapses import Extent

__all__ = ["LEAST_SYNAPSES", "Advice", "Marked", "advise", "broken_promise", "ratio_of_sums"]

LEAST_SYNAPSES = 10
"""Labelled synapses below which no strictness is given."""

_OFF = 0.05
"""Share of the detections by which the scores of a laxer run may be wrong: those of `nomads-classifier` are by 0.01."""

_TILES = 16  # at least, so that an interval means something
_MOST_FOLDS = 20
_RESAMPLES_OF_A_FOLD = 100


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Detections in labelled tiles, and which of them are right."""

    score: NDArray[np.float64]
    """Shape (n,); equal for all where the pipeline has no scores."""
    right: NDArray[np.bool_]
    """Which detections add a hit to those of higher score, shape (n,)."""
    tile: NDArray[np.int64]
    """The tile that each lies in, shape (n,)."""
    synapses: NDArray[np.int64]
    """Number of labelled synapses in each tile, shape (tiles,)."""

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], extents: Sequence[Extent | None]) -> Marked:
        """Join the evaluations of images, each cut into as many tiles along y and x as make 16 of all."""
        side = math.ceil(math.sqrt(_TILES / len(evaluations)))
        scores, right, tiles, synapses = [], [], [], []
        for image, (one, extent) in enumerate(zip(evaluations, extents, strict=True)):
            low, high = _bounds(one, extent)
            truth, found = (_tiles(of.centre_um, low, high, side) for of in (one.truth, one.detections))
            found[one.pairs[:, 1]] = truth[one.pairs[:, 0]]  # a hit is not to count in another tile than its synapse
            scores.append(np.zeros(len(found)) if one.detections.score is None else one.detections.score)
            right.append(one.right)
            tiles.append(found + image * side * side)
            synapses.append(np.bincount(truth, minlength=side * side))
        return cls(np.concatenate(scores), np.concatenate(right), np.concatenate(tiles), np.concatenate(synapses))

    def counts(self, least: float | None = None) -> NDArray[np.float64]:
        """Return the hits, detections and synapses of each tile, shape (3, tiles), of scores of at least `least`."""
        kept = np.ones(len(self.score), np.bool_) if least is None else self.score >= least
        tiles = len(self.synapses)
        hits = np.bincount(self.tile[kept & self.right], minlength=tiles)
        return np.stack([hits, np.bincount(self.tile[kept], minlength=tiles), self.synapses]).astype(np.float64)

    def curve(self, weight: NDArray[np.float64] | None = None) -> tuple[NDArray[np.float64], ...]:
        """Return scores, descending (k,), and the F1 at each (b, k) and average precision (b,) of b resamples.

        `weight` (b, tiles) says how often each tile counts.
        """
        score, hits, found, synapses = self._sums(weight)
        precision, gained = np.nan_to_num(ratio(hits, found)), np.diff(hits, axis=1, prepend=0.0)
        average = np.minimum(ratio(np.sum(precision * gained, axis=1), synapses), 1.0)
        return score, np.nan_to_num(ratio(2 * hits, found + synapses[:, None])), average

    def best(self, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the score at which F1 is best in each resample, shape (b,); there has to be a detection."""
        score, hits, found, synapses = self._sums(weight)
        best: NDArray[np.float64] = score[np.argmax(hits / np.maximum(found + synapses[:, None], 1), axis=1)]
        return best

    def _sums(self, weight: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], ...]:
        """Return scores, descending (k,), hits and detections of at least each (b, k), and synapses (b,)."""
        weights = np.ones((1, len(self.synapses))) if weight is None else weight
        order = np.argsort(-self.score, kind="stable")
        descending = self.score[order]
        last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if len(order) else order
        each = weights[:, self.tile[order]]
        hits = np.cumsum(each * self.right[order], axis=1)
        return descending[last], hits[:, last], np.cumsum(each, axis=1)[:, last], weights @ self.synapses

    def without(self, tiles: NDArray[np.int64]) -> Marked:
        """Return what is left when tiles are left out."""
        stay = ~np.isin(np.arange(len(self.synapses)), tiles)
        kept = stay[self.tile]
        return Marked(self.score[kept], self.right[kept], (np.cumsum(stay) - 1)[self.tile[kept]], self.synapses[stay])


@dataclass(frozen=True, slots=True)
class Advice:
    """The strictness to use, with 95 % intervals."""

    strictness: Rate
    """Of the numbers that keep the same detections, those with the fewest digits."""
    precision: Rate
    """To be expected on images that were not labelled, as are recall and F1."""
    recall: Rate
    f1: Rate
    lowest: float
    """The smallest score of a detection: nothing below it was tried."""
    synapses: int
    tiles: int


def broken_promise(strictness: Sequence[float], strict: Sequence[Evaluation], lax: Sequence[Evaluation]) -> str:
    """Return why the scores of a lax run do not tell what a strictness finds, or nothing if they do.

    `strict` are evaluations of images, each at its strictness, `lax` those of the same at a lower one.
    """
    found = sum(len(one.detections.centre_um) for one in strict)
    kept = 0
    for least, one in zip(strictness, lax, strict=True):
        if one.detections.score is not None:
            kept += int(np.count_nonzero(one.detections.score >= least))
        elif len(one.detections.centre_um):
            return "the pipeline has a strictness, and its table no column score"
    if abs(found - kept) <= max(2, _OFF * found):
        return ""
    return (
        f"{found:,} are found at a strictness of {max(strictness):g}, and {kept:,} of those at a lower one\n"
        "have at least that score: the pipeline's objects change with the strictness"
    )


def advise(marked: Marked, resamples: int = 1000, seed: int = 0) -> Advice | None:
    """Choose the strictness; None where fewer than `LEAST_SYNAPSES` are labelled, or nothing right is detected."""
    if marked.synapses.sum() < LEAST_SYNAPSES or not marked.right.any():
        return None
    tiles = len(marked.synapses)
    counts = np.zeros((3, tiles))
    counts[2] = marked.synapses
    folds = np.random.default_rng(seed).permutation(tiles) % min(tiles, _MOST_FOLDS)
    for fold in range(int(folds.max()) + 1):
        held = np.flatnonzero(folds == fold)
        others = marked.without(held)
        if len(others.score):
            counts[:, held] = marked.counts(_chosen(others, _RESAMPLES_OF_A_FOLD, seed).value)[:, held]
    hits, found, synapses = counts
    best = _chosen(marked, resamples, seed)
    return Advice(
        strictness=Rate(*(shortest_strictness(least, marked.score) for least in (best.value, best.low, best.high))),
        precision=ratio_of_sums(hits, found, resamples, seed),
        recall=ratio_of_sums(hits, synapses, resamples, seed),
        f1=ratio_of_sums(2 * hits, found + synapses, resamples, seed),
        lowest=float(marked.score.min()),
        synapses=int(synapses.sum()),
        tiles=tiles,
    )


def _chosen(marked: Marked, resamples: int, seed: int) -> Rate:
    """Return the median of the best scores of the resamples and their middle 95 %."""
    values = resampled(marked.best, np.ones(len(marked.synapses), np.bool_), resamples, seed, len(marked.score))
    low, middle, high = np.percentile(values, [2.5, 50, 97.5], method="closest_observation")
    return Rate(float(middle), float(low), float(high))


def ratio_of_sums(part: NDArray[np.float64], whole: NDArray[np.float64], resamples: int, seed: int) -> Rate:
    """Return the ratio of two sums over tiles, (tiles,) each, and a 95 % interval by resampling the tiles.

    The percentiles are those that Student's t takes for so few tiles (Hesterberg 2015). At a border a hit may count in
    another tile than its synapse, so that a resample may exceed 1.
    """
    from scipy.special import ndtr, stdtrit  # scipy is imported only where it is used

    tiles = len(part)
    beyond = 100 * float(ndtr(-stdtrit(max(tiles - 1, 1), 0.975) * math.sqrt(tiles / max(tiles - 1, 1))))
    values = resampled(
        lambda weight: np.nan_to_num(ratio(weight @ part, weight @ whole)), np.ones(tiles, np.bool_), resamples, seed
    )
    low, high = np.percentile(np.minimum(values, 1.0), [beyond, 100 - beyond])
    return Rate(
        float(np.nan_to_num(ratio(part.sum(keepdims=True), whole.sum(keepdims=True))[0])), float(low), float(high)
    )


def _bounds(evaluation: Evaluation, extent: Extent | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of a labelled volume in micrometres, shape (3,) each; without an extent, those of its points.

    A point on the far face belongs to the last tile.
    """
    if extent is not None:
        size_um = np.asarray(extent.voxel_size_nm) / 1000
        return (np.asarray(extent.box.start) - 0.5) * size_um, (np.asarray(extent.box.stop) - 0.5) * size_um
    points = np.concatenate([evaluation.truth.centre_um, evaluation.detections.centre_um])
    return points.min(axis=0), points.max(axis=0)


def _tiles(
    centre_um: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], side: int
) -> NDArray[np.int64]:
    """Return the tile of each point (n, 3), of `side` along y and along x, shape (n,)."""
    part = (centre_um - low)[:, 1:] / np.maximum(high - low, 1e-9)[1:]
    row, column = np.clip(np.floor(part * side).astype(np.int64), 0, side - 1).T
    tile: NDArray[np.int64] = row * side + column
    return tile
