"""The checks: what a reader must know before trusting the figures, each with a light and the reason for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nd_synapse.detection.confidence import MOST_BY_CHANCE
from nd_synapse.detection.flags import BRIGHT_EVERYWHERE, FAR_SD
from nd_synapse.detection.registration import UNSURE, WITHIN
from nd_synapse.errors import few
from nd_synapse.report.captions import count
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_registration import displaced, unsure
from nd_synapse.report.odd_sections import FEWEST_SECTIONS, find_odd_sections
from nd_synapse.report.table import Standardised, SynapseTable

__all__ = ["BAD", "GOOD", "LOOK", "UNKNOWN", "Check", "checks"]

GOOD, LOOK, BAD, UNKNOWN = "good", "look", "bad", "unknown"

_FEW = 50
_HIGH_R = 0.95
_SATURATED = 0.001
_MANY_SINGLE_SECTION = 0.25
_MANY_AT_BORDER = 0.2
_MANY_BRIGHT = 0.02
_MANY_BY_CHANCE = 0.2
_MOST_PAIRS = 5
_MOST_NOTES = 12


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that was checked."""

    name: str
    light: str
    """`GOOD`, `LOOK`, `BAD`, or `UNKNOWN` where it could not be checked."""
    reason: str
    """Why, in a line."""
    more: tuple[str, ...] = ()
    """What it means and what to do, in sentences."""


def checks(
    table: SynapseTable, standardised: Standardised, facts: RunFacts, at_top: Mapping[str, float] | None = None
) -> list[Check]:
    """Return the checks of a report; `at_top` is `Fields.at_top`, None without voxels."""
    found = [_notes(facts), _number(table.whole.n), _failed(facts), _padding(table, facts), _registration(facts)]
    if table.n:
        found += [_cut(table, facts), _single(table, facts), _odd(table, standardised, facts), _bright(table, facts)]
        found += [_channels(table, standardised, at_top), _chance(table.whole.n, facts)]
    return [check for check in found if check is not None]


def _notes(facts: RunFacts) -> Check | None:
    notes = list(facts.notes)
    if not notes:
        return None
    more = notes[:_MOST_NOTES]
    if len(notes) > _MOST_NOTES:
        more.append(f"And {count(len(notes) - _MOST_NOTES, 'more note')}; run.json has them all.")
    return Check("Notes", LOOK, f"{count(len(notes), 'note')} to read", tuple(more))


def _number(n: int) -> Check | None:
    if not n:
        more = "There is nothing to draw but the images: look at them, and try a lower strictness."
        return Check("Number", BAD, "no synapse was found", (more,))
    if n < _FEW:
        return Check("Number", LOOK, f"only {n}", ("Shares, densities and correlations are uncertain.",))
    return None


def _failed(facts: RunFacts) -> Check:
    failed, blocks = facts.counts.get("blocks that failed"), facts.counts.get("blocks")
    if failed is None or blocks is None:
        return Check("Failed blocks", UNKNOWN, "no record of a run")
    if not failed:
        return Check("Failed blocks", GOOD, "none: the box has no holes")
    more = "The masks are 0 there, and no synapse is counted. The same command tries them again."
    return Check("Failed blocks", BAD, f"holes: {failed:,} of {count(blocks, 'block')}", (more,))


def _padding(table: SynapseTable, facts: RunFacts) -> Check:
    number, share = _flagged(table, "touches_padding")
    if number:
        more = (
            f"{count(number, 'object')} ({100 * share:.2g} %) touch voxels that are no tissue, where seams of the "
            "alignment look like synapses (column touches_padding). Look at some; request a box without padding, or "
            "leave them out of comparisons."
        )
        return Check("Padding", LOOK, f"{count(number, 'object')} at its edge", (more,))
    if facts.tissue is None:
        return Check("Padding", UNKNOWN, "it was not looked for")
    lost = 1 - facts.tissue.fraction
    return Check("Padding", GOOD, f"{100 * lost:.2g} % of the box, left out" if lost else "none in the box")


def _registration(facts: RunFacts) -> Check:
    registration = facts.registration
    if registration is None:
        return Check("Registration", UNKNOWN, "it was not measured")
    if not registration.pairs:
        return Check("Registration", UNKNOWN, "the box has nothing to compare")
    beyond, unknown = displaced(registration), unsure(registration)
    within = sum(pair.outcome == WITHIN for pair in registration.pairs)
    limit = f"{registration.limit_nm:,.0f} nm"
    if beyond:
        return Check("Registration", BAD, f"shifts beyond {limit}", (*beyond, *unknown))
    light = LOOK if unknown else GOOD
    of = f"{within:,} of {count(len(registration.pairs), 'pair')}"
    untold = sum(pair.outcome == UNSURE for pair in registration.pairs)
    reason = f"{of} within {limit}" + (f", {untold:,} cannot be told" if untold else "")
    return Check("Registration", light, reason, tuple(unknown))


def _single(table: SynapseTable, facts: RunFacts) -> Check:
    if not table.has("slices") or (facts.box is not None and facts.box.shape[0] == 1):
        return Check("Single-section objects", UNKNOWN, "the sections of objects are not known")
    share = table.total(lambda piece: int((piece.columns["slices"] == 1).sum())) / table.whole.n
    more = ("Few synapses lie in one section only; noise does.",) if share >= _MANY_SINGLE_SECTION else ()
    return Check("Single-section objects", LOOK if more else GOOD, f"{100 * share:.0f} % of all", more)


def _odd(table: SynapseTable, standardised: Standardised, facts: RunFacts) -> Check:
    found = find_odd_sections(table, standardised, facts)
    if found is None or facts.box is None:
        return Check("Odd sections", UNKNOWN, "the sections of objects are not known")
    number = facts.box.shape[0]
    if number < FEWEST_SECTIONS:
        return Check("Odd sections", UNKNOWN, f"fewer than {FEWEST_SECTIONS} sections")
    odd, words = found
    if not odd:
        return Check("Odd sections", GOOD, f"none of {number:,}")
    return Check("Odd sections", LOOK, f"{len(odd):,} of {count(number, 'section')}", tuple(words))


def _cut(table: SynapseTable, facts: RunFacts) -> Check:
    if not table.has("touches_border"):
        return Check("Cut objects", UNKNOWN, "which touch the border is not known")
    _, share = _flagged(table, "touches_border")
    reason = f"{100 * share:.0f} % touch the border of the box"
    if share < _MANY_AT_BORDER:
        return Check("Cut objects", GOOD, reason)
    more = "Their sizes are lower bounds."
    return Check("Cut objects", LOOK, reason, tuple(filter(None, (more, _about_brick(facts)))))


def _about_brick(facts: RunFacts) -> str:
    """Say what cut objects do to the density, and whether its interval can be trusted."""
    density = facts.density
    if density is None or not density.brick.per_um3 or not density.every.per_um3:
        return ""
    high = "which is too high; " if density.every.per_um3 > density.brick.per_um3 else ""
    text = (
        f"Counted as whole ones they make the density {density.every} per µm³, {high}"
        f"the counting brick finds {density.brick}."
    )
    choices = sorted(count.per_um3 or 0 for count in (density.without_low, density.without_high))
    if density.interval is not None and choices[1] > density.interval[1]:
        text += (
            f" Excluding at the first or at the last faces gives {choices[0]:.3g} or {choices[1]:.3g}, more than its "
            "95 % interval holds: the sections at one end are unlike those at the other. See the count by depth."
        )
    return text


def _bright(table: SynapseTable, facts: RunFacts) -> Check:
    name = "Bright in every channel"
    if not table.has(BRIGHT_EVERYWHERE):
        return Check(name, UNKNOWN, "no channel beside the searched ones")
    number, share = _flagged(table, BRIGHT_EVERYWHERE)
    if not number:
        return Check(name, GOOD, "none")
    text = (
        f"In each channel they are more than {FAR_SD:g} standard deviations above its mean: probably lipofuscin, dirt "
        f"or folds, as no synapse has every marker (column {BRIGHT_EVERYWHERE}). They are counted. Look at some, and "
        "leave them out of comparisons."
    )
    without = facts.density and facts.density.without_bright
    if share >= _MANY_BRIGHT and without and without.per_um3:
        text += f" Without them the density is {without} per µm³."
    return Check(name, LOOK, f"{count(number, 'object')} ({100 * share:.2g} %)", (text,))


def _channels(table: SynapseTable, standardised: Standardised, at_top: Mapping[str, float] | None) -> Check:
    """Name channels that are constant, empty, saturated, too many, or alike."""
    at_top = at_top or {}
    flat = dict.fromkeys([*standardised.constant, *(name for name, share in at_top.items() if share == 1)])
    saturated = [f"{name} ({100 * share:.2g} %)" for name, share in at_top.items() if _SATURATED <= share < 1]
    same = _identical(table, standardised.names) if table.n > 1 else []
    alike = _correlated(standardised, same) if table.n > 1 else ""
    kinds = {
        "constant": (", ".join(flat), "has one value everywhere: it shows nothing, and is left out of figures."),
        "empty": (", ".join(standardised.empty), "has no value, and is left out of figures."),
        "saturated": (", ".join(saturated), "of the voxels have the largest value: brighter ones cannot be told."),
        "with missing values": (
            f"{count(standardised.rows_left_out, 'synapse')}" if standardised.rows_left_out else "",
            "without a value in some channel; left out of the standardised figures.",
        ),
        "identical": (
            few([" and ".join(pair) for pair in same], "; ") + "." if same else "",
            "They have the same values: if they are one image under two names, give each marker its own.",
        ),
        "highly correlated": (alike, "They may show the same signal, or bleed-through."),
    }
    found = {kind: f"{kind.capitalize()}: {which} {what}" for kind, (which, what) in kinds.items() if which}
    left_out = _left_out(table)
    if not found and not left_out:
        return Check("Channels", GOOD, "none constant, saturated or like another" if at_top else "none constant")
    reason = ", ".join([*found, *(["too many to draw"] if left_out else [])])
    return Check("Channels", BAD if flat or same else LOOK, reason, (*found.values(), *left_out))


def _identical(table: SynapseTable, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of some channels that are the same in every synapse."""
    brightness = dict(zip(table.channels, table.brightness().T, strict=True))
    return [(a, b) for a, b in combinations(names, 2) if np.array_equal(brightness[a], brightness[b], equal_nan=True)]


def _correlated(standardised: Standardised, but: Collection[tuple[str, str]]) -> str:
    """Return the pairs of channels that are nearly the same over the synapses, `but` some; empty without any."""
    values, names = standardised.values, standardised.names
    if len(values) < 3 or len(names) < 2:
        return ""
    r = np.triu(values.T @ values / len(values), 1)
    pairs = sorted(zip(*np.nonzero(np.abs(r) > _HIGH_R), strict=True), key=lambda pair: -abs(r[pair]))
    pairs = [(a, b) for a, b in pairs if (names[a], names[b]) not in but]
    if not pairs:
        return ""
    named = [f"{names[a]} and {names[b]} (r = {r[a, b]:.3f})" for a, b in pairs[:_MOST_PAIRS]]
    more = f", and {count(len(pairs) - _MOST_PAIRS, 'more pair')}" if len(pairs) > _MOST_PAIRS else ""
    return f"{', '.join(named)}{more}."


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


def _chance(n: int, facts: RunFacts) -> Check:
    chance = facts.chance
    if chance.reason:
        return Check("Chance", UNKNOWN, chance.reason)
    _, share, _ = chance.expected(n)
    reason = f"about {share:,} of {n:,} detections"
    which = "The column confidence tells which; a" if chance.curve else "A"
    more = (chance.words(n), f"{which} stricter threshold leaves fewer.", chance.limits)
    light = BAD if chance.share >= MOST_BY_CHANCE else LOOK if chance.share >= _MANY_BY_CHANCE else GOOD
    return Check("Chance", light, reason, more)


def _flagged(table: SynapseTable, column: str) -> tuple[int, float]:
    """Return how many rows a column flags, and their share; zeros where there is no such column."""
    flagged = table.total(lambda piece: int(piece.flags(column).sum())) if table.has(column) else 0
    return flagged, flagged / max(table.whole.n, 1)
