"""The alerts: sentences on what a reader must know before trusting the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.flags import BRIGHT_EVERYWHERE, FAR_SD
from nd_synapse.report.captions import count
from nd_synapse.report.depth import sections
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_registration import registration_alerts
from nd_synapse.report.table import Standardised, SynapseTable

__all__ = ["alerts"]

_FEW = 50
_HIGH_R = 0.95
_MANY_SINGLE_SECTION = 0.25
_MANY_AT_BORDER = 0.2
_MANY_BRIGHT = 0.02
_MANY_BY_CHANCE = 0.2
_MOST_PAIRS = 5
_MOST_NOTES = 12
_MOST_SECTIONS = 5
_FEWEST_A_SECTION = 10
_FEWEST_SECTIONS = 5
_FAR_SD = 5.0
_FAR_FOLD = 1.5
_FAR_BRIGHT_SD = 0.5


def alerts(table: SynapseTable, standardised: Standardised, facts: RunFacts) -> list[str]:
    """Return the alerts of a report."""
    found = [*_notes(facts), *registration_alerts(facts.registration), *_number(table), *_left_out(table)]
    if table.n > 1:
        found += _channels(standardised)
        found += _sections(table, standardised, facts)
        found += _correlated(standardised)
        found += _by_chance(table, facts)
    return found + _objects(table, facts)


def _by_chance(table: SynapseTable, facts: RunFacts) -> list[str]:
    chance = facts.chance
    if chance.reason or chance.share < _MANY_BY_CHANCE:
        return []
    which = "The column confidence tells which; a" if chance.curve else "A"
    return [f"Many by chance: {chance.words(table.n)} {which} stricter threshold leaves fewer."]


def _left_out(table: SynapseTable) -> list[str]:
    """Report channels and masks that are not drawn because there are too many."""
    return [
        f"{count(number, f'further {kind}')} of the table {'is' if number == 1 else 'are'} not drawn: "
        f"the figures show the first {shown}."
        for kind, number, shown in (
            ("channel", table.channels_left_out, len(table.channels)),
            ("mask", table.masks_left_out, len(table.groups)),
        )
        if number
    ]


def _notes(facts: RunFacts) -> list[str]:
    notes = list(facts.notes)
    if len(notes) <= _MOST_NOTES:
        return notes
    return [
        *notes[:_MOST_NOTES],
        f"And {count(len(notes) - _MOST_NOTES, 'more note')}; run.json has them all.",
    ]


def _sections(table: SynapseTable, standardised: Standardised, facts: RunFacts) -> list[str]:
    """Name the sections whose number or brightness of synapses is far from that of the others."""
    if facts.box is None or facts.box.shape[0] < _FEWEST_SECTIONS or not _has_depths(table):
        return []
    first, stop = facts.box.z
    section = sections(table, facts)
    known = section >= 0
    counts = np.bincount(section[known], minlength=stop - first)
    found = _odd_counts(counts, first)
    inside = known[standardised.rows]
    of_rows = section[standardised.rows][inside]
    for name, values in zip(standardised.names, standardised.values.T, strict=True):
        found += _odd_brightness(name, np.bincount(of_rows, values[inside], stop - first), of_rows, first)
    return found


def _has_depths(table: SynapseTable) -> bool:
    return table.has("centroid_z_voxel") or table.has("centroid_z_um")


def _odd_counts(counts: NDArray[np.int64], first: int) -> list[str]:
    """Name the sections that hold far more or fewer synapses than the median section."""
    middle = float(np.median(counts))
    if middle < _FEWEST_A_SECTION:
        return []
    spread = max(np.sqrt(middle), 1.4826 * float(np.median(np.abs(counts - middle))))
    fold = np.maximum(counts, 1) / middle
    odd = np.flatnonzero((np.abs(counts - middle) > _FAR_SD * spread) & (np.abs(np.log(fold)) > np.log(_FAR_FOLD)))
    if not len(odd):
        return []
    named = _listed([f"section {first + i} with {counts[i]:,}" for i in odd])
    ends = (
        " At the first and the last section objects are cut, which moves their centroids there."
        if ({0, len(counts) - 1} & set(odd.tolist()))
        else ""
    )
    return [f"Suspicious sections: the median section holds {middle:,.0f} synapses, but {named}.{ends}"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SECTIONS:,} more" if len(names) > _MOST_SECTIONS else ""
    return ", ".join(names[:_MOST_SECTIONS]) + more


def _odd_brightness(name: str, sums: NDArray[Any], section: NDArray[np.int64], first: int) -> list[str]:
    """Name the sections whose synapses are far brighter or dimmer in a channel than those of the others."""
    counts = np.bincount(section, minlength=len(sums))
    some = np.flatnonzero(counts >= _FEWEST_A_SECTION)
    if len(some) < _FEWEST_SECTIONS:
        return []
    means = sums[some] / counts[some]
    middle = float(np.median(means))
    spread = 1.4826 * float(np.median(np.abs(means - middle)))
    far = np.abs(means - middle)
    odd = np.flatnonzero((far > _FAR_SD * np.maximum(spread, 1 / np.sqrt(counts[some]))) & (far > _FAR_BRIGHT_SD))
    if not len(odd):
        return []
    named = _listed([f"{first + some[i]} ({means[i] - middle:+.1f} sd)" for i in odd])
    return [f"Suspicious sections in {name}: synapses are brighter or dimmer in {named}."]


def _number(table: SynapseTable) -> list[str]:
    if not table.n:
        return ["No synapse was found; there is nothing to draw but the images."]
    if table.n < _FEW:
        return [f"Few synapses: with {table.n}, shares, densities and correlations are uncertain."]
    return []


def _channels(standardised: Standardised) -> list[str]:
    found = []
    if standardised.constant:
        names = ", ".join(standardised.constant)
        found.append(f"Constant channel: {names} has the same value at every synapse and is left out of the figures.")
    if standardised.empty:
        found.append(f"Empty channel: {', '.join(standardised.empty)} has no value and is left out of the figures.")
    if standardised.rows_left_out:
        rows = count(standardised.rows_left_out, "synapse")
        found.append(f"Missing values: {rows} without a value in some channel; left out of the standardised figures.")
    return found


def _correlated(standardised: Standardised) -> list[str]:
    values, names = standardised.values, standardised.names
    if len(values) < 3 or len(names) < 2:
        return []
    r = np.triu(values.T @ values / len(values), 1)
    pairs = sorted(zip(*np.nonzero(np.abs(r) > _HIGH_R), strict=True), key=lambda pair: -abs(r[pair]))
    if not pairs:
        return []
    named = [f"{names[a]} and {names[b]} (r = {r[a, b]:.3f})" for a, b in pairs[:_MOST_PAIRS]]
    more = f", and {count(len(pairs) - _MOST_PAIRS, 'more pair')}" if len(pairs) > _MOST_PAIRS else ""
    return [f"Highly correlated channels: {', '.join(named)}{more}. They may show the same signal, or bleed-through."]


def _objects(table: SynapseTable, facts: RunFacts) -> list[str]:
    found = []
    deep = facts.box is None or facts.box.shape[0] > 1
    if table.n and deep and table.has("slices"):
        share = float((table.columns["slices"] == 1).mean())
        if share >= _MANY_SINGLE_SECTION:
            found.append(
                f"Single-section objects: {100 * share:.0f} % lie in one section only; few synapses do, noise does."
            )
    return found + (_cut(table, facts) + _bright(table, facts) if table.n else [])


def _cut(table: SynapseTable, facts: RunFacts) -> list[str]:
    """Count the objects at the border of the box and at padding."""
    found = []
    _, share = _flagged(table, "touches_border")
    if share >= _MANY_AT_BORDER:
        text = f"Cut objects: {100 * share:.0f} % touch the border of the box; their sizes are lower bounds."
        found.append(text + _about_brick(facts))
    number, share = _flagged(table, "touches_padding")
    if number:
        found.append(
            f"At padding: {count(number, 'object')} ({100 * share:.2g} %) touch voxels that are no tissue, where seams "
            "of the alignment look like synapses (column touches_padding). Look at some; request a box without "
            "padding, or leave them out of comparisons."
        )
    return found


def _about_brick(facts: RunFacts) -> str:
    """Say what cut objects do to the density, and whether its interval can be trusted."""
    density = facts.density
    if density is None or not density.brick.per_um3 or not density.every.per_um3:
        return ""
    high = "which is too high; " if density.every.per_um3 > density.brick.per_um3 else ""
    text = (
        f" Counted as whole ones they make the density {density.every} per µm³, {high}"
        f"the counting brick finds {density.brick}: report that."
    )
    choices = sorted(count.per_um3 or 0 for count in (density.without_low, density.without_high))
    if density.interval is not None and choices[1] > density.interval[1]:
        text += (
            f" Excluding at the first or at the last faces gives {choices[0]:.3g} or {choices[1]:.3g}, more than its "
            "95 % interval holds: the sections at one end are unlike those at the other. See the count by depth."
        )
    return text


def _bright(table: SynapseTable, facts: RunFacts) -> list[str]:
    """Count the objects that are bright in every channel."""
    number, share = _flagged(table, BRIGHT_EVERYWHERE)
    if not number:
        return []
    text = (
        f"Bright in every channel: {count(number, 'object')} ({100 * share:.2g} %), in each by more than {FAR_SD:g} "
        "standard deviations above its mean, are probably lipofuscin, dirt or folds, as no synapse has every marker "
        f"(column {BRIGHT_EVERYWHERE}). They are counted. Look at some, and leave them out of comparisons."
    )
    without = facts.density and facts.density.without_bright
    if share >= _MANY_BRIGHT and without and without.per_um3:
        text += f" Without them the density is {without} per µm³."
    return [text]


def _flagged(table: SynapseTable, column: str) -> tuple[int, float]:
    """Return how many rows a column flags, and their share; zeros where there is no such column."""
    flagged = int(table.flags(column).sum()) if table.has(column) else 0
    return flagged, flagged / table.n
