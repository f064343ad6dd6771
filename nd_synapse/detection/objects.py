"""The objects of a mask: labelled and measured block by block, joined across blocks into the same table as one block.

The id of an object is one plus the C-order index in the requested volume of its first voxel. Such ids need no counter
that blocks would share, are the same for any blocks once parts are joined, and sort objects by their first voxel. All
sums are integers, so that the order of joining cannot show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.components import components
from nd_synapse.blocks.distinct import distinct
from nd_synapse.detection.brick import excluded, weights
from nd_synapse.detection.shape import PRODUCT_SUMS, moved
from nd_synapse.geometry import Box, nearest_voxel
from nd_synapse.pipeline.contract import Chosen

__all__ = [
    "RIMS",
    "Joint",
    "Labelled",
    "centres",
    "id_dtype",
    "join",
    "label",
    "measure",
    "measure_voxels",
    "neighbours_across",
    "reduced",
    "rows_of_objects",
    "table",
    "table_of",
]

Parts = dict[str, NDArray[Any]]

_LOWEST = ("start_z", "start_y", "start_x")
_HIGHEST = ("stop_z", "stop_y", "stop_x")
_COORDINATE_SUMS = ("sum_z", "sum_y", "sum_x")

RIMS = ("rim_low", "rim_high")
"""Columns of parts and objects: 1 where a voxel that shares a face with the tissue in the object, on its low side (-z,
-y or -x) or on its high side, is not tissue; -1 where it has no tissue; 2 more beside a block that failed."""


def id_dtype(volume: Box) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every id of `volume`."""
    return np.dtype(np.uint32 if volume.voxels < 2**32 - 1 else np.uint64)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The connected components of a block."""

    numbers: NDArray[Any]
    """Shape (z, y, x): 0 is background, k the k-th component of the block."""
    ids: NDArray[Any]
    """Id of each component, by its first voxel in this block; uint32 or uint64."""
    places: NDArray[np.int64]
    """C-order indices in the block of all voxels of components, by component, ascending within each."""
    voxels: NDArray[np.int64]
    """Voxels of each component."""

    def ids_of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the ids of some voxels, given their numbers; 0 is background."""
        with_background = np.concatenate([np.zeros(1, self.ids.dtype), self.ids])
        found: NDArray[Any] = with_background[numbers]
        return found


def label(candidates: NDArray[np.bool_], box: Box, volume: Box) -> Labelled:
    """Return the 26-connected components of a block (bool, shape (z, y, x)), with ids counted in `volume`."""
    # cc3d misreads some strided views, so it is given contiguous memory
    contiguous = np.ascontiguousarray(candidates).view(np.uint8)
    numbers, count = cc3d.connected_components(contiguous, connectivity=26, return_N=True)
    if count < 2**16:
        numbers = numbers.astype(np.uint16, copy=False)
    # booleans are searched faster than numbers
    places = np.flatnonzero(contiguous.view(np.bool_))
    of_places = numbers.ravel()[places]
    places = places[np.argsort(of_places, kind="stable")]
    voxels = np.bincount(of_places, minlength=count + 1)[1:].astype(np.int64)
    ids = (_index_in(volume, box, places[_first(voxels)]) + 1).astype(id_dtype(volume))
    return Labelled(numbers, ids, places, voxels)


def _first(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of voxels begins, given how long the runs are."""
    starts: NDArray[np.int64] = np.cumsum(voxels) - voxels
    return starts


def _index_in(volume: Box, box: Box, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn C-order indices in `box` into C-order indices in `volume`."""
    z, y, x = np.unravel_index(places, box.shape)
    oz, oy, ox = (b - v for b, v in zip(box.start, volume.start, strict=True))
    _, ny, nx = volume.shape
    index: NDArray[np.int64] = ((z + oz) * ny + (y + oy)) * nx + (x + ox)
    return index


def measure(labelled: Labelled, box: Box, measured: Iterable[tuple[str, NDArray[Any]]]) -> Parts:
    """Measure the parts of objects that lie in one block: columns with a row for each part, int64 but `id`.

    `id`, `voxels`, `sum_z` (and y, x: sums of voxel coordinates), `start_z`, `stop_z` (and y, x: bounding box,
    half-open), `sum_zz` (and zy, zx, yy, yx, xx: sums of products of coordinates, modulo 2**64), those of
    `measure_voxels`, and `RIMS`, which are 0 unless measured.
    """
    voxels = labelled.voxels
    first = _first(voxels)
    parts: Parts = {"id": labelled.ids, "voxels": voxels, **{name: np.zeros_like(voxels) for name in RIMS}}
    coordinates = np.unravel_index(labelled.places, box.shape)
    sums = [_reduce(np.add, coordinate, first) for coordinate in coordinates]
    for axis, (coordinate, start) in enumerate(zip(coordinates, box.start, strict=True)):
        parts[_COORDINATE_SUMS[axis]] = sums[axis] + start * voxels
        parts[_LOWEST[axis]] = _reduce(np.minimum, coordinate, first) + start
        parts[_HIGHEST[axis]] = _reduce(np.maximum, coordinate, first) + (start + 1)
    for name, (a, b) in PRODUCT_SUMS.items():
        products = _reduce(np.add, coordinates[a] * coordinates[b], first)
        parts[name] = moved(products, (sums[a], sums[b]), voxels, (box.start[a], box.start[b]))
    return parts | measure_voxels(labelled, measured)


def measure_voxels(labelled: Labelled, measured: Iterable[tuple[str, NDArray[Any]]]) -> Parts:
    """Reduce voxels (booleans or integers, shape (z, y, x)) to columns with a row for each part, int64.

    A column that begins with ``max:`` is a maximum, any other a sum; one array is held at a time.
    """
    first = _first(labelled.voxels)
    # few voxels belong to objects: they are picked from where they lie, without a copy of the rest
    coordinates = np.unravel_index(labelled.places, labelled.numbers.shape)
    return {name: _reduce(_reduction(name), values[coordinates].astype(np.int64), first) for name, values in measured}


def _reduction(name: str) -> np.ufunc:
    """Return how the parts of an object make its value in a column."""
    if name in _LOWEST:
        return np.minimum
    return np.maximum if name in (*_HIGHEST, *RIMS) or name.startswith("max:") else np.add


def reduced(name: str, values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join runs of values of parts, which start at `first`, to those of objects in a column."""
    return _reduce(_reduction(name), values, first)


def _reduce(operation: np.ufunc, values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reduce each run of `values` that starts at `first`; no run, no row."""
    # reduceat refuses an index at the end of an empty array
    reduced: NDArray[np.int64] = operation.reduceat(values, first) if len(first) else values[:0]
    return reduced


def neighbours_across(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.int64]:
    """Return the distinct pairs (n, 2) that touch, also diagonally, in the planes (a, b) beside a cut.

    The planes have numbers of parts, less than 2**31, and 0 where there is none.
    """
    # few voxels belong to parts: those of one plane are looked up in the other, which gets a border of 0
    places = np.flatnonzero(low != 0)
    here = low.ravel()[places].astype(np.int64) << 32
    wide = low.shape[1] + 2
    around = np.pad(high, 1).ravel()
    places += (places // low.shape[1]) * 2
    pairs = []
    for shift in (a * wide + b for a in range(3) for b in range(3)):
        there = around[places + shift]
        touching = there != 0
        pairs.append(here[touching] | there[touching].astype(np.int64))
    both = distinct(np.concatenate(pairs))
    return np.stack([both >> 32, both & 0xFFFFFFFF], axis=1)


class Joint:
    """Which parts are one object, from the ids (n,) of all parts, in any order, and the pairs (m, 2) that touch."""

    def __init__(self, ids: NDArray[Any], pairs: Sequence[NDArray[Any]]) -> None:
        order = np.argsort(ids)
        self.part_ids = ids[order]
        """The ids of all parts, sorted."""
        n = len(ids)
        touching = np.concatenate([*pairs, np.empty((0, 2), ids.dtype)])
        component = components(n, *(np.searchsorted(self.part_ids, touching[:, side]) for side in (0, 1)))
        # parts are sorted by id: the first part of a component holds the object's first voxel
        _, first_part, object_of_part = np.unique(component, return_index=True, return_inverse=True)
        rank = np.empty(len(first_part), np.int64)
        rank[np.argsort(first_part)] = np.arange(len(first_part))
        self.object_rows: NDArray[np.int64] = rank[object_of_part]
        """For each of `part_ids`, the row of its object; objects are in the order of their first voxel."""
        by_object = np.argsort(self.object_rows, kind="stable")
        self._gather = order[by_object]
        self._first = np.flatnonzero(np.diff(self.object_rows[by_object], prepend=-1))

    def column(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Join the values of the parts to those of the objects."""
        if name == "id":
            ids: NDArray[Any] = values[self._gather[self._first]]
            return ids
        return reduced(name, values[self._gather], self._first)


def join(parts: Sequence[Parts], pairs: Sequence[NDArray[Any]]) -> tuple[Parts, Joint]:
    """Join the parts of all blocks, in memory; return the columns ordered by first voxel, and what was joined."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joint = Joint(columns["id"], pairs)
    return {name: joint.column(name, values) for name, values in columns.items()}, joint


def centres(objects: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the voxels (z, y, x) of the centroids of objects, int64 (3, n)."""
    voxels = objects["voxels"][rows]
    return np.stack([nearest_voxel(objects[f"sum_{axis}"][rows], voxels) for axis in "zyx"])


def table(
    objects: Mapping[str, NDArray[Any]], volume: Box, voxel_size_nm: Sequence[float]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Turn sums into what a user and a pipeline read, column by column.

    `id` (1 upwards, in the order of first voxels), `centroid_z_voxel` (and y, x: mean index, absolute in BOSS; a
    voxel's index is its centre), `centroid_z_um` (and y, x: index times voxel size), `section` (that of the centroid),
    `voxels`, `volume_um3`, `slices`, `start_z`, `stop_z` (and y, x: bounding box, half-open), `touches_border` (of the
    requested volume), `touches_padding` (a voxel of it, or beside it, is not tissue), `counted` (how much the
    counting brick counts of it, see `brick`), `mean_<channel>` (intensity inside the object), and what the pipeline had
    measured: `voxels_<set>`, `max_<evidence>`, `sum_<evidence>`.
    """
    voxels = np.asarray(objects["voxels"])
    yield "id", np.arange(1, len(voxels) + 1, dtype=np.int64)
    for axis, name in zip("zyx", _COORDINATE_SUMS, strict=True):
        yield f"centroid_{axis}_voxel", objects[name] / voxels
    for axis, name, size in zip("zyx", _COORDINATE_SUMS, voxel_size_nm, strict=True):
        yield f"centroid_{axis}_um", objects[name] / voxels * (size / 1000)
    yield "section", nearest_voxel(objects["sum_z"], voxels)
    yield "voxels", voxels
    yield "volume_um3", voxels * (float(np.prod(np.asarray(voxel_size_nm, np.float64))) / 1e9)
    yield "slices", objects["stop_z"] - objects["start_z"]
    border = np.zeros(len(voxels), np.bool_)
    for low, high, (start, stop) in zip(_LOWEST, _HIGHEST, volume.ranges, strict=True):
        yield low, objects[low]
        yield high, objects[high]
        border |= (objects[low] == start) | (objects[high] == stop)
    yield "touches_border", border
    yield "touches_padding", (objects["rim_low"] | objects["rim_high"]) & 1 == 1
    yield "counted", weights(*excluded(objects, volume))
    for name in objects:
        kind, _, what = name.partition(":")
        if kind == "intensity":
            yield f"mean_{what}", objects[name] / voxels
        elif what:
            yield f"{kind}_{what}", objects[name]


def rows_of_objects(joint: Joint, ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return the row of each part's object, int64."""
    return joint.object_rows[np.searchsorted(joint.part_ids, ids)]


def table_of(
    every: Mapping[str, NDArray[Any]], chosen: Chosen, features: Iterable[tuple[str, NDArray[Any]]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the table that users get: the objects of the first mask, column by column.

    `id` anew from 1; the columns of `table` but those that the pipeline had measured for itself (where it found several
    sets, `voxels_<set>` stay); the features; the pipeline's columns; for each further mask ``in_<mask>``.
    """
    (_, first), *others = chosen.masks.items()
    sets = [name for name in every if name.startswith("voxels_")]
    for name, values in every.items():
        if name == "id":
            yield name, np.arange(1, np.count_nonzero(first) + 1, dtype=np.int64)
        elif not name.startswith(("max_", "sum_", "mean_")) and (name not in sets or len(sets) > 1):
            yield name, values[first]
    yield from features
    for name, values in chosen.columns.items():
        yield name, np.asarray(values)[first]
    for name, is_in in others:
        yield f"in_{name}", is_in[first]
