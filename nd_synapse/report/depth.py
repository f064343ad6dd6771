"""Layers of a volume along z, and how many synapses lie in each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report.facts import RunFacts

__all__ = ["Layers", "layers"]

_TIE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layers:
    """Consecutive layers along z."""

    edges: Floats
    """Shape (layers + 1,), in the unit of the positions."""
    sections: int | None
    """Whole sections in each layer, the last one perhaps fewer; None where sections are unknown."""

    @property
    def name(self) -> str:
        """What one layer is, in words."""
        if self.sections is None:
            return "layer of equal width"
        return "section" if self.sections == 1 else f"{self.sections} consecutive sections"

    def counts(self, depths: Floats) -> NDArray[np.int64]:
        """Return how many of `depths` lie in each layer, shape (layers,)."""
        # the centroid of an object in two sections lies on their common face: rounding must not decide
        found, _ = np.histogram(depths + _TIE * (self.edges[1] - self.edges[0]), self.edges)
        return found

    @property
    def middles(self) -> Floats:
        """The middle of each layer, shape (layers,)."""
        middles: Floats = (self.edges[1:] + self.edges[:-1]) / 2
        return middles


def layers(facts: RunFacts, depths: Floats, unit: str, most: int) -> Layers:
    """Cut a volume into at most `most` layers of whole sections, or of equal width where sections are unknown."""
    extent, step = facts.extent("z", unit), facts.step("z", unit)
    if extent is None or step is None or facts.box is None:
        low, high = depths.min() - 0.5, depths.max() + 0.5
        return Layers(np.linspace(low, high, min(most, max(4, round(math.sqrt(len(depths))))) + 1), None)
    sections = facts.box.shape[0]
    each = math.ceil(sections / most)
    inner = extent[0] + step * np.arange(0, sections, each)
    return Layers(np.append(inner, extent[1]), each)
