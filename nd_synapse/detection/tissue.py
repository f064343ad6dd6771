"""How much tissue was searched: voxels of tissue in each tile of each section. What tissue is decides `padding`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box, Range

__all__ = ["Tissue", "tile_counts"]

_TILES = 8
"""Tiles along y and along x, at most: enough for an interval, each large enough for a density."""


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """The searched tissue of a box: what is neither padding nor in a block that failed.

    Parameters
    ----------
    voxels : ndarray of int64
        Voxels of tissue in each tile of each section, shape (sections, tile rows, tile columns).
    y_edges, x_edges : ndarray of int64
        Where tiles begin along y and x, and where the last one ends, absolute voxel indices. At most eight tiles along
        each axis, equal to a voxel; they follow from the box alone.
    """

    voxels: NDArray[np.int64]
    y_edges: NDArray[np.int64]
    x_edges: NDArray[np.int64]

    @classmethod
    def of_blocks(cls, box: Box, blocks: Iterable[Box]) -> Tissue:
        """Return a box in which all of some blocks, which do not overlap, is tissue."""
        edges = [_edges(ends) for ends in box.ranges[1:]]
        voxels = np.zeros((box.shape[0], *(len(ends) - 1 for ends in edges)), np.int64)
        for block in blocks:
            z = slice(block.z[0] - box.z[0], block.z[1] - box.z[0])
            rows, columns = (_overlaps(ends, span) for ends, span in zip(edges, block.ranges[1:], strict=True))
            voxels[z] += rows[:, np.newaxis] * columns
        return cls(voxels, *edges)

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


def tile_counts(marked: NDArray[np.bool_], block: Box, box: Box) -> NDArray[np.int64]:
    """Count marked voxels of a block (z, y, x) by section and tile of `box`: int64 (sections of the block, 8, 8)."""
    counts = marked.astype(np.int64)
    for axis in (1, 2):
        starts = _edges(box.ranges[axis])[:-1] - block.start[axis]
        # tiles that end before the block, and those that begin after it, have no voxel of it
        firsts = np.clip(starts, 0, marked.shape[axis])
        sums = np.concatenate([np.zeros_like(counts.take([0], axis)), np.cumsum(counts, axis)], axis)
        counts = np.diff(sums.take(np.append(firsts, marked.shape[axis]), axis), axis=axis)
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
