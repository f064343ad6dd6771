"""Flat areas of sections: pixels that lie in a square of one exact value. `regions` describes them, `padding` decides.

::

    +--------------+    a pixel is flat if it lies in a square of 8 x 8 pixels of one value; noise makes no such square,
    |000000000     |    and padding is made of them. The section is mirrored at the border of the box, so that a strip
    |000000000  3 1|    of four pixels is found.
    |00000000000000|
    +--------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH", "STEP", "flat_pixels", "values_of"]

_SIDE = 8
REACH = _SIDE - 1
"""Pixels around a pixel that it depends on whether it is flat."""

STEP = 8
"""Values of a channel are counted at every eighth pixel along y and x."""

_BETWEEN = ((2, 2), (1, 1), (3, 3), (1, 3), (3, 1), (0, 2), (2, 0), (2, 4), (4, 2))
"""Pixels between four points of the lattice; others tell little more."""

_MANY = 64
"""Places from which a section is searched whatever is around them."""


def flat_pixels(voxels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which voxels (z, y, x) are flat, without a margin of `REACH` along y and x; None where none is."""
    flat: NDArray[np.bool_] | None = None
    z, y, x = voxels.shape
    for section in _sections_to_search(voxels):
        found = _opened(voxels[section])
        if found.any():
            flat = np.zeros((z, y - 2 * REACH, x - 2 * REACH), np.bool_) if flat is None else flat
            flat[section] = found
    return flat


def _sections_to_search(voxels: NDArray[Any]) -> list[int]:
    """Return the sections that may have a square of one value: it has four points of a lattice, and what is between."""
    half = _SIDE // 2
    points = np.ascontiguousarray(voxels[:, ::half, ::half])
    corner = points[:, :-1, :-1]
    equal = corner == points[:, 1:, 1:]
    equal &= corner == points[:, 1:, :-1]
    equal &= corner == points[:, :-1, 1:]
    flat = voxels.reshape(-1)
    _, rows, columns = voxels.shape
    z, y, x = np.unravel_index(np.flatnonzero(equal), equal.shape)
    places, values = (z * rows + y * half) * columns + x * half, corner[z, y, x]
    for dy, dx in _BETWEEN:
        kept = flat[places + (dy * columns + dx)] == values
        places, values = places[kept], values[kept]
    section = places // (rows * columns)
    many = np.bincount(section, minlength=len(voxels)) > _MANY
    few = ~many[section]
    # eleven pixels along each axis have all squares around a point; beyond the border, others take their place
    before = np.arange(1 - half, _SIDE)
    around = (places[few, np.newaxis, np.newaxis] + (before[:, np.newaxis] * columns + before)).clip(0, len(flat) - 1)
    square = flat[around] == values[few, np.newaxis, np.newaxis]
    for shift in (1, 2, 4):
        square = square[:, :-shift] & square[:, shift:]
        square = square[:, :, :-shift] & square[:, :, shift:]
    many[section[few][square.any((1, 2))]] = True
    sections: list[int] = np.flatnonzero(many).tolist()
    return sections


def _opened(section: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels (y, x) lie in a square of one value, without a margin of `REACH`."""
    along_x = _runs(section[:, :-1] == section[:, 1:], 1)
    along_y = (section[:-1] == section[1:])[:, : along_x.shape[1]]
    squares = _runs(along_x[:-1] & along_x[1:] & along_y, 0)
    flat = np.zeros(section.shape, np.bool_)
    flat[: squares.shape[0], : squares.shape[1]] = squares
    for shift in (1, 2, 4):
        flat[:, shift:] |= flat[:, :-shift]
    for shift in (1, 2, 4):
        flat[shift:] |= flat[:-shift]
    return flat[REACH:-REACH, REACH:-REACH]


def _runs(equal: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return where seven true values follow one another along an axis."""
    for shift in (1, 2, 3):
        equal = equal[:, :-shift] & equal[:, shift:] if axis else equal[:-shift] & equal[shift:]
    return equal


def values_of(voxels: NDArray[Any], flat: NDArray[np.bool_] | None, start: Sequence[int]) -> NDArray[np.int64]:
    """Count the values of a block that are not flat at every `STEP`-th pixel along y and x, int64 (n,).

    Voxels and which are flat, None if none is, have a margin of 1 along y and x; `start` is the block's first pixel
    (y, x) in the volume, by which these are the same pixels for any blocks.
    """
    y, x = (slice(1 + -first % STEP, length - 1, STEP) for first, length in zip(start, voxels.shape[1:], strict=True))
    values = voxels[:, y, x]
    counts: NDArray[np.int64] = np.bincount(values.ravel() if flat is None else values[~flat[:, y, x]])
    return counts
