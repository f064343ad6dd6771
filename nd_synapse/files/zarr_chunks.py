"""Chunks of a Zarr array, read and unpacked without zarr where one codec packs them: in less time and memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.codecs.sharding import ShardingCodecIndexLocation
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import LocalStore

from nd_synapse.files.chunked import Chunked, Folder, Objects
from nd_synapse.files.reading import reading

__all__ = ["chunked"]

_Unpack = Callable[[bytes], Any]

_SHARDS = 64
"""Indices of shards that are kept."""
_ABSENT = 2**64 - 1


def chunked(name: str, array: zarr.Array[Any]) -> Chunked | None:
    """Return an array whose chunks are read here; None for one that zarr has to read. `name` is for messages."""
    objects, metadata = _objects(array), array.metadata
    if objects is None or not array.ndim or min(array.shape) < 1 or metadata.fill_value not in (0, None):
        return None
    below = f"{array.path}/" if array.path else ""

    def read(place: tuple[int, ...]) -> bytes | None:
        return objects.read(below + metadata.encode_chunk_key(place))

    stored, read_chunk = array.dtype, read
    if isinstance(metadata, ArrayV2Metadata):
        stored = np.dtype(metadata.dtype.to_native_dtype())
        unpack = _of_compressor(metadata.compressor) if metadata.order == "C" and not metadata.filters else None
    elif (shards := _Shards.of(objects, below, array)) is not None:
        unpack, read_chunk = _of_codecs(shards.codecs), shards.read
    else:
        unpack = _of_codecs(metadata.codecs)
    if unpack is None or stored.kind not in "bui":
        return None
    known: _Unpack = unpack
    chunk = array.chunks

    def fetch(place: tuple[int, ...]) -> NDArray[Any] | None:
        with reading(f"chunk {place} of {name}"):
            body = read_chunk(place)
            return None if body is None else np.frombuffer(known(body), stored).reshape(chunk)

    return Chunked(array.shape, stored.newbyteorder("="), chunk, fetch)


def _objects(array: zarr.Array[Any]) -> Objects | None:
    store = array.store_path.store
    return Folder(store.root) if isinstance(store, LocalStore) else getattr(store, "objects", None)


def _of_compressor(compressor: Any) -> _Unpack | None:
    """Return what unpacks a chunk of Zarr 2."""
    return bytes if compressor is None else getattr(compressor, "decode", None)


def _of_codecs(codecs: Sequence[Any]) -> _Unpack | None:
    """Return what unpacks a chunk of Zarr 3."""
    first, *others = codecs
    if not isinstance(first, BytesCodec) or getattr(first.endian, "value", first.endian) == "big" or len(others) > 1:
        return None
    for codec in others:
        known = {ZstdCodec: Zstd().decode, BloscCodec: Blosc().decode, GzipCodec: _gunzip}
        return known.get(type(codec))
    return bytes


def _gunzip(body: bytes) -> bytes:
    return zlib.decompress(body, 16 + zlib.MAX_WBITS)


class _Shards:
    """Inner chunks of Zarr 3, many of which lie in an object with an index at its end."""

    def __init__(self, objects: Objects, below: str, array: zarr.Array[Any], codecs: Sequence[Any]) -> None:
        assert array.shards is not None
        self.codecs = codecs
        self._objects, self._below, self._encode = objects, below, array.metadata.encode_chunk_key
        self._in_shard = tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True))
        self._index = lru_cache(_SHARDS)(self._read_index)

    @classmethod
    def of(cls, objects: Objects, below: str, array: Any) -> _Shards | None:
        """Return the shards of an array, None if it has none, or has others."""
        codecs = array.metadata.codecs
        if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
            return None
        codec = codecs[0]
        plain = [type(each) for each in codec.index_codecs] == [BytesCodec, Crc32cCodec]
        at_end = codec.index_location is ShardingCodecIndexLocation.end
        return cls(objects, below, array, codec.codecs) if plain and at_end else None

    def read(self, place: tuple[int, ...]) -> bytes | None:
        """Return an inner chunk by its place in the grid of inner chunks."""
        pairs = list(zip(place, self._in_shard, strict=True))
        key = self._below + self._encode(tuple(at // n for at, n in pairs))
        index = self._index(key)
        if index is None:
            return None
        start, size = (int(n) for n in index[tuple(at % n for at, n in pairs)])
        if start == _ABSENT:
            return None
        body = self._objects.read(key, f"bytes={start}-{start + size - 1}")
        if body is None or len(body) != size:
            raise ValueError(f"{key} ends before byte {start + size}")
        return body

    def _read_index(self, key: str) -> NDArray[np.uint64] | None:
        """Return start and bytes of each inner chunk, shape (*chunks in a shard, 2); None without the shard."""
        count = int(np.prod(self._in_shard))
        body = self._objects.read(key, f"bytes=-{16 * count + 4}")
        if body is None:
            return None
        index, check = body[:-4], int.from_bytes(body[-4:], "little")
        if len(index) != 16 * count or google_crc32c.value(index) != check:
            raise ValueError(f"the index of {key} is damaged")
        return np.frombuffer(index, "<u8").reshape(*self._in_shard, 2)
