"""A segmentation in neuroglancer's precomputed format, sharded: the levels of a label image, copied chunk by chunk.

The format is https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from nd_synapse.files.multiscale import CHUNK, Pyramid
from nd_synapse.files.sharded import Create, Entries, interleaved, sharding, write_shard
from nd_synapse.geometry import Box

__all__ = ["write_segmentation"]

_Chunk = tuple[int, tuple[int, int, int]]
"""Number of a chunk, and its place (z, y, x) in the grid."""

_SHARED_BITS = 6
"""Bits of the number of a chunk that share one file: it has 64 chunks."""


def write_segmentation(create: Create, levels: Sequence[Any], pyramid: Pyramid) -> None:
    """Write the levels of a label image (arrays z, y, x, uint32 or uint64); one chunk is in memory at a time."""
    scales = []
    for array, box, factors in zip(levels, pyramid.boxes(), pyramid.factors(), strict=True):
        resolution = [n * size for n, size in zip(factors, pyramid.voxel_size_nm, strict=True)][::-1]
        key = "_".join(f"{size:g}" for size in resolution)
        grid = [-(-extent // n) for extent, n in zip(box.shape, CHUNK, strict=True)][::-1]
        bits = [(n - 1).bit_length() for n in grid]
        shared = min(sum(bits), _SHARED_BITS)
        shard_bits = sum(bits) - shared
        scales.append(
            {
                "key": key,
                "size": box.shape[::-1],
                "voxel_offset": box.start[::-1],
                "resolution": resolution,
                "chunk_sizes": [CHUNK[::-1]],
                "encoding": "raw",
                "sharding": sharding(shared, 0, shard_bits, "gzip"),
            }
        )
        digits = max(1, -(-shard_bits // 4))
        for number, chunks in _files(grid, bits, shared):
            with create(f"{key}/{number:0{digits}x}.shard") as file:
                write_shard(file, 0, [(0, _entries(array, chunks))])
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation",
        "data_type": levels[0].dtype.name,
        "num_channels": 1,
        "scales": scales,
    }
    with create("info") as file:
        file.write(json.dumps(info, indent=1).encode())


def _files(grid: Sequence[int], bits: Sequence[int], shared: int) -> Iterator[tuple[int, Iterator[_Chunk]]]:
    """Yield the number of every file and its chunks, in order, for a grid of chunks (x, y, z)."""
    x, y, z = (axis.ravel() for axis in np.indices(grid, np.uint64))
    keys = interleaved([x, y, z], bits)
    order = np.argsort(keys)
    chunks = ((int(keys[i]), (int(z[i]), int(y[i]), int(x[i]))) for i in order)
    return groupby(chunks, lambda chunk: chunk[0] >> shared)


def _entries(array: Any, chunks: Iterator[_Chunk]) -> Entries:
    """Yield the chunks of a file; those of zeros as well, since readers take a missing one for an error."""
    whole = Box.of_shape(array.shape)
    for key, place in chunks:
        chunk = Box.of_shape(CHUNK, [i * n for i, n in zip(place, CHUNK, strict=True)]).intersection(whole)
        assert chunk is not None
        body = gzip.compress(np.ascontiguousarray(array[chunk.slices()]).tobytes(), 1, mtime=0)
        yield [key], [len(body)], body
