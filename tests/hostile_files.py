"""Files that no program writes, for those that read them."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["tiff_of"]


def tiff_of(path: Path, body: bytes, compression: int, tags: dict[int, tuple[int, int, int]] | None = None) -> None:
    """Write a TIFF of 16 x 16 pixels whose one strip has these bytes; further tags are code: type, count, value."""
    entries = {
        256: (3, 1, 16),
        257: (3, 1, 16),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, 512),
        277: (3, 1, 1),
        278: (3, 1, 16),
        279: (4, 1, len(body)),
        **(tags or {}),
    }
    packed = b"".join(struct.pack("<HHII", code, *entry) for code, entry in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)
    path.write_bytes(head.ljust(512, b"\0") + body)
