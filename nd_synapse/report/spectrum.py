"""The spectrum of a table: its principal axes, how much each holds, and where that falls off.

It standardises nothing and draws nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["elbow", "principal_axes"]

Floats = NDArray[np.float64]


def principal_axes(values: Floats) -> tuple[Floats, Floats]:
    """Return the principal axes of standardised values, the strongest first."""
    squares, axes = np.linalg.eigh(values.T @ values)
    squares, axes = np.clip(squares[::-1], 0, None), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return squares, axes * np.where(axes[largest, np.arange(len(largest))] < 0, -1, 1)


def elbow(values: Floats) -> int:
    """Return after how many values a falling series has its elbow, by profile likelihood."""
    n = len(values)
    if n < 3:
        return 0
    likelihoods = []
    for split in range(1, n):
        parts = (values[:split], values[split:])
        pooled = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / max(n - 2, 1)
        likelihoods.append(-n / 2 * math.log(max(pooled, 1e-300)))
    return int(np.argmax(likelihoods)) + 1
