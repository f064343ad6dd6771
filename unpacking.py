"""How many bytes packed bytes unpack to, counted without holding them.

It knows no file format: `tiff_pages` and `zarr_arrays` do.
"""

from __future__ import annotations

import lzma
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterable
from lzma import LZMADecompressor

__all__ = ["DEFLATE_RATIO", "PACKBITS_RATIO", "bzip2_bytes", "deflate_bytes", "lzma_bytes", "packbits_bytes"]

DEFLATE_RATIO = 1032
"""A byte of deflate becomes no more bytes than this."""

PACKBITS_RATIO = 64
"""Two bytes of PackBits become no more than 128."""

_PIECE_BYTES = 2**18
_DICTIONARY_BYTES = 2**28
"""Memory that unpacking LZMA may take: its strongest preset takes 65 MiB."""


def deflate_bytes(packed: Iterable[bytes], most: int, window: int = zlib.MAX_WBITS) -> int:
    """Count what deflate unpacks to.

    Parameters
    ----------
    packed : iterable of bytes
        Zlib's or gzip's format, piece by piece.
    most : int
        Counting ends beyond so many.
    window : int
        As `zlib.decompressobj` takes it: 47 for either format.

    Returns
    -------
    int
        Bytes of all its streams, or some number above `most`.

    Raises
    ------
    zlib.error
        If it is damaged.
    """
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
    """Count what LZMA, in the format of xz or its own, unpacks to.

    Parameters
    ----------
    packed : iterable of bytes
        Piece by piece.
    most : int
        Counting ends beyond so many.

    Returns
    -------
    int
        Bytes of all its streams, or some number above `most`.

    Raises
    ------
    lzma.LZMAError
        If it is damaged, or needs more memory than any that is written.
    """
    return _streamed(packed, most, lambda: LZMADecompressor(lzma.FORMAT_AUTO, _DICTIONARY_BYTES))


def bzip2_bytes(packed: Iterable[bytes], most: int) -> int:
    """Count what bzip2 unpacks to.

    Parameters
    ----------
    packed : iterable of bytes
        Piece by piece.
    most : int
        Counting ends beyond so many.

    Returns
    -------
    int
        Bytes of all its streams, or some number above `most`.

    Raises
    ------
    OSError
        If it is damaged.
    """
    return _streamed(packed, most, BZ2Decompressor)


def packbits_bytes(packed: Iterable[bytes], most: int) -> int:
    """Count what PackBits unpacks to.

    Parameters
    ----------
    packed : iterable of bytes
        Piece by piece.
    most : int
        Counting ends beyond so many.

    Returns
    -------
    int
        Bytes, or some number above `most`.
    """
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
