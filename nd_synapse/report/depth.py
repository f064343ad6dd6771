"""Sections and layers of a volume along z, and how many synapses lie in each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import nearest_voxel
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.table import SynapseTable

__all__ = ["Layers", "layers", "sections"]

_DIGITS = 6
"""Decimals of a voxel up to which a depth in micrometres is exact."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def sections(table: SynapseTable, facts: RunFacts) -> Integers:
    """Return the section of each synapse, int64 (n,), from the first of the box; -1 where it is unknown.

    That of the centroid, as in the column `section`.
    """
    depths, unit = table.centroids("z", units=("voxel", "um"))
    step = facts.step("z", unit)
    if facts.box is None or step is None:
        return np.full(table.n, -1)
    places = depths[:, 0] if unit == "voxels" else np.round(depths[:, 0] / step, _DIGITS)
    found = nearest_voxel(places) - facts.box.z[0]
    return np.where((found >= 0) & (found < facts.box.shape[0]), found, -1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Layers:
    """Consecutive layers along z."""

    edges: Floats
    """Shape (layers + 1,), in `unit`."""
    unit: str
    sections: int | None
    """Whole sections in each layer, the last one perhaps fewer; None where sections are unknown."""
    of: Integers
    """The layer of each synapse, shape (n,); -1 where it is unknown."""

    @property
    def name(self) -> str:
        """What one layer is, in words."""
        if self.sections is None:
            return "layer of equal width"
        return "section" if self.sections == 1 else f"{self.sections} consecutive sections"

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which synapses lie in a layer, shape (n,)."""
        return self.of >= 0

    def counts(self, rows: NDArray[np.bool_] | None = None) -> Integers:
        """Return how many synapses, or of some rows, bool (n,), lie in each layer, shape (layers,)."""
        chosen = self.known if rows is None else self.known & rows
        return np.bincount(self.of[chosen], minlength=len(self.edges) - 1)

    def of_rows(self, table: SynapseTable, facts: RunFacts) -> Integers:
        """Return the layer of each synapse of a table, int64 (n,); -1 where it is unknown or in none."""
        if self.sections is not None:
            found = sections(table, facts)
            return np.where(found < 0, -1, found // self.sections)
        depths = table.centroids("z")[0][:, 0]
        inside = (depths >= self.edges[0]) & (depths < self.edges[-1])
        return np.where(inside, np.searchsorted(self.edges, depths, side="right") - 1, -1)

    def counts_of_all(self, table: SynapseTable, facts: RunFacts) -> Integers:
        """Return how many synapses of the whole table lie in each layer, shape (layers,)."""
        found = np.zeros(len(self.edges) - 1, np.int64)
        for piece in table.pieces():
            of = self.of_rows(piece, facts)
            found += np.bincount(of[of >= 0], minlength=len(found))
        return found

    @property
    def middles(self) -> Floats:
        """The middle of each layer, shape (layers,)."""
        middles: Floats = (self.edges[1:] + self.edges[:-1]) / 2
        return middles


def layers(table: SynapseTable, facts: RunFacts, most: int) -> Layers:
    """Cut a volume into at most `most` layers of whole sections, or of equal width where sections are unknown."""
    depths, unit = table.positions("z")
    extent, step = facts.extent("z", unit), facts.step("z", unit)
    if extent is None or step is None or facts.box is None:
        number = min(most, max(4, round(math.sqrt(len(depths)))))
        spread = float(depths.max() - depths.min())
        beyond = 0.5 if unit == "voxels" else spread / number / 2 or 0.5
        edges = np.linspace(depths.min() - beyond, depths.max() + beyond, number + 1)
        cut = Layers(edges, unit, None, np.empty(0, np.int64))
    else:
        number = facts.box.shape[0]
        each = math.ceil(number / most)
        inner = extent[0] + step * np.arange(0, number, each)
        cut = Layers(np.append(inner, extent[1]), unit, each, np.empty(0, np.int64))
    return replace(cut, of=cut.of_rows(table, facts))
