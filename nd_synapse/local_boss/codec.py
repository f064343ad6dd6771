"""Voxels as they are sent: Blosc buffers of C-ordered arrays."""

from __future__ import annotations

import struct
from typing import Any

import blosc
import numpy as np
from numpy.typing import NDArray

from nd_synapse.local_boss.responses import BossError, Code

__all__ = ["LARGEST_BUFFER_BYTES", "pack", "unpack"]

LARGEST_BUFFER_BYTES = int(blosc.MAX_BUFFERSIZE)
_HEADER = struct.Struct("<2xBxI4xI")
"""Flags, bytes when unpacked, and bytes of the buffer."""

_STORED = 0x2
"""Flag of a buffer that holds its bytes as they are."""

# Without this a cutout in one thread stops all others, the event loop among them.
blosc.set_releasegil(True)


def pack(voxels: NDArray[Any]) -> bytes:
    """Return an array as a Blosc buffer of its C-ordered bytes."""
    voxels = np.ascontiguousarray(voxels)
    packed: bytes = blosc.compress(voxels, typesize=voxels.itemsize, clevel=1, shuffle=blosc.SHUFFLE, cname="zstd")
    return packed


def unpack(body: bytes, shape: tuple[int, ...], datatype: str) -> NDArray[Any]:
    """Return the array in a Blosc buffer."""
    if len(body) < _HEADER.size:
        raise _not_blosc("it is shorter than a header")
    flags, unpacked_bytes, packed_bytes = _HEADER.unpack_from(body)
    if packed_bytes != len(body) or (flags & _STORED and packed_bytes != unpacked_bytes + _HEADER.size):
        raise _not_blosc(f"it is {len(body)} bytes long, which its header contradicts")
    expected = int(np.prod(shape, dtype=object)) * np.dtype(datatype).itemsize
    if unpacked_bytes != expected:
        found = f"it holds {unpacked_bytes} bytes, {datatype} of shape {shape} takes {expected}"
        message = f"Failed to unpack data. Verify the datatype and the shape: {found}."
        raise BossError(400, Code.DATA_DIMENSION_MISMATCH, message)
    try:
        unpacked = blosc.decompress(body)
    except blosc.blosc_extension.error as error:
        raise _not_blosc("its blocks are damaged") from error
    return np.frombuffer(unpacked, datatype).reshape(shape)


def _not_blosc(found: str) -> BossError:
    message = f"Failed to decompress data. Verify that it is a Blosc buffer: {found}."
    return BossError(400, Code.DATATYPE_DOES_NOT_MATCH, message)
