"""How many bytes packed bytes unpack to, counted without holding them.

It knows no file format: `tiff_pages` and `zarr_arrays` do.
"""

from __future__ import annotations

import lzma
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterable
from lzma import LZMADecompressor

__all__ = [
    "DEFLATE_RATIO",
    "PACKBITS_RATIO",
    "bzip2_bytes",
    "deflate_bytes",
    "lzma_bytes",
    "packbits_bytes",
    "zstd_bytes",
]

DEFLATE_RATIO = 1032
"""A byte of deflate becomes no more bytes than this."""

PACKBITS_RATIO = 64
"""Two bytes of PackBits become no more than 128."""

_PIECE_BYTES = 2**18
_ZSTD_FRAME, _ZSTD_SKIPPED = 0xFD2FB528, 0x184D2A50
_ZSTD_BLOCK_BYTES = 2**17
"""Largest block of zstd."""

_DICTIONARY_BYTES = 2**28
"""Memory that unpacking LZMA may take: its strongest preset takes 65 MiB."""


def deflate_bytes(packed: Iterable[bytes], most: int, window: int = zlib.MAX_WBITS) -> int:
    """Count what deflate unpacks to."""
    total, inflater = 0, zlib.decompressobj(window)
    for piece in packed:
        while piece and total <= most:
            total += len(inflater.decompress(piece, _PIECE_BYTES))
            piece = inflater.unconsumed_tail
            if inflater.eof:
                # gzip files may be one after the other
                piece, inflater = inflater.unused_data, zlib.decompressobj(window)
                if window <= zlib.MAX_WBITS:
                    return total
        if total > most:
            break
    return total


def _streamed(packed: Iterable[bytes], most: int, fresh: Callable[[], LZMADecompressor | BZ2Decompressor]) -> int:
    """Count what streams, one after the other, unpack to."""
    total, unpacker = 0, fresh()
    for piece in packed:
        while total <= most and (piece or not (unpacker.needs_input or unpacker.eof)):
            total += len(unpacker.decompress(piece, _PIECE_BYTES))
            piece = b""
            if unpacker.eof:
                piece, unpacker = unpacker.unused_data, fresh()
        if total > most:
            break
    return total


def lzma_bytes(packed: Iterable[bytes], most: int) -> int:
    """Count what LZMA, in the format of xz or its own, unpacks to."""
    return _streamed(packed, most, lambda: LZMADecompressor(lzma.FORMAT_AUTO, _DICTIONARY_BYTES))


def bzip2_bytes(packed: Iterable[bytes], most: int) -> int:
    """Count what bzip2 unpacks to."""
    return _streamed(packed, most, BZ2Decompressor)


def packbits_bytes(packed: Iterable[bytes], most: int) -> int:
    """Count what PackBits unpacks to."""
    total = skipped = 0
    for piece in packed:
        place = skipped
        while place < len(piece) and total <= most:
            length = piece[place]
            # below 128 so many bytes and one follow; above it, one that is repeated
            total += length + 1 if length < 128 else 257 - length if length > 128 else 0
            place += length + 2 if length < 128 else 2 if length > 128 else 1
        skipped = place - len(piece)
        if total > most:
            break
    return total


def zstd_bytes(packed: bytes) -> tuple[int, bool]:
    """Tell what zstd unpacks to, from the heads of its frames and blocks."""
    total, at, is_told = 0, 0, True
    while at < len(packed):
        magic = int.from_bytes(packed[at : at + 4], "little")
        if magic & 0xFFFFFFF0 == _ZSTD_SKIPPED:
            at += 8 + int.from_bytes(packed[at + 4 : at + 8], "little")
            continue
        if magic != _ZSTD_FRAME or at + 5 > len(packed):
            raise ValueError("it is no zstd, or cut short")
        flags = packed[at + 4]
        is_single = flags >> 5 & 1
        at += 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
        width = (is_single, 2, 4, 8)[flags >> 6]
        told = int.from_bytes(packed[at : at + width], "little") + 256 * (width == 2)
        at, counted, is_last = at + width, 0, 0
        while not is_last:
            if at + 3 > len(packed):
                raise ValueError("zstd is cut short")
            head = int.from_bytes(packed[at : at + 3], "little")
            is_last, kind, size = head & 1, head >> 1 & 3, head >> 3
            # as it is, one byte repeated, or packed
            at += 3 + (1 if kind == 1 else size)
            counted += size if kind < 2 else _ZSTD_BLOCK_BYTES
        at += 4 * (flags >> 2 & 1)
        total += told if width else counted
        is_told = is_told and width > 0
    return total, is_told
