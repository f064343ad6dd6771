"""Points with properties in neuroglancer's precomputed annotation format, sharded: three or more files, however many.

The format is https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed (annotations, sharded).
The libraries that write it either make a file for each point and hold all points as objects in memory
(``neuroglancer.write_annotations``), or bring a database and a compiler (``ngsidekick``: duckdb, numba, pandas).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.files.sharded import Create, Entries, interleaved, sharding, write_shard
from nd_synapse.geometry import Box

__all__ = ["Points", "write_points"]

_MOST_IN_CELL = 10_000
"""Points of a cell of the coarsest grid, which a viewer loads at once; what is more comes in finer grids."""

_AT_ONCE = 9
"""Bits of an id that share one index of a shard: 512 entries of 24 bytes are loaded to find one."""

_KINDS = {"float32": "<f4", "uint8": "|u1"}
"""Properties in the order of their alignment."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Points:
    """Points (z, y, x) in voxels of a volume, the centre of voxel i being i + 0.5, and their properties, by row."""

    box: Box
    voxel_size_nm: tuple[float, float, float]
    positions: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    """Each float (n,); they lie in the box."""
    properties: Mapping[str, NDArray[Any]]
    """Name to float32 or uint8 values (n,)."""
    labels: Mapping[str, Sequence[str]]
    """Property of uint8 to the words that its values 0, 1, 2 ... stand for."""
    step: int = 1
    """A power of two; the id of row i is i * step + 1."""

    @property
    def ordered(self) -> list[str]:
        """Names of the properties in the order in which the format has them."""
        kinds = list(_KINDS)
        return sorted(self.properties, key=lambda name: kinds.index(self.properties[name].dtype.name))

    def encoded(self, rows: slice | Integers) -> NDArray[Any]:
        """Return some points as records of the format, (n,)."""
        fields = [(name, _KINDS[self.properties[name].dtype.name]) for name in self.ordered]
        size = sum(np.dtype(kind).itemsize for _, kind in fields)
        record = np.dtype([("place", "<f4", 3), *fields, ("padding", "V", -size % 4)])
        records = np.zeros(len(self.positions[0][rows]), record)
        for number, values in enumerate(reversed(self.positions)):
            records["place"][:, number] = values[rows]
        for name, _ in fields:
            records[name] = self.properties[name][rows]
        return records

    def info(self) -> dict[str, Any]:
        """Return the properties and the space as metadata."""
        kinds = {name: self.properties[name].dtype.name for name in self.ordered}
        return {
            "@type": "neuroglancer_annotations_v1",
            "annotation_type": "point",
            "dimensions": {axis: [nm / 1e9, "m"] for axis, nm in zip("xyz", self.voxel_size_nm[::-1], strict=True)},
            "lower_bound": [float(n) for n in self.box.start[::-1]],
            "upper_bound": [float(n) for n in self.box.stop[::-1]],
            "relationships": [],
            "properties": [
                {"id": name, "type": kind}
                | (
                    {"enum_values": list(range(len(self.labels[name]))), "enum_labels": list(self.labels[name])}
                    if name in self.labels
                    else {}
                )
                for name, kind in kinds.items()
            ],
        }


def write_points(create: Create, points: Points) -> None:
    """Write points; the bytes follow from the points and the box alone. Some 60 bytes a point are in memory."""
    n = len(points.positions[0])
    shift = _AT_ONCE + points.step.bit_length() - 1
    bits = (n >> _AT_ONCE).bit_length()
    with create("by_id/0.shard") as file:
        write_shard(file, bits, _by_id(points, n))
    spatial = []
    for level, grid, cells in _levels(points, n):
        with create(f"spatial{level}/0.shard") as file:
            write_shard(file, 0, [(0, _in_cells(points, cells))])
        spatial.append(
            {
                "key": f"spatial{level}",
                "grid_shape": [int(n) for n in grid],
                "chunk_size": [float(n) for n in _cell_size(points.box, grid)],
                "limit": _MOST_IN_CELL,
                "sharding": sharding(0, 0),
            }
        )
    info = points.info() | {"by_id": {"key": "by_id", "sharding": sharding(shift, bits)}, "spatial": spatial}
    with create("info") as file:
        file.write(json.dumps(info, indent=1).encode())


def _by_id(points: Points, n: int) -> Iterator[tuple[int, Entries]]:
    """Yield the points by id: the number of each index of the shard, and what is in it."""

    def entries(rows: range) -> Entries:
        records = points.encoded(slice(rows.start, rows.stop))
        ids = [row * points.step + 1 for row in rows]
        yield ids, [records.dtype.itemsize] * len(records), records.tobytes()

    # of every row the ids count from 1, so that an index begins one row earlier
    early = int(points.step == 1)
    for number in range((n >> _AT_ONCE) + 1):
        first, stop = ((at << _AT_ONCE) - early for at in (number, number + 1))
        yield number, entries(range(max(first, 0), min(stop, n)))


def _in_cells(points: Points, cells: Iterable[tuple[int, Integers]]) -> Entries:
    """Yield the points of each cell: their number, their records, their ids."""
    for key, rows in cells:
        body = b"".join(
            (
                np.uint64(len(rows)).tobytes(),
                points.encoded(rows).tobytes(),
                (rows * points.step + 1).astype("<u8").tobytes(),
            )
        )
        yield [key], [len(body)], body


def _levels(points: Points, n: int) -> Iterator[tuple[int, Integers, Iterator[tuple[int, Integers]]]]:
    """Yield grids (x, y, z), coarse to fine, and for each the key and the points of its cells; each point comes once.

    A cell takes the first points in a random order that follows from their ids, so that each level is a fair sample.
    """
    left = np.argsort(_mixed(np.arange(n, dtype=np.uint64)), kind="stable")
    for level in count():
        grid = _grid(points.box, points.voxel_size_nm, level)
        keys = _keys(points, grid, left)
        order = np.argsort(keys, kind="stable")
        left, keys = left[order], keys[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])[: len(keys)]
        sizes = np.diff(np.r_[starts, len(keys)])
        taken = np.arange(len(keys)) - np.repeat(starts, sizes) < _MOST_IN_CELL
        rows, left_over = left[taken], left[~taken]
        yield level, grid, _parts(keys[starts].tolist(), rows, np.minimum(sizes, _MOST_IN_CELL))
        left = left_over
        if not len(left):
            return


def _parts(keys: Sequence[int], rows: Integers, sizes: Integers) -> Iterator[tuple[int, Integers]]:
    """Cut rows into those of each cell."""
    stops = np.cumsum(sizes)
    for key, start, stop in zip(keys, (stops - sizes).tolist(), stops.tolist(), strict=True):
        yield key, rows[start:stop]


def _grid(box: Box, voxel_size_nm: Sequence[float], level: int) -> Integers:
    """Return the cells of a level along x, y, z: at each one the axes along which cells are long are halved."""
    grid = np.ones(3, np.int64)
    extents = np.array([extent * nm for extent, nm in zip(box.shape, voxel_size_nm, strict=True)])[::-1]
    for _ in range(level):
        sizes = extents / grid
        grid[sizes > sizes.max() / 2] *= 2
    return grid


def _cell_size(box: Box, grid: Integers) -> NDArray[np.float64]:
    """Return the extent of a cell along x, y, z in voxels."""
    return np.array(box.shape[::-1], np.float64) / grid


def _keys(points: Points, grid: Integers, rows: Integers) -> NDArray[np.uint64]:
    """Return the key of the cell of each point: the bits of its places along x, y, z in turn, as many as each needs."""
    bits = [int(n - 1).bit_length() for n in grid]
    sizes, starts = _cell_size(points.box, grid), points.box.start[::-1]
    axes = []
    for values, start, size, cells in zip(points.positions[::-1], starts, sizes, grid, strict=True):
        places = np.floor((np.asarray(values, np.float64)[rows] - start) / size)
        axes.append(np.clip(places, 0, cells - 1).astype(np.uint64))
    return interleaved(axes, bits)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a number for each that looks random (splitmix64: Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
