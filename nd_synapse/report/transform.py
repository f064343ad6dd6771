"""The transform: brightness on the scale, plain or logarithmic, on which Gaussians describe it best.

Without it, the long tail of a log-normal channel would count as a population.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from nd_synapse.report import mixtures

__all__ = ["to_gaussian_scales"]

_MOST_ROWS = 1_000
_LEAST_WIDTH_SD = 0.05
_SHIFTS = tuple(0.05 * 2.0**i for i in range(8))
_LARGEST_SHIFT = 1000.0
_TOLERANCE = 0.01

Floats = NDArray[np.float64]


def to_gaussian_scales(values: Floats, sample: NDArray[np.int64], seed: int) -> tuple[Floats, tuple[bool, ...]]:
    """Return each column of float64 (rows, channels) as x or log(x - min(x) + a), standardised, and which are logs.

    The choice, and a, give the lowest Bayesian information criterion (BIC) with one Gaussian or a mixture of two; it
    is made on the rows `sample`, and is the same for b * x + c with any b > 0.
    """
    transformed = np.empty_like(values)
    logarithmic = []
    for i, column in enumerate(values.T):
        above = column - column.min() if len(column) else column
        shift = _shift(above[sample], seed)
        found = column if shift is None else np.log(above + shift)
        transformed[:, i] = _standardised(found)
        logarithmic.append(shift is not None)
    return transformed, tuple(logarithmic)


def _standardised(values: Floats) -> Floats:
    centred = values - values.mean() if len(values) else values
    return centred / ((centred.std() if len(values) else 0.0) or 1.0)


def _shift(above: Floats, seed: int) -> float | None:
    """Return what to add to values above 0 before their logarithm; None where they are better without it."""
    if len(above) < 3 or not above.any():
        return None
    # a scale that a long tail does not stretch
    width = max(float(np.median(above)), _LEAST_WIDTH_SD)
    shifts = [width * part for part in _SHIFTS]
    symmetric = _without_skewness(above, shifts[0], width * _LARGEST_SHIFT)
    candidates = [*shifts, *([] if symmetric is None else [symmetric])]
    some = above[:: math.ceil(len(above) / _MOST_ROWS)]
    criteria = [_criterion(np.log(some + shift), seed) + 2 * float(np.log(some + shift).sum()) for shift in candidates]
    best = int(np.argmin(criteria))
    return candidates[best] if criteria[best] < _criterion(some, seed) - mixtures.LEAST_GAIN else None


def _criterion(values: Floats, seed: int) -> float:
    """Return the lower BIC of one Gaussian and of two, in the units of `values`."""
    spread = float(values.std())
    if not spread:
        return math.inf
    standardised = ((values - values.mean()) / spread)[:, np.newaxis]
    n = len(values)
    one = n * (math.log(2 * math.pi) + 1) + 2 * math.log(n)
    return min(one, mixtures.criterion(standardised, seed)) + 2 * n * math.log(spread)


def _without_skewness(above: Floats, low: float, high: float) -> float | None:
    """Return the shift after which the logarithm has no skewness; None where there is none from `low` to `high`."""

    def left(log_shift: float) -> float:
        values = np.log(above + math.exp(log_shift))
        centred = values - values.mean()
        return float((centred**3).mean())

    bounds = math.log(low), math.log(high)
    if left(bounds[0]) >= 0 or left(bounds[1]) <= 0:
        return None
    return math.exp(brentq(left, *bounds, xtol=_TOLERANCE))
