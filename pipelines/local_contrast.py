"""Local contrast in a section: how much brighter a punctum is than what lies around it, in exact integers.

::

    s s s s s       c, s  the centre, as wide as a punctum; s  what surrounds it in the same sections
    s c c c s
    s c c c s       contrast = area(c and s) * sum(c) - area(c) * sum(c and s)
    s c c c s
    s s s s s       divided by both areas and the weights: mean of the centre minus mean of all, in grey levels

Neighbouring sections count less the farther they are, as those of a punctum do: 1, 2, 1 for a window of three. The
surround lies in the section alone: sections are stained and imaged one by one, and differ in gain and background.
A slow background is gone; so is the halo of a large bright body, except at its rim. The sums are integers, shifted and
added in one order, so that blocks cannot show.

Contrasts are counted by the upper bits of their float32 form: logarithmic bins, for any depth of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.masked_contrast import Partial
from pipelines.slabs import Scratch
from pipelines.windows import Windows, clear, window_sums

__all__ = [
    "bin_of",
    "bins",
    "contrast",
    "dark_level",
    "largest_of_bin",
    "mirror_level",
    "signed_counts",
    "values_of_bins",
]

_FALSE_SHARE = 1 / 3
"""Dark voxels to a bright one at the mirror level."""

_EXCEEDED = 100
"""One dark contrast in so many exceeds the dark level."""

_COARSE = 17
"""Bits of a float32 that its bin in `signed_counts` does not have."""

_SIGN = 0x8000
_INFINITE = 0x7F80


def contrast(
    voxels: NDArray[Any], windows: Windows, scratch: Scratch, partial: Partial | None = None
) -> NDArray[np.float32]:
    """Compute contrasts of uint8 or uint16 voxels (z, y, x) with a halo of ``windows.halo``: float32 (z, y, wide x).

    They are the nearest float32 of the exact integers. Windows that are `partial` count what is tissue, and what is not
    has contrast 0; None is all tissue. The last columns of each row, as many as the halo has on both sides, mean
    nothing: sums of columns run on over flat memory, for rows by themselves take three times as long. The next call
    overwrites the result.
    """
    centres, wholes = window_sums(voxels, windows, scratch, () if partial is None else partial.absent)
    anew = None if partial is None else partial.contrasts(centres, wholes, windows)
    found = _contrast(centres, wholes, windows, voxels.dtype, scratch)
    if partial is not None:
        found.reshape(-1)[partial.places] = anew
        clear(found, partial.outside)
    return found


def _contrast(
    centres: NDArray[Any], wholes: NDArray[Any], windows: Windows, dtype: np.dtype[Any], scratch: Scratch
) -> NDArray[np.float32]:
    """Compute contrasts of whole windows from their sums, which are in the memory `window_sums` gives."""
    # the smallest type in which the difference is exact: whole numbers below 2**24 are, in float32
    largest = windows.voxels * int(np.iinfo(dtype).max)
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


def largest_of_bin(number: int) -> float:
    """Return the largest number of a bin."""
    return float(np.uint32(number << 16 | 0xFFFF).view(np.float32))


def values_of_bins(count: int = _INFINITE) -> NDArray[np.float64]:
    """Return the middles of the first bins, ascending, float64 (count,); by default of all positive finite numbers."""
    upper = np.arange(count, dtype=np.uint32) << np.uint32(16)
    middles: NDArray[np.float64] = (upper | np.uint32(0x8000)).view(np.float32).astype(np.float64)
    return middles


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


def dark_level(counts: NDArray[np.int64]) -> float:
    """Return the magnitude that one in a hundred negative contrasts exceeds; 0 where none is negative.

    `counts` are `signed_counts`; the result is in their unit.
    """
    below = np.cumsum(counts[1])
    last = np.searchsorted(_EXCEEDED * below, (_EXCEEDED - 1) * below[-1])
    return float((np.uint32(last) << np.uint32(_COARSE)).view(np.float32))
