"""Arrays in chunks, of which many are read at a time; what is in a chunk is in `n5` and `precomputed`."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import MAX_SLICE_BYTES

__all__ = ["AT_ONCE", "LISTED", "Chunked", "Folder", "Objects", "cut", "metadata_of"]

_EACH, _SOME = 200_000, 16
"""Files of which size and time are looked at: so many, and one in so many of the others."""

LISTED = 10
"""Requests for the versions of the objects in a bucket, of a thousand objects each: a second."""

AT_ONCE = 16
"""Chunks that are read at the same time."""

_THREADS = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="chunks")


class Objects(Protocol):
    """What reads the objects, or files, below one address."""

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return an object, or a part of it by a header such as ``bytes=0-9``; None if there is none."""

    def names(self, folder: str) -> list[str]:
        """Return what is right below a folder, "" being the address itself."""

    def versions(self, folder: str) -> Iterator[str]:
        """Yield what differs once an object below a folder has changed, as far as it is cheap to know."""


class Folder:
    """The files below a folder; one that cloud-volume packed is called ``NAME.gz``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return a file, or a part of it by a header such as ``bytes=0-9``; None if there is none."""
        path = self.root / key
        packed = path.with_name(f"{path.name}.gz")
        with reading(str(path)):
            if path.is_file():
                with path.open("rb") as file:
                    if range_header is None:
                        return file.read()
                    start, _, last = range_header.removeprefix("bytes=").partition("-")
                    if not start:  # the last bytes
                        file.seek(max(0, path.stat().st_size - int(last)))
                        return file.read()
                    file.seek(int(start))
                    return file.read(int(last) + 1 - int(start))
            return cut(gzip.decompress(packed.read_bytes()), range_header) if packed.is_file() else None

    def names(self, folder: str) -> list[str]:
        """Return what is right below a folder, "" being the address itself."""
        place = self.root / folder
        with reading(place):
            return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []

    def versions(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, with size and time of the first and of some of the others."""
        place, count = self.root / folder, 0
        with reading(place):
            for below, folders, files in os.walk(place):
                folders.sort()
                for name in sorted(files):
                    path = os.path.join(below, name)  # noqa: PTH118 - a Path takes longer than the question
                    count += 1
                    if count > _EACH and count % _SOME:
                        yield path
                    else:
                        seen = os.stat(path)  # noqa: PTH116 - as above
                        yield f"{path} {seen.st_size} {seen.st_mtime_ns}"


def cut(body: bytes, range_header: str | None) -> bytes:
    """Return the part of a whole object that a header such as ``bytes=0-9`` names; all without one."""
    if range_header is None:
        return body
    start, _, last = range_header.removeprefix("bytes=").partition("-")
    if not start:
        return body[-int(last) :]
    return body[int(start) : int(last) + 1 if last else None]


def metadata_of(objects: Objects, key: str, name: str) -> Mapping[str, Any] | None:
    """Return the JSON object in a file of metadata, None if there is no such file; `name` is for messages."""
    body = objects.read(key)
    if body is None:
        return None
    with reading(name):
        content = json.loads(body)
        if not isinstance(content, dict):
            raise DataError(name, f"{key} holds no JSON object", "Write it anew")
    return content


@dataclass(frozen=True, slots=True)
class Chunked:
    """An array of which any part can be read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    """Extents of a chunk; those at the end of an axis may be cut there."""
    fetch: Callable[[tuple[int, ...]], NDArray[Any] | None]
    """Returns the chunk at a place of the grid, at least as large as what of it is within `shape`; None is zeros."""

    def check(self, name: str) -> None:
        """Refuse chunks that do not fit into memory, and those that are none."""
        if len(self.chunk) != len(self.shape) or min((*self.chunk, *self.shape), default=0) < 1:
            found = f"it has the shape {self.shape} in chunks of {self.chunk}"
            raise DataError(name, found, "Write its metadata anew")
        size = math.prod(self.chunk) * self.dtype.itemsize
        if size > MAX_SLICE_BYTES:
            found = f"its chunks of {self.chunk} have {size / 2**30:.1f} GiB, more than {MAX_SLICE_BYTES / 2**30:.0f}"
            raise DataError(name, found, "Save it in smaller chunks")

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Read the part in slices with both ends: C order, of `dtype`."""
        part = np.zeros([n.stop - n.start for n in index], self.dtype)

        def fill(place: tuple[int, ...]) -> None:
            voxels = self.fetch(place)
            if voxels is None:
                return
            starts = [at * n for at, n in zip(place, self.chunk, strict=True)]
            both = [
                (max(start, n.start), min(start + extent, n.stop))
                for start, extent, n in zip(starts, self.chunk, index, strict=True)
            ]
            here = tuple(slice(a - n.start, b - n.start) for (a, b), n in zip(both, index, strict=True))
            there = tuple(slice(a - start, b - start) for (a, b), start in zip(both, starts, strict=True))
            if voxels[there].shape != part[here].shape:  # an axis of length 1 would be repeated
                raise ValueError(f"the chunk {place} has the shape {voxels.shape}")
            part[here] = voxels[there]

        grid = (range(n.start // size, -(-n.stop // size)) for n, size in zip(index, self.chunk, strict=True))
        for _ in _THREADS.map(fill, product(*grid)):
            pass
        return part
