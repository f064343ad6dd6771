"""Populations: clusters that are no artefact of the sections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report.captions import listed
from nd_synapse.report.clusters import Clusters
from nd_synapse.report.depth import layers
from nd_synapse.report.plot import Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["MOST_LAYERS", "several", "surviving", "uneven"]

MOST_LAYERS = 24
"""Layers along z in which the shares of clusters are compared."""

_MOST_UNEVEN = 0.5
_FAR_SD = 5.0


def several(subject: Subject) -> Clusters:
    """Return the clusters, or raise NothingToDrawError where there is one."""
    subject.standardised.need()
    if subject.clusters.number < 2:
        raise NothingToDrawError("One population was found; there are no clusters to compare.")
    return subject.clusters


def uneven(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which clusters follow the sections: bool (clusters,), of counts (clusters, layers).

    The share of one differs between layers by more than half of itself (standard deviation less that of chance), and
    in one of them by more than five standard errors.
    """
    together = counts.sum(axis=0)
    counts, together = counts[:, together > 0], together[together > 0]
    overall = counts.sum(axis=1, keepdims=True) / max(int(together.sum()), 1)
    by_chance = overall * (1 - overall) / together
    off = (counts / together - overall) ** 2
    beyond = np.sqrt(np.maximum((off - by_chance).mean(axis=1), 0)) > _MOST_UNEVEN * overall[:, 0]
    found: NDArray[np.bool_] = beyond & (off > _FAR_SD**2 * by_chance).any(axis=1)
    return found


def surviving(subject: Subject) -> tuple[list[int], str]:
    """Return the clusters that do not follow the sections, at least two, and a sentence on the others."""
    clusters = several(subject)
    try:
        cut = layers(subject.table, subject.facts, MOST_LAYERS)
    except NothingToDrawError:
        return list(range(clusters.number)), " Whether they follow the sections is not known."
    labels = clusters.of_all_rows()
    odd = uneven(np.stack([cut.counts(labels == i) for i in range(clusters.number)]))
    kept, others = (np.flatnonzero(odd == is_odd).tolist() for is_odd in (False, True))
    if not others:
        return kept, " They are as frequent in all sections."
    words = (
        f" The share of cluster {listed(str(i + 1) for i in others)} differs between sections by more than half of "
        "itself: that is staining, focus or the border of the box, and no kind of synapse."
    )
    if len(kept) < 2:
        raise NothingToDrawError(f"No two clusters are as frequent in all sections.{words}")
    return kept, words
