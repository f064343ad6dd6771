"""The counting brick: which objects it counts, so that none is counted too often for being cut.

An object that a face of the box cuts lies in part elsewhere; a count of all that show something counts those at the
faces too often, and large ones most. A counting brick counts an object unless it touches one of three faces, one of
each two that are opposite, so that of bricks that fill space one and no other counts it (the frame of Gundersen 1977,
J. Microsc. 111:219, doi:10.1111/j.1365-2818.1977.tb00062.x; in space Howard et al. 1985, J. Microsc. 138:203,
doi:10.1111/j.1365-2818.1985.tb02613.x).

Where a face is the end of the data, an object in the outermost plane may begin there or before. That plane can only
tell what to leave out, as the look-up section of a disector does (Sterio 1984, J. Microsc. 134:127,
doi:10.1111/j.1365-2818.1984.tb02501.x); the brick is what lies behind it: of eight sections it holds seven.

The three low faces may exclude, or the three high ones. One is as right as the other, so an object counts by the mean
of both: 1, 0.5 or 0. Padding and blocks that failed end the data as a face does; what has no tissue counts 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["excluded", "weights"]

Bools = NDArray[np.bool_]


def excluded(
    objects: Mapping[str, NDArray[Any]], volume: Box, rows: NDArray[np.int64] | slice = slice(None)
) -> tuple[Bools, Bools]:
    """Return which objects the data may cut on their low side, and which on their high side; (n,)."""
    # a column at a time: there may be many objects
    low, high = (objects[name][rows] != 0 for name in ("rim_low", "rim_high"))
    for axis, (start, stop) in zip("zyx", volume.ranges, strict=True):
        low |= objects[f"start_{axis}"][rows] == start
        high |= objects[f"stop_{axis}"][rows] == stop
    return low, high


def weights(low: Bools, high: Bools) -> NDArray[np.float64]:
    """Return how much the brick counts of each object, given what `excluded` returns: 0, 0.5 or 1, shape (n,)."""
    counted: NDArray[np.float64] = 1 - (low.astype(np.float64) + high) / 2
    return counted
