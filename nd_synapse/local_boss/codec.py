"""Voxels as they are sent: Blosc buffers of C-ordered arrays."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import blosc
import numpy as np
from numpy.typing import NDArray

from nd_synapse.local_boss.responses import BossError, Code

__all__ = ["HEADER_BYTES", "LARGEST_BUFFER_BYTES", "BloscHeader", "pack", "parse_header", "unpack"]

HEADER_BYTES = 16
LARGEST_BUFFER_BYTES = int(blosc.MAX_BUFFERSIZE)
FORMAT_VERSION = 2
CODECS = 5  # blosclz, lz4, snappy, zlib, zstd
STORED_FLAG = 0x2

# Without this a cutout in one thread stops all others, the event loop among them.
blosc.set_releasegil(True)


@dataclass(frozen=True, slots=True)
class BloscHeader:
    """What the first 16 bytes of a Blosc buffer say: sizes in bytes, unpacked and packed."""

    unpacked_bytes: int
    packed_bytes: int


def parse_header(start: bytes) -> BloscHeader:
    """Read the header of a Blosc buffer, without unpacking anything."""
    if len(start) < HEADER_BYTES:
        raise _not_blosc("it is shorter than a header")
    version, _, flags, item_bytes, unpacked, block, packed = struct.unpack_from("<4B3I", start)
    if version != FORMAT_VERSION or flags >> 5 >= CODECS or item_bytes == 0:
        raise _not_blosc("the header is not one of Blosc 1")
    stored = bool(flags & STORED_FLAG)
    # an empty buffer announces blocks of one byte
    if (
        block > max(unpacked, 1)
        or (unpacked > 0 and block == 0)
        or not HEADER_BYTES <= packed <= unpacked + HEADER_BYTES
    ):
        raise _not_blosc("the sizes in the header contradict each other")
    if stored and packed != unpacked + HEADER_BYTES:
        raise _not_blosc("the sizes in the header contradict each other")
    return BloscHeader(unpacked, packed)


def pack(voxels: NDArray[Any]) -> bytes:
    """Return an array as a Blosc buffer of its C-ordered bytes."""
    voxels = np.ascontiguousarray(voxels)
    packed: bytes = blosc.compress(voxels, typesize=voxels.itemsize, clevel=1, shuffle=blosc.SHUFFLE, cname="zstd")
    return packed


def unpack(body: bytes, shape: tuple[int, ...], datatype: str) -> NDArray[Any]:
    """Return the array in a Blosc buffer."""
    header = parse_header(body)
    expected = int(np.prod(shape, dtype=object)) * np.dtype(datatype).itemsize
    if header.unpacked_bytes != expected:
        found = f"it holds {header.unpacked_bytes} bytes, {datatype} of shape {shape} takes {expected}"
        message = f"Failed to unpack data. Verify the datatype and the shape: {found}."
        raise BossError(400, Code.DATA_DIMENSION_MISMATCH, message)
    if header.packed_bytes != len(body):
        raise _not_blosc(f"it is {len(body)} bytes long and announces {header.packed_bytes}")
    try:
        unpacked = blosc.decompress(body)
    except blosc.blosc_extension.error as error:
        raise _not_blosc("its blocks are damaged") from error
    return np.frombuffer(unpacked, datatype).reshape(shape)


def _not_blosc(found: str) -> BossError:
    message = f"Failed to decompress data. Verify that it is a Blosc buffer: {found}."
    return BossError(400, Code.DATATYPE_DOES_NOT_MATCH, message)
