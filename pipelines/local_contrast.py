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

from nd_synapse.pipeline.contract import Parameter
from pipelines.masked_contrast import keep_to_tissue
from pipelines.slabs import Scratch, slabs, trimmed, with_halo
from pipelines.windows import Windows, window_sums

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
    "mirror_level",
    "signed_counts",
    "upper_halves",
    "values_of_bins",
]

_NORMAL = 1.4826
"""From the median of the absolute value of a normal deviate to its standard deviation."""

_FALSE_SHARE = 1 / 3
_COARSE = 17
"""Bits of a float32 that its bin in `signed_counts` does not have."""

_STEP = 4
"""Statistics take every fourth row of the volume: neighbouring rows share most of their window anyway."""

_BINS = 65536

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
    centres, wholes = window_sums(voxels, windows, scratch, first, step)
    # the smallest type in which the difference is exact: whole numbers below 2**24 are, in float32
    largest = windows.voxels * int(np.iinfo(voxels.dtype).max)
    exact = np.float32 if largest < 2**24 else np.int32 if largest < 2**31 else np.int64
    difference, subtracted = (scratch.take(name, centres.shape, exact) for name in ("inner", "outer"))
    difference[...], subtracted[...] = centres, wholes
    difference *= exact(windows.whole_pixels)
    subtracted *= exact(windows.centre_pixels)
    np.subtract(difference, subtracted, out=difference)
    if exact is np.float32:
        return difference
    rounded: NDArray[np.float32] = scratch.take("wide", centres.shape, np.float32)
    rounded[...] = difference
    return rounded


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


def signed_counts(contrasts: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count float32 contrasts by sign and magnitude, int64 (2, 16320): bright, then dark; steps below 1.6 per cent.

    A contrast of 0 is neither.
    """
    bits = contrasts[contrasts != 0].view(np.uint32) >> np.uint32(_COARSE)
    counts = np.bincount(bits, minlength=2 * (_SIGN >> (_COARSE - 16))).reshape(2, -1)
    return counts[:, : _INFINITE >> (_COARSE - 16)].astype(np.int64)


def mirror_level(counts: NDArray[np.int64]) -> float | None:
    """Return the least magnitude from which on dark voxels are at most a third as many as bright ones.

    `counts` are `signed_counts`; the result is in their unit. None where no contrast is negative.
    """
    bright, dark = (np.cumsum(side[::-1])[::-1] for side in counts)
    if not dark[0]:
        return None
    below = np.cumsum(counts.sum(axis=0)) > 0
    enough = np.flatnonzero((_FALSE_SHARE * bright >= dark) & below)
    return float((np.uint32(enough[0]) << np.uint32(_COARSE)).view(np.float32))


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
