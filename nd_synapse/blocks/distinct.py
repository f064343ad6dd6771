"""The distinct values of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct"]


def distinct(values: NDArray[Any], axis: int | None = None) -> NDArray[Any]:
    """Return the distinct values of an array, or its distinct rows along an axis, ascending."""
    # without counts `unique` imports `numpy.ma`, which takes longer than all values of a common block
    found: NDArray[Any] = np.unique(values, axis=axis, return_counts=True)[0]
    return found
