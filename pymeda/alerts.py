"""The alerts: what a reader must know before trusting the figures, in sentences.

They judge the table and the facts of the run; they change nothing and stop nothing.
"""

from __future__ import annotations

import numpy as np

from pymeda.facts import RunFacts
from pymeda.plot import count
from pymeda.table import Standardised, SynapseTable

__all__ = ["alerts"]

_FEW = 50
_HIGH_R = 0.95
_MANY_SINGLE_SECTION = 0.25
_MANY_AT_BORDER = 0.2
_MOST_PAIRS = 5


def alerts(table: SynapseTable, standardised: Standardised, facts: RunFacts) -> list[str]:
    """Return the alerts of a report.

    Parameters
    ----------
    table : SynapseTable
        One row a synapse.
    standardised : Standardised
        Its channels in standard deviations.
    facts : RunFacts
        The run; its notes come first.

    Returns
    -------
    list of str
        Sentences, the weightiest first; empty when nothing stands out.
    """
    found = [*facts.notes, *_number(table)]
    if table.n > 1:
        found += _channels(standardised)
        found += _correlated(standardised)
    return found + _objects(table, facts)


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
    said = [f"{names[a]} and {names[b]} (r = {r[a, b]:.3f})" for a, b in pairs[:_MOST_PAIRS]]
    more = f", and {count(len(pairs) - _MOST_PAIRS, 'more pair')}" if len(pairs) > _MOST_PAIRS else ""
    return [f"Highly correlated channels: {', '.join(said)}{more}. They may show the same signal, or bleed through."]


def _objects(table: SynapseTable, facts: RunFacts) -> list[str]:
    found = []
    deep = facts.box is None or facts.box.shape[0] > 1
    if table.n and deep and table.has("slices"):
        share = float((table.columns["slices"] == 1).mean())
        if share >= _MANY_SINGLE_SECTION:
            found.append(
                f"Single-section objects: {100 * share:.0f} % lie in one section only; few synapses do, noise does."
            )
    if table.n and table.has("touches_border"):
        share = float((table.columns["touches_border"] != 0).mean())
        if share >= _MANY_AT_BORDER:
            found.append(f"Cut objects: {100 * share:.0f} % touch the border of the box; their sizes are lower bounds.")
    return found
