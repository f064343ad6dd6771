"""The digits of the table that users get: the one rule for its files, the report, and rows that are computed again.

Centroids have four decimals, in micrometres 0.1 nm; every other measure that is not whole has six significant digits.
More are noise: a synapse has a few dozen voxels of some 100 nm, and its brightness a few per cent of error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.columns import pieces
from nd_synapse.geometry import nearest_voxel

__all__ = ["round_columns", "rounded", "voxel_of"]

_POSITIONS, _DECIMALS = "centroid_", 4
_SIGNIFICANT = 6
_MOST = 22
"""Powers of ten up to this one are exact in float64, so that what is divided by one has no further digits."""

_FROM = np.array([float(f"1e{power}") for power in range(_SIGNIFICANT - 1 - _MOST, _SIGNIFICANT + _MOST)])
_POWERS = np.array([float(10**power) for power in range(_MOST + 1)])


def rounded(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return a column (n,) with the digits that it means, in its own type; whole numbers and text as they are."""
    if values.dtype.kind != "f":
        return values
    exact = np.asarray(values, np.float64)
    if name.startswith(_POSITIONS):
        decimals = np.full(len(exact), _DECIMALS)
    else:
        decimals = _MOST - np.searchsorted(_FROM[1:], np.abs(exact), side="right")
    up, down = _POWERS[np.maximum(decimals, 0)], _POWERS[np.maximum(-decimals, 0)]
    # what is added makes 0 of -0
    return np.asarray(np.rint(exact * up / down) / up * down + 0.0, values.dtype)


def round_columns(table: Mapping[str, NDArray[Any]], into: Mapping[str, NDArray[Any]]) -> None:
    """Write the columns of a table, rounded, into others, a piece at a time."""
    for name, values in table.items():
        for piece in pieces(len(values)):
            into[name][piece] = rounded(name, values[piece])


def voxel_of(centroid: Any, voxels: Any) -> Any:
    """Return the voxels along one axis in which objects of so many voxels lie, int64 (n,), by their rounded centroids.

    The sum of an object's coordinates is whole, and a centroid gives it back for up to some thousand voxels.
    """
    return nearest_voxel(np.rint(np.asarray(centroid) * voxels).astype(np.int64), voxels)
