"""A volume as neuroglancer's precomputed format, made chunk by chunk from what a source or an array gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["Layer", "Read", "outlines"]

Read = Callable[[Box], NDArray[Any]]
"""Returns the voxels (z, y, x) of a box."""

_CHUNK = (8, 128, 128)
"""Voxels (z, y, x) of a chunk: at the coarsest level it is computed from 8 x 1024 x 1024."""

_FACTORS = (1, 2, 4, 8)
"""By which levels are coarser along y and x: sections are few, and thick."""

_FINE = 4
"""Parts of a voxel along y and x, of which an outline has the outermost."""

_NAME = re.compile("_".join([r"(\d+)-(\d+)"] * 3))


@dataclass(frozen=True, slots=True)
class Layer:
    """A volume, read when a part of it is looked at."""

    extent: Box
    voxel_size_nm: tuple[float, float, float]
    dtype: np.dtype[Any]
    read: Read
    """Is asked for boxes within the extent."""
    labels: bool = False
    """Whether the voxels are numbers of objects, and no image."""

    def info(self) -> dict[str, Any]:
        """Return the metadata of the volume, with axes x, y, z."""
        z_nm, y_nm, x_nm = self.voxel_size_nm
        scales = []
        for factor in _FACTORS:
            box = self._level(factor)
            scales.append(
                {
                    "key": str(factor),
                    "size": list(box.shape[::-1]),
                    "voxel_offset": list(box.start[::-1]),
                    "resolution": [x_nm * factor, y_nm * factor, z_nm],
                    "chunk_sizes": [list(_CHUNK[::-1])],
                    "encoding": "raw",
                }
            )
            if max(box.shape[1:]) <= 2 * _CHUNK[1]:
                break
        kind = "segmentation" if self.labels else "image"
        info = {"@type": "neuroglancer_multiscale_volume", "type": kind, "data_type": self.dtype.name}
        return {**info, "num_channels": 1, "scales": scales}

    def chunk(self, key: str, name: str) -> bytes | None:
        """Return the chunk ``x0-x1_y0-y1_z0-z1`` of a level; None if there is none."""
        found = _NAME.fullmatch(name)
        if found is None or key not in map(str, _FACTORS):
            return None
        factor, (x0, x1, y0, y1, z0, z1) = int(key), map(int, found.groups())
        if not (z0 < z1 and y0 < y1 and x0 < x1):
            return None
        box = Box((z0, z1), (y0, y1), (x0, x1))
        if not self._level(factor).contains(box) or any(n > most for n, most in zip(box.shape, _CHUNK, strict=True)):
            return None
        return np.ascontiguousarray(self._reduced(box, factor), self.dtype.newbyteorder("<")).tobytes()

    def _level(self, factor: int) -> Box:
        """Return the extent of a level in its own voxels."""
        z, *plane = self.extent.ranges
        y, x = ((start // factor, -(-stop // factor)) for start, stop in plane)
        return Box(z, y, x)

    def _reduced(self, box: Box, factor: int) -> NDArray[Any]:
        """Return voxels of a level: the mean of an image, and the largest of labels, so that small objects stay."""
        if factor == 1:
            return self.read(box)
        y, x = ((start * factor, stop * factor) for start, stop in box.ranges[1:])
        wanted = Box(box.z, y, x)
        inside = wanted.intersection(self.extent)
        assert inside is not None, "each voxel of a level has voxels of the volume"
        missing = [(a - c, d - b) for (a, b), (c, d) in zip(inside.ranges, wanted.ranges, strict=True)]
        voxels = np.pad(self.read(inside), missing, mode="edge")
        z, height, width = box.shape
        cells = voxels.reshape(z, height, factor, width, factor)
        reduced: NDArray[Any] = cells.max((2, 4)) if self.labels else np.rint(cells.mean((2, 4), dtype=np.float32))
        return reduced


def outlines(labels: Layer) -> Layer:
    """Return the outlines of labels in their sections: lines in the objects, a quarter of a voxel wide."""
    z, *plane = labels.extent.ranges
    y, x = ((start * _FINE, stop * _FINE) for start, stop in plane)
    z_nm, y_nm, x_nm = labels.voxel_size_nm
    size_nm = (z_nm, y_nm / _FINE, x_nm / _FINE)

    def read(box: Box) -> NDArray[Any]:
        y, x = ((start // _FINE, -(-stop // _FINE)) for start, stop in box.ranges[1:])
        beside = Box(box.z, y, x).grown((0, 1, 1), labels.extent)
        fine = labels.read(beside).repeat(_FINE, axis=1).repeat(_FINE, axis=2)
        around = np.pad(fine, ((0, 0), (1, 1), (1, 1)))
        inner = (around[:, :-2, 1:-1] == fine) & (around[:, 2:, 1:-1] == fine)
        inner &= (around[:, 1:-1, :-2] == fine) & (around[:, 1:-1, 2:] == fine)
        first = beside.start
        return np.where(inner, 0, fine)[box.slices((first[0], first[1] * _FINE, first[2] * _FINE))]

    return Layer(Box(z, y, x), size_nm, labels.dtype, read, labels=True)
