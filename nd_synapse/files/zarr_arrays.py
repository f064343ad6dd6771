"""Zarr arrays in folders, read in the memory that their chunks need.

It decodes nothing itself (zarr and numcodecs do), and does not know what an array shows. What it sees to is that no
file in the folder is larger than it has reason to be, no chunk larger than its array, and that the bytes of a chunk
are looked at before each codec that would unpack them.
"""

from __future__ import annotations

import math
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from nd_synapse.errors import DataError
from nd_synapse.files.unpacking import DEFLATE_RATIO, bzip2_bytes, deflate_bytes, lzma_bytes, zstd_bytes

__all__ = ["checked_array", "open_folder"]

_METADATA_BYTES = 2**24
"""Largest file that says what an array or a group is."""

_CHUNK_BYTES = 2**30
"""Largest chunk, or shard: one of them must fit into memory, packed and unpacked."""

_PADDING_BYTES = 2**26
"""What a chunk may have beyond its array: small arrays are saved in large chunks, too."""

_MOST_CHUNKS = 2**18
"""Chunks that may be read at a time: the library holds some thousand bytes for each."""

_SPARE_BYTES = 2**16
_REMEDY = "Save it with other chunks, packed with blosc, zstd or gzip"

_EITHER_WINDOW = 47
"""Zlib's format or gzip's."""

# what adds a checksum, or puts the same numbers otherwise
_PLAIN = {"crc32c", "crc32", "adler32", "fletcher32", "shuffle", "delta", "bitround", "quantize", "fixedscaleoffset"}


class _Store(LocalStore):
    """A folder of which no file is read that is larger than it may be."""

    most_bytes = _METADATA_BYTES

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file."""
        try:
            found = (self.root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size > self.most_bytes:
            what = f"it has {found.st_size:,} bytes, more than {self.most_bytes:,}"
            raise DataError(str(self.root / key), what if stat.S_ISREG(found.st_mode) else "it is no file", _REMEDY)
        return await super().get(key, prototype, byte_range)


def open_folder(path: Path) -> Any:
    """Open a Zarr array or group of format 2 or 3."""
    return zarr.open(_Store(path, read_only=True), mode="r")


def checked_array(array: Any, name: str, region: tuple[int, ...]) -> Any:
    """Refuse an array whose chunks are larger than they have reason to be; have the others unpacked with care."""
    metadata, itemsize = array.metadata, array.dtype.itemsize
    if "pickle" in str(metadata.to_dict()):
        # decoding such a chunk runs whatever its writer put there
        raise DataError(name, "its chunks are pickles, which may run code", "Save it with another codec")
    outer = array.shards or array.chunks
    size = math.prod(outer) * itemsize
    used = math.prod(min(n, extent) for n, extent in zip(outer, array.shape, strict=True)) * itemsize
    if size > _CHUNK_BYTES or size > 2 * used + _PADDING_BYTES:
        found = f"its chunks of {outer} have {size:,} bytes, of which the array has {used:,}"
        raise DataError(name, found, "Save it in smaller chunks")
    at_a_time = math.prod(-(-extent // n) for extent, n in zip(region, array.chunks, strict=True))
    if max(at_a_time, math.prod(-(-n // m) for n, m in zip(outer, array.chunks, strict=True))) > _MOST_CHUNKS:
        raise DataError(name, f"its chunks of {array.chunks} are too many to be read", "Save it in larger chunks")
    array.store_path.store.most_bytes = 2 * size + _SPARE_BYTES + 16 * _MOST_CHUNKS * bool(array.shards)
    if metadata.zarr_format == 2:
        filters = [f.codec_id for f in metadata.filters or () if f.codec_id not in _PLAIN]
        if filters:
            raise DataError(name, f"its chunks are filtered by {', '.join(filters)}", _REMEDY)
        packer = metadata.compressor
        metadata = replace(metadata, compressor=None if packer is None else _Watched(packer, size, name))
    else:
        metadata = replace(metadata, codecs=_watched(metadata.codecs, name))
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path))


def _watched(codecs: Any, name: str) -> tuple[Any, ...]:
    """Return codecs of format 3, those that unpack behind a check."""
    kept: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            if not all(isinstance(one, BytesCodec | Crc32cCodec) for one in codec.index_codecs):
                raise DataError(name, "the index of its shards is packed", _REMEDY)
            kept.append(replace(codec, codecs=_watched(codec.codecs, name)))
        elif isinstance(codec, BytesCodec | Crc32cCodec | TransposeCodec):
            kept.append(codec)
        elif isinstance(codec, BytesBytesCodec):
            kept.append(_WatchedCodec(codec, _name_of(codec), name))
        else:
            raise DataError(name, f"its chunks are packed by {_name_of(codec)}", _REMEDY)
    return tuple(kept)


def _name_of(codec: Any) -> str:
    return str(codec.to_dict().get("name", type(codec).__name__)).removeprefix("numcodecs.")


@dataclass(frozen=True)
class _WatchedCodec(BytesBytesCodec):
    """A codec of format 3 that is asked to unpack only what a chunk can have."""

    codec: Any
    kind: str
    array: str

    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        size = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        _check(self.kind, chunk_bytes.to_bytes(), size, self.array)
        unpacked: Buffer = await self.codec._decode_single(chunk_bytes, chunk_spec)
        return unpacked

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> Never:
        """Refuse to write."""
        raise NotImplementedError


class _Watched:
    """The same of format 2."""

    codec_id = "watched"

    def __init__(self, codec: Any, size: int, array: str) -> None:
        self._codec, self._size, self._array = codec, size, array

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Unpack a chunk."""
        _check(self._codec.codec_id, np.ascontiguousarray(buf).tobytes(), self._size, self._array)
        return self._codec.decode(buf, out)

    def encode(self, buf: Any) -> Never:
        """Refuse to write."""
        raise NotImplementedError

    def get_config(self) -> Any:
        """Return what the codec was made with."""
        return self._codec.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Never:
        """Refuse to be made from a file."""
        raise NotImplementedError


def _check(kind: str, packed: bytes, size: int, name: str) -> None:
    """Raise DataError if what was packed is more than a chunk can have; what packs may make a little more of it."""
    most = size + size // 8 + _SPARE_BYTES
    if kind in _PLAIN:
        return
    if kind in ("gzip", "zlib"):
        is_short = len(packed) * DEFLATE_RATIO <= most
        found = 0 if is_short else deflate_bytes([packed], most, _EITHER_WINDOW)
    elif kind == "zstd":
        found, is_told = zstd_bytes(packed)
        # blocks may have been ended early
        most = most if is_told else 4 * most + 2**20
    elif kind in ("blosc", "lz4"):
        # both begin with the number, Blosc after versions and flags
        found = struct.unpack_from("<4xI" if kind == "blosc" else "<I", packed)[0]
    elif kind == "bz2":
        found = bzip2_bytes([packed], most)
    elif kind == "lzma":
        found = lzma_bytes([packed], most)
    else:
        raise DataError(name, f"how much its chunks, packed by {kind}, unpack to cannot be told before", _REMEDY)
    if found > most:
        raise DataError(name, f"a chunk of {len(packed):,} bytes unpacks to more than its {size:,}", _REMEDY)
