"""The objects of a mask: labelled and measured block by block, joined across blocks into the same table as one block.

It decides nothing about which objects are synapses; pipelines do.

Every object has as its id the place of its first voxel: one plus the C-order index of that voxel in the requested
volume. Such ids need no counter that blocks would have to share, are the same for any blocks once parts are joined,
and sort the objects in the order of their first voxel. All sums are integers, so that the order of joining cannot show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from box import Box

__all__ = ["id_dtype", "join", "label", "measure", "neighbours_across", "table"]

Parts = dict[str, NDArray[Any]]

_LOWEST = ("start_z", "start_y", "start_x")
_HIGHEST = ("stop_z", "stop_y", "stop_x")
_COORDINATE_SUMS = ("sum_z", "sum_y", "sum_x")


def id_dtype(volume: Box) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every id of `volume`."""
    return np.dtype(np.uint32 if volume.voxels < 2**32 - 1 else np.uint64)


def label(candidates: NDArray[np.bool_], box: Box, volume: Box) -> NDArray[Any]:
    """Give the voxels of each 26-connected component of a block the component's id.

    Parameters
    ----------
    candidates : ndarray of bool, shape (z, y, x)
        Voxels of `box` that belong to objects.
    box : Box
        The block.
    volume : Box
        The requested volume, in which ids are counted.

    Returns
    -------
    ndarray of uint32 or uint64, shape (z, y, x)
        0 is background; otherwise one plus the C-order index in `volume` of the component's first voxel in this block.
    """
    # cc3d misreads some strided views, so it is given contiguous memory
    contiguous = np.ascontiguousarray(candidates).view(np.uint8)
    local, count = cc3d.connected_components(contiguous, connectivity=26, return_N=True)
    ids = np.zeros(count + 1, id_dtype(volume))
    flat = local.ravel()
    places = np.flatnonzero(flat)
    # assigned from the last voxel to the first, so that the first voxel of each component stays
    ids[flat[places[::-1]]] = (_index_in(volume, box, places[::-1]) + 1).astype(ids.dtype)
    labelled: NDArray[Any] = ids[local]
    return labelled


def _index_in(volume: Box, box: Box, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn C-order indices in `box` into C-order indices in `volume`."""
    z, y, x = np.unravel_index(places, box.shape)
    oz, oy, ox = (b - v for b, v in zip(box.start, volume.start, strict=True))
    _, ny, nx = volume.shape
    index: NDArray[np.int64] = ((z + oz) * ny + (y + oy)) * nx + (x + ox)
    return index


def measure(labels: NDArray[Any], box: Box, channels: Iterable[tuple[str, NDArray[Any]]]) -> Parts:
    """Measure the parts of objects that lie in one block.

    Parameters
    ----------
    labels : ndarray of uint32 or uint64, shape (z, y, x)
        From `label`.
    box : Box
        The block.
    channels : iterable of tuple of str and ndarray
        Channels and their voxels in `box`, unsigned integers, shape (z, y, x); one is held at a time.

    Returns
    -------
    dict of str to ndarray
        Columns, a row for each part, in the order of `id`: `id`, `voxels`, `sum_z` (and y, x: sums of voxel
        coordinates), `start_z`, `stop_z` (and y, x: bounding box, half-open), `sum:<channel>`. All int64 but `id`.
    """
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    order = np.argsort(flat[places], kind="stable")
    places = places[order]
    sorted_ids = flat[places]
    first = np.flatnonzero(np.diff(sorted_ids, prepend=sorted_ids.dtype.type(0)))
    parts: Parts = {"id": sorted_ids[first], "voxels": np.diff(first, append=len(places)).astype(np.int64)}
    coordinates = np.unravel_index(places, box.shape)
    for axis, coordinate in enumerate(coordinates):
        absolute = coordinate.astype(np.int64) + box.start[axis]
        parts[_COORDINATE_SUMS[axis]] = _reduce(np.add, absolute, first)
        parts[_LOWEST[axis]] = _reduce(np.minimum, absolute, first)
        parts[_HIGHEST[axis]] = _reduce(np.maximum, absolute, first) + 1
    for name, voxels in channels:
        parts[f"sum:{name}"] = _reduce(np.add, voxels.ravel()[places].astype(np.int64), first)
    return parts


def _reduce(operation: np.ufunc, values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reduce each run of `values` that starts at `first`; no run, no row."""
    # reduceat refuses an index at the end of an empty array
    reduced: NDArray[np.int64] = operation.reduceat(values, first) if len(first) else values[:0]
    return reduced


def neighbours_across(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Find which ids touch across a plane between blocks, by face, edge or corner.

    Parameters
    ----------
    low : ndarray, shape (a, b)
        Ids in the last plane before the cut.
    high : ndarray, shape (a, b)
        Ids in the first plane after the cut, same window as `low`.

    Returns
    -------
    ndarray, shape (n, 2)
        Distinct pairs of ids.
    """
    pairs = [np.empty((0, 2), low.dtype)]
    a, b = low.shape
    for da in (-1, 0, 1):
        for db in (-1, 0, 1):
            here = low[max(0, -da) : a - max(0, da), max(0, -db) : b - max(0, db)]
            there = high[max(0, da) : a - max(0, -da), max(0, db) : b - max(0, -db)]
            both = (here != 0) & (there != 0)
            pairs.append(np.stack([here[both], there[both]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def join(parts: Sequence[Parts], pairs: Sequence[NDArray[Any]]) -> tuple[Parts, NDArray[Any], NDArray[Any]]:
    """Join the parts of objects that touch across blocks.

    Parameters
    ----------
    parts : sequence of dict
        From `measure`, one a block, in any order; at least one.
    pairs : sequence of ndarray, shape (n, 2)
        From `neighbours_across`.

    Returns
    -------
    objects : dict of str to ndarray
        The columns of `measure`, a row for each object, ordered by its first voxel.
    part_ids : ndarray
        The ids of all parts, sorted.
    object_rows : ndarray of int64
        For each of `part_ids`, the row in `objects` that it belongs to.
    """
    # workers measure and never join: they start sooner without scipy
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["id"])
    columns = {name: values[order] for name, values in columns.items()}
    part_ids = columns["id"]
    n = len(part_ids)
    touching = np.unique(np.concatenate([*pairs, np.empty((0, 2), part_ids.dtype)]), axis=0)
    a, b = (np.searchsorted(part_ids, touching[:, side]) for side in (0, 1))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
    _, component = connected_components(graph, directed=False) if n else (0, np.empty(0, np.int32))
    # parts are sorted by id: the first part of a component holds the object's first voxel
    _, first_part, object_of_part = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first_part), np.int64)
    rank[np.argsort(first_part)] = np.arange(len(first_part))
    object_rows = rank[object_of_part]
    by_object = np.argsort(object_rows, kind="stable")
    first = np.flatnonzero(np.diff(object_rows[by_object], prepend=-1))
    objects: Parts = {"id": part_ids[by_object][first]}
    for name, values in columns.items():
        if name != "id":
            reduction = np.minimum if name in _LOWEST else np.maximum if name in _HIGHEST else np.add
            objects[name] = _reduce(reduction, values[by_object], first)
    return objects, part_ids, object_rows


def table(objects: Parts, volume: Box, voxel_size_nm: Sequence[float]) -> dict[str, NDArray[Any]]:
    """Turn sums into what a user reads.

    Parameters
    ----------
    objects : dict of str to ndarray
        From `join` (or `measure`, where there is one block).
    volume : Box
        The requested volume.
    voxel_size_nm : sequence of float
        Size of a voxel along z, y, x.

    Returns
    -------
    dict of str to ndarray
        Columns of equal length: `id` (1 upwards, in the order of first voxels), `centroid_z_voxel` (and y, x: mean
        index, absolute in BOSS; a voxel's index is its centre), `centroid_z_um` (and y, x: index times voxel size),
        `voxels`, `volume_um3`, `slices`, `start_z`, `stop_z` (and y, x: bounding box, half-open), `touches_border`
        (of the requested volume), `mean_<channel>` (intensity inside the object).
    """
    voxels = objects["voxels"]
    rows: dict[str, NDArray[Any]] = {"id": np.arange(1, len(voxels) + 1, dtype=np.int64)}
    for axis, name in zip("zyx", _COORDINATE_SUMS, strict=True):
        rows[f"centroid_{axis}_voxel"] = objects[name] / voxels
    for axis, size in zip("zyx", voxel_size_nm, strict=True):
        rows[f"centroid_{axis}_um"] = rows[f"centroid_{axis}_voxel"] * (size / 1000)
    rows["voxels"] = voxels
    rows["volume_um3"] = voxels * (float(np.prod(np.asarray(voxel_size_nm, np.float64))) / 1e9)
    rows["slices"] = objects["stop_z"] - objects["start_z"]
    border = np.zeros(len(voxels), np.bool_)
    for low, high, (start, stop) in zip(_LOWEST, _HIGHEST, volume.ranges, strict=True):
        rows[low], rows[high] = objects[low], objects[high]
        border |= (objects[low] == start) | (objects[high] == stop)
    rows["touches_border"] = border
    for name in objects:
        if name.startswith("sum:"):
            rows[f"mean_{name.removeprefix('sum:')}"] = objects[name] / voxels
    return rows
