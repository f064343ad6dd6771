"""The objects that begin in a block: their parts in all blocks put together, and those that the pipeline chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.detection import objects
from nd_synapse.detection.choice import choose
from nd_synapse.detection.failed_faces import FAILED, Face, ids_at
from nd_synapse.detection.joining import by_block, of_blocks
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Finding, Pipeline

__all__ = ["Failures", "Synapses", "choose_each", "gather", "objects_of"]

_SUM, _COLUMN, _MASK = "sum ", "column ", "mask "
"""What the names of saved arrays begin with: sums of an object, a column of the pipeline, which are in a mask."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The blocks without parts."""

    blocks: frozenset[Box] = frozenset()
    faces: Mapping[Box, Sequence[Face]] = field(default_factory=dict)
    """The blocks beside them, with their faces there."""


@dataclass(frozen=True, slots=True)
class Synapses:
    """The objects of the first mask that begin in a block, in the order of their first voxels."""

    sums: Mapping[str, NDArray[Any]]
    """The columns of their parts, joined."""
    chosen: Chosen
    """Which are in which mask, and the columns of the pipeline."""

    def packed(self) -> dict[str, NDArray[Any]]:
        """Return all of it for the store."""
        chosen = self.chosen
        return {
            **{_SUM + name: values for name, values in self.sums.items()},
            **{_MASK + name: is_in for name, is_in in chosen.masks.items()},
            **{_COLUMN + name: np.asarray(values) for name, values in chosen.columns.items()},
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Synapses:
        """Return what `packed` returned."""
        sums, masks, columns = (
            {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
            for start in (_SUM, _MASK, _COLUMN)
        )
        return cls(sums, Chosen(masks, columns))


def gather(workspace: Workspace, box: Box, kinds: Kinds, finding: Finding, failures: Failures) -> None:
    """Put the objects together that begin in one block, let the pipeline choose, and save the chosen ones."""
    plan, store = workspace.plan, workspace.store
    found = objects_of(workspace, box, kinds, failures)
    count = len(found["id"])
    # a block without objects has nothing to choose from
    chosen = choose_each(plan.pipeline, _table(workspace, found), finding) if count else Chosen({}, {})
    # one whose centroid lies in a block that failed is no synapse of the table; the first mask holds every one
    first = next(iter(chosen.masks.values()), np.zeros(count, np.bool_))
    is_row = first & ~_in_some(workspace, objects.centres(found, np.arange(count)), failures.blocks)
    masks = {name: is_in & is_row for name, is_in in chosen.masks.items()}
    kept = np.flatnonzero(is_row)
    synapses = Synapses(
        {name: values[kept] for name, values in found.items()},
        Chosen(
            {name: is_in[kept] for name, is_in in masks.items()},
            {name: np.asarray(values)[kept] for name, values in chosen.columns.items()},
        ),
    )
    packed = {_MASK + name: is_in for name, is_in in synapses.chosen.masks.items()}
    seen = {_COLUMN + name: np.asarray(values)[:0] for name, values in synapses.chosen.columns.items()}
    points = objects.centres(synapses.sums, np.arange(len(kept)))
    store.save(
        kinds.chosen,
        key_of(box),
        {"ids": synapses.sums["id"], "count": np.array([count]), "ends": _ends(plan, points), **packed, **seen},
    )
    store.save(kinds.objects, key_of(box), synapses.packed())


def _ends(plan: Plan, points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first and last place along each axis of voxels (3, n) in each block with any, int64 (blocks, 2, 3)."""
    ends = [np.stack([points[:, some].min(axis=1), points[:, some].max(axis=1)]) for _, some in of_blocks(plan, points)]
    return np.stack(ends) if ends else np.empty((0, 2, 3), np.int64)


def _table(workspace: Workspace, found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the table of objects."""
    return dict(objects.table(found, workspace.plan.box, workspace.plan.voxel_size_nm))


def choose_each(pipeline: Pipeline, table: Mapping[str, NDArray[Any]], finding: Finding) -> Chosen:
    """Let a pipeline choose among the objects of a block; refuse a choice that depends on the other objects."""
    chosen = choose(pipeline, table, finding)
    first = choose(pipeline, {name: values[:1] for name, values in table.items()}, finding)
    for kind, some, one in (("mask", chosen.masks, first.masks), ("column", chosen.columns, first.columns)):
        for name in some.keys() | one.keys():
            if name not in some or name not in one or not _alike(some[name][:1], one[name]):
                raise DataError(
                    f"{kind} {name!r} of select of {pipeline.name}",
                    "an object alone has another value than among others",
                    "Judge each object by itself: select gets the objects of one block at a time",
                )
    return chosen


def _alike(some: Any, others: Any) -> bool:
    """Return whether values are the same, NaN among them."""
    return np.asarray(some).tolist() == np.asarray(others).tolist() or bool(
        np.all(some != some) and np.all(others != others)
    )


def objects_of(workspace: Workspace, box: Box, kinds: Kinds, failures: Failures) -> objects.Parts:
    """Return the objects that begin in a block, ordered by their first voxels: the columns of their parts, joined."""
    store = workspace.store
    joined = store.load(kinds.joined, key_of(box))
    own = store.load(kinds.parts, key_of(box))
    begins = ~np.isin(own["id"], joined["parts"], assume_unique=True)
    pieces = [_Piece.of(workspace, (box, own), np.flatnonzero(begins), own["id"][begins], kinds, failures)]
    for block, places in by_block(workspace.plan, joined["members"]):
        parts = own if block == box else store.load(kinds.parts, key_of(block))
        order = np.argsort(parts["id"])
        rows = order[np.searchsorted(parts["id"], joined["members"][places], sorter=order)]
        pieces.append(_Piece.of(workspace, (block, parts), rows, joined["owners"][places], kinds, failures))
    return _joined(pieces)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Parts in one block."""

    owners: NDArray[Any]
    """The id of the object of each."""
    columns: objects.Parts
    beside_failed: list[NDArray[np.int64]]
    """What to add to `RIMS`."""

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        of_block: tuple[Box, objects.Parts],
        rows: NDArray[np.int64],
        owners: NDArray[Any],
        kinds: Kinds,
        failures: Failures,
    ) -> _Piece:
        """Return some rows of the parts of a block."""
        block, parts = of_block
        columns = {name: values[rows] for name, values in parts.items()}
        rims = [np.zeros(len(rows), np.int64) for _ in objects.RIMS]
        for axis, side in failures.faces.get(block, ()):
            touching = ids_at(workspace.store.load(kinds.faces, key_of(block)), (axis, side))
            rims[side][np.isin(columns["id"], touching)] = FAILED
        return cls(owners, columns, rims)


def _joined(pieces: Sequence[_Piece]) -> objects.Parts:
    """Return the columns of objects, given all of their parts."""
    owners = np.concatenate([piece.owners for piece in pieces])
    order = np.argsort(owners, kind="stable")
    first = np.flatnonzero(np.concatenate([[True], np.diff(owners[order]) != 0])[: len(order)])
    found = {}
    for name in pieces[0].columns:
        values = np.concatenate([piece.columns[name] for piece in pieces])[order]
        found[name] = owners[order][first] if name == "id" else objects.reduced(name, values, first)
    for place, name in enumerate(objects.RIMS):
        beside = np.concatenate([piece.beside_failed[place] for piece in pieces])[order]
        found[name] |= objects.reduced(name, beside, first)
    return found


def _in_some(workspace: Workspace, points: NDArray[np.int64], blocks: frozenset[Box]) -> NDArray[np.bool_]:
    """Return which voxels (3, n) lie in some blocks."""
    inside = np.zeros(points.shape[1], np.bool_)
    if blocks:
        for block, places in of_blocks(workspace.plan, points):
            inside[places] = block in blocks
    return inside
