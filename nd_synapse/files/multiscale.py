"""OME-Zarr 0.5: a mask as a multiscale image, and the ids of its objects as label images, written shard by shard.

::

    zarr.json                  multiscales: the mask, uint8, 0 and 255
    0/ 1/ ...                  its levels
    labels/zarr.json           the names of the label images
    labels/<name>/             multiscales and image-label: ids, 0 is background
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from nd_synapse.files.halving import halved
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

__all__ = ["CHUNK", "Pyramid", "open_level", "write_labelled"]

CHUNK = (16, 128, 128)
"""What a viewer fetches at once (z, y, x)."""

SHARD = (32, 512, 512)
"""What one file holds (z, y, x), as a block by default: few files, and all that is in memory of a volume."""

_PIECE = CHUNK
"""What is made of a coarser level at once."""

_PLANE = 512
"""Largest extent along y and x of the coarsest level."""

_VERSION = "0.5"
_ZSTD_LEVEL = 3


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


def write_labelled(folder: Path, name: str, masks: Mapping[str, Volume], labels: Volume, pyramid: Pyramid) -> None:
    """Write a mask as an image and the ids in it, and in the others, as label images; `folder` must not exist.

    `masks` (uint8, 0 and 255, shape (z, y, x) of the box) come by the names of their label images, that of the image
    first; `labels` is of the same shape, uint32 or uint64. `name` is that of the image.
    """
    root = zarr.create_group(
        LocalStore(folder), attributes={"ome": {"version": _VERSION, "multiscales": pyramid.multiscales(name)}}
    )
    about = {"version": _VERSION, "labels": list(masks)}
    group = root.create_group("labels", attributes={"ome": about})
    outputs = {}
    for label in masks:
        ome = {
            "version": _VERSION,
            "multiscales": pyramid.multiscales(label),
            "image-label": {"version": _VERSION, "source": {"image": "../../"}, "properties": []},
        }
        outputs[label] = _levels(group.create_group(label, attributes={"ome": ome}), pyramid, labels.dtype)
    image = _levels(root, pyramid, np.uint8)
    first = next(iter(masks))
    for shard in Box.of_shape(pyramid.box.shape).tiles(SHARD):
        ids = labels[shard.slices()]
        for label, mask in masks.items():
            inside = mask[shard.slices()] != 0
            if not inside.any():
                continue
            if label == first:
                image[0][shard.slices()] = inside * np.uint8(255)
            outputs[label][0][shard.slices()] = ids * inside
    for label, levels in outputs.items():
        _coarsen(levels, pyramid, image if label == first else None)


def open_level(folder: Path, level: int, label: str | None = None) -> zarr.Array[Any]:
    """Open a level of the image that `write_labelled` wrote, or of one of its label images, to be read."""
    return zarr.open_array(folder / (f"{level}" if label is None else f"labels/{label}/{level}"), mode="r")


def _levels(group: zarr.Group, pyramid: Pyramid, dtype: DTypeLike) -> list[Any]:
    """Create the arrays of an image, the finest first."""
    return [
        group.create_array(
            str(level),
            shape=box.shape,
            dtype=dtype,
            chunks=CHUNK,
            shards=SHARD,
            compressors=ZstdCodec(level=_ZSTD_LEVEL),
            fill_value=0,
            dimension_names=tuple("zyx"),
        )
        for level, box in enumerate(pyramid.boxes())
    ]


def _coarsen(levels: Sequence[Any], pyramid: Pyramid, image: Sequence[Any] | None) -> None:
    """Write every level but the first from the one before it; an image is 255 where there is an id."""
    factors, boxes = pyramid.factors(), pyramid.boxes()
    for level in range(1, len(levels)):
        steps = [b // a for a, b in zip(factors[level - 1], factors[level], strict=True)]
        for shard in boxes[level].tiles(SHARD):
            voxels = np.zeros(shard.shape, levels[level].dtype)
            for piece in shard.tiles(_PIECE):
                voxels[piece.slices(shard.start)] = halved(
                    _windows(levels[level - 1], boxes[level - 1], piece, steps), steps
                )
            if not voxels.any():
                continue
            levels[level][shard.slices(boxes[level].start)] = voxels
            if image is not None:
                image[level][shard.slices(boxes[level].start)] = (voxels != 0) * np.uint8(255)


def _windows(array: Any, box: Box, piece: Box, steps: Sequence[int]) -> NDArray[Any]:
    """Read what becomes a piece of the next level; 0 beyond the box that the array holds."""
    whole = Box(*((a * n, b * n) for (a, b), n in zip(piece.ranges, steps, strict=True)))
    inside = whole.intersection(box)
    assert inside is not None
    voxels = np.zeros(whole.shape, array.dtype)
    voxels[inside.slices(whole.start)] = array[inside.slices(box.start)]
    return voxels
