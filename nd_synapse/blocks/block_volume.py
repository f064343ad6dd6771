"""A volume that is stored block by block, read like an array: by three slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.errors import StorageError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

__all__ = ["Bits", "BlockVolume", "overlapping", "part_of"]


class BlockVolume:
    """A volume (z, y, x) in blocks, cut at multiples of `block_size`; `read` returns a block, or None for zeros."""

    def __init__(
        self,
        read: Callable[[Box], Volume | None],
        volume: Box,
        block_size: tuple[int, int, int],
        dtype: DTypeLike,
    ) -> None:
        self._read = read
        self.volume = volume
        self.block_size = block_size
        self.dtype = np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return self.volume.shape

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Return a part (z, y, x) as an array of its own; see `part_of`."""
        return part_of(self.volume, index, self.dtype, self.part)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it; for volumes that fit memory."""
        whole: NDArray[Any] = np.asarray(self.part(self.volume), dtype or self.dtype)
        return whole

    def part(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box, in the volume's own coordinates."""
        voxels = np.zeros(box.shape, self.dtype)
        for block in overlapping(box, self.volume, self.block_size):
            shared = box.intersection(block)
            stored = self._read(block)
            if stored is not None and stored.shape != block.shape:
                found = f"it has the shape {stored.shape}, not {block.shape}"
                raise StorageError(f"block {block} on disk", found, "Remove the scratch folder, and start over")
            if shared is not None and stored is not None:
                voxels[shared.slices(box.start)] = stored[shared.slices(block.start)]
        return voxels


class Bits:
    """A mask (uint8, 0 and 255) of which a voxel is a bit on disk: few of its bytes have to be written and read."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, bits: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """Take what `of` returned, and the shape of the mask (z, y, x)."""
        self._bits, self.shape = bits, shape

    @staticmethod
    def of(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the bits of a mask, 8 along x in a byte: uint8, shape (z, y, x / 8 rounded up)."""
        return np.packbits(mask, axis=-1)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        """Return a part of the mask, shape (z, y, x)."""
        z, y, x = index
        return np.unpackbits(self._bits[z, y], axis=-1, count=self.shape[-1])[..., x] * np.uint8(255)


def part_of(
    volume: Box, index: tuple[slice, slice, slice], dtype: np.dtype[Any], read: Callable[[Box], NDArray[Any]]
) -> NDArray[Any]:
    """Return the part (z, y, x) of a volume that three slices without a step select, counted from its first voxel."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(isinstance(part, slice) and part.step in (None, 1) for part in parts)
    if len(parts) != 3 or not plain:
        raise UsageError(
            f"voxels [{', '.join(map(_written, parts))}]",
            "a volume is read by three slices without a step",
            "Write such as volume[0:4, 0:100, 0:100], and index the array that comes",
        )
    spans = [part.indices(length)[:2] for part, length in zip(parts, volume.shape, strict=True)]
    if any(stop <= first for first, stop in spans):
        return np.zeros([max(0, stop - first) for first, stop in spans], dtype)
    return read(Box(*((start + first, start + stop) for (first, stop), start in zip(spans, volume.start, strict=True))))


def _written(part: object) -> str:
    """Return an index as it is written between brackets."""
    if not isinstance(part, slice):
        return "..." if part is ... else repr(part)
    ends = [part.start, part.stop] if part.step is None else [part.start, part.stop, part.step]
    return ":".join("" if end is None else str(end) for end in ends)


def overlapping(box: Box, volume: Box, size: tuple[int, int, int]) -> Iterator[Box]:
    """Yield the blocks of a volume that share voxels with a box."""
    grown = Box(*((start // n * n, -(-stop // n) * n) for (start, stop), n in zip(box.ranges, size, strict=True)))
    inside = grown.intersection(volume)
    if inside is not None:
        yield from inside.tiles(size, aligned=True)
