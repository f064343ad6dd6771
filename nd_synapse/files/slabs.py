"""A volume in local files, read a slab of slices at a time; what a file says about it is in `image`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.files.reading import reading

__all__ = [
    "GIVE_STACK",
    "MAX_SLICE_BYTES",
    "UNKNOWN_SIZE",
    "KnownSize",
    "Stack",
    "check_voxel_size",
    "check_whole_numbers",
    "checked_stack",
    "probed",
    "shown_size",
]

MAX_SLICE_BYTES = 4 * 2**30
"""Largest slice or Zarr chunk: one of them must fit into memory."""

GIVE_STACK = "Give a stack z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a .npy file"
"""The remedy for everything that is no stack."""

KnownSize = tuple[float | None, float | None, float | None]
"""A voxel size in nanometres along z, y, x; None where a file does not say it."""

UNKNOWN_SIZE: KnownSize = (None, None, None)


def shown_size(size_nm: Sequence[float | None]) -> str:
    """Return a voxel size for a message."""
    return ",".join("?" if size is None else f"{size:.6g}" for size in size_nm)


# files and people round; a wrong unit or order of axes is far more
_SAME_SIZE = 0.01


def check_voxel_size(name: str, there_nm: KnownSize, given_nm: Sequence[float]) -> None:
    """Raise DataError if a file says another voxel size (z, y, x) than the user."""
    pairs = list(zip(there_nm, given_nm, strict=True))
    if all(there is None or abs(there - size) <= _SAME_SIZE * there for there, size in pairs):
        return
    right = shown_size([size if there is None else there for there, size in pairs])
    remedy = f"Give --voxel-size-nm {right}, or correct it in the file"
    requested = f"voxel size {shown_size(given_nm)} nm of {name}"
    raise DataError(requested, f"the file says {shown_size(there_nm)} nm (z, y, x)", remedy)


@dataclass(frozen=True, slots=True)
class Stack:
    """A volume of whole numbers that is read piece by piece."""

    name: str
    """The file, or the first and last of several, for messages."""
    shape: tuple[int, int, int]
    """Extents z, y, x, all at least 1."""
    dtype: np.dtype[Any]
    """bool or an integer type, in the machine's byte order."""
    fetch: Callable[[int, int], NDArray[Any]]
    """``fetch(z_start, z_stop)`` returns these slices, of any type that casts to `dtype` without loss."""
    voxel_size_nm: KnownSize = UNKNOWN_SIZE

    @property
    def slice_bytes(self) -> int:
        """Bytes of one slice."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    def read(self, z_start: int, z_stop: int) -> NDArray[Any]:
        """Return the slices of a half-open range, shape (z, y, x)."""
        requested = f"slices {z_start}:{z_stop} of {self.name}"
        with reading(requested):
            slab = np.asarray(self.fetch(z_start, z_stop)).astype(self.dtype, copy=False)
        expected = (z_stop - z_start, *self.shape[1:])
        if slab.shape != expected:
            raise DataError(requested, f"they have the shape {slab.shape}, not {expected}", "Write the file anew")
        return slab

    def check_voxel_size(self, given_nm: Sequence[float]) -> None:
        """Raise DataError if the file says another voxel size (z, y, x)."""
        check_voxel_size(self.name, self.voxel_size_nm, given_nm)

    def slabs(self, depth: int, origin: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the whole stack; slabs of `depth` slices end where those of a volume do in which it starts at origin."""
        if depth < 1:
            raise UsageError(f"slabs of {depth} slices", "a slab holds at least one slice", "Give a depth of 1 or more")
        first = depth - origin % depth
        edges = [0, *range(first, self.shape[0], depth), self.shape[0]]
        for start, stop in pairwise(edges):
            yield start, self.read(start, stop)


def check_whole_numbers(name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    """Raise DataError if a volume (z, y, x) has numbers with fractions, or no voxel."""
    if dtype.kind not in "bui":
        remedy = "Save whole numbers as integers as they are; scale others to 0 to 65535 and round them to uint16"
        raise DataError(name, f"it holds {dtype.name}, not whole numbers", remedy)
    if min(shape) < 1:
        raise DataError(name, f"it has the shape {shape}, so it holds no voxel", "Give a stack with at least one slice")


def checked_stack(
    name: str,
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    fetch: Callable[[int, int], NDArray[Any]],
    voxel_size_nm: KnownSize = UNKNOWN_SIZE,
) -> Stack:
    """Build a stack of whole numbers whose slices fit into memory, or raise DataError."""
    given = np.dtype(dtype).newbyteorder("=")
    check_whole_numbers(name, shape, given)
    stack = Stack(name, shape, given, fetch, voxel_size_nm)
    if stack.slice_bytes > MAX_SLICE_BYTES:
        found = f"a slice has {stack.slice_bytes / 2**30:.1f} GiB, more than {MAX_SLICE_BYTES / 2**30:.0f} GiB"
        raise DataError(name, found, "Cut it into smaller stacks")
    return stack


def probed(stack: Stack) -> Stack:
    """Read one slice and return the stack: a missing codec or damage shows before anything is written."""
    stack.read(0, 1)
    return stack
