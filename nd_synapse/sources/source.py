"""A volume in files or in a bucket as a `Source`: its channels, its voxel size, its voxels; it writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import UnknownNameError, UsageError, closest, few
from nd_synapse.files.image import ImageVolume
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import shown_size
from nd_synapse.geometry import Box, Frame, Range, check_within
from nd_synapse.sources.contents import Contents, contents_of
from nd_synapse.sources.location import Location

__all__ = ["FileSource", "Ranges", "box_of", "open_source"]

_READABLE = ("uint8", "uint16", "uint64")

Ranges = tuple[Range | None, Range | None, Range | None]
"""Half-open ranges along z, y, x; None is all of an axis."""
_WHOLE: Ranges = (None, None, None)


class FileSource:
    """Channels of a volume in files or in a bucket, and a box of it.

    It is a `nd_synapse.volumes.JobSource`. Pickled, it is its location: another process opens it anew.
    """

    def __init__(self, contents: Contents, ranges: Ranges = _WHOLE, only: Sequence[str] = ()) -> None:
        self.contents = contents
        self.location = contents.location
        self._ranges = ranges
        self._only = tuple(only)
        self.channels: list[str] = list(contents.volumes)
        self.image_channels: list[str] = contents.images
        self.description = ""
        self.forbidden_channels: list[str] = []
        self.is_service = "http://" in self.location.uri or "https://" in self.location.uri
        self.is_synthetic = False
        self.frame = _frame(contents)
        whole = self.frame.extent.ranges
        self.box = Box(*(all_of if given is None else given for given, all_of in zip(ranges, whole, strict=True)))
        check_within(self.box, self.frame)
        for name in only:
            self._volume(name)
        self.requested_channels: list[str] = list(only) or list(self.channels)

    def part(self, ranges: Ranges, only: Sequence[str] = ()) -> FileSource:
        """Return a box of it (z, y, x; None for a whole axis), with some of its channels; none means all."""
        return FileSource(self.contents, ranges, only)

    @property
    def identity(self) -> str:
        """Location, extent and voxel size, and a digest of types and of what is known of the files."""
        level = f" level {self.location.resolution}" if self.location.resolution else ""
        return f"{self.location.uri}{level} {self.frame.extent} {self.frame.size_text()} {self._stamp}"

    @cached_property
    def _stamp(self) -> str:
        """Digest of the types of channels, and of what is known of their files: one that changed shows."""
        digest = hashlib.sha256()
        for fact in self._facts():
            digest.update(f"{fact}\n".encode(errors="replace"))
        return digest.hexdigest()[:8]

    def _facts(self) -> Iterator[str]:
        yield from (f"{name} {self.contents.volumes[name].dtype}" for name in self.channels)
        if self.location.scale_float:
            yield "floats are scaled"
        apart = dict(self.location.channels)
        for uri, chunks in dict.fromkeys(
            (apart.get(name, self.location.uri), volume.chunks) for name, volume in self.contents.volumes.items()
        ):
            location = self.location.of(uri)
            if chunks is not None:
                from nd_synapse.sources.objects import objects_at  # requests is imported only where it is used

                yield from objects_at(location.place).versions(chunks)
            elif not location.is_remote:
                yield from _of_files(Path(location.place))

    @property
    def readable_channels(self) -> list[str]:
        """Names of the channels of uint8, uint16 or uint64."""
        return [name for name in self.channels if self.contents.volumes[name].dtype.name in _READABLE]

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels."""
        return self._volume(channel).dtype

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        """Return the voxels of a channel in three half-open ranges: C order, shape (z, y, x), of `dtype(channel)`."""
        box = Box(z_range, y_range, x_range)
        check_within(box, self.frame)
        return self._volume(channel)[box.slices()]

    def describe(self) -> dict[str, Any]:
        """Return what this is as values for JSON."""
        return {
            **self.location.as_json(),
            "channels": list(self.channels),
            "requested_channels": list(self.requested_channels),
            "z_range": list(self.box.z),
            "y_range": list(self.box.y),
            "x_range": list(self.box.x),
            "volume_stop_zyx": list(self.frame.extent.stop),
            "voxel_size_nm_zyx": list(self.frame.voxel_size_nm),
        }

    def _volume(self, channel: str) -> ImageVolume:
        if channel not in self.contents.volumes:
            there = few(closest(channel, self.channels))
            raise UnknownNameError(
                f"channel {channel!r} of {self.location.uri}",
                f"there is no such channel; it has {there}",
                "Check the name",
            )
        return self.contents.volumes[channel]

    def __copy__(self) -> FileSource:
        """Return itself: several threads may read it."""
        return self

    def __reduce__(self) -> tuple[Callable[..., FileSource], tuple[Any, ...]]:
        """Pickle the location: files and connections stay in their process."""
        return _again, (self.location, self._ranges, self._only)


def _of_files(root: Path) -> Iterator[str]:
    """Yield size and time of a file, or of the TIFF files of a folder and of those in it."""
    files = [root] if root.is_file() else [*root.glob("*.[tT][iI][fF]*"), *root.glob("*/*.[tT][iI][fF]*")]
    with reading(root):
        for file in sorted(files):
            seen = file.stat()
            yield f"{file.relative_to(root)} {seen.st_size} {seen.st_mtime_ns}"


def _again(location: Location, ranges: Ranges, only: Sequence[str]) -> FileSource:
    return FileSource(contents_of(location), ranges, only)  # who pickled it has warned


def open_source(location: Location) -> FileSource:
    """Open a volume: its metadata are read, and no voxel.

    Parameters
    ----------
    location : Location
        Where it lies.

    Returns
    -------
    FileSource
        The whole volume; its names, types and voxel size are checked.

    Raises
    ------
    UnknownNameError
        If there is no such file, bucket, image or level.
    UsageError
        If the voxel size is neither in the metadata nor given.
    DataError
        If it is no volume that can be read, or its channels differ in shape or voxel size.
    PermissionDeniedError
        If it may not be read.
    UnavailableError
        If its server does not answer.
    """
    contents = contents_of(location)
    contents.warn_of_left_out()
    return FileSource(contents)


def box_of(location: Location, ranges: Ranges) -> Box:
    """Return the box of three ranges; if one is missing the volume is opened, without the warnings of a run."""
    z, y, x = ranges
    if z is not None and y is not None and x is not None:
        return Box(z, y, x)
    return FileSource(contents_of(location), ranges).box


def _frame(contents: Contents) -> Frame:
    """Return the frame of a volume whose voxel size is known."""
    location, size = contents.location, contents.voxel_size_nm
    z, y, x = size
    if z is None or y is None or x is None:
        found = f"its metadata say {shown_size(size)} nm (z, y, x)"
        raise UsageError(f"voxel size of {location.uri}", found, "Give --voxel-size-nm Z,Y,X")
    return Frame(location.name, Box.of_shape(contents.shape), (z, y, x))
