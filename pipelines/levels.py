"""Levels: how bright a channel is in a punctum round a voxel, and how rare that is in the whole volume.

A level is the exact sum over a punctum (`Windows.centre`), in steps of which 16 bits hold the largest. A level's
*rarity* is the share of the tissue that is brighter, half of that which is as bright counted: 1 minus its quantile. It
needs no noise model, no unit and no rule for outliers; and it comes from counts, which add up over blocks exactly::

    voxels      . . . : : : | | | | | | | : : : . . .   .       .
    rarity      1             1/2           1/10       1/1000  half a voxel of all

Kept are so many levels that the rarity falls by a sixteenth from one to the next; between them it is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.masked_contrast import Partial
from pipelines.slabs import Scratch, slabs, trimmed, with_halo
from pipelines.windows import Windows, centre_sums

__all__ = ["histograms", "learn", "least_level", "levels", "rarities", "unit"]

_BITS = 16

_STEP = 4
"""Statistics take every fourth row of the volume: neighbouring rows share most of their punctum anyway."""

_APART = 16
"""A level is kept if its rarity is lower than that of the last one by this part of it."""


def unit(dtype: np.dtype[Any], windows: Windows) -> int:
    """Return how much of the sum of a punctum a level is: a power of two."""
    largest = windows.section_weights * windows.centre_pixels * int(np.iinfo(dtype).max)
    return 1 << max(largest.bit_length() - _BITS, 0)


def levels(
    centres: NDArray[Any],
    dtype: np.dtype[Any],
    windows: Windows,
    partial: Partial | None = None,
) -> NDArray[np.uint16]:
    """Return the levels of sums in the centres of windows, (z, y, x), of voxels of a type; the sums are overwritten.

    The level of a centre that is `partial` is that of the mean of its tissue. None is all tissue.
    """
    if partial is not None:
        flat, every = centres.reshape(-1), windows.section_weights * windows.centre_pixels
        flat[partial.places] = flat.take(partial.places).astype(np.int64) * every // partial.of_centres
    centres >>= centres.dtype.type(unit(dtype, windows).bit_length() - 1)
    return centres.astype(np.uint16, copy=False)


def histograms(
    arrays: Mapping[str, NDArray[Any]], windows: Windows, start_y: int, tissue: NDArray[np.bool_] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Count the levels of markers in a block (z, y, x) with a halo of ``windows.halo``, int64 (largest level + 1,).

    Every fourth row of the volume counts; `start_y` is the volume's row at which the block begins without its halo.
    What is not `tissue`, of the shape of the voxels, is left out; None is all.
    """
    scratch = Scratch()
    counts = {role: np.zeros(2**_BITS, np.int64) for role in arrays}
    depth, height, width = trimmed(next(iter(arrays.values())), windows.halo).shape
    for z, y in slabs((depth, height, width)):
        rows = (-(start_y + y.start) % _STEP, _STEP)
        if rows[0] >= y.stop - y.start:
            continue
        partial = None if tissue is None else Partial.of(with_halo(tissue, z, y, windows.halo), windows, rows)
        absent, outside = ((), ()) if partial is None else (partial.absent, partial.outside)
        for role, voxels in arrays.items():
            here = with_halo(voxels, z, y, windows.halo)
            centres = centre_sums(here, windows, scratch, absent, rows)
            counted = levels(centres, voxels.dtype, windows, partial)[:, :, :width]
            found = np.bincount(counted.ravel())
            counts[role][: len(found)] += found
            for x, gone in outside:
                counts[role][: len(found)] -= np.bincount(counted[:, :, x][gone], minlength=len(found))
    return {role: np.trim_zeros(values, "b") for role, values in counts.items()}


def learn(counts: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return what `rarities` needs of a volume's `histograms`, int64 (n,); None where all have one level."""
    occupied = np.flatnonzero(counts)
    if len(occupied) < 2:
        return None
    here = counts[occupied]
    total = int(here.sum())
    above = 2 * (total - np.cumsum(here)) + here
    kept = [0]
    while kept[-1] < len(above) - 1:
        most = (_APART - 1) * int(above[kept[-1]]) // _APART
        kept.append(min(int(np.searchsorted(-above, -most)), len(above) - 1))
    return {
        "voxels": total,
        "levels": occupied[kept].tolist(),
        "twice_above": above[kept].tolist(),
    }


def rarities(learned: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the rarity of each level, float64 (largest level + 1,), above 0 and up to 1; the largest's goes on.

    Between the levels that are known it is interpolated in whole numbers, which are the same on any processor.
    """
    known, above = (np.array(learned[name], np.int64) for name in ("levels", "twice_above"))
    every = np.arange(known[-1] + 1)
    before = np.clip(np.searchsorted(known, every, "right") - 1, 0, len(known) - 2)
    into = np.maximum(every - known[before], 0)
    table: NDArray[np.float64] = above[before] + np.diff(above)[before] * into // np.diff(known)[before]
    return table / (2 * int(learned["voxels"]))


def least_level(table: NDArray[np.float64], rarity: float) -> int:
    """Return the lowest level that is as rare, or rarer, of a table of `rarities`; the highest if none is."""
    return min(int(np.searchsorted(-table, -rarity)), len(table) - 1)
