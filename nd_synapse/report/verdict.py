"""The verdict: what a reader wants to know first, how many, how dense, and how sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nd_synapse.detection.density import Count, Density
from nd_synapse.report.captions import TIMES, listed, plain, times
from nd_synapse.report.checks import UNKNOWN, Check, checks
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_gallery import Samples
from nd_synapse.report.look import short
from nd_synapse.report.table import Standardised, SynapseTable

__all__ = ["Card", "Looked", "Verdict", "verdict"]

_MOST_MARKERS = 4
_LETTERS = 14
_LEAST_PERCENT = 0.1
"""Smaller shares are noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was read from the voxels while the figures were drawn: a page may be written again without them."""

    colours: Mapping[str, str]
    """The colour of each mask and class."""
    samples: Samples
    at_top: Mapping[str, float] | None
    """See `Fields.at_top`; None without voxels."""
    areas: Mapping[str, float]
    """By channel, the area under the ROC curve of detected against random places; empty without voxels."""


@dataclass(frozen=True, slots=True)
class Card:
    """A number with its label, and what belongs to it."""

    label: str
    value: str
    below: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first section of the page."""

    cards: list[Card]
    classes: list[tuple[str, str, int]]
    """Name, colour and number of each mask and class."""
    checks: list[Check]
    unknown: list[Check]
    """Those that could not be made."""
    samples: Samples


def verdict(table: SynapseTable, standardised: Standardised, facts: RunFacts, looked: Looked) -> Verdict:
    """Return the verdict on a table."""
    found = checks(table, standardised, facts, looked.at_top)
    cards = [
        Card("Synapses", f"{table.whole.n:,}", "detected objects"),
        _density(table, facts),
        _searched(table, facts),
    ]
    return Verdict(
        cards=[*cards, _how_sure(table, facts, looked.areas)],
        classes=[(name, looked.colours[name], number) for name, number in table.group_sizes.items()],
        checks=[check for check in found if check.light != UNKNOWN],
        unknown=[check for check in found if check.light == UNKNOWN],
        samples=looked.samples,
    )


def _density(table: SynapseTable, facts: RunFacts) -> Card:
    volume = facts.volume_um3
    if facts.density is not None:
        return _brick(facts.density)
    if volume is None:
        return Card("Density", "not known", "the table comes without the volume of its box")
    return Card(
        "Density", f"{Count(table.whole.n, volume)} per µm³", f"in {plain(volume)} µm³, cut objects counted as whole"
    )


def _brick(density: Density) -> Card:
    """Return the density with its interval, and the range of the choices of faces."""
    if density.brick.per_um3 is None:
        return Card("Density", "not known", density.no_interval)
    digits = density.brick.digits
    faces = sorted(count.per_um3 or 0 for count in (density.without_low, density.without_high))
    low, high = (f"{value:.{digits}g}" for value in faces)
    between = f"no interval: {density.no_interval}"
    if density.interval is not None:
        between = "95 % interval {} to {}".format(*(f"{value:.{digits}g}" for value in density.interval))
    return Card("Density", f"{density.brick} per µm³", f"{between}; range by choice of faces {low} to {high}")


def _searched(table: SynapseTable, facts: RunFacts) -> Card:
    """Return the markers that were searched, and where."""
    markers, channels = list(dict.fromkeys(facts.roles.values())), list(table.channels)
    named = listed(map(short, markers or channels), _MOST_MARKERS)
    where = [] if markers or not channels else [named]
    if facts.box is not None:
        size = facts.voxel_size_nm
        of = f" of {times(f'{nm:g}' for nm in size)} nm" if size else ""
        where.append(f"{times(f'{n:,}' for n in facts.box.shape)} voxels (z {TIMES} y {TIMES} x){of}")
    if facts.tissue is not None and facts.voxel_size_nm is not None:
        where.append(f"{plain(facts.tissue.um3(facts.voxel_size_nm))} µm³ of tissue")
    if markers:
        return Card("Searched", named, "; ".join(where))
    return Card("Channels", f"{len(channels) + table.channels_left_out:,}", "; ".join(where))


def _how_sure(table: SynapseTable, facts: RunFacts, areas: Mapping[str, float]) -> Card:
    """Return the detections expected by chance, and how much brighter detected places are than random ones."""
    first = [name for name in dict.fromkeys(facts.roles.values()) if name in areas]
    shown = [f"{short(name, _LETTERS)} {areas[name]:.2f}" for name in first or areas]
    if facts.chance.reason:
        unknown = f"by chance: not known, {facts.chance.reason}"
        if not shown:
            return Card("How sure", "not known", unknown)
        more = f" ({listed(shown[1:], _MOST_MARKERS)})" if shown[1:] else ""
        below = f"area under the curve of synapses against random places, 0.5 if unrelated{more}; {unknown}"
        return Card("How sure", shown[0], below)
    words = f"area against random places: {listed(shown, _MOST_MARKERS)}" if shown else ""
    low, share, high = facts.chance.expected(table.whole.n)
    percent = 100 * facts.chance.share
    shown_percent = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
    by = f"{shown_percent} % by chance" if percent >= _LEAST_PERCENT else f"below {_LEAST_PERCENT:g} % by chance"
    of = f"{share:,} expected; {low:,} to {high:,} by other assumptions"
    return Card("How sure", by, f"{of}; {words}" if words else of)
