"""Parts of a block: slabs that fit a core's cache, halos, and memory that is used again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.pipeline.contract import Place

__all__ = ["Scratch", "grown", "inside", "slabs", "trimmed", "with_halo"]

_SECTIONS, _ROWS = 8, 40
"""A slab: small enough for the steps in between to stay in a core's cache, large enough for two threads not to wait for
each other after every step."""

_FEWEST_ROWS = 16
_VOXELS = 8 * 40 * 1344


class Scratch:
    """Memory that is used again: fresh arrays for every step cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._pool: dict[str, NDArray[np.uint8]] = {}
        self._taken: dict[tuple[str, tuple[int, ...], Any], NDArray[Any]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return memory of a shape and type."""
        memory = self._taken.get((name, shape, dtype))
        if memory is None:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            if name not in self._pool or self._pool[name].size < size:
                self._pool[name] = np.empty(size, np.uint8)
                self._taken.clear()
            memory = self._taken[name, shape, dtype] = np.ndarray(shape, dtype, self._pool[name].data)
        return memory


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut a block into slabs for the cache."""
    # of a wide block fewer rows, as far as their halo stays a small part
    rows = max(_FEWEST_ROWS, min(_ROWS, _VOXELS // (_SECTIONS * shape[2])))
    for z in range(0, shape[0], _SECTIONS):
        for y in range(0, shape[1], rows):
            yield slice(z, min(z + _SECTIONS, shape[0])), slice(y, min(y + rows, shape[1]))


def inside(place: Place, margin: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the part of a block with a margin that lies in the volume."""
    z, y, x = (
        slice(max(0, m - start), min(n + 2 * m, length - start + m))
        for start, n, length, m in zip(place.start, place.shape, place.volume, margin, strict=True)
    )
    return z, y, x


def grown(window: tuple[slice, slice, slice], halo: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the same window in an array that has a halo around it."""
    z, y, x = (slice(part.start, part.stop + 2 * h) for part, h in zip(window, halo, strict=True))
    return z, y, x


def trimmed(voxels: NDArray[Any], margin: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of a block (z, y, x) without its margin."""
    return voxels[tuple(slice(m, n - m) for m, n in zip(margin, voxels.shape, strict=True))]


def with_halo(voxels: NDArray[Any], z: slice, y: slice, halo: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of a slab, counted without the halo, with its halo, from a block (z, y, x) with one."""
    return voxels[z.start : z.stop + 2 * halo[0], y.start : y.stop + 2 * halo[1]]
