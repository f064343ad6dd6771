"""The clusters: which population each synapse belongs to, by its brightness in all channels.

It draws nothing; how rows are split is in `mixtures`, and what is split in `transform`.
"""

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
    """The synapses in populations.

    Parameters
    ----------
    names : tuple of str
        The channels that were looked at.
    values : ndarray of float64, shape (rows, channels)
        Their transformed brightness, mean 0 and standard deviation 1, of the rows without a missing value.
    logarithmic : tuple of bool
        Which channels were brought to a logarithmic scale.
    labels : ndarray of int8, shape (rows,)
        Cluster of each of those rows, from 0.
    complete : ndarray of bool, shape (n,)
        Which rows of the table those are.
    tree : Node
        How they were split; its leaves are the clusters.
    fitted : int
        How many rows the tree was fitted to.
    """

    names: tuple[str, ...]
    values: Floats
    logarithmic: tuple[bool, ...]
    labels: NDArray[np.int8]
    complete: NDArray[np.bool_]
    tree: Node
    fitted: int

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
        found = np.full(len(self.complete), UNCLUSTERED, np.int8)
        found[self.complete] = self.labels
        return found

    def means(self) -> Floats:
        """Return the mean of `values` in each cluster, shape (number, channels); NaN for a cluster without rows."""
        sums = [np.bincount(self.labels, column, minlength=self.number) for column in self.values.T]
        return np.stack(sums, axis=1) / np.where(self.sizes, self.sizes, np.nan)[:, np.newaxis]

    def typical(self, most: int) -> list[NDArray[np.int64]]:
        """Return, for each cluster, the rows of the table nearest to its mean, the nearest first."""
        rows = np.flatnonzero(self.complete)
        found = []
        for i, mean in enumerate(self.means()):
            mine = np.flatnonzero(self.labels == i)
            far = ((self.values[mine] - mean) ** 2).sum(axis=1)
            found.append(rows[mine[np.argsort(far, kind="stable")[:most]]])
        return found


def cluster(table: SynapseTable, standardised: Standardised, seed: int) -> Clusters:
    """Find the populations of a table."""
    rows, channels = standardised.values.shape
    sample = np.arange(rows)
    if rows > _MOST_FITTED:
        sample = np.sort(np.random.default_rng(seed).choice(rows, _MOST_FITTED, replace=False))
    with mixtures.one_thread():
        values, logarithmic = to_gaussian_scales(standardised.values, sample, seed)
        tree = mixtures.grow(values[sample], seed) if channels else Node(rows)
        labels = mixtures.label(tree, values)
    return Clusters(
        names=standardised.names,
        values=values,
        logarithmic=logarithmic,
        labels=labels,
        complete=_complete(table, standardised),
        tree=tree,
        fitted=len(sample),
    )


def _complete(table: SynapseTable, standardised: Standardised) -> NDArray[np.bool_]:
    """Return which rows of the table the standardised values are, shape (n,)."""
    if not standardised.rows_left_out:
        return np.ones(table.n, bool)
    looked_at = [i for i, name in enumerate(table.channels) if name not in standardised.empty]
    return np.asarray(np.isfinite(table.brightness()[:, looked_at]).all(axis=1))
