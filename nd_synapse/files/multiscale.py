"""OME-Zarr 0.5: a mask as a multiscale image, and the ids of its objects as label images, written shard by shard.

Whole shards are written, each to a file of its own: any process may write any shard, once those of the level before
are there.

::

    zarr.json                  multiscales: the mask, uint8, 0 and 255
    0/ 1/ ...                  its levels
    labels/zarr.json           the names of the label images
    labels/<name>/             multiscales and image-label: ids, 0 is background
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nd_synapse.files.halving import halved
from nd_synapse.files.zarr_shards import array_metadata, chunks_of, group_metadata, packed
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

if TYPE_CHECKING:
    import zarr

__all__ = ["CHUNK", "Labelled", "Pyramid", "open_level"]

CHUNK = (16, 128, 128)
"""What a viewer fetches at once (z, y, x)."""

SHARD = (32, 512, 512)
"""What one file holds (z, y, x), as a block by default: few files, and all that is in memory of a volume."""

_PLANE = 512
"""Largest extent along y and x of the coarsest level."""

_VERSION = "0.5"


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The levels of a box of voxels: how often each axis is halved.

    Voxels that become one are counted from voxel 0 of the volume: two boxes have the same levels where they overlap,
    but at their borders.
    """

    box: Box
    voxel_size_nm: tuple[float, float, float]

    def factors(self) -> list[tuple[int, int, int]]:
        """Return how many voxels of the box a voxel of each level is wide (z, y, x), powers of 2.

        Axes whose voxels are not twice as wide as the narrowest are halved, until y and x have at most 512 voxels:
        thick sections stay whole until voxels are as wide as they are thick.
        """
        levels = [(1, 1, 1)]
        while max(self.at(levels[-1]).shape[1:]) > _PLANE:
            factors = levels[-1]
            sizes = [n * size for n, size in zip(factors, self.voxel_size_nm, strict=True)]
            shape = self.at(factors).shape
            narrowest = min(size for size, extent in zip(sizes, shape, strict=True) if extent > 1)
            z, y, x = (
                2 * n if extent > 1 and size < 2 * narrowest else n
                for n, size, extent in zip(factors, sizes, shape, strict=True)
            )
            levels.append((z, y, x))
        return levels

    def at(self, factors: Sequence[int]) -> Box:
        """Return the voxels of a level, in its own voxels from voxel 0 of the volume."""
        return Box(*((start // n, -(-stop // n)) for (start, stop), n in zip(self.box.ranges, factors, strict=True)))

    def boxes(self) -> list[Box]:
        """Return the voxels of every level."""
        return [self.at(factors) for factors in self.factors()]

    def multiscales(self, name: str) -> list[dict[str, Any]]:
        """Return the metadata: where the centre of a voxel lies, in nanometres from that of voxel 0 of the volume."""
        datasets = []
        for level, factors in enumerate(self.factors()):
            scale = [n * size for n, size in zip(factors, self.voxel_size_nm, strict=True)]
            centre = [start * n + (n - 1) / 2 for start, n in zip(self.at(factors).start, factors, strict=True)]
            translation = [place * size for place, size in zip(centre, self.voxel_size_nm, strict=True)]
            moves = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
            datasets.append({"path": str(level), "coordinateTransformations": moves})
        axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
        return [{"name": name, "axes": axes, "datasets": datasets, "type": "maximum"}]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A mask as an image, and the ids in it, and in others, as label images."""

    folder: Path
    labels: tuple[str, ...]
    """Names of the label images; that of the image's mask is the first."""
    dtype: np.dtype[Any]
    """Of the ids: uint32 or uint64."""
    pyramid: Pyramid

    def create(self, name: str) -> None:
        """Make the folder, which must not exist, and write all metadata; `name` is that of the image."""
        self.folder.mkdir(parents=True)
        self._create_image(None, np.uint8, {"multiscales": self.pyramid.multiscales(name)})
        _save(self.folder / "labels" / "zarr.json", _group({"labels": list(self.labels)}))
        for label in self.labels:
            about = {"version": _VERSION, "source": {"image": "../../"}, "properties": []}
            ome = {"multiscales": self.pyramid.multiscales(label), "image-label": about}
            self._create_image(label, self.dtype, ome)

    def _create_image(self, label: str | None, dtype: DTypeLike, ome: Mapping[str, Any]) -> None:
        """Write the metadata of the image, or of a label image, and of its levels."""
        _save(_level(self.folder, 0, label).parent / "zarr.json", _group(ome))
        for level, box in enumerate(self.pyramid.boxes()):
            metadata = array_metadata(box.shape, dtype, SHARD, CHUNK)
            _save(_level(self.folder, level, label) / "zarr.json", metadata)

    def shards(self, level: int) -> list[Box]:
        """Return the shards of a level, in voxels from the first of its arrays."""
        return list(Box.of_shape(self.pyramid.boxes()[level].shape).tiles(SHARD))

    def write_finest(self, shard: Box, masks: Mapping[str, Volume], ids: Volume) -> None:
        """Write a shard of level 0, of masks (uint8, 0 and 255, shape (z, y, x) of the box) by their label images."""
        voxels = ids[shard.slices()]
        for label in self.labels:
            mask = masks[label][shard.slices()]
            inside = mask != 0
            if inside.any():
                self._write(0, shard, label, voxels, inside)
                if label == self.labels[0]:
                    self._write(0, shard, None, mask)

    def write_coarser(self, level: int, shard: Box) -> None:
        """Write a shard of a level from those of the one before."""
        for label in self.labels:
            voxels = self._halved(level, shard, label)
            if voxels.any():
                self._write(level, shard, label, voxels)
                if label == self.labels[0]:
                    self._write(level, shard, None, (voxels != 0) * np.uint8(255))

    def _halved(self, level: int, shard: Box, label: str) -> NDArray[Any]:
        """Return the ids of a shard, from the chunks of the level before; `shard.shape`."""
        boxes, factors = self.pyramid.boxes(), self.pyramid.factors()
        steps = [b // a for a, b in zip(factors[level - 1], factors[level], strict=True)]
        here = _moved(shard, boxes[level].start)
        whole = Box(*((a * n, b * n) for (a, b), n in zip(here.ranges, steps, strict=True)))
        before = boxes[level - 1]
        inside = whole.intersection(before)
        assert inside is not None
        voxels = np.zeros(shard.shape, self.dtype)
        for place in _moved(inside, [-n for n in before.start]).tiles(SHARD, aligned=True):
            number = [start // n for start, n in zip(place.start, SHARD, strict=True)]
            try:
                body = self._path(level - 1, number, label).read_bytes()
            except FileNotFoundError:
                continue  # a shard of zeros
            first = [i * n + start for i, n, start in zip(number, SHARD, before.start, strict=True)]
            for chunk, ids in chunks_of(body, SHARD, CHUNK, self.dtype):
                _merge(voxels, here, _moved(chunk, first), ids, steps)
        return voxels

    def _write(
        self, level: int, shard: Box, label: str | None, voxels: NDArray[Any], inside: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a shard of a label image, or of the image, to the device; 0 where it is not `inside`."""
        body = packed(voxels, SHARD, CHUNK, inside)
        if body is not None:
            _save(self._path(level, [start // n for start, n in zip(shard.start, SHARD, strict=True)], label), body)

    def _path(self, level: int, number: Sequence[int], label: str | None) -> Path:
        """Return the file of a shard."""
        return _level(self.folder, level, label) / "c" / "/".join(map(str, number))


def open_level(folder: Path, level: int, label: str | None = None) -> zarr.Array[Any]:
    """Open a level of an image that was written here, or of one of its label images, to be read."""
    import zarr  # processes that write do without

    return zarr.open_array(_level(folder, level, label), mode="r")


def _level(folder: Path, level: int, label: str | None) -> Path:
    """Return the folder of a level of the image, or of a label image."""
    return folder / (f"{level}" if label is None else f"labels/{label}/{level}")


def _group(ome: Mapping[str, Any]) -> bytes:
    """Return the metadata of a group."""
    return group_metadata({"ome": {"version": _VERSION, **ome}})


def _save(path: Path, body: bytes) -> None:
    """Write a file to the device."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _moved(box: Box, by: Sequence[int]) -> Box:
    """Return a box as it is counted from another voxel."""
    return Box.of_shape(box.shape, [start + n for start, n in zip(box.start, by, strict=True)])


def _merge(voxels: NDArray[Any], here: Box, chunk: Box, ids: NDArray[Any], steps: Sequence[int]) -> None:
    """Put a chunk of the level before into the voxels of a box, in place, where they are larger.

    Windows begin at even voxels of the volume: one may lie in several chunks, and in voxels beyond the box.
    """
    before = [start % n for start, n in zip(chunk.start, steps, strict=True)]
    if any(before):
        ids = np.pad(ids, [(n, 0) for n in before])
    smaller = halved(ids, steps)
    place = Box.of_shape(smaller.shape, [start // n for start, n in zip(chunk.start, steps, strict=True)])
    shared = place.intersection(here)
    if shared is not None:
        target = voxels[shared.slices(here.start)]
        np.maximum(target, smaller[shared.slices(place.start)], out=target)
