"""Arrays as bytes, compressed, and fingerprints of them."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

import blosc
import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError

Buffer = TypeVar("Buffer", bytes, memoryview)

__all__ = ["PARSING", "digest", "pack", "sealed", "unpack", "unpacked_bytes", "unsealed"]

_HEADER = struct.Struct("<4xIII")
"""Bytes when unpacked, bytes of a piece, and bytes as it is: what Blosc says after versions and flags."""

PARSING = threading.Lock()
"""Held where NumPy reads the header of an array: it parses Python, which Python 3.11 can fail at in several threads."""

_START = struct.Struct("<Q")
"""Bytes of what follows it: names, types and shapes of the packed arrays."""
_ALIGNED = 64
"""Arrays begin at multiples of so many bytes."""

_SEAL_BYTES = 16
_HEADERS = 2**20
"""Room for the headers and names of packed arrays."""


def sealed(body: bytes, name: str) -> bytes:
    """Return the contents of a file with its check sum behind them, in which the file's name counts."""
    return body + _seal(body, name)


def unsealed(file: Buffer, name: str) -> Buffer:
    """Return what `sealed` was given, of a view without a copy; raise ValueError for damage, or another file."""
    body = file[:-_SEAL_BYTES]
    if file[-_SEAL_BYTES:] != _seal(body, name):
        raise ValueError("its check sum is wrong, or that of another file")
    return body


def _seal(body: bytes | memoryview, name: str) -> bytes:
    digest = hashlib.blake2b(f"{name}\0".encode(), digest_size=_SEAL_BYTES)
    digest.update(body)
    return digest.digest()


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return some arrays as bytes."""
    nbytes = sum(array.nbytes for array in arrays.values())
    if nbytes > blosc.MAX_BUFFERSIZE - _HEADERS:
        found = f"they take {nbytes:,} bytes, more than {blosc.MAX_BUFFERSIZE - _HEADERS:,}"
        raise DataError("the arrays of a block", found, "Give a smaller --block-size")
    header = json.dumps([(name, array.dtype.str, array.shape) for name, array in arrays.items()]).encode()
    # blanks end it: JSON allows them
    pieces: list[Any] = [_START.pack(len(header) + _gap(_START.size + len(header))), header]
    pieces.append(b" " * _gap(_START.size + len(header)))
    for array in arrays.values():
        pieces += [array.ravel().view(np.uint8).data, b"\0" * _gap(array.nbytes)]
    body: bytes = blosc.compress(b"".join(pieces), typesize=4, clevel=1, shuffle=blosc.SHUFFLE, cname="lz4")
    return body


def unpack(body: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """Return the arrays of `pack`; raise ValueError for damaged bytes."""
    try:
        unpacked = blosc.decompress(body)
        (length,) = _START.unpack_from(unpacked)
        at, arrays = _START.size + length, {}
        for name, kind, shape in json.loads(unpacked[_START.size : at]):
            array = np.empty(shape, kind)
            # a copy, which can be written to as what was packed
            array.ravel().view(np.uint8)[:] = np.frombuffer(unpacked, np.uint8, array.nbytes, at)
            arrays[name] = array
            at += array.nbytes + _gap(array.nbytes)
    except Exception as error:  # blosc, json and numpy raise a dozen different ones
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return arrays


def _gap(size: int) -> int:
    """Return how many bytes follow so many up to the next array."""
    return -size % _ALIGNED


def unpacked_bytes(body: bytes | memoryview) -> int | None:
    """Return what packed arrays unpack to; None if their length is wrong."""
    unpacked, _, size = _HEADER.unpack_from(body) if len(body) >= _HEADER.size else (0, 0, -1)
    return unpacked if size == len(body) else None


def digest(*arrays: NDArray[Any]) -> str:
    """Return a fingerprint of the contents of some arrays, in hexadecimal digits; shapes do not count.

    It recognises what has changed, and is no protection against forgery.
    """
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
