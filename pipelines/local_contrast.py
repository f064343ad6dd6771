"""Local contrast in a section: how much brighter a punctum is than what lies around it, in exact integers.

It decides nothing about synapses; pipelines do.

::

    s s s s s       c, s  the centre, as wide as a punctum; s  what surrounds it in the same sections
    s c c c s
    s c c c s       contrast = area(c and s) * sum(c) - area(c) * sum(c and s)
    s c c c s
    s s s s s       divided by both areas and the sections: mean of the centre minus mean of all, in grey levels

The surround lies in the section alone: sections are stained and imaged one by one, and differ in gain and background.
A slow background is gone; so is the halo of a large bright body, except at its rim. The sums are integers, shifted and
added in one order, so that blocks cannot show.

The noise of a channel is drawn from its *negative* contrasts, over the whole volume: synapses are positive, and areas
without tissue (contrast 0) do not count. Their median, times 1.4826, is a standard deviation where noise is normal.
Contrasts are counted by the upper sixteen bits of their float32 form: 65,536 logarithmic bins, steps below 0.8 per
cent, for any depth of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Place

__all__ = [
    "LEVEL",
    "Learned",
    "Scratch",
    "Windows",
    "bin_of",
    "bins",
    "contrast",
    "counted",
    "grown",
    "half_maximum",
    "inside",
    "learn",
    "levels_of_bins",
    "slabs",
    "trimmed",
    "upper_halves",
    "values_of_bins",
    "with_halo",
]

CENTRE_NM = 100.0
"""Half of the centre's width: a punctum is about 300 nm wide, 220 nm of blur over a vesicle cloud of 200 nm."""

SURROUND_NM = 200.0
"""Half of the surround's width: it ends at 250 nm, before half of the 554 nm between synapses at 1 / um^3."""

_NORMAL = 1.4826
"""From the median of the absolute value of a normal deviate to its standard deviation."""

_STEP = 4
"""Statistics take every fourth row of the volume: neighbouring rows share most of their window anyway."""

_SECTIONS, _ROWS = 4, 64
"""A slab: small enough for the steps in between to stay in a core's cache."""

_BINS = 65536
LEVEL = 64
"""Levels of `levels_of_bins` for a contrast that is e times as large."""

_SIGN = 0x8000
_INFINITE = 0x7F80
_OCTAVE = np.uint16(128)
"""Bins from a value to its double."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a contrast, in voxels.

    Parameters
    ----------
    centre : tuple of int
        Half width along z, y, x: a centre has ``2 n + 1`` voxels.
    surround : tuple of int
        Half width along y, x; along z it is the centre's.
    """

    centre: tuple[int, int, int]
    surround: tuple[int, int]

    @classmethod
    def of(cls, voxel_size_nm: tuple[float, float, float]) -> Windows:
        """Return the windows for a voxel size: the nearest whole numbers, and at least one voxel wide.

        Parameters
        ----------
        voxel_size_nm : tuple of float
            Size of a voxel along z, y, x.

        Returns
        -------
        Windows
            For 70 x 100 x 100 nm: a centre of 3 x 3 x 3, a surround of 3 x 5 x 5.
        """
        z, y, x = (max(1, int(CENTRE_NM / size + 0.5)) for size in voxel_size_nm)
        sy, sx = (max(c + 1, int(SURROUND_NM / size + 0.5)) for c, size in zip((y, x), voxel_size_nm[1:], strict=True))
        return cls((z, y, x), (sy, sx))

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a voxel that its contrast depends on."""
        return (self.centre[0], *self.surround)

    @property
    def reach(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) in which `half_maximum` looks for a peak: a punctum."""
        z, y, x = self.centre
        return (2 * z, 2 * y, 2 * x)

    @property
    def grey_levels(self) -> int:
        """What to divide a contrast by to have grey levels."""
        z, y, x = (2 * n + 1 for n in self.centre)
        sy, sx = (2 * n + 1 for n in self.surround)
        return z * y * x * sy * sx


class Scratch:
    """Memory that is used again: fresh arrays for every step cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._pool: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return memory of a shape and type.

        Parameters
        ----------
        name : str
            What it is for; what was taken by this name before is overwritten.
        shape : tuple of int
            Its shape.
        dtype : dtype
            Its type.

        Returns
        -------
        ndarray
            Not initialised.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if name not in self._pool or self._pool[name].size < size:
            self._pool[name] = np.empty(size, np.uint8)
        memory: NDArray[Any] = self._pool[name][:size].view(dtype).reshape(shape)
        return memory


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut a block into slabs for the cache.

    Parameters
    ----------
    shape : tuple of int
        Extent (z, y, x) of the block.

    Yields
    ------
    tuple of slice
        Ranges of z and y; they tile the block.
    """
    for z in range(0, shape[0], _SECTIONS):
        for y in range(0, shape[1], _ROWS):
            yield slice(z, min(z + _SECTIONS, shape[0])), slice(y, min(y + _ROWS, shape[1]))


def contrast(
    voxels: NDArray[Any], windows: Windows, scratch: Scratch, first: int = 0, step: int = 1
) -> NDArray[np.float32]:
    """Compute the contrast of every voxel, or of those in some rows.

    Sums of columns are taken over flat memory, as if a row went on in the next one: rows by themselves take three times
    as long. So each row of the result ends with columns that mean nothing.

    Parameters
    ----------
    voxels : ndarray of uint8 or uint16, shape (z, y, x)
        With a halo of ``windows.halo``.
    windows : Windows
        Centre and surround.
    scratch : Scratch
        Where the result and what comes before it lies.
    first, step : int
        Rows ``first, first + step, ...`` of the result, counted without the halo.

    Returns
    -------
    ndarray of float32, shape (z, rows, x), z and rows without the halo
        The float32 that is nearest to the exact integer. Meaningless are the last columns of each row, as many as the
        halo has on both sides. It is overwritten by the next call with the same scratch memory.
    """
    (hz, cy, cx), (sy, sx) = windows.centre, windows.surround
    z, y = (n - 2 * h for n, h in zip(voxels.shape[:2], windows.halo, strict=False))
    sections, centre, whole = 2 * hz + 1, (2 * cy + 1) * (2 * cx + 1), (2 * sy + 1) * (2 * sx + 1)
    top = int(np.iinfo(voxels.dtype).max)
    unsigned = np.uint16 if sections * whole * top < 2**16 else np.uint32
    # the smallest type in which the difference is exact: whole numbers below 2**24 are, in float32
    largest = sections * centre * whole * top
    exact = np.float32 if largest < 2**24 else np.int32 if largest < 2**31 else np.int64
    shape = (z, len(range(first, y, step)), voxels.shape[2])
    wide = scratch.take("wide", voxels.shape, unsigned)
    wide[...] = voxels
    columns = scratch.take("columns", (z, *voxels.shape[1:]), unsigned)
    np.add(wide[:z], wide[1 : z + 1], out=columns)
    for k in range(2, sections):
        np.add(columns, wide[k : k + z], out=columns)
    inner, outer = (scratch.take(name, shape, unsigned) for name in ("inner", "outer"))
    _widened(None, columns[:, first + sy - cy :], range(cy + 1), inner, step)
    _widened(inner, columns[:, first:], range(cy + 1, sy + 1), outer, step)
    # the centre from the inner rows, the whole from the outer ones; a window begins where its result is put
    centres, wholes = (scratch.take(name, shape, unsigned) for name in ("wide", "columns"))
    _followed(inner.reshape(-1)[sx - cx :], 2 * cx + 1, centres.reshape(-1))
    _followed(outer.reshape(-1), 2 * sx + 1, wholes.reshape(-1))
    difference, subtracted = (scratch.take(name, shape, exact) for name in ("inner", "outer"))
    difference[...], subtracted[...] = centres, wholes
    difference *= exact(whole)
    subtracted *= exact(centre)
    np.subtract(difference, subtracted, out=difference)
    if exact is np.float32:
        return difference
    rounded: NDArray[np.float32] = scratch.take("wide", shape, np.float32)
    rounded[...] = difference
    return rounded


def _widened(
    inner: NDArray[Any] | None, rows: NDArray[Any], distances: range, out: NDArray[Any], step: int = 1
) -> None:
    """Add to a windowed sum the rows on both of its sides, at the distances; distance 0 is the row itself."""
    n = (out.shape[1] - 1) * step + 1
    last = distances[-1]
    places = sorted({last + side * distance for distance in distances for side in (-1, 1)})
    shifted = [rows[:, place : place + n : step] for place in places]
    start = shifted[0] if inner is None else inner
    others = shifted[1:] if inner is None else shifted
    np.add(start, others[0], out=out)
    for row in others[1:]:
        np.add(out, row, out=out)


def _followed(values: NDArray[Any], count: int, out: NDArray[Any]) -> None:
    """Add to each value those that follow it, `count` in all, as far as all of them are there; flat memory."""
    n = len(values) - count + 1
    np.add(values[:n], values[1 : n + 1], out=out[:n])
    for shift in range(2, count):
        np.add(out[:n], values[shift : shift + n], out=out[:n])


def bins(contrasts: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bin of each contrast: the upper sixteen bits, the sign the highest.

    Parameters
    ----------
    contrasts : ndarray of float32
        From `contrast`; overwritten.

    Returns
    -------
    ndarray of uint32, same shape
        From 0 to 65,535; those of negative contrasts are 0x8000 and above. It lies where the contrasts were.
    """
    found: NDArray[np.uint32] = contrasts.view(np.uint32)
    found >>= np.uint32(16)
    return found


def bin_of(value: float) -> int:
    """Return the bin of a number."""
    return int(np.float32(value).view(np.uint32) >> np.uint32(16))


def values_of_bins(count: int = _INFINITE) -> NDArray[np.float64]:
    """Return the middle of each of the first bins: those of positive numbers.

    Parameters
    ----------
    count : int
        How many; the default is all that are finite.

    Returns
    -------
    ndarray of float64, shape (count,)
        Ascending.
    """
    upper = np.arange(count, dtype=np.uint32) << np.uint32(16)
    middles: NDArray[np.float64] = (upper | np.uint32(0x8000)).view(np.float32).astype(np.float64)
    return middles


def levels_of_bins(typical: float) -> NDArray[np.uint8]:
    """Return a table from bins to levels: how bright a contrast is, on a logarithmic scale, for adding markers up.

    Parameters
    ----------
    typical : float
        The typical contrast of the marker.

    Returns
    -------
    ndarray of uint8, shape (65536,)
        ``64 ln(1 + contrast / typical)``, rounded, at most 255; 0 for contrasts that are not positive.
    """
    levels = np.zeros(_BINS, np.uint8)
    levels[1:_INFINITE] = np.minimum(np.rint(LEVEL * np.log1p(values_of_bins()[1:] / typical)), 255)
    return levels


def inside(place: Place, margin: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return what lies in the volume of a block with a margin.

    Parameters
    ----------
    place : Place
        Where the block lies.
    margin : tuple of int
        Voxels (z, y, x) around it.

    Returns
    -------
    tuple of slice
        Ranges in an array of the block with its margin.
    """
    z, y, x = (
        slice(max(0, m - start), min(n + 2 * m, length - start + m))
        for start, n, length, m in zip(place.start, place.shape, place.volume, margin, strict=True)
    )
    return z, y, x


def grown(window: tuple[slice, slice, slice], halo: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the same window in an array that has a halo around it.

    Parameters
    ----------
    window : tuple of slice
        Ranges of z, y, x.
    halo : tuple of int
        Voxels (z, y, x) on each side.

    Returns
    -------
    tuple of slice
        The ranges, with the halo.
    """
    z, y, x = (slice(part.start, part.stop + 2 * h) for part, h in zip(window, halo, strict=True))
    return z, y, x


def counted(voxels: NDArray[Any], windows: Windows, start_y: int) -> NDArray[np.int64]:
    """Count the contrasts of a block by their bins, in every fourth row of the volume.

    Parameters
    ----------
    voxels : ndarray of uint8 or uint16, shape (z, y, x)
        The block, with a halo of ``windows.halo``.
    windows : Windows
        Centre and surround.
    start_y : int
        Row of the volume at which the block begins, halo not counted.

    Returns
    -------
    ndarray of int64, shape (65536,)
        To be added over the blocks.
    """
    scratch = Scratch()
    counts = np.zeros(_BINS, np.int64)
    shape = tuple(n - 2 * h for n, h in zip(voxels.shape, windows.halo, strict=True))
    for _, group in groupby(slabs(shape), key=lambda slab: slab[0].start):
        found = []
        for z, y in group:
            first = -(start_y + y.start) % _STEP
            if first < y.stop - y.start:
                slab = contrast(with_halo(voxels, z, y, windows.halo), windows, scratch, first, _STEP)
                found.append(bins(slab)[:, :, : shape[2]].astype(np.uint16).ravel())
        # a histogram is as large as a slab: one for each would take as long as the slab
        if found:
            counts += np.bincount(np.concatenate(found), minlength=_BINS)
    return counts


def trimmed(voxels: NDArray[Any], margin: tuple[int, ...]) -> NDArray[Any]:
    """Cut a margin off.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x)
        A block with a margin.
    margin : tuple of int
        Voxels (z, y, x) on each side.

    Returns
    -------
    ndarray, shape (z, y, x)
        A view without it.
    """
    return voxels[tuple(slice(m, n - m) for m, n in zip(margin, voxels.shape, strict=True))]


def upper_halves(numbers: NDArray[np.float32], scratch: Scratch) -> NDArray[np.uint16]:
    """Return the bins of numbers, those of negative ones 0.

    Parameters
    ----------
    numbers : ndarray of float32, shape (z, y, x)
        Contiguous; overwritten.
    scratch : Scratch
        Where the result lies.

    Returns
    -------
    ndarray of uint16, same shape
        Their upper sixteen bits.
    """
    bits = numbers.view(np.int32)
    bits >>= np.int32(16)
    halves = scratch.take("columns", bits.shape, np.int16)
    np.copyto(halves, bits, casting="unsafe")
    # numpy compares two arrays faster than an array and a number
    nothing = scratch.take("outer", bits.shape, np.int16)
    nothing[...] = 0
    np.maximum(halves, nothing, out=halves)
    return halves.view(np.uint16)


def with_halo(voxels: NDArray[Any], z: slice, y: slice, halo: tuple[int, ...]) -> NDArray[Any]:
    """Return a slab with its halo.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x)
        A block with a halo.
    z, y : slice
        The slab, counted without the halo.
    halo : tuple of int
        Voxels (z, y, x) on each side.

    Returns
    -------
    ndarray, shape (z, y, x)
        A view.
    """
    return voxels[z.start : z.stop + 2 * halo[0], y.start : y.stop + 2 * halo[1]]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the contrasts of a channel teach.

    Parameters
    ----------
    threshold : int
        Contrasts above it are more than noise; at least 1.
    typical : float
        Median of those contrasts: how a stained voxel stands out.
    """

    threshold: int
    typical: float


def learn(counts: NDArray[np.int64], noise_fold: float) -> Learned | None:
    """Draw noise and signal from the contrasts of a volume.

    Parameters
    ----------
    counts : ndarray of int64, shape (n,) with n up to 65536
        From `counted`, over the whole volume.
    noise_fold : float
        Threshold in standard deviations of the noise.

    Returns
    -------
    Learned or None
        None where no contrast is negative: the channel is constant, or nearly.
    """
    every = np.zeros(_BINS, np.int64)
    every[: len(counts)] = counts
    negative, positive = every[_SIGN:], every[:_INFINITE].copy()
    if not negative.any():
        return None
    middles = values_of_bins()
    threshold = max(1, int(noise_fold * _NORMAL * middles[_median(negative[:_INFINITE])]))
    positive[: bin_of(threshold) + 1] = 0
    return Learned(threshold, float(middles[_median(positive)]) if positive.any() else float(threshold))


def _median(counts: NDArray[np.int64]) -> int:
    """Return the bin of the median."""
    return int(np.searchsorted(np.cumsum(counts) * 2, counts.sum()))


def half_maximum(
    strengths: NDArray[np.uint16], reach: tuple[int, int, int], scratch: Scratch, marks: NDArray[np.bool_]
) -> None:
    """Mark the voxels with at least the strength 1, and at least half of the largest strength within reach.

    An object thus ends where it has fallen to half of its peak, and two that touch are two.

    Parameters
    ----------
    strengths : ndarray of uint16, shape (z, y, x)
        Bins of strengths from 0 upwards, with a halo of `reach`; rows follow each other in memory.
    reach : tuple of int
        Voxels (z, y, x) on each side.
    scratch : Scratch
        Where the steps in between lie.
    marks : ndarray of bool, shape (z, y, x) without the halo
        What is filled.
    """
    z, y, x = marks.shape
    planes = scratch.take("planes", (z, *strengths.shape[1:]), np.uint16)
    _largest([strengths[k : k + z] for k in range(2 * reach[0] + 1)], planes)
    rows = scratch.take("rows", (z, y, strengths.shape[2]), np.uint16)
    _largest([planes[:, k : k + y] for k in range(2 * reach[1] + 1)], rows)
    # along x in flat memory, as in `contrast`: the last columns mean nothing
    largest = scratch.take("planes", rows.shape, np.uint16)
    flat, n = rows.reshape(-1), rows.size - 2 * reach[2]
    _largest([flat[k : k + n] for k in range(2 * reach[2] + 1)], largest.reshape(-1)[:n])
    # where nothing is strong this wraps to a number that no strength reaches, which the second condition excludes too
    np.subtract(largest, _OCTAVE, out=largest)
    inner = trimmed(strengths, reach)
    np.greater_equal(inner, largest[:, :, :x], out=marks)
    marks &= inner >= np.uint16(bin_of(1.0))


def _largest(shifted: list[NDArray[np.uint16]], out: NDArray[np.uint16]) -> None:
    """Return the largest of several arrays, place by place."""
    np.maximum(shifted[0], shifted[1], out=out)
    for values in shifted[2:]:
        np.maximum(out, values, out=out)
