"""The rows of the table: synapses numbered in the order of their first voxels, whichever block they begin in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.gathering import Synapses
from nd_synapse.detection.joining import by_block, layers_of
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box

__all__ = ["Numbered", "number", "rows_of_parts"]


@dataclass(slots=True)
class Numbered:
    """What the chosen objects of all blocks came to."""

    synapses: int = 0
    """Rows of the table."""
    candidates: int = 0
    """Objects from which the pipeline chose."""
    masks: tuple[str, ...] = ()
    """In their order; empty where no block has an object."""
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """The columns of the pipeline, of a type that holds all blocks' values, empty."""
    centres: dict[Box, list[Box]] = field(default_factory=dict)
    """The blocks in which synapses begin, with boxes in which their centroids lie: one in each block with any."""


def number(store: Store | MemoryStore, kinds: Kinds, blocks: Sequence[Box], box: Box) -> Numbered:
    """Give the synapses of a box their rows, and save for each block those that begin there.

    In memory is only how many synapses begin in each line of voxels along x, of one layer of blocks after another.
    """
    numbered = Numbered()
    _, ny, nx = box.shape
    for layer in layers_of(blocks):
        start, stop = layer[0].z
        counts = np.zeros((stop - start) * ny, np.int64)
        first = (start - box.z[0]) * ny
        for block in layer:
            ids = _ids_of(store.load(kinds.chosen, key_of(block)), block, numbered)
            lines, many = np.unique(_lines(ids, nx) - first, return_counts=True)
            counts[lines] += many
        rows = numbered.synapses + np.cumsum(counts) - counts
        numbered.synapses += int(counts.sum())
        # blocks are in C order: what other blocks have of a line before this one was added to its row
        for block in layer:
            lines = _lines(store.load(kinds.chosen, key_of(block))["ids"], nx) - first
            each, place, many = np.unique(lines, return_inverse=True, return_counts=True)
            in_line = np.arange(len(lines)) - (np.cumsum(many) - many)[place]
            store.save(kinds.rows, key_of(block), {"rows": rows[lines] + in_line})
            rows[each] += many
    return numbered


def _lines(ids: NDArray[Any], nx: int) -> NDArray[np.int64]:
    """Return the lines along x in which objects with some ids begin."""
    return (ids.astype(np.int64) - 1) // nx


def _ids_of(saved: Mapping[str, NDArray[Any]], block: Box, numbered: Numbered) -> NDArray[Any]:
    """Return the ids of the synapses that begin in a block, and note what is known of it."""
    synapses = Synapses.of(saved)
    masks, columns = tuple(synapses.chosen.masks), synapses.chosen.columns
    numbered.candidates += int(saved["count"][0])
    if masks:
        _refuse_other(numbered, masks, columns)
        numbered.masks = masks
    for name, values in columns.items():
        wider = np.promote_types(numbered.columns.get(name, values).dtype, values.dtype)
        numbered.columns[name] = np.empty(0, wider)
    ids: NDArray[Any] = saved["ids"]
    if len(ids):
        numbered.centres[block] = [
            Box(*((start, last + 1) for start, last in zip(low, high, strict=True)))
            for low, high in saved["ends"].tolist()
        ]
    return ids


def _refuse_other(numbered: Numbered, masks: tuple[str, ...], columns: Mapping[str, Any]) -> None:
    """Refuse what a pipeline chose in a block if it has other masks or columns than in the blocks before."""
    known = {name: values.dtype.kind for name, values in numbered.columns.items()}
    here = {name: np.asarray(values).dtype.kind for name, values in columns.items()}
    if numbered.masks and (masks, here) != (numbered.masks, known):
        raise DataError(
            "what select returns",
            f"in one block it has masks {', '.join(masks)} and columns {here or 'none'},"
            f" in others {', '.join(numbered.masks)} and {known or 'none'} (name to kind of NumPy's types)",
            "Return the same masks, and columns of the same types, whatever the objects",
        )


def rows_of_parts(
    workspace: Workspace, box: Box, kinds: Kinds, ids: NDArray[Any]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.bool_]]]:
    """Return for the parts of a block the row of each in the table, from 1, 0 for none; and by mask which are in it."""
    plan, store = workspace.plan, workspace.store
    joined = store.load(kinds.joined, key_of(box))
    is_joined, place = _places(joined["parts"], ids)
    owners = ids.copy()
    owners[is_joined] = joined["objects"][place[is_joined]]
    rows = np.zeros(len(ids), np.int64)
    masks: dict[str, NDArray[np.bool_]] = {}
    for block, places in by_block(plan, owners):
        chosen = store.load(kinds.chosen, key_of(block))
        is_chosen, place = _places(chosen["ids"], owners[places])
        there, place = places[is_chosen], place[is_chosen]
        rows[there] = store.load(kinds.rows, key_of(block))["rows"][place] + 1
        for name, is_in in Synapses.of(chosen).chosen.masks.items():
            masks.setdefault(name, np.zeros(len(ids), np.bool_))[there] = is_in[place]
    return rows, masks


def _places(some: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which ids are among some, which ascend, and the place of each there."""
    place = np.searchsorted(some, ids)
    place[place == len(some)] = 0
    return (some[place] == ids) if len(some) else np.zeros(len(ids), np.bool_), place
