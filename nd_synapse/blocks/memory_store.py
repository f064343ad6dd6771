"""A store in memory, for blocks of arrays that are in memory; it keeps nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["MemoryStore"]


class MemoryStore:
    """What `Store` keeps in files, in dictionaries; threads may share it."""

    def __init__(self) -> None:
        self._saved: dict[tuple[str, str, str], Any] = {}
        self.write_s = 0.0

    def has(self, kind: str, key: str, suffix: str = "npz") -> bool:
        """Return whether something was saved."""
        return (kind, key, suffix) in self._saved

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
        """Return all numbers that were appended."""
        values: NDArray[Any] = np.concatenate(self._saved[kind, key, "raw"]).astype(dtype, copy=False)
        return values

    def remove(self, kind: str, key: str, suffix: str) -> None:
        """Remove one thing, if it is there."""
        self._saved.pop((kind, key, suffix), None)

    def drop(self, kind: str) -> None:
        """Remove all of one kind."""
        for name in [name for name in self._saved if name[0] == kind]:
            del self._saved[name]
