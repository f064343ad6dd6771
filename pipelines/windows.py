"""The windows of a local contrast, and the exact sums of grey levels in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from pipelines.slabs import Scratch

__all__ = ["EVERY_ROW", "Absent", "Rows", "Windows", "centre_sums", "clear", "window_sums"]

Absent = Sequence[tuple[slice, NDArray[np.bool_]]]
"""Columns of a block (z, y, x), and which of their voxels are not there."""

Rows = tuple[int, int]
"""The rows ``first, first + step, ...`` of a block, counted without its halo."""

EVERY_ROW: Rows = (0, 1)

PUNCTUM_NM = 300.0
"""Width of a punctum where it is not measured: 220 nm of blur over a vesicle cloud of 200 nm."""

_DEPTH_NM = 100.0
"""Half of a punctum's depth, which no blur adds to: sections are cut apart before they are imaged."""

_SMALLEST_NM = 3.0

_LARGEST = 2**47
"""Of `Windows.voxels`: so many times the brightest voxel of 16 bits is what an int64 holds."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a contrast, in voxels."""

    centre: tuple[int, int, int]
    """Half width along z, y, x: a centre has ``2 n + 1`` voxels."""
    surround: tuple[int, int]
    """Half width along y, x; along z it is the centre's."""

    @classmethod
    @cache
    def of(cls, voxel_size_nm: tuple[float, float, float], punctum_nm: float = PUNCTUM_NM) -> Windows:
        """Return the windows for puncta of a width: the nearest odd number of pixels, and a surround twice as wide."""
        if min(voxel_size_nm) < _SMALLEST_NM:
            raise DataError(
                f"windows for voxels of {_in_words(voxel_size_nm)}",
                f"below {_SMALLEST_NM:g} nm a punctum has more voxels than anybody has imaged",
                "Give sizes in nanometres, or sample the volume down",
            )
        z = max(1, int(_DEPTH_NM / voxel_size_nm[0] + 0.5))
        # one pixel is a centre only where that is what was asked for
        y, x = (max(int(punctum_nm > size), int((punctum_nm / size - 1) / 2 + 0.5)) for size in voxel_size_nm[1:])
        windows = cls((z, y, x), (2 * y + 1, 2 * x + 1))
        if windows.voxels > _LARGEST:
            raise DataError(
                f"windows for puncta of {punctum_nm:g} nm in voxels of {_in_words(voxel_size_nm)}",
                "they have more voxels than can be summed",
                "Give a smaller punctum_nm, or sample the volume down",
            )
        return windows

    @property
    def section_weights(self) -> int:
        """Sum of the weights of a window's sections: 1, 2, ... in the middle, ... 2, 1."""
        return (self.centre[0] + 1) ** 2

    @property
    def centre_pixels(self) -> int:
        """Pixels of the centre in a section."""
        return (2 * self.centre[1] + 1) * (2 * self.centre[2] + 1)

    @property
    def whole_pixels(self) -> int:
        """Pixels of the centre and its surround in a section."""
        return (2 * self.surround[0] + 1) * (2 * self.surround[1] + 1)

    @property
    def voxels(self) -> int:
        """What a contrast is divided by to be in grey levels."""
        return self.section_weights * self.centre_pixels * self.whole_pixels

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a voxel that its contrast depends on."""
        return (self.centre[0], *self.surround)

    @property
    def reach(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) in which `near_peaks` looks for a peak: a punctum."""
        z, y, x = self.centre
        return (2 * z, 2 * y, 2 * x)

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) that a contrast and the search for a peak reach together."""
        z, y, x = (a + b for a, b in zip(self.halo, self.reach, strict=True))
        return (z, y, x)


def _in_words(voxel_size_nm: tuple[float, float, float]) -> str:
    """Return a voxel size in words."""
    return f"{' x '.join(f'{size:g}' for size in voxel_size_nm)} nm (z, y, x)"


def clear(values: NDArray[Any], absent: Absent) -> None:
    """Put 0 where voxels are absent, in place."""
    for x, gone in absent:
        np.copyto(values[:, :, x], values.dtype.type(0), where=gone)


def window_sums(
    voxels: NDArray[Any], windows: Windows, scratch: Scratch, absent: Absent = (), rows: Rows = EVERY_ROW
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the sums in the centres and in the whole windows, unsigned integers (z, y, x), of voxels with a halo.

    Voxels are booleans, uint8 or uint16; those that are `absent` count 0. The last columns, as many as the halo has on
    both sides, mean nothing. The next call overwrites the result.
    """
    (_, cy, _), (sy, sx) = windows.centre, windows.surround
    columns, inner, centres = _centre_sums(voxels, windows, scratch, absent, rows)
    outer = scratch.take("outer", inner.shape, inner.dtype)
    _row_sums(inner, _from(columns, rows[0]), range(cy + 1, sy + 1), outer, rows[1])
    # neither the columns nor the inner rows are needed any more
    wholes = scratch.take("columns", inner.shape, inner.dtype)
    _sliding_sums(outer.reshape(-1), 2 * sx + 1, inner.reshape(-1), wholes.reshape(-1))
    return centres, wholes


def centre_sums(
    voxels: NDArray[Any], windows: Windows, scratch: Scratch, absent: Absent = (), rows: Rows = EVERY_ROW
) -> NDArray[Any]:
    """Return the first result of `window_sums`."""
    return _centre_sums(voxels, windows, scratch, absent, rows)[-1]


_Columns = tuple[NDArray[Any], NDArray[Any] | None]
"""Sums over the sections (z, y, x), and those of each row and the next one; None where few rows are wanted."""


def _from(columns: _Columns, first: int) -> _Columns:
    """Return the sums from a row on."""
    rows, pairs = columns
    return rows[:, first:], None if pairs is None else pairs[:, first:]


def _centre_sums(
    voxels: NDArray[Any], windows: Windows, scratch: Scratch, absent: Absent, rows: Rows
) -> tuple[_Columns, NDArray[Any], NDArray[Any]]:
    """Return the weighted sums over the sections, over the centre's rows of these, and in the centres."""
    (_, cy, cx), (sy, sx) = windows.centre, windows.surround
    z, y = (n - 2 * h for n, h in zip(voxels.shape[:2], windows.halo, strict=False))
    first, step = rows
    brightest = 1 if voxels.dtype == np.bool_ else int(np.iinfo(voxels.dtype).max)
    unsigned = np.min_scalar_type(windows.section_weights * windows.whole_pixels * brightest)
    wide = scratch.take("wide", voxels.shape, unsigned)
    wide[...] = voxels
    clear(wide, absent)
    columns = scratch.take("columns", (z, *voxels.shape[1:]), unsigned)
    # sums of consecutive sections, and of consecutive sums, have the triangle of weights
    half = windows.centre[0] + 1
    sums = scratch.take("outer", (z + half - 1, *voxels.shape[1:]), unsigned)
    for values, into in ((wide, sums), (sums, columns)):
        n = len(into)
        np.add(values[:n], values[1 : n + 1], out=into)
        for k in range(2, half):
            np.add(into, values[k : k + n], out=into)
    by_row: _Columns = (columns, None)
    if cy and step == 1:
        # the wide voxels are not needed any more
        pairs_of_rows = scratch.take("wide", columns[:, 1:].shape, unsigned)
        by_row = (columns, np.add(columns[:, :-1], columns[:, 1:], out=pairs_of_rows))
    inner = scratch.take("inner", (z, len(range(first, y, step)), voxels.shape[2]), unsigned)
    _row_sums(None, _from(by_row, first + sy - cy), range(cy + 1), inner, step)
    centres, pairs = (scratch.take(name, inner.shape, unsigned) for name in ("centres", "outer"))
    # a window begins where its result is put
    _sliding_sums(inner.reshape(-1)[sx - cx :], 2 * cx + 1, pairs.reshape(-1), centres.reshape(-1))
    return by_row, inner, centres


def _row_sums(
    inner: NDArray[Any] | None, columns: _Columns, distances: range, out: NDArray[Any], step: int = 1
) -> None:
    """Add to `inner` (z, rows, x) the rows at these distances on both sides; distance 0 is the row itself."""
    rows, pairs = columns
    n = (out.shape[1] - 1) * step + 1
    last = distances[-1]
    places = sorted({last + side * distance for distance in distances for side in (-1, 1)})
    terms = [] if inner is None else [inner]
    while places:
        place = places.pop(0)
        of = rows
        if pairs is not None and places[:1] == [place + 1]:
            of = pairs
            places.pop(0)
        terms.append(of[:, place : place + n : step])
    if len(terms) == 1:
        out[...] = terms[0]
        return
    np.add(terms[0], terms[1], out=out)
    for term in terms[2:]:
        np.add(out, term, out=out)


def _sliding_sums(values: NDArray[Any], count: int, pairs: NDArray[Any], out: NDArray[Any]) -> None:
    """Sum an odd `count` of consecutive values from each place on that has so many; flat arrays; fill `pairs`."""
    n = len(values) - count + 1
    if count == 1:
        out[:n] = values
        return
    np.add(values[:-1], values[1:], out=pairs[: len(values) - 1])
    np.add(pairs[:n], values[count - 1 :], out=out[:n])
    for shift in range(2, count - 1, 2):
        np.add(out[:n], pairs[shift : shift + n], out=out[:n])
