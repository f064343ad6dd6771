"""Parts that touch, joined to objects one layer of blocks after another, in the memory of one layer.

The id of an object is the lowest of its parts' ids, and ids ascend from layer to layer. A part touches parts of its own
layer and of the two beside it, so of the layers before only the objects that reach the present one are remembered. What
begins as two objects may meet in a later layer: then the later of them is an alias of the earlier one, which is settled
when all layers are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.components import components
from nd_synapse.blocks.distinct import distinct

__all__ = ["LayeredJoin"]

Ids = NDArray[np.unsignedinteger[Any]]


class LayeredJoin:
    """Joins the parts of layers, which are added in their order."""

    def __init__(self) -> None:
        self._parts = self._roots = np.empty(0, np.uint64)
        self._aliases: list[NDArray[Any]] = [np.empty((2, 0), np.uint64)]
        self._first = 0

    def add(self, pairs: Ids, next_layer: int) -> tuple[Ids, Ids]:
        """Join the parts of a layer; return those that touch another, ascending, and the object of each as yet known.

        `pairs` (n, 2) are ids of parts that touch, the first of this layer, the second of this one or the next, whose
        ids begin with `next_layer`.
        """
        first = np.concatenate([pairs[:, 0], self._parts.astype(pairs.dtype)])
        second = np.concatenate([pairs[:, 1], self._roots.astype(pairs.dtype)])
        nodes, place = np.unique(np.concatenate([first, second]), return_inverse=True)
        # nodes ascend: the first of those that are joined is their lowest
        lowest = nodes[components(len(nodes), place[: len(first)], place[len(first) :])]
        self._note_aliases(nodes, lowest)
        later = nodes >= next_layer
        own = ~later & (nodes >= self._first)
        self._parts, self._roots, self._first = nodes[later], lowest[later], next_layer
        return nodes[own], lowest[own]

    def _note_aliases(self, nodes: Ids, lowest: Ids) -> None:
        """Note which objects of earlier layers turn out to be others."""
        place = np.searchsorted(nodes, distinct(self._roots))
        moved = place[lowest[place] != nodes[place]]
        self._aliases.append(np.stack([nodes[moved], lowest[moved]]).astype(np.uint64))

    def settled(self, roots: Ids) -> Ids:
        """Return the objects of parts, given what `add` returned, when all layers are added."""
        old, new = np.concatenate(self._aliases, axis=1)
        order = np.argsort(old)
        old, new = old[order], new[order].astype(roots.dtype)
        while len(old):
            place = np.minimum(np.searchsorted(old, roots), len(old) - 1)
            is_old = old[place] == roots
            if not is_old.any():
                break
            roots = np.where(is_old, new[place], roots)
        return roots
