"""Chunks of precomputed volumes that lie many in a file: ``neuroglancer_uint64_sharded_v1``, as Neuroglancer specifies.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.files.chunked import Objects

__all__ = ["Shards"]

_INDICES = 256
"""Indices that are kept."""

_M32 = 2**32 - 1


class Shards:
    """The shards of one scale."""

    def __init__(self, objects: Objects, folder: str, said: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        if said.get("@type") != "neuroglancer_uint64_sharded_v1":
            raise ValueError(f"its sharding is {said.get('@type')}")
        self._objects, self._folder, self._grid = objects, folder, grid
        self._preshift, self._minishard_bits, self._shard_bits = (
            int(said[name]) for name in ("preshift_bits", "minishard_bits", "shard_bits")
        )
        self._hash = _HASHES[said["hash"]]
        self._unpack_index = _PACKINGS[said.get("minishard_index_encoding", "raw")]
        self._unpack = _PACKINGS[said.get("data_encoding", "raw")]
        self._minishard = lru_cache(_INDICES)(self._read_minishard)

    def read(self, place: tuple[int, int, int]) -> bytes | None:
        """Return the chunk at a place (z, y, x) of the grid; None if it is not there."""
        key = _morton(place, self._grid)
        hashed = self._hash(key >> self._preshift)
        minishard = hashed & ((1 << self._minishard_bits) - 1)
        shard = (hashed >> self._minishard_bits) & ((1 << self._shard_bits) - 1)
        name = f"{self._folder}/{shard:0{-(-self._shard_bits // 4)}x}.shard"
        index = self._minishard(name, minishard)
        at = np.flatnonzero(index[0] == key)
        if not at.size:
            return None
        start, size = (int(index[row, at[0]]) for row in (1, 2))
        return self._unpack(self._part(name, start, size))

    def _read_minishard(self, name: str, minishard: int) -> NDArray[np.uint64]:
        """Return number, start in the file, and bytes of each chunk of a minishard: (3, chunks)."""
        head = 16 << self._minishard_bits
        ends = self._objects.read(name, f"bytes={16 * minishard}-{16 * minishard + 15}")
        if ends is None:
            return np.zeros((3, 0), np.uint64)
        start, stop = (int(n) for n in np.frombuffer(ends, "<u8"))
        if start == stop:
            return np.zeros((3, 0), np.uint64)
        packed = self._unpack_index(self._part(name, head + start, stop - start))
        index = np.frombuffer(packed, "<u8").reshape(3, -1).astype(np.uint64)
        index[0] = np.cumsum(index[0])
        # each starts so many bytes after the end of the one before
        index[1] = head + np.cumsum(index[1]) + np.cumsum(index[2]) - index[2]
        return index

    def _part(self, name: str, start: int, size: int) -> bytes:
        body = self._objects.read(name, f"bytes={start}-{start + size - 1}") if size else b""
        if body is None or len(body) != size:
            raise ValueError(f"{name} ends before byte {start + size}")
        return body


def _morton(place: tuple[int, int, int], grid: tuple[int, int, int]) -> int:
    """Return the number of a chunk: the bits of x, y, z by turns, of each as many as its axis of the grid needs."""
    number = bit = 0
    bits = [(n - 1).bit_length() for n in grid]
    for level in range(max(bits)):
        for axis in (2, 1, 0):
            if level < bits[axis]:
                number |= (place[axis] >> level & 1) << bit
                bit += 1
    return number


def _murmur(key: int) -> int:
    """Return the lower half of MurmurHash3_x86_128 (Appleby, 2011) of eight bytes with the seed 0."""

    def mixed(word: int, first: int, turn: int, second: int) -> int:
        word = word * first & _M32
        return ((word << turn | word >> 32 - turn) & _M32) * second & _M32

    def final(word: int) -> int:
        word = (word ^ word >> 16) * 0x85EBCA6B & _M32
        word = (word ^ word >> 13) * 0xC2B2AE35 & _M32
        return word ^ word >> 16

    def added(h1: int, h2: int, h3: int, h4: int) -> list[int]:
        h1 = h1 + h2 + h3 + h4 & _M32
        return [h1, *(h + h1 & _M32 for h in (h2, h3, h4))]

    low = mixed(key & _M32, 0x239B961B, 15, 0xAB0E9789)
    high = mixed(key >> 32, 0xAB0E9789, 16, 0x38B34AE5)
    # 8 is the number of bytes
    h1, h2, _, _ = added(*map(final, added(low ^ 8, high ^ 8, 8, 8)))
    return h1 | h2 << 32


_HASHES: dict[str, Callable[[int], int]] = {"identity": int, "murmurhash3_x86_128": _murmur}
_PACKINGS: dict[str, Callable[[bytes], bytes]] = {"raw": bytes, "gzip": gzip.decompress}
