"""Tables too long for memory: their rows a piece at a time, and an even sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "counted", "pieces", "step_of"]

MOST_ROWS = 2**20
"""Rows of a piece: a column of numbers of them has 8 MiB."""


def pieces(rows: int) -> Iterator[slice]:
    """Yield consecutive slices that cover some rows."""
    for start in range(0, rows, MOST_ROWS):
        yield slice(start, min(start + MOST_ROWS, rows))


def step_of(rows: int, most: int) -> int:
    """Return of how many rows one is taken, from the first on, to have at most `most`: a power of two."""
    return 1 << (-(-rows // most) - 1).bit_length() if rows > most else 1


def counted(values: NDArray[Any]) -> dict[Any, int]:
    """Return how often each value of a column (n,) occurs, in the order of the values."""
    found = Counter[Any]()
    for piece in pieces(len(values)):
        some, sizes = np.unique(values[piece], return_counts=True)
        found.update(dict(zip(some.tolist(), sizes.tolist(), strict=True)))
    return dict(sorted(found.items()))
