"""The files of a result folder that are meant for its reader, and their checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nd_synapse.errors import StorageError
from nd_synapse.files.reading import reading
from nd_synapse.text import system_reason

__all__ = ["GROWING", "MARKER", "checksums", "deliverables", "entries", "symlinks"]

MARKER = "run.json"
"""Written last: a folder, or an upload, without it is of a run that did not end."""

GROWING = "job.log"
"""Later commands append to it."""


def deliverables(root: Path) -> list[Path]:
    """List the files of a result folder, sorted, without hidden ones and symbolic links."""
    return [path for path in entries(root) if path.is_file() and not path.is_symlink()]


def symlinks(root: Path) -> list[str]:
    """List the symbolic links in a result folder; no run makes one."""
    return [path.relative_to(root).as_posix() for path in entries(root) if path.is_symlink()]


def entries(root: Path) -> list[Path]:
    """List everything in a result folder that is not hidden, except folders."""
    try:
        return sorted(_entries(root))
    except OSError as cause:
        raise StorageError(
            f"listing the result folder {root}", system_reason(cause), "Check the path and your right to read it"
        ) from cause


def _entries(root: Path) -> Iterator[Path]:
    def refuse(cause: OSError) -> None:
        raise cause

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        linked = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in (*names, *linked) if not name.startswith("."))


def checksums(root: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every deliverable except `run.json` and `job.log`, which are written later."""
    found = {}
    for path in deliverables(root):
        name = path.relative_to(root).as_posix()
        if name in (MARKER, GROWING):
            continue
        with reading(path), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[name] = {"bytes": file.tell(), "sha256": digest}
    return found
