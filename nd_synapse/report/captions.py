"""Words that several figures share: counts, units, and which synapses and channels are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # it imports matplotlib, and readers of tables need these words only
    from nd_synapse.report.clusters import Clusters
    from nd_synapse.report.table import Standardised

__all__ = ["STANDARDISED", "TIMES", "TRANSFORMED_AXIS"]
__all__ += ["count", "fitted_rows", "left_out", "listed", "plain", "quantile_rows", "scale_of", "strongest", "times"]

TIMES = "\N{MULTIPLICATION SIGN}"

STANDARDISED = "Each channel is standardised: 0 is its mean over all synapses, 1 its standard deviation (sd)."

_TRANSFORMED = (
    "Brightness is shown as it was clustered: logarithmic where a channel has a long tail of bright synapses, then in "
    "standard deviations (sd) from the channel's mean over all synapses."
)
TRANSFORMED_AXIS = "Transformed brightness (sd from the channel's mean)"


def scale_of(logarithmic: Sequence[bool]) -> str:
    """Return how brightness is shown, given which channels are logarithmic."""
    return _TRANSFORMED if any(logarithmic) else STANDARDISED


def count(number: int, noun: str) -> str:
    """Return ``1 synapse``, ``2,078 synapses``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(value: float) -> str:
    """Return a number with three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(extents: Iterable[str]) -> str:
    """Return extents with a times sign between them."""
    return f" {TIMES} ".join(extents)


def listed(parts: Iterable[str], most: int = 6) -> str:
    """Return the first few parts with commas between them, and how many more there are."""
    every = list(parts)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{more}"


def strongest(names: Sequence[str], values: NDArray[np.float64]) -> str:
    """Return the pair of channels with the largest value of a matrix (channels, channels), and that with the least."""
    upper = np.where(np.triu(np.isfinite(values), 1), values, np.nan)
    if np.isnan(upper).all():
        return "no two channels can be compared"
    ends = [divmod(int(of(upper)), len(names)) for of in (np.nanargmax, np.nanargmin)]
    return "; ".join(
        f"{word} {names[a]} and {names[b]} ({upper[a, b]:.3g})"
        for word, (a, b) in zip(("most", "least"), ends, strict=True)
    )


def left_out(standardised: Standardised) -> str:
    """Return a sentence on the rows and channels that are not in the standardised values; empty if all are."""
    parts = []
    if standardised.rows_left_out:
        parts.append(f"{count(standardised.rows_left_out, 'synapse')} with a missing value")
    if standardised.constant:
        parts.append(f"constant: {', '.join(standardised.constant)}")
    if standardised.empty:
        parts.append(f"without values: {', '.join(standardised.empty)}")
    return f" Left out: {'; '.join(parts)}." if parts else ""


def fitted_rows(clusters: Clusters, seed: int) -> str:
    """Return to which synapses the mixtures were fitted, as the middle of a sentence."""
    rows = len(clusters.labels)
    if clusters.fitted == rows:
        return f"all {count(rows, 'synapse')}"
    return f"a random sample of {clusters.fitted:,} of the {count(rows, 'synapse')} (seed {seed})"


def quantile_rows(quantiles: Sequence[float], *columns: NDArray[Any], of: str = "") -> list[list[str]]:
    """Return the rows of a table of quantiles, one column of numbers for each array."""
    return [[f"{100 * q:g} %{of}", *(f"{np.quantile(values, q):,.4g}" for values in columns)] for q in quantiles]
