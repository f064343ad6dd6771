"""The folder of a job's results: where it lies, and the lock that keeps other jobs out."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nd_synapse.errors import StorageError, UsageError
from nd_synapse.text import system_reason

__all__ = ["ResultFolder", "locked"]

_WRITABLE = "Give a --path that you may write to"


class ResultFolder:
    """The folder ``<path>/<results_key>`` and its scratch folder ``.work``, which exist once this is built."""

    def __init__(self, path: Path, key: str) -> None:
        self._place(path, key)
        try:
            self.is_new = not self.root.exists()
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise self._refused(cause) from cause
        except ValueError as cause:
            raise UsageError(
                f"the result folder {str(self.root)!a}", "no folder can have this name", _WRITABLE
            ) from cause
        if self.work.is_symlink():
            # its target would outlive the removal of .work
            remedy = "Remove it; to work on another disk, give a --path there"
            raise UsageError(f"the scratch folder {self.work}", "it is a symbolic link", remedy)

    def _place(self, path: Path, key: str) -> None:
        """Set the paths."""
        if not key or key.startswith(".") or any(c in "/\\" or not c.isprintable() for c in key):
            raise UsageError(
                f"a result folder named {key!r}",
                "it would lie elsewhere, or be hidden",
                "Use a name without slashes, control characters and a leading full stop",
            )
        self.root = path / key
        self.work = self.root / ".work"

    def _refused(self, cause: OSError) -> StorageError:
        """Return the error of a folder that cannot be created."""
        return StorageError(f"creating the result folder {self.root}", system_reason(cause), _WRITABLE)

    @classmethod
    def named(cls, path: Path, key: str) -> ResultFolder:
        """Return a folder without creating it."""
        folder = cls.__new__(cls)
        folder._place(path, key)
        return folder

    def check_place(self) -> None:
        """Refuse a folder that could not be created, without creating it."""
        try:
            there = next(folder for folder in (self.work, *self.work.parents) if folder.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), there)
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), there)
        except OSError as cause:
            raise self._refused(cause) from cause

    def discard(self) -> None:
        """Remove the folder of a run that was refused, if the run made it: with a log alone it looks like a result."""
        if self.is_new and not any(self.work.iterdir()):
            shutil.rmtree(self.root, ignore_errors=True)

    def clear_work(self) -> None:
        """Remove the scratch folder, and what killed processes left half-written."""
        try:
            if self.work.exists():
                # renamed first: a half-removed .work would be taken for finished work
                self.work.rename(self.root / f".gone-{secrets.token_hex(4)}")
            for gone in self.root.glob(".gone-*"):
                shutil.rmtree(gone)
            for part in self.root.glob(".*.part"):
                part.unlink()
        except OSError as cause:
            requested = f"removing the scratch folder of {self.root}"
            raise StorageError(requested, system_reason(cause), "Remove .work and .gone-* in it by hand") from cause


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other jobs and uploads out of a result folder; the lock ends with the process."""
    requested = f"working in {root}"
    # the folder itself is locked: a lock file would stay behind
    try:
        folder = os.open(root, os.O_RDONLY)
    except OSError as cause:
        raise StorageError(requested, system_reason(cause), "Give a folder that you may read") from cause
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            remedy = "Wait until it has ended, or give another --path"
            raise UsageError(requested, "another job is at work in it", remedy) from cause
        except OSError as cause:
            remedy = "Give one on a file system with locks, such as a local disk"
            raise StorageError(requested, f"it cannot be locked: {system_reason(cause)}", remedy) from cause
        yield
    finally:
        os.close(folder)
