"""The parts of all blocks joined to objects; how parts become objects is in `objects`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection import objects
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box

__all__ = ["ColumnFiles", "faces_of", "join_blocks", "neighbour", "touching"]


class ColumnFiles(Mapping[str, NDArray[Any]]):
    """Columns of a table, each a mapped file; what was saved before under the kind is removed."""

    def __init__(self, store: Store | MemoryStore, kind: str, columns: Iterable[tuple[str, NDArray[Any]]]) -> None:
        store.drop(kind)
        self._columns: dict[str, NDArray[Any]] = {}
        for number, (name, values) in enumerate(columns):
            # an array of no elements cannot be mapped
            if len(values):
                store.save_plain(kind, str(number), np.asarray(values))
                values = store.open_plain(kind, str(number))
            self._columns[name] = values

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column, read-only."""
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names in their order."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


_SIDES = {"low": 0, "high": -1}


def faces_of(labelled: objects.Labelled) -> dict[str, NDArray[Any]]:
    """Return the ids in the six outermost planes of a block, which are all that joining needs."""
    return {
        f"{axis} {side}": labelled.ids_of(labelled.numbers.take(place, axis))
        for axis in range(3)
        for side, place in _SIDES.items()
    }


def touching(workspace: Workspace, box: Box, kind: str) -> NDArray[Any]:
    """Return the ids that touch across a face, edge or corner to the blocks that come after this one, shape (n, 2)."""
    plan, store = workspace.plan, workspace.store
    here = store.load(f"faces-{kind}", key_of(box))
    pairs = [np.empty((0, 2), objects.id_dtype(plan.box))]
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):
            continue
        beside = neighbour(plan, box, step)
        if beside is None or not store.has(kind, key_of(beside)):
            continue
        there = store.load(f"faces-{kind}", key_of(beside))
        pairs.append(objects.neighbours_across(_border(here, step), _border(there, tuple(-s for s in step))))
    return np.unique(np.concatenate(pairs), axis=0)


def neighbour(plan: Plan, box: Box, step: Sequence[int]) -> Box | None:
    """Return the block next to one in a direction."""
    ranges = []
    for (start, stop), (first, end), size, direction in zip(
        box.ranges, plan.box.ranges, plan.block_size, step, strict=True
    ):
        if direction > 0:
            start, stop = stop, min(end, (stop // size + 1) * size)
        elif direction < 0:
            start, stop = max(first, (start - 1) // size * size), start
        if stop <= start:
            return None
        ranges.append((start, stop))
    return Box(*ranges)


def _border(faces: dict[str, NDArray[Any]], step: Sequence[int]) -> NDArray[Any]:
    """Return the labels of a block that touch its neighbour in a direction: a face, an edge or a corner, as a plane."""
    axis = next(axis for axis, direction in enumerate(step) if direction)
    plane = faces[f"{axis} {'high' if step[axis] > 0 else 'low'}"]
    for place, other in enumerate(other for other in range(3) if other != axis):
        if step[other]:
            edge = plane.shape[place] - 1 if step[other] > 0 else 0
            plane = plane[edge : edge + 1] if place == 0 else plane[:, edge : edge + 1]
    return plane


def join_blocks(
    store: Store | MemoryStore, kind: str, blocks: Sequence[Box], pairs: Sequence[NDArray[Any]]
) -> tuple[ColumnFiles, objects.Joint]:
    """Join the parts of objects that touch across blocks; return the joined columns, ordered by first voxel.

    One column is in memory at a time.
    """
    raw = f"raw-{kind}"
    store.drop(raw)
    names: list[str] = []
    for block in blocks:
        parts = store.load(kind, key_of(block))
        names = names or list(parts)
        for number, name in enumerate(names):
            store.append(raw, str(number), parts[name])
        id_type = parts["id"].dtype
    ids = store.appended(raw, str(names.index("id")), id_type)
    joint = objects.Joint(ids, pairs)

    def columns() -> Iterator[tuple[str, NDArray[Any]]]:
        for number, name in enumerate(names):
            yield name, joint.column(name, store.appended(raw, str(number), id_type if name == "id" else np.int64))

    found = ColumnFiles(store, f"objects-{kind}", columns())
    store.drop(raw)
    return found, joint
