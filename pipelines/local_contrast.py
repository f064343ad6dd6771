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

import sys
from collections.abc import Iterator
from dataclasses import dataclass
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
_UPPER = 1 if sys.byteorder == "little" else 0
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
) -> NDArray[np.int32 | np.int64]:
    """Compute the contrast of every voxel, or of those in some rows.

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
    ndarray of int32, or int64 where that could overflow, shape (z, rows, x) without the halo
        Exact. It is overwritten by the next call with the same scratch memory.
    """
    (hz, cy, cx), (sy, sx) = windows.centre, windows.surround
    z, y, x = (n - 2 * h for n, h in zip(voxels.shape, windows.halo, strict=True))
    sections, centre, whole = 2 * hz + 1, (2 * cy + 1) * (2 * cx + 1), (2 * sy + 1) * (2 * sx + 1)
    top = int(np.iinfo(voxels.dtype).max)
    unsigned = np.uint16 if sections * whole * top < 2**16 else np.uint32
    signed = np.int32 if sections * centre * whole * top < 2**31 else np.int64
    rows = len(range(first, y, step))
    columns = scratch.take("columns", (z, y + 2 * sy, x + 2 * sx), unsigned)
    np.add(voxels[:z], voxels[1 : z + 1], out=columns, dtype=unsigned)
    for k in range(2, sections):
        np.add(columns, voxels[k : k + z], out=columns)
    at = columns[:, first:]
    inner = scratch.take("inner", (z, rows, x + 2 * sx), unsigned)
    outer = scratch.take("outer", (z, rows, x + 2 * sx), unsigned)
    _widened(None, at[:, sy - cy :], 1, range(cy + 1), inner, step)
    _widened(inner, at, 1, range(cy + 1, sy + 1), outer, step)
    # the centre from the inner rows, the whole from the outer ones
    centres = scratch.take("columns", (z, rows, x), unsigned)
    _widened(None, inner[:, :, sx - cx : inner.shape[2] - (sx - cx)], 2, range(cx + 1), centres)
    wholes = scratch.take("inner", (z, rows, x), unsigned)
    _widened(None, outer, 2, range(sx + 1), wholes)
    difference = scratch.take("contrast", (z, rows, x), signed)
    subtracted = scratch.take("subtracted", (z, rows, x), signed)
    np.multiply(centres, signed(whole), out=difference, dtype=signed)
    np.multiply(wholes, signed(centre), out=subtracted, dtype=signed)
    np.subtract(difference, subtracted, out=difference)
    return difference


def _widened(
    inner: NDArray[Any] | None, lines: NDArray[Any], axis: int, distances: range, out: NDArray[Any], step: int = 1
) -> None:
    """Add to a windowed sum the lines on both of its sides, at the distances; distance 0 is the line itself."""
    n = (out.shape[axis] - 1) * step + 1
    last = distances[-1]
    places = sorted({last + side * distance for distance in distances for side in (-1, 1)})
    before = (slice(None),) * axis
    shifted = [lines[(*before, slice(place, place + n, step))] for place in places]
    start = shifted[0] if inner is None else inner
    others = shifted[1:] if inner is None else shifted
    np.add(start, others[0], out=out)
    for line in others[1:]:
        np.add(out, line, out=out)


def bins(contrasts: NDArray[Any], scratch: Scratch) -> NDArray[np.uint32]:
    """Return the bin of each contrast: the upper sixteen bits of its float32 form, the sign the highest.

    Parameters
    ----------
    contrasts : ndarray of int32 or int64
        From `contrast`.
    scratch : Scratch
        Where the result lies.

    Returns
    -------
    ndarray of uint32, same shape
        From 0 to 65,535; those of negative contrasts are 0x8000 and above.
    """
    numbers = scratch.take("floats", contrasts.shape, np.float32)
    numbers[...] = contrasts
    found: NDArray[np.uint32] = numbers.view(np.uint32)
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
    for z, y in slabs(shape):
        first = -(start_y + y.start) % _STEP
        if first < y.stop - y.start:
            found = bins(contrast(with_halo(voxels, z, y, windows.halo), windows, scratch, first, _STEP), scratch)
            counts += np.bincount(found.ravel(), minlength=_BINS)
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


def upper_halves(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bins of numbers from 0 upwards.

    Parameters
    ----------
    numbers : ndarray of float32, shape (z, y, x)
        Contiguous; none is negative.

    Returns
    -------
    ndarray of uint16, same shape
        Their upper sixteen bits, a view.
    """
    halves: NDArray[np.uint16] = numbers.view(np.uint16).reshape(*numbers.shape, 2)[..., _UPPER]
    return halves


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


def half_maximum(strengths: NDArray[np.uint16], reach: tuple[int, int, int], scratch: Scratch) -> NDArray[np.bool_]:
    """Mark the voxels with at least the strength 1, and at least half of the largest strength within reach.

    An object thus ends where it has fallen to half of its peak, and two that touch are two.

    Parameters
    ----------
    strengths : ndarray of uint16, shape (z, y, x)
        Bins of strengths from 0 upwards, with a halo of `reach`.
    reach : tuple of int
        Voxels (z, y, x) on each side.
    scratch : Scratch
        Where the steps in between lie.

    Returns
    -------
    ndarray of bool, shape (z, y, x) without the halo
        The marks.
    """
    largest = strengths
    for axis, distance in enumerate(reach):
        n = largest.shape[axis] - 2 * distance
        before = (slice(None),) * axis
        shape = (*largest.shape[:axis], n, *largest.shape[axis + 1 :])
        out = scratch.take(f"largest {axis}", shape, np.uint16)
        np.maximum(largest[(*before, slice(0, n))], largest[(*before, slice(1, n + 1))], out=out)
        for shift in range(2, 2 * distance + 1):
            np.maximum(out, largest[(*before, slice(shift, shift + n))], out=out)
        largest = out
    inner = strengths[tuple(slice(r, n - r) for r, n in zip(reach, strengths.shape, strict=True))]
    # where nothing is strong this wraps to a number that no strength reaches, which the second condition excludes too
    np.subtract(largest, _OCTAVE, out=largest)
    marks: NDArray[np.bool_] = (inner >= largest) & (inner >= np.uint16(bin_of(1.0)))
    return marks
