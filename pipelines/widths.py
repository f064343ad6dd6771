"""The width of a marker's puncta, measured from the data: each punctum votes for the window that answers it most.

The contrast of a window to a blob is largest where the window is as wide as the blob. So in a sample of rows the
contrast is computed with windows of several widths, and each place where it is largest both among its neighbours in the
section and among the widths is a vote for its width, with its contrast as weight (scale selection: Lindeberg 1998). The
median of the votes that stand out from noise is the width. A place where the narrowest or the widest window answers
most is no punctum and does not vote: noise is narrower, somata are wider.

Lindeberg, T. (1998). Feature detection with automatic scale selection. Int. J. Comput. Vis. 30(2), 79-116.
doi:10.1023/A:1008045108935
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError

__all__ = ["candidates", "median", "votes", "votes_above"]

_NARROWEST_NM, _WIDEST_NM = 200.0, 720.0
"""Widths that a synaptic punctum may have: no light microscope resolves less, and larger ones are no synapses."""

_LEAST_PIXELS = 3

_STEP = 1.4
"""From one width to the next, if that is more than two pixels."""

_COARSE = 22
"""Bits of a float32 that the level of a vote does not have."""

_LEVELS = 510


@cache
def candidates(voxel_size_nm: tuple[float, float, float]) -> tuple[float, ...]:
    """Return the widths to try in nanometres, ascending: odd numbers of pixels; the first and the last cannot win."""
    pixel = float(min(voxel_size_nm[1:]))
    if _LEAST_PIXELS * pixel > _WIDEST_NM:
        found = f"a punctum of at most {_WIDEST_NM:g} nm has fewer than {_LEAST_PIXELS} pixels of {pixel:g} nm"
        remedy = "Check their order (z, y, x) and unit (nm), or give the width with --param punctum_nm=NM"
        raise DataError("the width of puncta", found, remedy)
    halves = [max(1, int((_NARROWEST_NM / pixel - 1) / 2 + 0.5))]
    while (2 * (wider := _wider(halves[-1])) + 1) * pixel <= _WIDEST_NM:
        halves.append(wider)
    halves = [min(halves[0] - 1, int(halves[0] / _STEP)), *halves, _wider(halves[-1])]
    return tuple((2 * half + 1) * pixel for half in halves)


def _wider(half: int) -> int:
    """Return the next half width."""
    return max(half + 1, int(half * _STEP + 0.5))


def votes(responses: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int64]]:
    """Count the votes for each width but the first and the last, by contrast: int64 (510,), two levels to its double.

    `responses` are the contrasts by width, each of the shape (z, y + 2, x + 2): votes are counted without the outermost
    rows and columns, whose neighbours are not there.
    """
    largest = [_largest_around(response) for response in responses]
    counted = []
    for k in range(1, len(responses) - 1):
        own = responses[k][:, 1:-1, 1:-1]
        among = np.maximum(np.maximum(largest[k - 1], largest[k]), largest[k + 1])
        winners = own[(own >= among) & (own > 0)]
        counted.append(np.bincount(winners.view(np.uint32) >> np.uint32(_COARSE), minlength=_LEVELS))
    return counted


def votes_above(counted: NDArray[np.int64], least: float) -> float:
    """Return the sum of the contrasts of those votes for a width that have at least a contrast, in whole levels."""
    first = int(np.float32(least).view(np.uint32) >> np.uint32(_COARSE))
    levels = np.arange(first, len(counted), dtype=np.uint32) << np.uint32(_COARSE)
    return float(counted[first:] @ levels.view(np.float32).astype(np.float64))


def _largest_around(response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest of the nine values round each in its section, shape (z, y, x)."""
    rows = np.maximum(np.maximum(response[:, :-2], response[:, 1:-1]), response[:, 2:])
    largest: NDArray[np.float32] = np.maximum(np.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    return largest


def median(counted: Sequence[float]) -> int:
    """Return the place of the median vote; that of the narrowest where there is none."""
    sums = list(accumulate(counted))
    return next((place for place, total in enumerate(sums) if 2 * total >= sums[-1]), 0)
