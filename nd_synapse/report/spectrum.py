"""Principal axes of a standardised table, and the elbow of their strengths."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["elbow", "principal_axes"]

Floats = NDArray[np.float64]


def principal_axes(values: Floats) -> tuple[Floats, Floats]:
    """Return squared singular values, (channels,), the largest first, and axes as columns, (channels, channels)."""
    squares, axes = np.linalg.eigh(values.T @ values)
    squares, axes = np.clip(squares[::-1], 0, None), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return squares, axes * np.where(axes[largest, np.arange(len(largest))] < 0, -1, 1)


def elbow(values: Floats) -> int:
    """Return how many values come before the elbow of a falling series, by profile likelihood; 0 for fewer than 3.

    Zhu and Ghodsi (2006), doi:10.1016/j.csda.2005.09.010.
    """
    n = len(values)
    if n < 3:
        return 0
    likelihoods = []
    for split in range(1, n):
        parts = (values[:split], values[split:])
        pooled = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / max(n - 2, 1)
        likelihoods.append(-n / 2 * math.log(max(pooled, 1e-300)))
    return int(np.argmax(likelihoods)) + 1
