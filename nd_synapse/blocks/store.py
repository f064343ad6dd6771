"""What a run has finished, on disk: each file whole or not there, so that a killed run goes on where it was.

It knows no passes; they name what they keep. Nothing in it is a result: a run that ends well removes it.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import shutil
import struct
import time
import tokenize
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blosc
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from nd_synapse.errors import StorageError, UsageError
from nd_synapse.files.atomic import replacing

__all__ = ["Store"]

_HEADER = struct.Struct("<4xIII")
"""Bytes when unpacked, bytes of a piece, and bytes as it is: what Blosc says after versions and flags."""

# What NumPy and the zip module raise on damaged bytes.
_DAMAGED = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, EOFError),
    *(SyntaxError, struct.error, zipfile.BadZipFile, blosc.blosc_extension.error),
)


_FROM_LATE_TO_EARLY = ("overviews-", "", "parts-", "faces-", "labels-", "statistics-", "tiles-")
"""In this order kinds are removed, those of other names as the second: what says that blocks are finished goes before
what it says that of, and what was computed before what it was computed from. So a kill in between leaves nothing that
a later run would trust."""


def _age(kind: str) -> int:
    """Return the place of a kind in the order of removal."""
    return next((place for place, start in enumerate(_FROM_LATE_TO_EARLY) if start and kind.startswith(start)), 1)


class Store:
    """A folder of arrays, each committed by renaming a finished file.

    Parameters
    ----------
    root : Path
        The folder; made where it is missing.

    Raises
    ------
    StorageError
        If it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write_s = 0.0
        """Seconds that were spent on writing."""
        with self._translated(f"making the scratch folder {root}"):
            root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder while the context lasts; a process that dies lets go.

        What killed processes left half-written is removed: nobody writes to it any more.
        """
        # the folder itself is locked: a lock file would have to be left behind
        with self._translated(f"opening {self.root}"):
            folder = os.open(self.root, os.O_RDONLY)
        try:
            self._lock(folder)
            with self._translated(f"clearing {self.root}"):
                for part in self.root.glob("**/.*.part"):
                    part.unlink()
                for gone in self.root.glob(".gone-*"):
                    shutil.rmtree(gone)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        """Lock the open folder."""
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise UsageError(
                f"working in {self.root}",
                "another run is at work in it",
                "Wait until it has ended, or give another scratch folder",
            ) from cause

    def path(self, kind: str, key: str, suffix: str) -> Path:
        """Return the file of one thing."""
        return self.root / kind / f"{key}.{suffix}"

    def has(self, kind: str, key: str, suffix: str = "npz") -> bool:
        """Tell whether something was saved."""
        return self.path(kind, key, suffix).exists()

    def save_plain(self, kind: str, key: str, voxels: NDArray[Any]) -> None:
        """Save an array so that parts of it can be read."""
        self._commit(self.path(kind, key, "npy"), lambda file: np.save(file, voxels, allow_pickle=False))

    def open_plain(self, kind: str, key: str) -> NDArray[Any]:
        """Map an array that `save_plain` saved."""
        path = self.path(kind, key, "npy")
        with self._translated(f"reading {path}"):
            array: NDArray[Any] = open_memmap(path, mode="r")
        return array

    def append(self, kind: str, key: str, values: NDArray[Any]) -> None:
        """Add to the end of a file of numbers; unlike what is saved, it is not safe from kills."""
        path = self.path(kind, key, "raw")
        with self._translated(f"writing {path}"):
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(values).data)

    def appended(self, kind: str, key: str, dtype: DTypeLike) -> NDArray[Any]:
        """Read all that was appended."""
        path = self.path(kind, key, "raw")
        with self._translated(f"reading {path}"):
            values: NDArray[Any] = np.fromfile(path, dtype)
        return values

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Save some arrays, compressed."""
        packed = io.BytesIO()
        # numbered, since any name may be given: some mean something to numpy
        np.savez(packed, *arrays.values(), allow_pickle=False, names=np.array(list(arrays), np.str_))
        if packed.getbuffer().nbytes > blosc.MAX_BUFFERSIZE:
            found = f"they take {packed.getbuffer().nbytes:,} bytes, more than {blosc.MAX_BUFFERSIZE:,}"
            raise StorageError(f"packing {kind} of block {key}", found, "Give a smaller --block-size")
        body = blosc.compress(packed.getbuffer(), typesize=4, clevel=1, shuffle=blosc.SHUFFLE, cname="lz4")
        self._commit(self.path(kind, key, "npz"), lambda file: file.write(body))

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]]:
        """Read what `save` saved."""
        path = self.path(kind, key, "npz")
        with self._translated(f"reading {path}"):
            body = path.read_bytes()
            try:
                return _arrays_of(blosc.decompress(body))
            except _DAMAGED as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error

    def body(self, kind: str, key: str) -> bytes:
        """Return the file of what `save` saved, as it is."""
        path = self.path(kind, key, "npz")
        with self._translated(f"reading {path}"):
            return path.read_bytes()

    def adopt(self, kind: str, key: str, body: bytes, most_bytes: int) -> None:
        """Save what another store has saved."""
        unpacked, _, size = _HEADER.unpack_from(body) if len(body) >= _HEADER.size else (0, 0, -1)
        if size != len(body) or unpacked > most_bytes:
            found = (
                f"it unpacks to {unpacked:,} bytes, more than {most_bytes:,}" if size == len(body) else "it is damaged"
            )
            raise StorageError(f"taking over {kind} of block {key}", found, "Begin a run under another --shared")
        self._commit(self.path(kind, key, "npz"), lambda file: file.write(body))

    def write_note(self, name: str, text: str) -> None:
        """Write a short text."""
        self._commit(self.root / f"{name}.json", lambda file: file.write(text.encode()))

    def remove(self, kind: str, key: str, suffix: str) -> None:
        """Remove one thing, if it is there."""
        path = self.path(kind, key, suffix)
        with self._translated(f"removing {path}"):
            path.unlink(missing_ok=True)

    def keep_only(self, kinds: set[str]) -> None:
        """Remove everything but some kinds: what runs with other parameters left."""
        with self._translated(f"clearing {self.root}"):
            folders = [entry for entry in self.root.iterdir() if entry.is_dir() and entry.name not in kinds]
            for folder in sorted(folders, key=lambda folder: (_age(folder.name), folder.name)):
                self._discard(folder)

    def drop(self, kind: str) -> None:
        """Remove all of one kind."""
        folder = self.root / kind
        with self._translated(f"removing {folder}"):
            if folder.exists():
                self._discard(folder)

    def _discard(self, folder: Path) -> None:
        """Remove a kind at once: one that a kill left half removed would be taken for what it is not."""
        gone = folder.with_name(f".gone-{secrets.token_hex(4)}")
        folder.rename(gone)
        shutil.rmtree(gone)

    def kinds(self, prefix: str) -> list[str]:
        """Return the kinds that were saved and begin so."""
        return sorted(entry.name for entry in self.root.iterdir() if entry.name.startswith(prefix))

    def _commit(self, path: Path, write: Callable[[Any], object]) -> None:
        """Write a file beside, then give it its name: a process that is killed leaves the name free."""
        started = time.monotonic()
        with self._translated(f"writing {path}"):
            path.parent.mkdir(exist_ok=True)
            try:
                with replacing(path, sync=False) as file:
                    write(file)
            finally:
                self.write_s += time.monotonic() - started

    @contextmanager
    def _translated(self, requested: str) -> Iterator[None]:
        """Turn what the system says of a file into our error."""
        try:
            yield
        except OSError as error:
            # numpy tells of a short write without a number
            number = error.errno or errno.ENOSPC
            full = number in (errno.ENOSPC, errno.EDQUOT)
            remedy = (
                "Free space, or choose another folder with --path or --scratch" if full else "Check the scratch folder"
            )
            raise StorageError(requested, os.strerror(number).lower(), f"{remedy}; what is done is kept") from error
        except (
            ValueError,
            KeyError,
            EOFError,
            zipfile.BadZipFile,
            blosc.blosc_extension.error,
            SyntaxError,
            tokenize.TokenError,
        ) as error:
            remedy = "Remove the scratch folder, and start over"
            raise StorageError(requested, f"the file is damaged ({error})", remedy) from error


def _arrays_of(packed: bytes) -> dict[str, NDArray[Any]]:
    """Take apart what `Store.save` put together; no array is larger than what it lies in."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = archive.infolist()
    # we compress no member, and members that share their bytes would be read each
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(packed):
        raise ValueError("its arrays are larger than they can be")
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {str(name): arrays[f"arr_{number}"] for number, name in enumerate(arrays["names"])}
