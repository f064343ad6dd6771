"""A volume in local files, read a slab of slices at a time; the formats are in `tiff` and `stacks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.files.reading import reading

__all__ = ["GIVE_STACK", "MAX_SLICE_BYTES", "Stack", "checked_stack", "probed", "stack_of_array"]

MAX_SLICE_BYTES = 4 * 2**30
"""Largest slice or Zarr chunk: one of them must fit into memory."""

GIVE_STACK = "Give a stack z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a .npy file"
"""The remedy for everything that is no stack."""


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

    def slabs(self, depth: int, origin: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the whole stack; slabs of `depth` slices end where those of a volume do in which it starts at origin."""
        if depth < 1:
            raise UsageError(f"slabs of {depth} slices", "a slab holds at least one slice", "Give a depth of 1 or more")
        first = depth - origin % depth
        edges = [0, *range(first, self.shape[0], depth), self.shape[0]]
        for start, stop in pairwise(edges):
            yield start, self.read(start, stop)


def stack_of_array(array: Any, name: str) -> Stack:
    """Present anything that slices like an array as a stack: z, y, x; y, x is one slice; further axes have length 1."""
    shape = tuple(int(n) for n in array.shape)
    kept = list(range(len(shape)))
    while len(kept) > 3 and (ones := [axis for axis in kept[:-2] if shape[axis] == 1]):
        kept.remove(ones[0])
    if len(kept) not in (2, 3):
        raise DataError(name, f"it has the shape {shape}, not z, y, x", GIVE_STACK)
    y, x = shape[-2:]

    def fetch(z_start: int, z_stop: int) -> NDArray[Any]:
        index: list[int | slice] = [*[0] * (len(shape) - 2), slice(None), slice(None)]
        if len(kept) == 3:
            index[kept[0]] = slice(z_start, z_stop)
        return np.asarray(array[tuple(index)]).reshape(-1, y, x)

    return checked_stack(name, (shape[kept[0]] if len(kept) == 3 else 1, y, x), array.dtype, fetch)


def checked_stack(
    name: str, shape: tuple[int, int, int], dtype: DTypeLike, fetch: Callable[[int, int], NDArray[Any]]
) -> Stack:
    """Build a stack of whole numbers whose slices fit into memory, or raise DataError."""
    given = np.dtype(dtype).newbyteorder("=")
    if given.kind not in "bui":
        raise DataError(name, f"it holds {given.name}, not whole numbers", "Save it as integers, such as uint8")
    if min(shape) < 1:
        raise DataError(name, f"it has the shape {shape}, so it holds no voxel", "Give a stack with at least one slice")
    stack = Stack(name, shape, given, fetch)
    if stack.slice_bytes > MAX_SLICE_BYTES:
        found = f"a slice has {stack.slice_bytes / 2**30:.1f} GiB, more than {MAX_SLICE_BYTES / 2**30:.0f} GiB"
        raise DataError(name, found, "Cut it into smaller stacks")
    return stack


def probed(stack: Stack) -> Stack:
    """Read one slice and return the stack: a missing codec or damage shows before anything is written."""
    stack.read(0, 1)
    return stack
