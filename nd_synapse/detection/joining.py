"""The parts of all blocks joined to objects; how parts become objects is in `objects`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import overlapping
from nd_synapse.blocks.grid import block_numbers, key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection import objects
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.layers import LayeredJoin
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box

__all__ = [
    "ColumnFiles",
    "by_block",
    "faces_of",
    "join",
    "later_neighbours",
    "layers_of",
    "neighbour",
    "of_blocks",
    "touch",
]


class ColumnFiles(Mapping[str, NDArray[Any]]):
    """Columns of a table, each a mapped file; what was there before under the kind is removed."""

    def __init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {}

    @classmethod
    def blank(
        cls, store: Store | MemoryStore, kind: str, length: int, types: Mapping[str, np.dtype[Any]]
    ) -> ColumnFiles:
        """Return columns of zeros, to be filled."""
        store.drop(kind)
        blank = cls()
        for number, (name, dtype) in enumerate(types.items()):
            has_rows = length and dtype.itemsize
            blank._columns[name] = (
                store.blank_plain(kind, str(number), length, dtype) if has_rows else np.zeros(length, dtype)
            )
        return blank

    def fill(self, rows: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> None:
        """Write some rows of all columns, in place."""
        for name, values in self._columns.items():
            values[rows] = columns[name]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column."""
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names in their order."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


_SIDES = {"low": 0, "high": -1}


def faces_of(labelled: objects.Labelled) -> dict[str, NDArray[Any]]:
    """Return the six outermost planes of a block, which are all that joining needs: numbers of parts, and their ids."""
    planes = {
        f"{axis} {side}": labelled.numbers.take(place, axis) for axis in range(3) for side, place in _SIDES.items()
    }
    return {"ids": labelled.ids, **planes}


def touch(workspace: Workspace, box: Box, kinds: Kinds, failed: frozenset[Box]) -> None:
    """Save the ids that touch across a face, edge or corner to the blocks that come after one, shape (n, 2).

    Blocks that failed have no parts, whatever an earlier attempt may have left of them.
    """
    plan, store = workspace.plan, workspace.store
    here = store.load(kinds.faces, key_of(box))
    pairs = [np.empty((0, 2), objects.id_dtype(plan.box))]
    for step, beside in later_neighbours(plan, box):
        border = _border(here, step)
        # most corners, and many edges, have no part: nothing is read for them
        if beside not in failed and border.any():
            there = store.load(kinds.faces, key_of(beside))
            touching = objects.neighbours_across(border, _border(there, tuple(-s for s in step)))
            sides = zip((here, there), touching.T, strict=True)
            pairs.append(np.stack([faces["ids"][numbers - 1] for faces, numbers in sides], axis=1))
    store.save(kinds.contacts, key_of(box), {"pairs": np.concatenate(pairs)})


def later_neighbours(plan: Plan, box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Yield the blocks beside one that come after it, each with its direction."""
    for step in product((-1, 0, 1), repeat=3):
        beside = neighbour(plan, box, step) if step > (0, 0, 0) else None
        if beside is not None:
            yield step, beside


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
    """Return the parts of a block that touch its neighbour in a direction: a face, an edge or a corner, as a plane."""
    axis = next(axis for axis, direction in enumerate(step) if direction)
    plane = faces[f"{axis} {'high' if step[axis] > 0 else 'low'}"]
    for place, other in enumerate(other for other in range(3) if other != axis):
        if step[other]:
            edge = plane.shape[place] - 1 if step[other] > 0 else 0
            plane = plane[edge : edge + 1] if place == 0 else plane[:, edge : edge + 1]
    return plane


def layers_of(blocks: Iterable[Box]) -> list[list[Box]]:
    """Return blocks, which are in C order, by the sections that they have."""
    return [list(layer) for _, layer in groupby(blocks, key=lambda block: block.z[0])]


def join(plan: Plan, store: Store | MemoryStore, kinds: Kinds, blocks: Sequence[Box]) -> None:
    """Join the parts that touch across blocks, and save for each block what the others have of its objects.

    Of each block: `parts` that belong to an object with another id, and `objects`, these ids; `owners`, the ids of
    objects that begin in the block and have other parts, and `members`, these parts. Only parts that touch others are
    in memory, and only those of one layer of blocks.
    """
    raw, dtype = f"raw-{kinds.joined}", objects.id_dtype(plan.box)
    store.drop(raw)
    layered, layers = LayeredJoin(), layers_of(blocks)
    for number, layer in enumerate(layers):
        pairs = [store.load(kinds.contacts, key_of(block))["pairs"] for block in layer]
        end = _first_id(plan, layer[0].z[1])
        for name, ids in zip(("parts", "roots"), layered.add(np.concatenate(pairs), end), strict=True):
            store.append(raw, f"{name} {number}", ids)
    for number in range(len(layers)):
        parts = store.appended(raw, f"parts {number}", dtype)
        roots = layered.settled(store.appended(raw, f"roots {number}", dtype))
        joined = np.stack([parts, roots], axis=1)[parts != roots]
        _deal(plan, store, (raw, "of parts"), joined)
        _deal(plan, store, (raw, "of objects"), joined[:, ::-1])
    for block in blocks:
        ids, owners = (
            store.appended(raw, f"{name} {key_of(block)}", dtype).reshape(-1, 2).T
            for name in ("of parts", "of objects")
        )
        names = ("parts", "objects", "owners", "members")
        store.save(kinds.joined, key_of(block), dict(zip(names, (*ids, *owners), strict=True)))
    store.drop(raw)


def _first_id(plan: Plan, z: int) -> int:
    """Return the lowest id of the parts that begin in a section or after it."""
    _, ny, nx = plan.box.shape
    return (z - plan.box.z[0]) * ny * nx + 1


def by_block(plan: Plan, ids: NDArray[Any]) -> Iterator[tuple[Box, NDArray[np.int64]]]:
    """Yield the blocks in which parts with some ids begin, each with the places of these among the ids."""
    voxels = np.stack(np.unravel_index(ids.astype(np.int64) - 1, plan.box.shape)) + np.array([plan.box.start]).T
    yield from of_blocks(plan, voxels)


def of_blocks(plan: Plan, voxels: NDArray[np.int64]) -> Iterator[tuple[Box, NDArray[np.int64]]]:
    """Yield the blocks in which voxels (3, n) lie, each with the places of these among the voxels, ascending."""
    numbers = block_numbers(voxels, plan.box, plan.block_size)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for places in np.split(order, starts[1:]) if len(order) else []:
        one = Box.of_shape((1, 1, 1), voxels[:, places[0]].tolist())
        yield next(overlapping(one, plan.box, plan.block_size)), places


def _deal(plan: Plan, store: Store | MemoryStore, kind: tuple[str, str], joined: NDArray[Any]) -> None:
    """Append rows of ids (n, 2) to what is known of the blocks in which the first of them begin."""
    for block, places in by_block(plan, joined[:, 0]):
        store.append(kind[0], f"{kind[1]} {key_of(block)}", joined[places])
