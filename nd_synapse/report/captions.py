"""The captions: sentences that several figures share, about what their numbers are and what is left out of them.

They hold no number that a figure computes itself.
"""

from __future__ import annotations

from nd_synapse.report.clusters import Clusters
from nd_synapse.report.plot import Subject, count

__all__ = ["STANDARDISED", "TRANSFORMED", "TRANSFORMED_AXIS", "left_out", "who_was_fitted"]

STANDARDISED = "Each channel is standardised: 0 is its mean over all synapses, 1 its standard deviation (sd)."

TRANSFORMED = (
    "Brightness is shown as it was clustered: logarithmic where a channel has a long tail of bright synapses, then in "
    "standard deviations (sd) from the channel's mean over all synapses."
)
TRANSFORMED_AXIS = "Transformed brightness (sd from the channel's mean)"


def left_out(subject: Subject) -> str:
    """Say which rows and channels the standardised values do not hold; empty where they hold all."""
    standardised = subject.standardised
    said = []
    if standardised.rows_left_out:
        said.append(f"{count(standardised.rows_left_out, 'synapse')} with a missing value")
    if standardised.constant:
        said.append(f"constant: {', '.join(standardised.constant)}")
    if standardised.empty:
        said.append(f"without values: {', '.join(standardised.empty)}")
    return f" Left out: {'; '.join(said)}." if said else ""


def who_was_fitted(clusters: Clusters, seed: int) -> str:
    """Say to which rows the mixtures were fitted, as the middle of a sentence."""
    rows = len(clusters.labels)
    if clusters.fitted == rows:
        return f"all {count(rows, 'synapse')}"
    return f"a random sample of {clusters.fitted:,} of the {count(rows, 'synapse')} (seed {seed})"
