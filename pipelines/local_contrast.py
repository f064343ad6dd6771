"""Local contrast in a section: how much brighter a punctum is than what lies around it, in exact integers.

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

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.pipeline.contract import Parameter
from pipelines.masked_contrast import keep_to_tissue
from pipelines.slabs import Scratch, slabs, trimmed, with_halo

__all__ = [
    "LEVEL",
    "PARAMETERS",
    "Learned",
    "Windows",
    "bin_of",
    "bins",
    "contrast",
    "histogram",
    "learn",
    "levels_of_bins",
    "negative_counts",
    "noise_of",
    "upper_halves",
    "values_of_bins",
]

PUNCTUM_NM = 300.0
"""Width of a punctum where it is not measured: 220 nm of blur over a vesicle cloud of 200 nm."""

_DEPTH_NM = 100.0
"""Half of a punctum's depth, which no blur adds to: sections are cut apart before they are imaged."""

_NORMAL = 1.4826
"""From the median of the absolute value of a normal deviate to its standard deviation."""

_EXCEEDING = 0.05
_NORMAL_95 = 1.96
"""Magnitude that one in twenty normal deviates exceeds."""

_STEP = 4
"""Statistics take every fourth row of the volume: neighbouring rows share most of their window anyway."""

_BINS = 65536
_SMALLEST_NM = 3.0

LEVEL = 64
"""Levels of `levels_of_bins` for a contrast that is e times as large."""

_SIGN = 0x8000
_INFINITE = 0x7F80

PARAMETERS = (
    Parameter("noise_fold", 3.0, "sd of the noise", "threshold of each marker's contrast", minimum=0.0, maximum=1000.0),
    Parameter("min_volume_um3", 0.0012, "um^3", "smallest synapse", minimum=0.0),
    Parameter("min_voxels", 1, "voxels", "smallest synapse", minimum=1),
)
"""Of the detectors by local contrast."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a contrast, in voxels."""

    centre: tuple[int, int, int]
    """Half width along z, y, x: a centre has ``2 n + 1`` voxels."""
    surround: tuple[int, int]
    """Half width along y, x; along z it is the centre's."""

    @classmethod
    def of(cls, voxel_size_nm: tuple[float, float, float], punctum_nm: float = PUNCTUM_NM) -> Windows:
        """Return the windows for puncta of a width: the nearest odd numbers of pixels; the surround is twice as wide."""
        if min(voxel_size_nm) < _SMALLEST_NM:
            raise DataError(
                f"windows for voxels of {' x '.join(f'{size:g}' for size in voxel_size_nm)} nm (z, y, x)",
                f"below {_SMALLEST_NM:g} nm a punctum has more voxels than anybody has imaged",
                "Give sizes in nanometres, or sample the volume down",
            )
        z = max(1, int(_DEPTH_NM / voxel_size_nm[0] + 0.5))
        y, x = (max(0, int((punctum_nm / size - 1) / 2 + 0.5)) for size in voxel_size_nm[1:])
        return cls((z, y, x), (2 * y + 1, 2 * x + 1))

    @property
    def voxels(self) -> int:
        """What a contrast is divided by to be in grey levels."""
        (z, cy, cx), (sy, sx) = self.centre, self.surround
        return (2 * z + 1) * (2 * cy + 1) * (2 * cx + 1) * (2 * sy + 1) * (2 * sx + 1)

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
    def margin(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) that a contrast and the search for a peak reach together."""
        z, y, x = (a + b for a, b in zip(self.halo, self.reach, strict=True))
        return (z, y, x)


def contrast(
    voxels: NDArray[Any],
    windows: Windows,
    scratch: Scratch,
    first: int = 0,
    step: int = 1,
    tissue: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Compute contrasts of uint8 or uint16 voxels (z, y, x) with a halo of ``windows.halo``: float32 (z, rows, x).

    The rows are ``first, first + step, ...``, counted without the halo; contrasts are the nearest float32 of the exact
    integers. Windows that reach out of the `tissue`, of the shape of the voxels, count what is there; None is all.
    The last columns of each row, as many as the halo has on both sides, mean nothing: sums of columns run on over flat
    memory, for rows by themselves take three times as long. The next call overwrites the result.
    """
    found = _contrast(voxels, windows, scratch, first, step)
    if tissue is not None and not tissue.all():
        keep_to_tissue(found, voxels, tissue, windows, (first, step))
    return found


def _contrast(voxels: NDArray[Any], windows: Windows, scratch: Scratch, first: int, step: int) -> NDArray[np.float32]:
    """Compute contrasts of whole windows."""
    (hz, cy, cx), (sy, sx) = windows.centre, windows.surround
    z, y = (n - 2 * h for n, h in zip(voxels.shape[:2], windows.halo, strict=False))
    sections, centre, whole = 2 * hz + 1, (2 * cy + 1) * (2 * cx + 1), (2 * sy + 1) * (2 * sx + 1)
    top = int(np.iinfo(voxels.dtype).max)
    largest_sum = sections * whole * top
    unsigned = np.uint16 if largest_sum < 2**16 else np.uint32 if largest_sum < 2**32 else np.uint64
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
    _row_sums(None, columns[:, first + sy - cy :], range(cy + 1), inner, step)
    _row_sums(inner, columns[:, first:], range(cy + 1, sy + 1), outer, step)
    # the centre from the inner rows, the whole from the outer ones; a window begins where its result is put
    centres, wholes = (scratch.take(name, shape, unsigned) for name in ("wide", "columns"))
    _sliding_sums(inner.reshape(-1)[sx - cx :], 2 * cx + 1, centres.reshape(-1))
    _sliding_sums(outer.reshape(-1), 2 * sx + 1, wholes.reshape(-1))
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


def _row_sums(
    inner: NDArray[Any] | None, rows: NDArray[Any], distances: range, out: NDArray[Any], step: int = 1
) -> None:
    """Add to `inner` (z, rows, x) the rows at these distances on both sides; distance 0 is the row itself."""
    n = (out.shape[1] - 1) * step + 1
    last = distances[-1]
    places = sorted({last + side * distance for distance in distances for side in (-1, 1)})
    shifted = [rows[:, place : place + n : step] for place in places]
    start = shifted[0] if inner is None else inner
    others = shifted[1:] if inner is None else shifted
    if not others:
        out[...] = start
        return
    np.add(start, others[0], out=out)
    for row in others[1:]:
        np.add(out, row, out=out)


def _sliding_sums(values: NDArray[Any], count: int, out: NDArray[Any]) -> None:
    """Sum `count` consecutive values from each place on that has so many; flat arrays."""
    n = len(values) - count + 1
    if count == 1:
        out[:n] = values
        return
    np.add(values[:n], values[1 : n + 1], out=out[:n])
    for shift in range(2, count):
        np.add(out[:n], values[shift : shift + n], out=out[:n])


def bins(contrasts: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bin of each float32 contrast, uint32 in place of it: its upper 16 bits; negative ones from 0x8000."""
    found: NDArray[np.uint32] = contrasts.view(np.uint32)
    found >>= np.uint32(16)
    return found


def bin_of(value: float) -> int:
    """Return the bin of a number."""
    return int(np.float32(value).view(np.uint32) >> np.uint32(16))


def values_of_bins(count: int = _INFINITE) -> NDArray[np.float64]:
    """Return the middles of the first bins, ascending, float64 (count,); by default of all positive finite numbers."""
    upper = np.arange(count, dtype=np.uint32) << np.uint32(16)
    middles: NDArray[np.float64] = (upper | np.uint32(0x8000)).view(np.float32).astype(np.float64)
    return middles


@lru_cache(maxsize=32)
def levels_of_bins(typical: float) -> NDArray[np.uint8]:
    """Return the level of each bin, uint8 (65536,): ``64 ln(1 + contrast / typical)``, at most 255; 0 if not positive.

    Levels of several markers can be added.
    """
    levels = np.zeros(_BINS, np.uint8)
    # math.log1p, since NumPy's differs in its last bits between processors
    logs = np.fromiter(map(math.log1p, (values_of_bins()[1:] / typical).tolist()), np.float64, _INFINITE - 1)
    levels[1:_INFINITE] = np.minimum(np.rint(LEVEL * logs), 255)
    return levels


def histogram(
    voxels: NDArray[Any], windows: Windows, start_y: int, tissue: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Count the contrasts of a block (z, y, x) with a halo of ``windows.halo`` by their bins, int64 (65536,).

    Every fourth row of the volume counts; `start_y` is the volume's row at which the block begins without its halo.
    What is not `tissue`, of the shape of the voxels, is left out; None is all.
    """
    scratch = Scratch()
    counts = np.zeros(_BINS, np.int64)
    shape = tuple(n - 2 * h for n, h in zip(voxels.shape, windows.halo, strict=True))
    for _, group in groupby(slabs(shape), key=lambda slab: slab[0].start):
        found = []
        for z, y in group:
            first = -(start_y + y.start) % _STEP
            if first < y.stop - y.start:
                around = None if tissue is None else with_halo(tissue, z, y, windows.halo)
                slab = contrast(with_halo(voxels, z, y, windows.halo), windows, scratch, first, _STEP, around)
                counted = bins(slab)[:, :, : shape[2]].astype(np.uint16)
                inside = None if around is None else trimmed(around, windows.halo)[:, first::_STEP]
                found.append(counted.ravel() if inside is None else counted[inside])
        # a histogram is as large as a slab, so one for each slab would take as long as the slab
        if found:
            counts += np.bincount(np.concatenate(found), minlength=_BINS)
    return counts


def negative_counts(contrasts: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count the negative ones of float32 contrasts by their magnitude, int64 (8160,): bins of up to 3 per cent."""
    magnitudes = -contrasts[contrasts < 0]
    return np.bincount(magnitudes.view(np.uint32) >> np.uint32(18), minlength=_INFINITE >> 2)


def noise_of(counts: NDArray[np.int64] | None) -> float | None:
    """Return the noise of a channel from its `negative_counts`, in their unit; None where no contrast is negative.

    It is the magnitude that one in twenty of them exceeds, over what that is where noise is normal with the standard
    deviation 1. Within a bin the magnitudes are taken as evenly spread.
    """
    if counts is None or not counts.any():
        return None
    below = np.cumsum(counts)
    exceeded = (1 - _EXCEEDING) * float(below[-1])
    place = int(np.searchsorted(below, exceeded))
    low, high = (np.arange(place, place + 2, dtype=np.uint32) << np.uint32(18)).view(np.float32).tolist()
    part = (exceeded - float(below[place] - counts[place])) / float(counts[place])
    return float((low + part * (high - low)) / _NORMAL_95)


def upper_halves(numbers: NDArray[np.float32], scratch: Scratch) -> NDArray[np.uint16]:
    """Return the bins of float32 numbers (z, y, x), uint16, negative ones 0; the numbers are overwritten."""
    bits = numbers.view(np.int32)
    bits >>= np.int32(16)
    halves = scratch.take("columns", bits.shape, np.int16)
    np.copyto(halves, bits, casting="unsafe")
    # numpy compares two arrays faster than an array and a number
    nothing = scratch.take("outer", bits.shape, np.int16)
    nothing[...] = 0
    np.maximum(halves, nothing, out=halves)
    return halves.view(np.uint16)


@dataclass(frozen=True, slots=True)
class Learned:
    """Noise and signal of a channel's contrasts."""

    threshold: int
    """Contrasts from it upwards are more than noise; at least 1."""
    typical: float
    """Median of those contrasts: how a stained voxel stands out."""


def learn(counts: NDArray[np.int64], noise_fold: float) -> Learned | None:
    """Estimate noise and signal from a volume's `histogram`, int64 (n,); the threshold is `noise_fold` deviations.

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
