"""Odd sections: those whose synapses differ in number or in brightness from those of the other sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report.depth import sections
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.table import Standardised, SynapseTable

__all__ = ["FEWEST_SECTIONS", "find_odd_sections"]

FEWEST_SECTIONS = 5
"""With fewer none is odd."""

_MOST_SECTIONS = 5
_FEWEST_A_SECTION = 10
_FAR_SD = 5.0
_FAR_FOLD = 1.5
_FAR_BRIGHT_SD = 0.5


def find_odd_sections(
    table: SynapseTable, standardised: Standardised, facts: RunFacts
) -> tuple[set[int], list[str]] | None:
    """Return the odd sections, absolute, and what is odd in sentences; None where sections are unknown."""
    if facts.box is None or not (table.has("centroid_z_voxel") or table.has("centroid_z_um")):
        return None
    first, stop = facts.box.z
    counts = np.zeros(stop - first, np.int64)
    for piece in table.pieces():
        there = sections(piece, facts)
        counts += np.bincount(there[there >= 0], minlength=stop - first)
    odd, words = _odd_counts(counts, first)
    section = sections(table, facts)
    known = section >= 0
    inside = known[standardised.rows]
    of_rows = section[standardised.rows][inside]
    for name, values in zip(standardised.names, standardised.values.T, strict=True):
        far, more = _odd_brightness(name, np.bincount(of_rows, values[inside], stop - first), of_rows, first)
        odd, words = odd + far, words + more
    return set(odd), words


def _odd_counts(counts: NDArray[np.int64], first: int) -> tuple[list[int], list[str]]:
    """Find the sections that hold far more or fewer synapses than the median section."""
    middle = float(np.median(counts))
    if middle < _FEWEST_A_SECTION:
        return [], []
    spread = max(np.sqrt(middle), 1.4826 * float(np.median(np.abs(counts - middle))))
    fold = np.maximum(counts, 1) / middle
    odd = np.flatnonzero((np.abs(counts - middle) > _FAR_SD * spread) & (np.abs(np.log(fold)) > np.log(_FAR_FOLD)))
    if not len(odd):
        return [], []
    named = _listed([f"section {first + i} with {counts[i]:,}" for i in odd])
    ends = (
        " At the first and the last section objects are cut, which moves their centroids there."
        if ({0, len(counts) - 1} & set(odd.tolist()))
        else ""
    )
    odd_ones = (first + odd).tolist()
    return odd_ones, [f"The median section holds {middle:,.0f} synapses, but {named}.{ends}"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SECTIONS:,} more" if len(names) > _MOST_SECTIONS else ""
    return ", ".join(names[:_MOST_SECTIONS]) + more


def _odd_brightness(
    name: str, sums: NDArray[Any], section: NDArray[np.int64], first: int
) -> tuple[list[int], list[str]]:
    """Find the sections whose synapses are far brighter or dimmer in a channel than those of the others."""
    counts = np.bincount(section, minlength=len(sums))
    some = np.flatnonzero(counts >= _FEWEST_A_SECTION)
    if len(some) < FEWEST_SECTIONS:
        return [], []
    means = sums[some] / counts[some]
    middle = float(np.median(means))
    spread = 1.4826 * float(np.median(np.abs(means - middle)))
    far = np.abs(means - middle)
    odd = np.flatnonzero((far > _FAR_SD * np.maximum(spread, 1 / np.sqrt(counts[some]))) & (far > _FAR_BRIGHT_SD))
    if not len(odd):
        return [], []
    named = _listed([f"section {first + some[i]} ({means[i] - middle:+.1f} sd)" for i in odd])
    return (first + some[odd]).tolist(), [f"In {name} synapses are brighter or dimmer in {named}."]
