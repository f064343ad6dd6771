"""How many detections are expected by chance, and how sure each is: from scores in fields and in their null.

The chance that a detection of some score is no synapse is the local false discovery rate (Efron 2004): detections in
the null over those in the voxels as they are, at that score, made to fall with the score by pooling adjacent violators
(Barlow 1972).

The null pairs each punctum with any other, which is too often: the puncta of a true synapse have each other, and what
meets them by chance makes no further object. So each detection of the null is weighted with the chance that the places
of its two puncta are free: 1 for one within reach of no detection, else the chance that this detection is no synapse,
by its score. (Around a bright punctum a mirrored image has bright rings, which are weighted alike.) In the voxels as
they are two puncta that meet are in one place, which must be free once and not twice: so the sum is divided by the mean
weight of a place anywhere, measured where the detections of the null lie in the field turned round.

That chance starts as 1 and is computed three times: it has settled where synapses are many, and more rounds would only
follow the noise of the counts where chance makes nearly all.

The confidences say as well from which score on detections are best kept: the sum of those that are kept is how many
right ones to expect, that of all is how many there are to be found, and F1 = 2 right / (kept + to be found). A pipeline
that `raises_strictness` keeps the bins with the largest, and the figures are of those.

Barlow, R. E. et al. (1972). Statistical inference under order restrictions. Wiley.
Efron, B. (2004). Large-scale simultaneous hypothesis testing. J. Am. Stat. Assoc. 99(465), 96-104.
doi:10.1198/016214504000000089
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Context
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.distinct import distinct
from nd_synapse.detection.chance import Sample, Scores
from nd_synapse.pipeline.contract import Finding
from nd_synapse.text import written

__all__ = ["CONFIDENCE", "MOST_BY_CHANCE", "Chance", "shortest_strictness"]

MOST_BY_CHANCE = 0.5
"""Share of the detections from which on a run is to be doubted."""

CONFIDENCE = "confidence"
"""Column of the table: see `Chance.confidence`."""

_LEAST = 100
"""Detections in the fields from which a confidence is computed; with fewer the figure is uncertain."""

_MISSED = 3
"""Detections of the null that a null without any leaves possible, at 95 % (the rule of three)."""

_BINS = 40
_LEAST_IN_BIN = 10
_ROUNDS = 3
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Chance:
    """How many of a run's detections are expected by chance."""

    reason: str = "it was not measured"
    """Why there is no figure; empty where there is one."""
    fields: int = 0
    shifts: int = 0
    """How often the markers were shifted; 0 where images are mirrored."""
    voxels: int = 0
    """Voxels of the fields."""
    detections: int = 0
    """Detections in the fields, as they are."""
    null_voxels: int = 0
    """Voxels in which the null was searched."""
    null_detections: int = 0
    """Detections in the null."""
    free_detections: int = 0
    """Those of the null whose puncta take part in no detection."""
    share: float = 0.0
    """Share of the detections that is expected by chance."""
    share_at_least: float = 0.0
    """The same if all detections with a partner were synapses: of the null, `free_detections` count alone."""
    share_at_most: float = 0.0
    """The same if each punctum were free to meet any other: all of the null counts."""
    curve: tuple[tuple[float, float], ...] = ()
    """Scores, ascending, and the confidence of each; empty with too few detections."""
    least_score: float | None = None
    """The score to which the strictness was raised; None where it was not."""

    @classmethod
    def of(cls, sample: Sample, fields: int, scores: Scores, *, raises: bool = False) -> Self:
        """Compute the figures from the scores of some fields of a sample; `raises` says whether to raise the least."""
        if not len(scores.found) or not scores.null_voxels:
            return cls(reason="the sample fields hold no detection, or no tissue")
        every = _Bins.of(scores)
        bins = every.best() if raises and len(scores.found) >= _LEAST else every
        raised = len(bins.edges) < len(every.edges)
        least = shortest_strictness(float(bins.edges[0]), scores.found) if raised else -math.inf
        found, null = (int(np.count_nonzero(those >= least)) for those in (scores.found, scores.null))
        free = int(np.count_nonzero(np.isnan(scores.partners).all(axis=1) & (scores.null >= least)))
        at_least, at_most, missed = (
            min(count * scores.voxels / (scores.null_voxels * found), 1.0) for count in (free, null, _MISSED)
        )
        share, curve = bins.share, bins.curve
        if not len(scores.null):
            share, curve = 0.0, ((float(np.median(scores.found)), 1 - missed),)
        return cls(
            reason="",
            fields=fields,
            shifts=len(sample.shifts) if sample.moved else 0,
            voxels=scores.voxels,
            detections=found,
            null_voxels=scores.null_voxels,
            null_detections=null,
            free_detections=free,
            share=share,
            share_at_least=min(at_least, share),
            share_at_most=max(at_most, share),
            curve=curve if len(scores.found) >= _LEAST else (),
            least_score=least if raised else None,
        )

    def confidence(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Return the confidence of scores (n,), float32 from 0 to 1; NaN where none is known."""
        if not self.curve:
            return np.full(len(scores), np.nan, np.float32)
        at, confidence = zip(*self.curve, strict=True)
        values: NDArray[np.float64] = np.interp(np.asarray(scores, np.float64), at, confidence)
        rounded: NDArray[np.float32] = np.round(values, _DIGITS).astype(np.float32)
        return rounded

    def raised(self, finding: Finding) -> Finding:
        """Return what was learned, with the strictness raised."""
        return finding if self.least_score is None else finding | {"strictness": self.least_score}

    def expected(self, detections: int) -> tuple[int, int, int]:
        """Return how many of so many detections are expected by chance: at least, the estimate, at most."""
        low, share, high = (round(detections * n) for n in (self.share_at_least, self.share, self.share_at_most))
        return low, share, high

    def words(self, detections: int) -> str:
        """Return the figure for so many detections as a sentence."""
        if self.reason:
            return f"How many detections are expected by chance is not known: {self.reason}."
        low, share, high = (f"{n:,}" for n in self.expected(detections))
        null = f"with one side's markers shifted, {self.shifts} times" if self.shifts else "in the mirrored image"
        notes = " They are few, and the figure is uncertain." if self.detections < _LEAST else ""
        if self.least_score is not None:
            raised = f"The strictness was raised to {written(self.least_score)}"
            notes += f" {raised}: with more detections the expected F1 would be lower."
        return (
            f"Of {detections:,} detections about {share} ({low} to {high}) are expected by chance: in "
            f"{self.voxels:,} voxels of {self.fields} fields there are {self.detections:,}, and {null}, "
            f"{self.null_detections:,} in {self.null_voxels:,}.{notes}"
        )

    @property
    def limits(self) -> str:
        """What the figure leaves out, as a sentence."""
        if not self.shifts:
            return "Between bright spots the mirrored image is darker than noise alone would make it."
        return (
            "These are too few where one stain bleeds into the other channel, or where all channels show the same "
            "object; where the channels of a section are not aligned, synapses are lost, and the rest is chance."
        )

    def record(self, detections: int) -> dict[str, Any]:
        """Return the figures for run.json, or the reason why there are none."""
        if self.reason:
            return {"reason": self.reason}
        names = ("expected_at_least", "expected", "expected_at_most")
        return asdict(self) | dict(zip(names, self.expected(detections), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """Detections by their scores, ascending, and the chance that one is false; all of shape (bins,)."""

    edges: NDArray[np.float32]
    """The least score in each."""
    counts: NDArray[np.int64]
    middles: NDArray[np.float32]
    false: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores) -> Self:
        """Sort the detections of some fields into bins, and weigh those of the null."""
        ordered = np.sort(scores.found)
        bins = max(1, min(_BINS, len(ordered) // _LEAST_IN_BIN))
        edges = distinct(ordered[[k * len(ordered) // bins for k in range(bins)]])

        def bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
            return np.maximum(np.searchsorted(edges, values, side="right") - 1, 0)

        counts = np.bincount(bin_of(ordered), minlength=len(edges))
        partners, elsewhere = (
            np.where(np.isnan(those), len(edges), bin_of(those)) for those in (scores.partners, scores.elsewhere)
        )
        places = np.bincount(elsewhere.ravel(), minlength=len(edges) + 1)
        alike, numbers = np.unique(np.column_stack([bin_of(scores.null), partners]), axis=0, return_counts=True)
        false = np.ones(len(edges))
        for _ in range(_ROUNDS):
            free = np.append(false, 1.0)
            weights = numbers * free[alike[:, 1]] * free[alike[:, 2]]
            anywhere = math.fsum((free * places).tolist()) / int(places.sum()) if places.any() else 0.0
            scale = scores.voxels / (scores.null_voxels * anywhere) if anywhere else 0.0
            of_chance = np.bincount(alike[:, 0], weights, len(edges)) * scale
            false = _falling(of_chance.tolist(), counts.tolist())
        return cls(edges, counts, ordered[np.cumsum(counts) - counts + counts // 2], false)

    def best(self) -> Self:
        """Return those from the one on with which the expected F1 is largest."""
        kept, right = (np.cumsum(values[::-1])[::-1] for values in (self.counts, (1 - self.false) * self.counts))
        first = int(np.argmax(2 * right / (kept + right[0])))
        return type(self)(self.edges[first:], self.counts[first:], self.middles[first:], self.false[first:])

    @property
    def share(self) -> float:
        """The share of the detections that is expected by chance."""
        return math.fsum((self.false * self.counts).tolist()) / int(self.counts.sum())

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """Scores with their confidence."""
        return tuple(zip(self.middles.tolist(), (1 - self.false).tolist(), strict=True))


def _falling(weights: Sequence[float], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return weights over counts, at most 1, shape (n,): bins that would rise are pooled with those before them."""
    pools: list[tuple[float, int, int]] = []
    for weight, count in zip(weights, counts, strict=True):
        pool = (weight, count, 1)
        while pools and pools[-1][0] * pool[1] <= pool[0] * pools[-1][1]:
            before = pools.pop()
            pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
        pools.append(pool)
    return np.array([min(weight / count, 1.0) for weight, count, bins in pools for _ in range(bins)])


def shortest_strictness(least: float, scores: NDArray[np.floating[Any]]) -> float:
    """Return the number with the fewest digits that keeps the same scores (n,) as one of them does: people copy it."""
    # near it also where there is no lower score: what lies between may not have been looked for
    below = np.float32(scores[scores < least].max(initial=least - abs(least) / 100))
    cut = (float(Context(digits, ROUND_FLOOR).create_decimal(repr(least))) for digits in range(1, 18))
    return next((number for number in cut if np.float32(number) > below), least)
