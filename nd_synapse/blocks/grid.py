"""The grid of a run: its blocks, their names, and the mirrored border of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

__all__ = ["DEFAULT_BLOCK_SIZE", "DEFAULT_PULLS", "MAX_BLOCKS", "block_numbers", "blocks_of", "key_of", "mirrored"]

DEFAULT_BLOCK_SIZE = (32, 512, 512)
"""Voxels along z, y, x; whole cuboids of BOSS (16 x 512 x 512), so that none is fetched twice."""

DEFAULT_PULLS = 8
"""Tiles that are pulled at the same time: waiting for an answer needs no core."""

MAX_BLOCKS = 10**6
"""Blocks of a run: each is some files on disk, some kilobytes in memory, and a line in the log."""


def blocks_of(box: Box, block_size: Sequence[int]) -> list[Box]:
    """Cut a box into blocks, which tile it, at multiples of their size from voxel 0."""
    count = box.tile_count(block_size, aligned=True)
    if count > MAX_BLOCKS:
        size = [min(n, extent) for n, extent in zip(block_size, box.shape, strict=True)]
        while box.tile_count(size, aligned=True) > MAX_BLOCKS:
            # larger blocks help most along the axis with most of them
            axis = max(range(3), key=lambda axis: box.shape[axis] / size[axis])
            size[axis] = min(2 * size[axis], box.shape[axis])
        raise UsageError(
            f"blocks of {' x '.join(map(str, block_size))} voxels (z, y, x) in {box}",
            f"they are {count:,}, a run has {MAX_BLOCKS:,} at most",
            f"Give --block-size {','.join(map(str, size))}",
        )
    return list(box.tiles(block_size, aligned=True))


def key_of(box: Box) -> str:
    """Return the name of a block, ``<z>_<y>_<x>`` of its start."""
    return "_".join(str(start) for start in box.start)


def block_numbers(points: NDArray[np.int64], volume: Box, size: Sequence[int]) -> NDArray[np.int64]:
    """Return the numbers, in C order, of the blocks of a volume in which voxels (3, n) lie: int64 (n,)."""
    numbers = np.zeros(points.shape[1], np.int64)
    for places, n, (start, stop) in zip(points, size, volume.ranges, strict=True):
        numbers = numbers * (-(-stop // n) - start // n) + (places // n - start // n)
    return numbers


def mirrored(volume: Volume, box: Box, halo: Sequence[int]) -> NDArray[Any]:
    """Read a box (in indices of `volume`) with a complete halo (z, y, x), shape (z, y, x); read-only.

    Beyond a border the volume is repeated mirrored, its border voxel twice (``c b a | a b c``), as often as needed.
    """
    inside = [
        (max(0, start - margin), min(length, stop + margin))
        for (start, stop), margin, length in zip(box.ranges, halo, volume.shape, strict=True)
    ]
    extents = [stop - start + 2 * margin for (start, stop), margin in zip(box.ranges, halo, strict=True)]
    voxels: NDArray[Any] = np.empty(extents, volume.dtype)
    # where the voxels of the volume go; all else is a mirror image of planes among them
    windows = [
        slice(low - start + margin, high - start + margin)
        for (low, high), start, margin in zip(inside, box.start, halo, strict=True)
    ]
    voxels[windows[0], windows[1], windows[2]] = volume[slice(*inside[0]), slice(*inside[1]), slice(*inside[2])]
    for axis, (window, length) in enumerate(zip(windows, volume.shape, strict=True)):
        planes = (slice(None),) * axis
        offset = box.start[axis] - halo[axis]
        for place in [*range(window.start), *range(window.stop, extents[axis])]:
            reflected = (place + offset) % (2 * length)
            source = min(reflected, 2 * length - 1 - reflected) - offset
            voxels[*planes, place] = voxels[*planes, source]
    voxels.flags.writeable = False
    return voxels
