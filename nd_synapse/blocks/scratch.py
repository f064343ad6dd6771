"""The scratch folder of a run, locked while the run works in it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nd_synapse.errors import NDSynapseError, StorageError, UsageError

__all__ = ["locked", "translated"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the context lasts; the lock of a process that dies is released.

    What killed processes left half-written is removed: nobody writes to it any more.
    """
    # the folder itself is locked: a lock file would have to be left behind
    with translated(f"opening {folder}"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            remedy = "Wait until it has ended, or give another scratch folder"
            raise UsageError(f"working in {folder}", "another run is at work in it", remedy) from cause
        with translated(f"clearing {folder}"):
            for part in folder.glob("**/.*.part"):
                part.unlink()
            for gone in folder.glob(".gone-*"):
                shutil.rmtree(gone)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def translated(requested: str) -> Iterator[None]:
    """Raise what the system reports of a file as our error."""
    try:
        yield
    except NDSynapseError:  # some are OSErrors as well
        raise
    except OSError as error:
        # numpy reports a short write without a number
        number = error.errno or errno.ENOSPC
        full = number in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space, or choose another folder with --path or --scratch" if full else "Check the scratch folder"
        raise StorageError(requested, os.strerror(number).lower(), f"{remedy}; what is done is kept") from error
