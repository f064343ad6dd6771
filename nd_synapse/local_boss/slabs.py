"""A volume in local files, read a slab of slices at a time.

It knows no file format: `tiffs` and `stacks` do.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.errors import DataError, StorageError, UsageError

__all__ = ["GIVE_STACK", "MAX_SLICE_BYTES", "FileDoor", "Stack", "checked_stack", "probed", "stack_of_array"]

MAX_SLICE_BYTES = 4 * 2**30
"""Largest slice (or Zarr chunk) in bytes that is read at all: one of them must fit into memory."""

GIVE_STACK = "Give a stack z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a .npy file"
"""The remedy for everything that is no stack."""

_TYPES = ("uint8", "uint16", "uint64")

# What the readers' libraries raise on damaged or foreign bytes; bad bytes have no one exception class.
_DAMAGED = (
    *(ImportError, SystemError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError, SyntaxError),
    *(EOFError, struct.error, zlib.error, lzma.LZMAError, tokenize.TokenError),
)


@dataclass(frozen=True, slots=True)
class Stack:
    """A volume of slices that is read piece by piece.

    Parameters
    ----------
    name : str
        What to call it in messages: the file, or the first and last of several.
    shape : tuple of int
        Extents z, y, x, all at least 1.
    dtype : numpy.dtype
        uint8, uint16 or uint64, in the machine's byte order.
    fetch : callable
        ``fetch(z_start, z_stop)`` returns these slices, of any type that casts to `dtype` without loss.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    fetch: Callable[[int, int], NDArray[Any]]

    @property
    def slice_bytes(self) -> int:
        """Bytes of one slice."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    def read(self, z_start: int, z_stop: int) -> NDArray[Any]:
        """Return the slices of a half-open range."""
        with FileDoor(f"slices {z_start}:{z_stop} of {self.name}"):
            slab = np.asarray(self.fetch(z_start, z_stop)).astype(self.dtype, copy=False)
        expected = (z_stop - z_start, *self.shape[1:])
        if slab.shape != expected:
            found = f"they have the shape {slab.shape} where {expected} was announced"
            raise DataError(f"slices {z_start}:{z_stop} of {self.name}", found, "Write the file anew")
        return slab

    def slabs(self, depth: int, origin: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read the whole stack, a slab after the other."""
        if depth < 1:
            raise UsageError(f"slabs of {depth} slices", "a slab holds at least one slice", "Give a depth of 1 or more")
        first = depth - origin % depth
        edges = [0, *range(first, self.shape[0], depth), self.shape[0]]
        for start, stop in pairwise(edges):
            yield start, self.read(start, stop)


class FileDoor:
    """A context in which the exceptions of the file libraries become ours.

    Parameters
    ----------
    asked : str
        What is being read, for the message.
    """

    def __init__(self, requested: str) -> None:
        self.requested = requested

    def __enter__(self) -> None:
        """Begin to translate."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise our own error from a foreign one, and leave our own alone."""
        if error is None or isinstance(error, (DataError, UsageError, StorageError)):
            return
        if isinstance(error, MemoryError):
            found = f"there is no memory for it ({_first_line(error)})"
            raise DataError(self.requested, found, "Cut it into stacks of smaller slices or chunks") from error
        if isinstance(error, _DAMAGED):
            if "imagecodecs" in str(error):
                found = f"its compression needs the imagecodecs package ({_first_line(error)})"
                remedy = "Install it (pip install imagecodecs), or save the file uncompressed or with deflate (zip)"
                raise DataError(self.requested, found, remedy) from error
            found = f"the file is damaged, cut short, or not what its name says ({_first_line(error)})"
            raise DataError(self.requested, found, "Copy or write it anew") from error
        if isinstance(error, OSError):
            found = f"it cannot be read ({error.strerror or _first_line(error)})"
            raise StorageError(self.requested, found, "Check the path and your right to read it") from error


def stack_of_array(array: Any, name: str) -> Stack:
    """Present anything that slices like an array as a stack."""
    shape = tuple(int(n) for n in array.shape)
    leading = len(shape) - 3
    if leading < 0 or any(n != 1 for n in shape[:leading]):
        raise DataError(name, f"it has the shape {shape}, not z, y, x", GIVE_STACK)

    def fetch(z_start: int, z_stop: int) -> NDArray[Any]:
        return np.asarray(array[(0,) * leading + (slice(z_start, z_stop),)])

    z, y, x = shape[leading:]
    return checked_stack(name, (z, y, x), array.dtype, fetch)


def checked_stack(
    name: str, shape: tuple[int, int, int], dtype: DTypeLike, fetch: Callable[[int, int], NDArray[Any]]
) -> Stack:
    """Build a stack that BOSS can hold."""
    given = np.dtype(dtype).newbyteorder("=")
    target = np.dtype("uint8") if given == np.bool_ else given
    if target.name not in _TYPES:
        wanted = "uint64 (annotation)" if target.name in ("uint32", "int32", "int64") else "uint8 or uint16"
        found = f"it holds {given.name}, and BOSS holds {', '.join(_TYPES)}"
        raise DataError(name, found, f"Convert it to {wanted} first")
    if min(shape) < 1:
        raise DataError(name, f"it has the shape {shape}, so it holds no voxel", "Give a stack with at least one slice")
    stack = Stack(name, shape, target, fetch)
    if stack.slice_bytes > MAX_SLICE_BYTES:
        found = (
            f"one slice has {stack.slice_bytes / 2**30:.1f} GiB, more than the {MAX_SLICE_BYTES / 2**30:.0f} allowed"
        )
        raise DataError(name, found, "Cut it into smaller stacks and give each its --origin")
    return stack


def probed(stack: Stack) -> Stack:
    """Read one slice and return the stack: a missing codec or damage shows before anything is written."""
    stack.read(0, 1)
    return stack


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
