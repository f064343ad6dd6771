"""Writes shards of neuroglancer's precomputed formats: many small things, by their numbers, in one file.

The format is https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Create", "Entries", "interleaved", "sharding", "write_shard"]

Create = Callable[[str], AbstractContextManager[BinaryIO]]
"""Gives a file to write, by its path below the folder of what is written."""

Entries = Iterator[tuple[list[int], list[int], bytes]]
"""Keys, ascending, the number of bytes of each, and all of these bytes."""


def interleaved(axes: Sequence[NDArray[np.uint64]], bits: Sequence[int]) -> NDArray[np.uint64]:
    """Return the bits of places along x, y, z in turn, as many as each needs: uint64 (n,)."""
    keys = np.zeros(len(axes[0]), np.uint64)
    place = 0
    for bit in range(max(bits)):
        for axis, needed in zip(axes, bits, strict=True):
            if bit < needed:
                keys |= (axis >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)
                place += 1
    return keys


def sharding(preshift: int, bits: int, shard_bits: int = 0, encoding: str = "raw") -> dict[str, Any]:
    """Describe 2**shard_bits shards with 2**bits indices each."""
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "hash": "identity",
        "preshift_bits": preshift,
        "minishard_bits": bits,
        "shard_bits": shard_bits,
        "minishard_index_encoding": "raw",
        "data_encoding": encoding,
    }


def write_shard(file: BinaryIO, bits: int, parts: Iterable[tuple[int, Entries]]) -> None:
    """Write a shard: where its 2**bits indices lie, then for each index what is in it, and the index itself."""
    places = np.zeros((2**bits, 2), "<u8")
    file.write(places.tobytes())
    end = 0
    for number, entries in parts:
        first, keys, sizes = end, list[int](), list[int]()
        for some_keys, some_sizes, body in entries:
            file.write(body)
            keys += some_keys
            sizes += some_sizes
            end += len(body)
        index = np.zeros((3, len(keys)), "<u8")
        if keys:
            index[0] = np.diff(keys, prepend=0)
            index[1, 0] = first
            index[2] = sizes
        file.write(index.tobytes())
        places[number] = end, end + index.nbytes
        end += index.nbytes
    file.seek(0)
    file.write(places.tobytes())
