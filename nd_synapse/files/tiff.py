"""Pages of TIFF files, read in the memory that their shape needs.

It decodes nothing itself (tifffile does), and does not know what a page shows. What it sees to is that nothing in a
file can make tifffile hold more than an image of that shape takes: neither lists of pages and tags, nor tiles larger
than the image, nor strips that unpack to thousands of times what the image needs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION

from nd_synapse.errors import DataError
from nd_synapse.files.unpacking import DEFLATE_RATIO, PACKBITS_RATIO, deflate_bytes, lzma_bytes, packbits_bytes

__all__ = ["check_chain", "check_page", "voxels_of"]

_MOST_PAGES = 1_000_000
_MOST_TAGS = 4096
_MOST_VALUES = 2**22
"""Numbers of the longest tag: so many tiles or strips a page, at most."""

_MOST_TEXT_BYTES = 2**26
"""Bytes of the longest text, such as OME-XML."""

_PADDING_BYTES = 2**26
"""What a tile may have beyond its page: small images are saved in large tiles, too."""

_SPARE_BYTES = 2**16
"""What a strip may have, packed or not, beyond what its pixels need."""

_PIECE_BYTES = 2**18

_DEFLATE = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_JPEG = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.ALT_JPEG, COMPRESSION.JPEG_LOSSY)
# imagecodecs, which decodes these, is told how large the result may be
_TOLD = (
    *(COMPRESSION.CCITTRLE, COMPRESSION.CCITTFAX3, COMPRESSION.CCITTFAX4, COMPRESSION.LZW),
    *(COMPRESSION.ZSTD, COMPRESSION.ZSTD_DEPRECATED),
)
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_TYPES = (1, 2, 7)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_chain(path: Path) -> None:
    """Look at the list of pages before tifffile does, which would load whatever it announces."""
    with path.open("rb") as file:
        layout = _Layout(file.read(16))
        size = file.seek(0, 2)
        seen: set[int] = set()
        offset, tag_bytes = layout.first, 0
        while offset:
            if offset in seen:
                raise DataError(str(path), f"its list of pages runs in a circle after {len(seen)}", "Write it anew")
            seen.add(offset)
            if len(seen) > _MOST_PAGES:
                raise DataError(str(path), f"it has more than {_MOST_PAGES:,} pages", "Split it into several files")
            try:
                tags, offset = layout.page(file, offset)
            except struct.error as error:
                found = f"it is cut short: its page {len(seen)} lies beyond the end of the file"
                raise DataError(str(path), found, "Copy it anew") from error
            tag_bytes += _checked_tags(path, tags, len(seen))
            if tag_bytes > 4 * size + _SPARE_BYTES:
                found = f"its first {len(seen)} pages share tags of {tag_bytes:,} bytes in a file of {size:,}"
                raise DataError(str(path), found, "Write it anew")


class _Layout:
    """Where a classic TIFF or a BigTIFF has what; raises ValueError for what is neither."""

    def __init__(self, head: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = 0 if order is None or len(head) < 8 else struct.unpack(f"{order}H", head[2:4])[0]
        if version not in (42, 43) or (version == 43 and len(head) < 16):
            raise ValueError("not a TIFF file")
        big = version == 43
        self._count = struct.Struct(f"{order}{'Q' if big else 'H'}")
        self._offset = struct.Struct(f"{order}{'Q' if big else 'I'}")
        # code, type, count, and value or its place
        self._tag = struct.Struct(f"{order}HH{'QQ' if big else 'II'}")
        (self.first,) = self._offset.unpack_from(head, 8 if big else 4)

    def page(self, file: BinaryIO, offset: int) -> tuple[list[tuple[int, int, int]], int]:
        """Return code, type and count of each tag of a page, and where the next page is; struct.error at the end."""
        file.seek(offset)
        (count,) = self._count.unpack(file.read(self._count.size))
        if count > _MOST_TAGS:
            raise struct.error(f"{count} tags")
        body = file.read(count * self._tag.size)
        (after,) = self._offset.unpack(file.read(self._offset.size))
        return [tag[:3] for tag in self._tag.iter_unpack(body)], after


def _checked_tags(path: Path, tags: list[tuple[int, int, int]], page: int) -> int:
    """Return the bytes of the tags of a page, unless one is larger than any of an image."""
    total = 0
    for code, kind, count in tags:
        size = count * _TYPE_BYTES.get(kind, 1)
        if size > _MOST_TEXT_BYTES or (kind not in _TEXT_TYPES and count > _MOST_VALUES):
            found = f"tag {code} of its page {page} has {count:,} values"
            raise DataError(str(path), found, "Write it anew, in fewer tiles or strips if it is one of many")
        total += size
    return total


def voxels_of(page: Any) -> NDArray[Any]:
    """Decode a page, of which no more is unpacked than its shape needs."""
    check_page(page)
    voxels: NDArray[Any] = page.asarray(maxworkers=1)
    return voxels


def check_page(page: Any) -> None:
    """Refuse a page that would take more memory than its shape says, before it is decoded."""
    key = page.keyframe
    if key.is_contiguous:
        # so many bytes are read as the shape says
        return
    bits = max(key.bitspersample) if isinstance(key.bitspersample, tuple) else key.bitspersample
    # rows begin with a byte
    needed = math.prod(key.chunks) * bits // 8 + math.prod(key.chunks[:-1])
    decoded = math.prod(key.chunks) * np.dtype(key.dtype).itemsize
    whole = math.prod(key.shaped) * np.dtype(key.dtype).itemsize
    if decoded > whole + _PADDING_BYTES:
        raise ValueError(f"its tiles of {decoded:,} bytes are larger than its slices of {whole:,}")
    for place, size in zip(page.dataoffsets[: math.prod(key.chunked)], page.databytecounts, strict=False):
        # nothing that compresses makes twice of it
        if size > 2 * needed + _SPARE_BYTES:
            raise ValueError(f"a strip or tile of {needed:,} bytes has {size:,} in the file")
        if size:
            _check_segment(page.parent.filehandle, key, place, size, needed + _SPARE_BYTES)


def _check_segment(file: Any, key: Any, place: int, size: int, most: int) -> None:
    """Refuse a strip or a tile that unpacks to more than it may."""
    pieces = _pieces(file, place, size, key.fillorder == tifffile.FILLORDER.LSB2MSB)
    if key.compression == COMPRESSION.NONE:
        return
    if key.compression in _DEFLATE:
        found = 0 if size * DEFLATE_RATIO <= most else deflate_bytes(pieces, most)
    elif key.compression == COMPRESSION.PACKBITS:
        found = 0 if size * PACKBITS_RATIO <= most else packbits_bytes(pieces, most)
    elif key.compression == COMPRESSION.LZMA:
        found = lzma_bytes(pieces, most)
    elif key.compression in (*_TOLD, *_JPEG) and find_spec("imagecodecs") is None:
        raise ValueError(f"{key.compression!r} requires the 'imagecodecs' package")
    elif key.compression in _TOLD:
        return
    elif key.compression in _JPEG and key.jpegheader is None:
        found = _jpeg_bytes(b"".join(pieces))
    else:
        raise ValueError(f"how much {key.compression!r} unpacks to cannot be told before; save it with deflate (zip)")
    if found > most:
        raise ValueError(f"a strip or tile of {size:,} bytes unpacks to more than the {most:,} of its pixels")


def _pieces(file: Any, place: int, size: int, is_reversed: bool) -> Iterator[bytes]:
    """Read a strip piece by piece, its bits in the usual order."""
    for start in range(0, size, _PIECE_BYTES):
        file.seek(place + start)
        piece = file.read(min(_PIECE_BYTES, size - start))
        yield piece.translate(_REVERSED) if is_reversed else piece


def _jpeg_bytes(body: bytes) -> int:
    """Return what the frame of a JPEG says that it unpacks to."""
    at = 2
    while at + 10 <= len(body):
        marker, length = struct.unpack_from(">HH", body, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            bits, height, width, colours = struct.unpack_from(">BHHB", body, at + 4)
            return int(height * width * colours * (2 if bits > 8 else 1))
        at += 2 + length
    raise ValueError("a JPEG in it has no frame")
