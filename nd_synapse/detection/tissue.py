"""How much tissue was searched: voxels of tissue in each tile of each section. What tissue is decides `padding`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box, Range

__all__ = ["Tissue", "lost_to_padding", "tile_counts"]

_TILES = 8
"""Tiles along y and along x, at most: enough for an interval, each large enough for a density."""


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """The searched tissue of a box: what is neither padding nor in a block that failed.

    Parameters
    ----------
    counts : ndarray of int64
        Voxels in each tile of each section, shape (3, sections, tile rows, tile columns): of tissue, of tissue in the
        brick without the low faces, and in that without the high ones (see `brick`).
    y_edges, x_edges : ndarray of int64
        Where tiles begin along y and x, and where the last one ends, absolute voxel indices. At most eight tiles along
        each axis, equal to a voxel; they follow from the box alone.
    """

    counts: NDArray[np.int64]
    y_edges: NDArray[np.int64]
    x_edges: NDArray[np.int64]

    @classmethod
    def of_blocks(cls, box: Box, blocks: Iterable[Box]) -> Tissue:
        """Return a box in which all of some blocks, which do not overlap, is tissue."""
        edges = [_edges(ends) for ends in box.ranges[1:]]
        counts = np.zeros((3, box.shape[0], *(len(ends) - 1 for ends in edges)), np.int64)
        for block in blocks:
            for of_region, part in zip(counts, _in_bricks(block, box), strict=True):
                if part is not None:
                    rows, columns = (_overlaps(ends, span) for ends, span in zip(edges, part.ranges[1:], strict=True))
                    of_region[_sections(part, box)] += rows[:, np.newaxis] * columns
        return cls(counts, *edges)

    def without(self, block: Box, box: Box, lost: NDArray[np.int64]) -> None:
        """Take what `lost_to_padding` returns for a block from the counts, in place."""
        self.counts[:, _sections(block, box)] -= lost

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Voxels of tissue in each tile of each section, shape (sections, tile rows, tile columns)."""
        voxels: NDArray[np.int64] = self.counts[0]
        return voxels

    @property
    def total(self) -> int:
        """Voxels of tissue."""
        return int(self.voxels.sum())

    @property
    def fraction(self) -> float:
        """Part of the box that is tissue."""
        y, x = (int(edges[-1] - edges[0]) for edges in (self.y_edges, self.x_edges))
        return self.total / (len(self.voxels) * y * x)

    def um3(self, voxel_size_nm: Sequence[float]) -> float:
        """Return the volume of the tissue in cubic micrometres, for voxels of a size (z, y, x) in nanometres."""
        return self.total * (math.prod(voxel_size_nm) / 1e9)


def lost_to_padding(
    outside: NDArray[np.bool_], rims: Sequence[NDArray[np.bool_]], block: Box, box: Box
) -> NDArray[np.int64]:
    """Count by section and tile of `box` what a block lacks of each of `Tissue.counts`: int64 (3, sections, 8, 8).

    `outside`, bool (z, y, x), is what is not tissue; `rims` are the voxels with such a neighbour on their low, and on
    their high side.
    """
    lost = np.zeros((3, len(outside), *(len(_edges(ends)) - 1 for ends in box.ranges[1:])), np.int64)
    for of_region, part, rim in zip(lost, _in_bricks(block, box), (outside, *rims), strict=True):
        if part is not None:
            here = part.slices(block.start)
            of_region[here[0]] = tile_counts(outside[here] | rim[here], part, box)
    return lost


def _in_bricks(block: Box, box: Box) -> list[Box | None]:
    """Return a block, and what of it is in the box without its first planes, and without its last ones."""
    if min(box.shape) == 1:
        return [block, None, None]
    bricks = (Box(*((a + low, b - 1 + low) for a, b in box.ranges)) for low in (1, 0))
    return [block, *(block.intersection(brick) for brick in bricks)]


def _sections(block: Box, box: Box) -> slice:
    """Return where the sections of a block are among those of the box."""
    return slice(block.z[0] - box.z[0], block.z[1] - box.z[0])


def tile_counts(marked: NDArray[np.bool_], block: Box, box: Box) -> NDArray[np.int64]:
    """Count marked voxels of a block (z, y, x) by section and tile of `box`: int64 (sections of the block, 8, 8)."""
    rows, columns = (
        np.clip(_edges(ends) - start, 0, n)
        for ends, start, n in zip(box.ranges[1:], block.start[1:], marked.shape[1:], strict=True)
    )
    counts = np.zeros((len(marked), len(rows) - 1, len(columns) - 1), np.int64)
    # padding lies along borders: in most tiles nothing is marked
    tiles = [
        [(tile, slice(*ends), along[:, slice(*ends)].any(1)) for tile, ends in enumerate(pairwise(axis))]
        for axis, along in ((rows, np.asarray(marked.any(2))), (columns, np.asarray(marked.any(1))))
    ]
    for (row, y, in_rows), (column, x, in_columns) in product(*tiles):
        for section in np.flatnonzero(in_rows & in_columns).tolist():
            counts[section, row, column] = np.count_nonzero(marked[section, y, x])
    return counts


def _edges(ends: Range) -> NDArray[np.int64]:
    """Return where equal tiles of a range begin, and where the last one ends."""
    start, stop = ends
    tiles = min(_TILES, stop - start)
    return np.array([start + (stop - start) * tile // tiles for tile in range(tiles + 1)], np.int64)


def _overlaps(edges: NDArray[np.int64], ends: Range) -> NDArray[np.int64]:
    """Return how much of a range lies in each tile."""
    inside = np.clip(edges, *ends)
    return np.diff(inside)
