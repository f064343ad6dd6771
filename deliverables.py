"""Deliverables: the files of a result folder that are meant for its reader, and their sums.

It writes nothing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from errors import StorageError
from wording import system_reason

__all__ = ["GROWING", "UNFINISHED", "deliverables", "sums"]

GROWING = "job.log"
"""The file that later commands add to, those that are refused among them."""

UNFINISHED = ("run.json", GROWING)
"""What is still written when the sums of all other files are drawn."""


def deliverables(root: Path) -> list[Path]:
    """List the files of a result folder that are meant for its reader.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    list of Path
        Regular files at any depth, sorted by their path below `root`; empty for a folder without any. Hidden files
        and folders (scratch, half-written files) are left out, and so are symbolic links, which could point anywhere.

    Raises
    ------
    StorageError
        If there is no such folder, or a part of it cannot be listed.
    """
    found: list[Path] = []

    def refuse(cause: OSError) -> None:
        raise cause

    try:
        for folder, subfolders, names in os.walk(root, onerror=refuse):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        return sorted(path for path in found if path.is_file() and not path.is_symlink())
    except OSError as cause:
        raise StorageError(
            f"listing the result folder {root}", system_reason(cause), "Check the path and your right to read it"
        ) from cause


def sums(root: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file of a result folder, but of the two that end after `run.json` is written.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    dict of str to dict
        Path below the folder, with slashes, to ``bytes`` and ``sha256`` (hexadecimal); without `UNFINISHED`.

    Raises
    ------
    StorageError
        If a file cannot be read.
    """
    found = {}
    for path in deliverables(root):
        name = path.relative_to(root).as_posix()
        if name in UNFINISHED:
            continue
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found[name] = {"bytes": file.tell(), "sha256": digest}
        except OSError as cause:
            raise StorageError(f"reading {path}", system_reason(cause), "Check your right to read it") from cause
    return found
