"""The clusters: which population each synapse belongs to, by its brightness in all channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report import mixtures
from nd_synapse.report.mixtures import Node
from nd_synapse.report.table import Standardised, SynapseTable
from nd_synapse.report.transform import to_gaussian_scales

__all__ = ["UNCLUSTERED", "Clusters", "cluster"]

UNCLUSTERED = -1
"""Label of a row without a value in some channel."""

_MOST_FITTED = 20_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clusters:
    """The synapses in populations."""

    names: tuple[str, ...]
    values: Floats
    """Transformed brightness of the rows without a missing value, (rows, channels); mean 0, standard deviation 1."""
    logarithmic: tuple[bool, ...]
    """Which channels were brought to a logarithmic scale."""
    labels: NDArray[np.int8]
    """Cluster of each of those rows, from 0, shape (rows,)."""
    rows: NDArray[np.intp]
    """Those rows of the table, shape (rows,)."""
    n: int
    """Rows of the table."""
    tree: Node
    """How they were split; its leaves are the clusters."""
    fitted: int
    """How many rows the tree was fitted to."""

    @property
    def number(self) -> int:
        """How many clusters there are, at least 1."""
        return len(mixtures.leaves(self.tree))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster, shape (number,)."""
        return np.bincount(self.labels, minlength=self.number)

    def of_all_rows(self) -> NDArray[np.int8]:
        """Return the cluster of every row of the table, shape (n,); `UNCLUSTERED` where a value is missing."""
        found = np.full(self.n, UNCLUSTERED, np.int8)
        found[self.rows] = self.labels
        return found

    def means(self) -> Floats:
        """Return the mean of `values` in each cluster, shape (number, channels); NaN for a cluster without rows."""
        sums = [np.bincount(self.labels, column, minlength=self.number) for column in self.values.T]
        return np.stack(sums, axis=1) / np.where(self.sizes, self.sizes, np.nan)[:, np.newaxis]

    def typical(self, most: int) -> list[NDArray[np.int64]]:
        """Return, for each cluster, the rows of the table nearest to its mean, the nearest first."""
        found = []
        for i, mean in enumerate(self.means()):
            mine = np.flatnonzero(self.labels == i)
            far = ((self.values[mine] - mean) ** 2).sum(axis=1)
            found.append(self.rows[mine[np.argsort(far, kind="stable")[:most]]])
        return found


def cluster(table: SynapseTable, standardised: Standardised, seed: int) -> Clusters:
    """Find the populations of a table."""
    rows, channels = standardised.values.shape
    sample = np.arange(rows)
    if rows > _MOST_FITTED:
        sample = np.sort(np.random.default_rng(seed).choice(rows, _MOST_FITTED, replace=False))
    names, n, values, logarithmic = standardised.names, table.n, standardised.values, (False,) * channels
    tree, labels = Node(rows), np.zeros(rows, np.int8)
    # scikit-learn takes a second to import: not where nothing can be split
    if channels and rows >= 2 * mixtures.smallest_part(channels):
        with mixtures.one_thread():
            values, logarithmic = to_gaussian_scales(values, sample, seed)
            tree = mixtures.grow(values[sample], seed)
            labels = mixtures.label(tree, values)
    return Clusters(names, values, logarithmic, labels, standardised.rows, n, tree, fitted=len(sample))
