"""The connected components of a graph, by NumPy alone: importing scipy takes longer than those of a common run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["components"]


def components(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of n things the least one, int64 (n,), that pairs, some a and b, join it to."""
    roots = np.arange(n)
    while True:
        low, high = roots[a], roots[b]
        apart = low != high
        if not apart.any():
            return roots
        a, b, low, high = a[apart], b[apart], low[apart], high[apart]
        np.minimum.at(roots, np.maximum(low, high), np.minimum(low, high))
        roots = _flat(roots)


def _flat(roots: NDArray[Any]) -> NDArray[Any]:
    """Return the roots of all, from roots that may have roots of their own."""
    while True:
        above = roots[roots]
        if np.array_equal(above, roots):
            return roots
        roots = above
