"""The voxels of a data folder: one chunked array on disk for each channel and resolution.

The arrays are Zarr version 3: ``voxels/<channel id>/<resolution>``, axes t, z, y, x. Each chunk ends with its
checksum, so a flipped bit is an error.

A chunk is written to a new file that then takes the place of the old one, so a reader sees the old chunk or the new
one, and a killed writer leaves at most a stray ``*.partial`` file. A write of several chunks is not one transaction:
each chunk is whole, but a reader may see some of them written and others not yet.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from nd_synapse.errors import DataError, RangeError, StorageError
from nd_synapse.geometry import Box, Range
from nd_synapse.local_boss.locks import StripedLocks
from nd_synapse.local_boss.models import Channel

__all__ = ["CHUNK", "VoxelStore"]

logger = logging.getLogger(__name__)

CHUNK = (16, 512, 512)
"""Extent of a chunk (z, y, x) at every resolution: BOSS's cuboid."""

_INDEX = re.compile("0|[1-9][0-9]*")

Array = zarr.Array[Any]


class VoxelStore:
    """Read, merge and erase the voxels of the channels of a data folder, from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "voxels"
        self._locks = StripedLocks(root / "locks")

    def read(self, channel: Channel, resolution: int, box: Box, times: Range) -> NDArray[Any]:
        """Return the voxels of a box; only the chunks that it touches are read."""
        shape = (times[1] - times[0], *box.shape)
        with _translated(f"read {box} of channel {channel.name}"):
            array = self._existing(channel, resolution)
            if array is None or not shape[0]:
                return np.zeros(shape, channel.datatype)
            start = (times[0], *box.start)
            stop = [min(edge, extent) for edge, extent in zip((times[1], *box.stop), array.shape, strict=True)]
            if any(a >= b for a, b in zip(start, stop, strict=True)):
                return np.zeros(shape, channel.datatype)
            found = _array(array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])
        if found.shape == shape:
            return found
        result = np.zeros(shape, channel.datatype)
        result[tuple(slice(n) for n in found.shape)] = found
        return result

    def write(self, channel: Channel, resolution: int, box: Box, times: Range, data: NDArray[Any]) -> None:
        """Lay voxels over those of a box: the non-zero ones win, zeros change nothing."""
        requested = f"write {box} of channel {channel.name}"
        if any(stop > end for stop, end in zip(box.stop, channel.frame_stop, strict=True)):
            raise RangeError(
                requested, f"the frame ends at z, y, x {channel.frame_stop}", "Give a box within the frame"
            )
        shape = (times[1] - times[0], *box.shape)
        if data.shape != shape or data.dtype != np.dtype(channel.datatype):
            found = f"the data are {data.dtype} of shape {data.shape}, expected {channel.datatype} of shape {shape}"
            raise DataError(requested, found, "Give data of this type, as t, z, y, x")
        with _translated(requested):
            array = self._holding(channel, resolution, times[1])
            for time in range(*times):
                for part in box.tiles(CHUNK, aligned=True):
                    new = data[(time - times[0], *part.slices(box.start))]
                    if new.any():
                        self._merge(channel, resolution, array, time, part, new)

    def erase(self, channel: Channel, resolution: int, box: Box, times: Range) -> None:
        """Set the voxels of a box to 0."""
        with _translated(f"erase {box} of channel {channel.name}"):
            array = self._existing(channel, resolution)
            if array is None:
                return
            for time, part in self._stored(channel, resolution, array, times, box):
                self._merge(channel, resolution, array, time, part, None)

    def chunks(
        self, channel: Channel, resolution: int, box: Box | None = None, times: Range | None = None
    ) -> Iterator[tuple[int, Box, NDArray[Any]]]:
        """Yield the stored chunks as time, box, voxels (z, y, x); the cost depends on what is stored alone."""
        with _translated(f"read channel {channel.name}"):
            array = self._existing(channel, resolution)
            if array is None:
                return
            whole = Box.of_shape(array.shape[1:])
            for time, part in self._stored(channel, resolution, array, times or (0, array.shape[0]), box or whole):
                yield time, part, _array(array[(time, *part.slices())])

    def channel_ids(self) -> set[int]:
        """Return the numbers of the channels that have voxels here."""
        if not self._folder.is_dir():
            return set()
        return {int(entry.name) for entry in self._folder.iterdir() if _INDEX.fullmatch(entry.name)}

    def sweep(self) -> int:
        """Remove the temporary files of killed writers, each under the lock of its chunk, and return how many."""
        swept = 0
        for stray in self._folder.glob("*/*/c/*/*/*/*.partial"):
            chunk = stray.with_name(stray.name.split(".", 1)[0])
            with self._locks.hold(str(chunk.relative_to(self._folder))):
                if stray.exists():
                    stray.unlink()
                    swept += 1
        return swept

    def _merge(
        self, channel: Channel, resolution: int, array: Array, time: int, part: Box, new: NDArray[Any] | None
    ) -> None:
        """Rewrite one chunk under its lock: lay `new` over `part` of it, or erase that part."""
        index = (time, *(a // n for a, n in zip(part.start, CHUNK, strict=True)))
        chunk = _chunk_box(index[1:], array)
        with self._locks.hold(_chunk_name(channel, resolution, index)):
            voxels = _array(array[(time, *chunk.slices())])
            target = voxels[part.slices(chunk.start)]
            if new is None:
                target[...] = 0
            else:
                np.copyto(target, new, where=new != 0)
            array[(time, *chunk.slices())] = voxels

    def _stored(
        self, channel: Channel, resolution: int, array: Array, times: Range, box: Box
    ) -> Iterator[tuple[int, Box]]:
        """Walk over the parts of `box` whose chunk is on disk, in C order."""
        inside = box.intersection(Box.of_shape(array.shape[1:]))
        if inside is None:
            return
        ranges = [(a // n, -(-b // n)) for (a, b), n in zip(inside.ranges, CHUNK, strict=True)]
        samples = (times[0], min(times[1], array.shape[0]))
        for time, *index in _stored_indices(self._path(channel, resolution) / "c", [samples, *ranges]):
            part = inside.intersection(_chunk_box(index, array))
            assert part is not None
            yield time, part

    def _path(self, channel: Channel, resolution: int) -> Path:
        return self._folder / str(channel.id) / str(resolution)

    def _existing(self, channel: Channel, resolution: int) -> Array | None:
        """Return the array, or None; one that is not the channel's, or damaged, is an error."""
        path = self._path(channel, resolution)
        if not (path / "zarr.json").exists():
            return None
        array = zarr.open_array(LocalStore(path), mode="r+", zarr_format=3)
        found = (array.shape[1:], array.chunks, str(array.dtype), int(array.fill_value))
        expected = (channel.frame_stop, (1, *CHUNK), channel.datatype, 0)
        if found != expected:
            raise ValueError(f"its array has extent, chunks, type and fill value {found}, the catalog says {expected}")
        return array

    def _holding(self, channel: Channel, resolution: int, times_stop: int) -> Array:
        """Return the array, made or lengthened so that it holds the time samples before `times_stop`."""
        # Only the time axis ever grows, and its chunks are one sample long: so a writer with an older view of the
        # shape never rewrites a chunk as smaller than it is.
        array = self._existing(channel, resolution)
        if array is not None and times_stop <= array.shape[0]:
            return array
        with self._locks.hold(f"{channel.id}/{resolution}"):
            array = self._existing(channel, resolution)
            if array is None:
                samples = max(times_stop, channel.time_samples)
                return self._created(channel, resolution, (samples, *channel.frame_stop))
            array.resize((max(times_stop, array.shape[0]), *array.shape[1:]))
            return array

    def _created(self, channel: Channel, resolution: int, shape: tuple[int, ...]) -> Array:
        datatype = np.dtype(channel.datatype)
        codec = BloscCodec(typesize=datatype.itemsize, cname="zstd", clevel=1, shuffle="shuffle")
        return zarr.create_array(
            LocalStore(self._path(channel, resolution)),
            shape=shape,
            chunks=(1, *CHUNK),
            dtype=datatype,
            compressors=(codec, Crc32cCodec()),
            fill_value=0,
            dimension_names=("t", "z", "y", "x"),
        )


def _chunk_name(channel: Channel, resolution: int, index: tuple[int, ...]) -> str:
    """Return where a chunk lies below the folder of voxels; its lock has the same name."""
    return f"{channel.id}/{resolution}/c/" + "/".join(map(str, index))


def _stored_indices(folder: Path, ranges: Sequence[Range]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of what is stored below a folder, a level of folders for each range, in order."""
    (start, stop), *inner = ranges
    if not folder.is_dir():
        return
    found = sorted(int(entry.name) for entry in folder.iterdir() if _INDEX.fullmatch(entry.name))
    for index in found:
        if not start <= index < stop:
            continue
        if inner:
            for rest in _stored_indices(folder / str(index), inner):
                yield (index, *rest)
        else:
            yield (index,)


def _chunk_box(index: Sequence[int], array: Array) -> Box:
    """Return the voxels of the chunk at `index` (z, y, x), cut at the end of the array."""
    start = [i * n for i, n in zip(index, CHUNK, strict=True)]
    stop = [min(a + n, extent) for a, n, extent in zip(start, CHUNK, array.shape[1:], strict=True)]
    return Box(*zip(start, stop, strict=True))


def _array(found: object) -> NDArray[Any]:
    """Narrow the type: zarr declares an array or a scalar, and our selections are arrays."""
    return cast(NDArray[Any], found)


@contextmanager
def _translated(requested: str) -> Iterator[None]:
    """Turn what zarr and the file system raise into a StorageError."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # zarr raises ValueError on damaged metadata, its codecs RuntimeError on a damaged chunk
        remedy = "Check the disk of the data folder: its space, its rights, its health"
        raise StorageError(requested, str(error), remedy) from error
