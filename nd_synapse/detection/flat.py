"""Flat areas of sections: pixels that lie in a square of one exact value. `regions` describes them, `padding` decides.

::

    +--------------+    a pixel is flat if it lies in a square of 8 x 8 pixels of one value; noise makes no such square,
    |000000000     |    and padding is made of them. The section is mirrored at the border of the box, so that a strip
    |000000000  3 1|    of four pixels is found.
    |00000000000000|
    +--------------+
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH", "STEP", "flat_pixels", "values_of"]

_SIDE = 8
_BEFORE = _SIDE // 2 - 1
REACH = _SIDE - 1
"""Pixels around a pixel that it depends on whether it is flat."""

STEP = 8
"""Values of a channel are counted at every eighth pixel along y and x."""

_BETWEEN = ((2, 2), (1, 1), (3, 3), (1, 3), (3, 1), (0, 2), (2, 0), (2, 4), (4, 2))
"""Pixels between four points of the lattice; others tell little more."""

_ROWS = 64
"""Rows that are searched at a time, each time only in columns where a square may be: padding is along borders."""

_MANY = 16
"""Places in so many rows and columns that are searched whatever is around them."""


def flat_pixels(voxels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which voxels (z, y, x) are flat, without a margin of `REACH` along y and x; None where none is."""
    z, y, x = _places(voxels)
    if not len(z):
        return None
    depth, rows, columns = voxels.shape
    flat = np.zeros((depth, rows - 2 * REACH, columns - 2 * REACH), np.bool_)
    for top in range(0, flat.shape[1], _ROWS):
        bottom = min(top + _ROWS, flat.shape[1])
        near = (y >= top) & (y < bottom + REACH + _BEFORE)
        sections = np.flatnonzero(np.bincount(z[near]))
        for first, last in _apart(np.flatnonzero(np.bincount(x[near]))):
            left, right = max(first - _BEFORE - REACH, 0), min(last + 1, flat.shape[2])
            if left < right:
                piece = voxels[sections, top : bottom + 2 * REACH, left : right + 2 * REACH]
                flat[sections, top:bottom, left:right] = _opened(piece)
    return flat if flat.any() else None


def _apart(columns: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of ascending columns in each group of them that lies apart."""
    for group in np.split(columns, np.flatnonzero(np.diff(columns) > _ROWS) + 1):
        if len(group):
            yield int(group[0]), int(group[-1])


def _places(voxels: NDArray[Any]) -> tuple[NDArray[np.int64], ...]:
    """Return places (z, y, x), one of them in each square of one value: it has four points of a lattice.

    Its first pixel is at most `_BEFORE` pixels before the place along y and x.
    """
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
    z, y, x = np.unravel_index(places, voxels.shape)
    tile = (z * (rows // _ROWS + 1) + y // _ROWS) * (columns // _ROWS + 1) + x // _ROWS
    searched = np.bincount(tile)[tile] > _MANY
    few = np.flatnonzero(~searched)
    # eleven pixels along each axis have all squares around a point; beyond the border, others take their place
    before = np.arange(-_BEFORE, _SIDE)
    around, wanted = places[few, np.newaxis] + before, values[few, np.newaxis]
    square = np.stack([flat.take(around + dy * columns, mode="clip") == wanted for dy in before.tolist()], axis=1)
    for shift in (1, 2, 4):
        square = square[:, :-shift] & square[:, shift:]
        square = square[:, :, :-shift] & square[:, :, shift:]
    searched[few] = square.any((1, 2))
    return z[searched], y[searched], x[searched]


def _opened(sections: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels (z, y, x) lie in a square of one value, without a margin of `REACH` along y and x."""
    along_x = _runs(sections[:, :, :-1] == sections[:, :, 1:], 2)
    along_y = (sections[:, :-1] == sections[:, 1:])[:, :, : along_x.shape[2]]
    squares = _runs(along_x[:, :-1] & along_x[:, 1:] & along_y, 1)
    flat = np.zeros(sections.shape, np.bool_)
    flat[:, : squares.shape[1], : squares.shape[2]] = squares
    for shift in (1, 2, 4):
        flat[:, :, shift:] |= flat[:, :, :-shift]
    for shift in (1, 2, 4):
        flat[:, shift:] |= flat[:, :-shift]
    return flat[:, REACH:-REACH, REACH:-REACH]


def _runs(equal: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return where seven true values follow one another along an axis."""
    for shift in (1, 2, 3):
        equal = equal[:, :-shift] & equal[:, shift:] if axis == 1 else equal[:, :, :-shift] & equal[:, :, shift:]
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
