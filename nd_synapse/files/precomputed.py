"""Volumes of Neuroglancer (precomputed), as their ``info`` describes them; chunks in shards are found by `shards`."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UnknownNameError, few
from nd_synapse.files.chunked import Chunked, Objects, metadata_of
from nd_synapse.files.image import Image
from nd_synapse.files.reading import reading
from nd_synapse.files.segments import unpacked
from nd_synapse.files.shards import Shards
from nd_synapse.text import levels_there

__all__ = ["level_count", "open_scale", "volumes"]

_INFO = "info"


def volumes(objects: Objects, name: str) -> dict[str, str]:
    """Return the paths of the volumes that are the channels, by name: "" is a volume at the address itself."""
    if _is_volume(metadata_of(objects, _INFO, name)):
        return {"": ""}
    members = objects.names("")
    infos = {member: metadata_of(objects, f"{member}/{_INFO}", f"{name}/{member}") for member in members}
    found = {member: member for member, info in infos.items() if _is_volume(info)}
    if not found:
        held = f"there is no info file of a volume, and none in a folder below; there is {few(members) or 'nothing'}"
        raise UnknownNameError(name, held, "Check the address: it ends with the folder of the info file")
    return found


def _is_volume(info: Mapping[str, Any] | None) -> bool:
    return info is not None and "scales" in info


def level_count(objects: Objects, path: str, name: str) -> int:
    """Return the number of scales of a volume."""
    return len((metadata_of(objects, posixpath.join(path, _INFO), name) or {}).get("scales", ()))


def open_scale(objects: Objects, path: str, name: str, level: int = 0) -> Image:
    """Return a scale of a volume, 0 being the first; its place 0, 0, 0 is that of ``voxel_offset``."""
    info = metadata_of(objects, posixpath.join(path, _INFO), name) or {}
    with reading(name):
        scales = info["scales"]
        if level >= len(scales):
            found = levels_there(len(scales))
            raise UnknownNameError(f"level {level} of {name}", found, "Give another --resolution")
        said = scales[level]
        scale = _Scale(
            objects,
            posixpath.normpath(posixpath.join(path, str(said["key"]))),
            name,
            said,
            np.dtype(str(info["data_type"])),
            (int(info.get("num_channels", 1)), *_z_y_x(said["size"])),
            _z_y_x(said.get("voxel_offset") or (0, 0, 0)),
            _z_y_x(said["chunk_sizes"][0]),
        )
        scale.check()
        z, y, x = (float(n) for n in reversed(said["resolution"]))
        shards = Shards(objects, scale.folder, said["sharding"], scale.grid()) if said.get("sharding") else None
    array = Chunked(scale.shape, scale.dtype, (scale.shape[0], *scale.chunk), lambda place: scale.read(place, shards))
    array.check(name)
    return Image(name, "czyx", array.shape, array.dtype, array.__getitem__, (z, y, x), (), scale.offset, scale.folder)


def _z_y_x(values: Any) -> tuple[int, int, int]:
    x, y, z = map(int, values)
    return z, y, x


@dataclass(frozen=True, slots=True)
class _Scale:
    """One scale of a volume."""

    objects: Objects
    folder: str
    name: str
    said: Mapping[str, Any]
    dtype: np.dtype[Any]
    shape: tuple[int, int, int, int]
    """Channels, z, y, x."""
    offset: tuple[int, int, int]
    chunk: tuple[int, int, int]

    def check(self) -> None:
        """Refuse what has no decoder."""
        encoding, known = self.said["encoding"], ("raw", "jpeg", "png", "compressed_segmentation")
        if encoding not in known:
            found = f"its encoding is {encoding}; {', '.join(known)} are read"
            raise DataError(self.name, found, "Save it with one of them")

    def grid(self) -> tuple[int, int, int]:
        """Return the number of chunks along z, y, x."""
        z, y, x = (-(-n // size) for n, size in zip(self.shape[1:], self.chunk, strict=True))
        return z, y, x

    def read(self, place: tuple[int, ...], shards: Shards | None) -> NDArray[Any] | None:
        """Return a chunk (channel, z, y, x) by its place in the grid; None if it is not there."""
        ends = [
            (at * size, min((at + 1) * size, n))
            for at, size, n in zip(place[1:], self.chunk, self.shape[1:], strict=True)
        ]
        named = [f"{start + first}-{stop + first}" for (start, stop), first in zip(ends, self.offset, strict=True)]
        key = posixpath.join(self.folder, "_".join(reversed(named)))
        with reading(f"chunk {key} of {self.name}"):
            z, y, x = place[1:]
            body = self.objects.read(key) if shards is None else shards.read((z, y, x))
            z, y, x = (stop - start for start, stop in ends)
            return None if body is None else self._decoded(body, (self.shape[0], z, y, x))

    def _decoded(self, body: bytes, shape: tuple[int, int, int, int]) -> NDArray[Any]:
        """Decode the voxels of a chunk of a shape (channel, z, y, x)."""
        match self.said["encoding"]:
            case "raw":
                return np.frombuffer(body, self.dtype.newbyteorder("<")).reshape(shape)
            case "compressed_segmentation":
                return unpacked(body, shape, self.dtype, _z_y_x(self.said["compressed_segmentation_block_size"]))
            case encoding:
                # a picture that is as wide as the chunk, or as many pixels in another arrangement
                import imagecodecs

                decode = imagecodecs.jpeg8_decode if encoding == "jpeg" else imagecodecs.png_decode
                picture = np.asarray(decode(body)).reshape(*shape[1:], shape[0])
                return np.moveaxis(picture, -1, 0)
