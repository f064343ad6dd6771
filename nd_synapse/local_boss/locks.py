"""Locks in the data folder, between threads and processes. Nobody holds two of them, so they cannot deadlock."""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nd_synapse.errors import StorageError

__all__ = ["StripedLocks"]

STRIPES = 256
LIMIT_S = 60.0
LONGEST_NAP_S = 0.02


class StripedLocks:
    """A fixed number of lock files in a folder; every name belongs to one of them.

    A lock belongs to an open file: threads exclude each other as processes do, and the system frees it when they die.
    """

    def __init__(self, folder: Path, limit_s: float = LIMIT_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit_s = limit_s

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock to which `name` belongs."""
        stripe = zlib.crc32(name.encode()) % STRIPES
        with (self._folder / f"{stripe:03d}").open("ab") as file:
            self._acquire(file.fileno(), name)
            yield  # closing the file frees the lock

    def _acquire(self, descriptor: int, name: str) -> None:
        deadline = time.monotonic() + self._limit_s
        nap_s = 0.0005
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    found = f"another writer has held it for {self._limit_s:.0f} s (process {os.getpid()} waited)"
                    remedy = "Look for a process that hangs on the data folder"
                    raise StorageError(f"lock of {name}", found, remedy) from error
                time.sleep(nap_s)
                nap_s = min(2 * nap_s, LONGEST_NAP_S)
            else:
                return
