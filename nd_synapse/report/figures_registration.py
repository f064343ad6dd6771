"""The figure and the alerts of the registration check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from nd_synapse.detection.registration import BEYOND, UNSURE, WITHIN, Pair, Registration, count_outcomes
from nd_synapse.report import look
from nd_synapse.report.captions import count
from nd_synapse.report.look import INK, MARKS, SERIES, short
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["REGISTRATION", "displaced", "unsure"]

_MOST_NAMED = 3


def displaced(registration: Registration) -> list[str]:
    """Return a sentence for each channel, and for each two, that is displaced."""
    return [*filter(None, (_displaced(pairs, registration.limit_nm) for pairs in registration.relations().values()))]


def unsure(registration: Registration) -> list[str]:
    """Return a sentence for each channel, and for each two, of which most sections cannot be compared."""
    return [*filter(None, map(_unsure, registration.relations().values()))]


def _displaced(pairs: Sequence[Pair], limit_nm: float) -> str:
    """Report shifts beyond the limit, the largest first; empty where there are none."""
    beyond = sorted((pair for pair in pairs if pair.outcome == BEYOND), key=lambda pair: -(pair.shift_nm or 0))
    if not beyond:
        return ""
    first, second = pairs[0].channels
    if pairs[0].is_neighbours:
        what, noun = f"{first} is displaced between neighbouring sections", "pair"
        to_do = "Contrasts across sections mix different places there: align the sections"
    else:
        what, noun = f"{second} is displaced against {first}", "section"
        to_do = "Their agreement is that of different places there: register the channels"
    named = ", ".join(map(_in_words, beyond[:_MOST_NAMED]))
    more = f" and {len(beyond) - _MOST_NAMED:,} more" if len(beyond) > _MOST_NAMED else ""
    return (
        f"{what} by more than the width of a punctum ({limit_nm:,.0f} nm) in "
        f"{len(beyond):,} of {count(len(pairs), noun)}: {named}{more}. {to_do}, and run again; run.json has all."
    )


def _unsure(pairs: Sequence[Pair]) -> str:
    """Report a channel, or two, of which most sections cannot be compared."""
    unsure = sum(pair.outcome == UNSURE for pair in pairs)
    if 2 * unsure <= len(pairs):
        return ""
    first, second = pairs[0].channels
    if not pairs[0].is_neighbours:
        return (
            f"How {second} lies on {first} cannot be told in {unsure:,} of {count(len(pairs), 'section')}: they have "
            "too little in common. They mark different things, or are displaced by more than was looked for."
        )
    return (
        f"{first} has too little in common in {unsure:,} of "
        f"{count(len(pairs), 'pair')} of neighbouring sections. They are sparse, or displaced by more than was looked "
        "for: look at a synaptogram."
    )


def _in_words(pair: Pair) -> str:
    y, x = pair.shift_px or (0, 0)
    where = " to ".join(map(str, dict.fromkeys(pair.sections)))
    up_to = f", up to {pair.farthest_nm:,} nm" if pair.farthest_nm != pair.shift_nm else ""
    return f"{where} by {pair.shift_nm:,} nm{up_to} (y {y:+g}, x {x:+g} pixels)"


def _name(pairs: Sequence[Pair]) -> str:
    first, second = pairs[0].channels
    return f"{short(first, 16)}, neighbours" if first == second else f"{short(second, 14)} on {short(first, 14)}"


def _registration(subject: Subject) -> Drawing:
    registration = subject.facts.registration
    if registration is None:
        raise NothingToDrawError("It was not measured.")
    if not registration.pairs:
        raise NothingToDrawError("The box is too small, or has one section of one channel: nothing can be compared.")
    relations = list(registration.relations().values())
    drawn = look.figure(2.4)
    axes = drawn.subplots()
    for i, pairs in enumerate(relations[: len(SERIES)]):
        sure = [pair for pair in pairs if pair.shift_nm is not None]
        unsure = [pair.sections[1] for pair in pairs if pair.shift_nm is None]
        places, lengths = [pair.sections[1] for pair in sure], [float(pair.shift_nm or 0) for pair in sure]
        look_of: dict[str, Any] = {"color": SERIES[i], "marker": MARKS[i], "markersize": 3.5}
        axes.plot(places, lengths, linewidth=0.8, label=_name(pairs), **look_of)
        axes.plot(unsure, [0.0] * len(unsure), linewidth=0, fillstyle="none", **look_of)
    axes.axhline(registration.limit_nm, color=INK, linewidth=1, linestyle="--")
    axes.set(xlabel="Section", ylabel="Shift in the plane (nm)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=-0.05 * axes.get_ylim()[1])
    drawn.legend(loc="outside right upper")
    y, x = registration.farthest_px
    caption = (
        "Are sections and channels registered? How far each section of a channel is displaced in the plane against "
        "the one before it, and each channel against the first in the same section: the median over sampled fields, "
        "by phase correlation. Above the dashed line, the width of a punctum "
        f"({registration.limit_nm:,.0f} nm), a synapse is not where its other part is. Hollow marks at 0: the images "
        f"do not correlate enough to tell, or are displaced by more than {y} (y) or {x} (x) pixels. Measured in "
        f"{registration.sections:,} of {count(registration.of_sections, 'section')}."
    )
    header = ("Images", WITHIN.capitalize(), BEYOND.capitalize(), UNSURE.capitalize(), "Largest (nm)")
    rows = [
        [_name(pairs), *(f"{n:,}" for n in count_outcomes(pairs).values()), f"{max(p.shift_nm or 0 for p in pairs):,}"]
        for pairs in relations
    ]
    alt = "Shifts between sections and channels: " + "; ".join(f"{row[0]}: {row[2]} beyond" for row in rows) + "."
    return Drawing(drawn, caption, alt, Numbers(header, rows))


REGISTRATION = (Plot("registration", "Registration", _registration),)
"""The figure of the registration check."""
