"""Labels packed block by block: ``compressed_segmentation``, as Neuroglancer specifies.

https://github.com/google/neuroglancer/blob/master/src/sliceview/compressed_segmentation/README.md
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["unpacked"]


def unpacked(
    body: bytes, shape: tuple[int, int, int, int], dtype: np.dtype[Any], block: tuple[int, int, int]
) -> NDArray[Any]:
    """Return labels (channel, z, y, x) of uint32 or uint64; ValueError or IndexError where they are damaged."""
    words = np.frombuffer(body, "<u4")
    if dtype.name not in ("uint32", "uint64"):
        raise ValueError(f"{dtype.name} cannot be packed so")
    labels = np.zeros(shape, dtype)
    for channel, voxels in enumerate(labels):
        _fill(voxels, words[int(words[channel]) :], dtype, block)
    return labels


def _fill(voxels: NDArray[Any], words: NDArray[np.uint32], dtype: np.dtype[Any], block: tuple[int, int, int]) -> None:
    """Write the blocks of one channel; a block has a table of its labels, and a number in it a voxel."""
    grid = [range(-(-n // size)) for n, size in zip(voxels.shape, block, strict=True)]
    inside = np.arange(block[0] * block[1] * block[2])
    for number, place in enumerate(product(*grid)):
        head = int(words[2 * number])
        table, bits, values = head & 0xFFFFFF, head >> 24, int(words[2 * number + 1])
        entries = np.full_like(inside, table)
        if bits:
            first = inside * bits
            numbers = (words[values + first // 32] >> (first % 32).astype(np.uint32)) & np.uint32((1 << bits) - 1)
            entries += numbers.astype(np.int64) * (dtype.itemsize // 4)
        found = words[entries].astype(dtype)
        if dtype.itemsize == 8:
            found |= words[entries + 1].astype(dtype) << dtype.type(32)
        part = voxels[tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, block, strict=True))]
        part[...] = found.reshape(block)[tuple(map(slice, part.shape))]
