"""Figures of merit: rates with their intervals, curves over thresholds, areas.

Clopper, C. J. and Pearson, E. S. (1934). The use of confidence or fiducial limits illustrated in the case of the
binomial. Biometrika 26(4), 404-413. doi:10.1093/biomet/26.4.404

Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. JASA 22(158), 209-212.
doi:10.1080/01621459.1927.10502953

Hanley, J. A. and McNeil, B. J. (1982). The meaning and use of the area under a receiver operating characteristic (ROC)
curve. Radiology 143(1), 29-36. doi:10.1148/radiology.143.1.7063747
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Curve",
    "Rate",
    "area_under_roc",
    "balanced_accuracy",
    "bootstrap",
    "exact_proportion",
    "f1_of_counts",
    "precision_recall_curve",
    "proportion",
    "ratio",
    "resampled",
]

_Z = 1.959963984540054  # half of the normal distribution's middle 95 % lies below it
_AT_ONCE = 2_000_000  # weights of resamples that are held at a time


@dataclass(frozen=True, slots=True)
class Rate:
    """A figure and its 95 % interval; all NaN where there is nothing to divide by."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall at every threshold that makes a difference, shape (n,)."""

    threshold: NDArray[np.float64]
    """Descending; detections of at least this score count."""
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float
    """Sum over thresholds of the precision times the gain in recall, without interpolation; 0 for an empty curve."""

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 at each threshold, 0 where nothing is found; shape (n,)."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)


def proportion(hits: int, of: int) -> Rate:
    """Return a proportion with Wilson's score interval."""
    if not of:
        return Rate(math.nan, math.nan, math.nan)
    share, z2 = hits / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    # at 0 and 1 the ends are exact; rounding may put them beside the value
    return Rate(share, 0.0 if hits == 0 else middle - half, 1.0 if hits == of else middle + half)


def exact_proportion(hits: int, of: int) -> Rate:
    """Return a proportion with the exact interval, which covers at least 95 % (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv  # scipy is imported only where it is used

    if not of:
        return Rate(math.nan, math.nan, math.nan)
    low = 0.0 if hits == 0 else float(betaincinv(hits, of - hits + 1, 0.025))
    return Rate(hits / of, low, 1.0 if hits == of else float(betaincinv(hits + 1, of - hits, 0.975)))


def f1_of_counts(hits: int, missed: int, false_alarms: int) -> Rate:
    """Return F1 with an interval.

    F1 is ``2 s / (1 + s)`` of the share ``s = hits / (hits + missed + false_alarms)`` and grows with it, so Wilson's
    interval of that share gives one of F1.
    """
    share = proportion(hits, hits + missed + false_alarms)
    return Rate(*(2 * s / (1 + s) for s in (share.value, share.low, share.high)))


def precision_recall_curve(gain: NDArray[np.bool_], score: NDArray[np.float64], truths: int) -> Curve:
    """Compute precision and recall at each different score, highest first; equal scores count together.

    `gain` (n,) says whether a detection adds a hit to those of higher score; `score` (n,) has no NaN.
    """
    order = np.argsort(-score, kind="stable")
    descending = score[order]
    last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if len(score) else np.empty(0, np.int64)
    hits = np.cumsum(gain[order])[last]
    precision, recall = hits / (last + 1), hits / max(truths, 1)
    average = float(np.sum(precision * np.diff(recall, prepend=0.0)))
    return Curve(descending[last].astype(np.float64), precision.astype(np.float64), recall, average)


def area_under_roc(
    score: NDArray[np.float64], positive: NDArray[np.bool_], weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the area under the ROC curve, float64 (b,), NaN where a class is empty (Hanley and McNeil 1982).

    It is the chance that a positive scores higher than a negative, ties counted half, computed from ranks. `score` and
    `positive` are (n,), without NaN; `weight` (b, n) says how often each counts in each of b resamples.
    """
    weights = np.ones((1, len(score))) if weight is None else weight
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    ascending = score[order]
    first = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    sorted_weights = weights[:, order]
    above = np.add.reduceat(np.where(positive[order], sorted_weights, 0.0), first, axis=1)
    below = np.add.reduceat(np.where(positive[order], 0.0, sorted_weights), first, axis=1)
    wins = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    return ratio(wins, above.sum(axis=1) * below.sum(axis=1))


def balanced_accuracy(
    chosen: NDArray[np.bool_], positive: NDArray[np.bool_], weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the mean of both classes' shares that are chosen rightly, float64 (b,); arguments as `area_under_roc`."""
    weights = np.ones((1, len(chosen))) if weight is None else weight
    shares = []
    for of, right in ((positive, positive & chosen), (~positive, ~positive & ~chosen)):
        shares.append(ratio(weights @ right.astype(np.float64), weights @ of.astype(np.float64)))
    mean: NDArray[np.float64] = (shares[0] + shares[1]) / 2
    return mean


def bootstrap(
    figure: Callable[[NDArray[np.float64] | None], NDArray[np.float64]],
    positive: NDArray[np.bool_],
    resamples: int,
    seed: int,
    size: int = 0,
) -> Rate:
    """Return a figure with the middle 95 % of its values over resamples (percentile bootstrap).

    Each class is drawn from separately, with replacement. `figure` maps weights (b, n), or None for the data as they
    are, to figures (b,). `size` is as of `resampled`.
    """
    value = float(figure(None)[0])
    if math.isnan(value):
        return Rate(value, value, value)
    low, high = np.percentile(resampled(figure, positive, resamples, seed, size), [2.5, 97.5])
    return Rate(value, float(low), float(high))


def resampled(
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    positive: NDArray[np.bool_],
    resamples: int,
    seed: int,
    size: int = 0,
) -> NDArray[np.float64]:
    """Return a figure of each resample, shape (resamples,), drawn as by `bootstrap`; the same seed draws the same.

    `size` is the number of values a resample that `figure` holds, where that is more than the elements that are drawn.
    """
    rng = np.random.default_rng(seed)
    batch = max(1, _AT_ONCE // max(len(positive), size))
    batches = [batch] * (resamples // batch) + [resamples % batch]
    return np.concatenate([figure(_weights(rng, positive, n)) for n in batches if n])


def _weights(rng: np.random.Generator, positive: NDArray[np.bool_], resamples: int) -> NDArray[np.float64]:
    """Return how often each element is drawn, shape (resamples, n)."""
    weights = np.zeros((resamples, len(positive)))
    for members in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        if len(members):
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return weights


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide arrays of one shape; NaN where there is nothing to divide by."""
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return quotient
