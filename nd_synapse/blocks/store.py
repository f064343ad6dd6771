"""What a run has finished, on disk or in memory.

On disk each file is whole or not there, so that a killed run goes on where it was.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from nd_synapse.blocks.packing import PARSING, pack, sealed, unpack, unpacked_bytes, unsealed
from nd_synapse.blocks.scratch import translated
from nd_synapse.errors import StorageError
from nd_synapse.files.atomic import replacing

__all__ = ["MemoryStore", "Store"]

log = logging.getLogger(__name__)

_REMOVAL_ORDER = ("overviews-", "", "parts-", "faces-", "labels-", "statistics-", "tiles-")
"""Kinds by their beginning; any other kind is the second. What says that blocks are finished goes before the blocks,
and what was computed before what it was computed from, so that a kill leaves nothing that a later run trusts."""


def _removal_place(kind: str) -> int:
    """Return the place of a kind in the order of removal."""
    return next((place for place, start in enumerate(_REMOVAL_ORDER) if start and kind.startswith(start)), 1)


class Store:
    """A folder of arrays by kind and key, each committed by renaming a finished file."""

    def __init__(self, root: Path) -> None:
        # code of the user may change the working directory
        self.root = root.absolute()
        self.write_s = 0.0
        """Seconds that were spent on writing."""
        with translated(f"making the scratch folder {root}"):
            root.mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, key: str, suffix: str) -> Path:
        """Return the file of one thing."""
        return self.root / kind / f"{key}.{suffix}"

    def has(self, kind: str, key: str, suffix: str = "npz") -> bool:
        """Return whether something was saved."""
        return self.path(kind, key, suffix).exists()

    def save_plain(self, kind: str, key: str, values: NDArray[Any]) -> None:
        """Save an array so that parts of it can be read."""
        self._commit(self.path(kind, key, "npy"), lambda file: np.save(file, values, allow_pickle=False))

    def open_plain(self, kind: str, key: str) -> NDArray[Any]:
        """Map an array that `save_plain` saved."""
        path = self.path(kind, key, "npy")
        with translated(f"reading {path}"):
            try:
                with PARSING:
                    # of a Path NumPy resolves all links, which takes as long as the rest
                    array: NDArray[Any] = open_memmap(str(path), mode="r")
            except OSError:
                raise
            except Exception as error:  # numpy parses the header as Python, and raises what that raises
                raise _damaged(path, error) from error
        return array

    def append(self, kind: str, key: str, values: NDArray[Any]) -> None:
        """Add to the end of a file of numbers; unlike what is saved, it is not safe from kills."""
        path = self.path(kind, key, "raw")
        with translated(f"writing {path}"):
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(values).data)

    def appended(self, kind: str, key: str, dtype: DTypeLike) -> NDArray[Any]:
        """Read all that was appended, if anything was."""
        path = self.path(kind, key, "raw")
        with translated(f"reading {path}"):
            values: NDArray[Any] = np.fromfile(path, dtype) if path.exists() else np.empty(0, dtype)
        return values

    def blank_plain(self, kind: str, key: str, length: int, dtype: DTypeLike) -> NDArray[Any]:
        """Map a new array of zeros that is written in place; unlike what is saved, it is not safe from kills."""
        path = self.path(kind, key, "npy")
        with translated(f"writing {path}"):
            path.parent.mkdir(exist_ok=True)
            values: NDArray[Any] = open_memmap(str(path), mode="w+", dtype=np.dtype(dtype), shape=(length,))
        return values

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Save some arrays, compressed."""
        body = sealed(pack(arrays), f"{kind}/{key}")
        self._commit(self.path(kind, key, "npz"), lambda file: file.write(body))

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]]:
        """Read what `save` saved."""
        try:
            return unpack(unsealed(self.body(kind, key), f"{kind}/{key}"))
        except ValueError as error:
            raise _damaged(self.path(kind, key, "npz"), error) from error

    def sound(self, kind: str, key: str) -> bool:
        """Return whether `save` saved something that is whole; one that is damaged, or of another block, is removed."""
        if not self.has(kind, key):
            return False
        try:
            unsealed(self.body(kind, key), f"{kind}/{key}")
        except ValueError as error:
            log.warning("%s of block %s is made again: %s", kind, key, error)
            self.remove(kind, key, "npz")
            return False
        return True

    def body(self, kind: str, key: str) -> bytes:
        """Return the file of what `save` saved, as it is."""
        path = self.path(kind, key, "npz")
        with translated(f"reading {path}"):
            return path.read_bytes()

    def adopt(self, kind: str, key: str, body: bytes, max_bytes: int) -> None:
        """Save the file of another store; raise ValueError if it is damaged, or unpacks to more than `max_bytes`."""
        size = unpacked_bytes(unsealed(body, f"{kind}/{key}"))
        if size is None or size > max_bytes:
            raise ValueError(f"{kind} unpacks to {size} bytes, and a block of this plan to {max_bytes:,} at most")
        self._commit(self.path(kind, key, "npz"), lambda file: file.write(body))

    def write_note(self, name: str, text: str) -> None:
        """Write a short text."""
        self._commit(self.root / f"{name}.json", lambda file: file.write(text.encode()))

    def remove(self, kind: str, key: str, suffix: str) -> None:
        """Remove one thing, if it is there."""
        path = self.path(kind, key, suffix)
        with translated(f"removing {path}"):
            path.unlink(missing_ok=True)

    def keep_only(self, kinds: set[str]) -> None:
        """Remove everything but some kinds."""
        with translated(f"clearing {self.root}"):
            folders = [entry for entry in self.root.iterdir() if entry.is_dir() and entry.name not in kinds]
            for folder in sorted(folders, key=lambda folder: (_removal_place(folder.name), folder.name)):
                _discard(folder)

    def drop(self, kind: str) -> None:
        """Remove all of one kind."""
        folder = self.root / kind
        with translated(f"removing {folder}"):
            if folder.exists():
                _discard(folder)

    def kinds(self, prefix: str) -> list[str]:
        """Return the kinds that were saved and begin so."""
        return sorted(entry.name for entry in self.root.iterdir() if entry.name.startswith(prefix))

    def _commit(self, path: Path, write: Callable[[Any], object]) -> None:
        """Write a file beside, then give it its name: a process that is killed leaves the name free."""
        started = time.monotonic()
        with translated(f"writing {path}"):
            path.parent.mkdir(exist_ok=True)
            try:
                with replacing(path, sync=False) as file:
                    write(file)
            finally:
                self.write_s += time.monotonic() - started


class MemoryStore:
    """What `Store` keeps in files, in dictionaries; threads may share it."""

    def __init__(self) -> None:
        self._saved: dict[tuple[str, str, str], Any] = {}
        self.write_s = 0.0

    def has(self, kind: str, key: str, suffix: str = "npz") -> bool:
        """Return whether something was saved."""
        return (kind, key, suffix) in self._saved

    def sound(self, kind: str, key: str) -> bool:
        """Return whether `save` saved something."""
        return self.has(kind, key)

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Save some arrays."""
        self._saved[kind, key, "npz"] = dict(arrays)

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]]:
        """Return what `save` saved."""
        arrays: dict[str, NDArray[Any]] = self._saved[kind, key, "npz"]
        return arrays

    def save_plain(self, kind: str, key: str, values: NDArray[Any]) -> None:
        """Save an array."""
        self._saved[kind, key, "npy"] = values

    def open_plain(self, kind: str, key: str) -> NDArray[Any]:
        """Return an array that `save_plain` saved."""
        values: NDArray[Any] = self._saved[kind, key, "npy"]
        return values

    def append(self, kind: str, key: str, values: NDArray[Any]) -> None:
        """Add to the end of a list of numbers."""
        self._saved.setdefault((kind, key, "raw"), []).append(values)

    def appended(self, kind: str, key: str, dtype: DTypeLike) -> NDArray[Any]:
        """Return all numbers that were appended, if any were."""
        pieces = [piece.reshape(-1) for piece in self._saved.get((kind, key, "raw"), [])]
        values: NDArray[Any] = np.concatenate([np.empty(0, dtype), *pieces])
        return values

    def blank_plain(self, kind: str, key: str, length: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return a new array of zeros that is kept."""
        values = np.zeros(length, dtype)
        self.save_plain(kind, key, values)
        return values

    def remove(self, kind: str, key: str, suffix: str) -> None:
        """Remove one thing, if it is there."""
        self._saved.pop((kind, key, suffix), None)

    def drop(self, kind: str) -> None:
        """Remove all of one kind."""
        self.keep_only(set(self.kinds("")) - {kind})

    def kinds(self, prefix: str) -> list[str]:
        """Return the kinds that were saved and begin so."""
        return sorted({kind for kind, *_ in self._saved if kind.startswith(prefix)})

    def keep_only(self, kinds: set[str]) -> None:
        """Remove everything but some kinds."""
        self._saved = {name: value for name, value in self._saved.items() if name[0] in kinds}


def _discard(folder: Path) -> None:
    """Remove a kind at once: one that a kill left half removed would look as if it were whole."""
    gone = folder.with_name(f".gone-{secrets.token_hex(4)}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _damaged(path: Path, error: Exception) -> StorageError:
    """Return the error of a file that cannot be read."""
    remedy = "Remove the scratch folder, and start over"
    return StorageError(f"reading {path}", f"the file is damaged ({error})", remedy)
