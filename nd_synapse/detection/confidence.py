"""How many detections are expected by chance, and how sure each is: from scores in fields and in their null.

The null pairs each punctum with any other, which is too often: the puncta of a true synapse have each other, and what
meets them by chance makes no further object. So a null detection counts with the chance that its puncta are free: 1 for
a punctum that takes part in no detection, else the share F of detections that are no synapses. That is sought::

    F = (n0 + n1 F + n2 F^2) / detections      n0, n1, n2  null detections of which 0, 1, 2 puncta take part in one

The solution up to 1 is unique if the null has fewer detections than there are, else F is 1. Where nearly all are by
chance and puncta are dense, it would jump with the noise of the counts, so these are taken one standard error larger.

The chance that a detection of some score is no synapse is the local false discovery rate (Efron 2004): weighted null
detections over detections at that score, made to fall with the score by pooling adjacent violators (Barlow 1972).

Barlow, R. E. et al. (1972). Statistical inference under order restrictions. Wiley.
Efron, B. (2004). Large-scale simultaneous hypothesis testing. J. Am. Stat. Assoc. 99(465), 96-104.
doi:10.1198/016214504000000089
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.chance import Sample, Scores

__all__ = ["CONFIDENCE", "Chance"]

CONFIDENCE = "confidence"
"""Column of the table: see `Chance.confidence`."""

_LEAST = 100
"""Detections in the fields from which a confidence is computed."""

_BINS = 40
_LEAST_IN_BIN = 10
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Chance:
    """How many of a run's detections are expected by chance."""

    reason: str = ""
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

    @classmethod
    def of(cls, sample: Sample, fields: int, scores: Scores) -> Self:
        """Compute the figures from the scores of some fields of a sample."""
        found, null = len(scores.found), len(scores.null)
        taken = np.count_nonzero(~np.isnan(scores.partners), axis=1)
        by_taken = np.bincount(taken, minlength=3).tolist()
        ratio = scores.voxels / scores.null_voxels
        low, high = (min(ratio * count / max(found, 1), 1.0) for count in (by_taken[0], null))
        error = math.sqrt(1 / max(found, 1) + 1 / max(null, 1))
        share = _share(*(ratio * (1 + error) * count / max(found, 1) for count in by_taken))
        powers = np.array([1.0, share, share * share]) * (ratio * (1 + error))
        return cls(
            fields=fields,
            shifts=len(sample.shifts) if sample.moved else 0,
            voxels=scores.voxels,
            detections=found,
            null_voxels=scores.null_voxels,
            null_detections=null,
            free_detections=by_taken[0],
            share=min(share, high),
            share_at_least=low,
            share_at_most=high,
            curve=_curve(scores, powers[taken]) if found >= _LEAST else (),
        )

    def confidence(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Return the confidence of scores (n,), float32 from 0 to 1; NaN where none is known."""
        if not self.curve:
            return np.full(len(scores), np.nan, np.float32)
        at, confidence = zip(*self.curve, strict=True)
        values: NDArray[np.float64] = np.interp(np.asarray(scores, np.float64), at, confidence)
        rounded: NDArray[np.float32] = np.round(values, _DIGITS).astype(np.float32)
        return rounded

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
        return (
            f"Of {detections:,} detections about {share} ({low} to {high}) are expected by chance: in "
            f"{self.voxels:,} voxels of {self.fields} fields there are {self.detections:,}, and {null}, "
            f"{self.null_detections:,} in {self.null_voxels:,}."
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
        """Return the figures for run.json."""
        names = ("expected_at_least", "expected", "expected_at_most")
        return asdict(self) | dict(zip(names, self.expected(detections), strict=True))


def _share(of_free: float, of_one: float, of_two: float) -> float:
    """Return the largest F up to 1 with F = of_free + of_one F + of_two F^2; 1 where that is no more than the sum."""
    if of_free + of_one + of_two >= 1:
        return 1.0
    half = (1 - of_one) / 2
    return of_free / (half + math.sqrt(half * half - of_two * of_free))


def _curve(scores: Scores, weights: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return scores and their confidence, given the weight (m,) of each null detection."""
    ordered = np.sort(scores.found)
    bins = min(_BINS, len(ordered) // _LEAST_IN_BIN)
    edges = np.unique(ordered[[k * len(ordered) // bins for k in range(bins)]])
    of_found, of_null = (np.maximum(np.searchsorted(edges, s, "right") - 1, 0) for s in (ordered, scores.null))
    counts = np.bincount(of_found, minlength=len(edges))
    false = _falling(np.bincount(of_null, weights, len(edges)).tolist(), counts.tolist())
    middles = ordered[np.cumsum(counts) - counts + counts // 2]
    return tuple(zip(middles.tolist(), (1 - false).tolist(), strict=True))


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
