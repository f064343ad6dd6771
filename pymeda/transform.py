"""The transform: skewed brightness becomes roughly normal, so that mixtures split populations rather than skew.

It is no standardisation of the table, which other figures show; and it clusters nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

__all__ = ["unskew"]

_LEAST_WIDTH_SD = 0.05
_SMALLEST_SHIFT = 0.05
_LARGEST_SHIFT = 1000.0
_TOLERANCE = 0.01

Floats = NDArray[np.float64]


def unskew(values: Floats, sample: NDArray[np.int64]) -> tuple[Floats, tuple[bool, ...]]:
    """Take the logarithm of each column that leans to the right, from a zero that leaves it without skewness.

    A column x becomes ``log(x - min(x) + a)``, with `a` such that the third central moment of the sampled rows is 0, or
    as near to that as `a` may go. Units, background and offset of x do not matter: ``b * x + c`` gives the same result
    for any ``b > 0``. Columns that lean to the left or not at all keep their shape.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, columns)
        Each column of mean 0 and standard deviation 1. Not written to.
    sample : ndarray of int64, shape (sampled rows,)
        The rows that choose the shifts.

    Returns
    -------
    transformed : ndarray of float64, shape (rows, columns)
        Each column of mean 0 and standard deviation 1 again. No rows give no rows.
    logarithmic : tuple of bool
        Which columns became logarithms.

    Notes
    -----
    The shifted logarithm is that of Box and Cox (1964), doi:10.1111/j.2517-6161.1964.tb00553.x. They choose the shift
    by likelihood, which grows without bound as the zero comes close to the least row; the skewness does not.
    """
    transformed = np.empty_like(values)
    logarithmic = []
    for i, column in enumerate(values.T):
        above = column - column.min() if len(column) else column
        shift = _shift(above[sample])
        found = column if shift is None else np.log(above + shift)
        found = found - found.mean() if len(found) else found
        transformed[:, i] = found / (found.std() or 1.0) if len(found) else found
        logarithmic.append(shift is not None)
    return transformed, tuple(logarithmic)


def _shift(above: Floats) -> float | None:
    """Return what to add to values from 0 on before their logarithm; None where they do not lean to the right."""
    if len(above) < 3 or _skewness(above) <= 0:
        return None

    def left(log_shift: float) -> float:
        return _skewness(np.log(above + math.exp(log_shift)))

    # measured from the least value to the middle: the scale of the lower half, which the long tail does not stretch
    width = max(float(np.median(above)), _LEAST_WIDTH_SD)
    low, high = math.log(width * _SMALLEST_SHIFT), math.log(width * _LARGEST_SHIFT)
    if left(low) >= 0:
        return math.exp(low)
    if left(high) <= 0:
        return None
    return math.exp(brentq(left, low, high, xtol=_TOLERANCE))


def _skewness(values: Floats) -> float:
    """Return the third central moment in standard deviations; 0 for constant values."""
    centred = values - values.mean()
    spread = centred.std()
    return float((centred**3).mean() / spread**3) if spread > 0 else 0.0
