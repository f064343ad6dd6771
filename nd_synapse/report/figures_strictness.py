"""The figure of the strictness: how the count depends on where the line between synapse and noise is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report import look
from nd_synapse.report.captions import count
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.look import ACCENT, INK
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import SynapseTable

__all__ = ["STRICTNESS", "kept", "kept_of_all", "strictness_of"]

_SHARES = (1, 0.9, 0.75, 0.5, 0.25, 0.1, 0.01)
_MOST_STEPS = 600
_SHOWN = 0.995
"""Share of the synapses whose scores the axis spans: a few are very bright."""


def kept(scores: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of the scores (n,) are at least each number (k,): int64 (k,)."""
    found: NDArray[np.int64] = len(scores) - np.searchsorted(np.sort(scores), least, side="left")
    return found


def kept_of_all(table: SynapseTable, least: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many scores of the whole table are at least each number (k,): int64 (k,)."""
    found = np.zeros(len(least), np.int64)
    for piece in table.pieces():
        found += kept(piece.finite("score"), least)
    return found


def strictness_of(facts: RunFacts) -> float | None:
    """Return the strictness of the run; None where its pipeline has none."""
    for known in (facts.finding, facts.parameters):
        try:
            return float(known["strictness"])
        except (KeyError, ValueError):
            continue
    return None


def _curve(subject: Subject) -> Drawing:
    scores = subject.table.column("score")
    own = strictness_of(subject.facts)
    name = "score" if own is None else "strictness"
    low, high = float(scores.min()), float(np.quantile(scores, _SHOWN))
    low = low if own is None else min(low, own)
    high = high if high > low else low + 1
    along = np.linspace(low, high, _MOST_STEPS)
    drawn = look.figure(2.6)
    axes = drawn.subplots()
    axes.plot(along, kept_of_all(subject.table, along), color=ACCENT, linewidth=1.6, drawstyle="steps-post")
    if own is not None:
        axes.axvline(own, color=INK, linewidth=1, linestyle="--", label=f"this run: {own:.3g}")
        look.legend_above(axes)
    axes.set(xlabel=name.capitalize(), ylabel="Synapses", xlim=(low - 0.02 * (high - low), high), ylim=(0, None))
    least = np.sort(scores)[::-1][[max(0, round(share * len(scores)) - 1) for share in _SHARES]]
    n = subject.table.total(lambda piece: len(piece.finite("score")))
    rows = [
        [f"{value:.4g}", f"{number:,}", f"{100 * number / n:.3g} %"]
        for value, number in zip(least.tolist(), kept_of_all(subject.table, least).tolist(), strict=True)
    ]
    dashed = "" if own is None else f" (dashed: {own:.3g}, that of this run)"
    caption = (
        f"About how many of the {count(n, 'synapse')} would be left at a higher {name}: those of at least "
        f"that{dashed}. Where the curve is steep the count depends on the choice; labels of your own tissue decide it "
        "(nd-synapse evaluate)."
    )
    left = f"{rows[0][1]} to {rows[-1][1]}; half of them at {rows[3][0]}"
    alt = f"Synapses left at a {name} from {low:.3g} to {high:.3g}: {left}."
    return Drawing(drawn, caption, alt, Numbers((name.capitalize(), "Synapses", "Share"), rows))


STRICTNESS = (Plot("strictness", "Count by strictness", _curve),)
"""The figure, in the chapter of the detections."""
