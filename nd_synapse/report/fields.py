"""Fields: small boxes of the images, drawn at random, whose voxels stand for all of the volume.

They hold voxels and judge nothing; figures that need every voxel do not exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.report.table import NothingToDrawError
from nd_synapse.volumes import Volume

__all__ = ["Field", "Fields"]

SIZE = (8, 256, 256)
MOST_FIELDS = 12
_MOST_VOXELS = 64_000_000
_BLACK, _WHITE = 0.01, 0.995


@dataclass(frozen=True, slots=True)
class Field:
    """A field.

    Parameters
    ----------
    box : Box
        Where it lies, from the first voxel of the volume.
    voxels : mapping of str to ndarray, shape (z, y, x)
        Its voxels by channel.
    """

    box: Box
    voxels: Mapping[str, NDArray[Any]]


class Fields:
    """The fields of a volume, read when a figure asks for them first.

    Parameters
    ----------
    images : mapping of str to Volume, shape (z, y, x)
        The channels, of one shape; may be none.
    seed : int
        Seed of the choice of fields.
    """

    def __init__(self, images: Mapping[str, Volume], seed: int) -> None:
        self.images = images
        self.seed = seed
        self._unreadable = ""

    @cached_property
    def all(self) -> list[Field]:
        """The fields in the order of the volume; together at most 64 million voxels over all channels."""
        self.need()
        z, y, x = next(iter(self.images.values())).shape
        boxes = chosen((z, y, x), len(self.images), self.seed)
        try:
            return [
                Field(box, {name: np.asarray(image[box.slices()]) for name, image in self.images.items()})
                for box in boxes
            ]
        except NDSynapseError as error:
            # a service that does not answer takes its time to fail, and is not asked again for the next figure
            self._unreadable = f"The voxels of the images could not be read: {error}"
            raise NothingToDrawError(self._unreadable) from error

    @cached_property
    def contrast(self) -> dict[str, tuple[float, float]]:
        """The grey values shown as black and as white: a channel's 1 % and 99.5 % quantiles in the fields."""
        return {name: _limits([field.voxels[name][:, ::2, ::2] for field in self.all]) for name in self.images}

    def need(self) -> None:
        """Raise NothingToDrawError unless there are images, and none of them was found to be unreadable."""
        if self._unreadable:
            raise NothingToDrawError(self._unreadable)
        if not self.images:
            raise NothingToDrawError("No voxels of the images were handed over, only the table.")


def chosen(shape: tuple[int, int, int], channels: int, seed: int) -> list[Box]:
    """Choose the boxes of the fields."""
    size = [min(extent, most) for extent, most in zip(shape, SIZE, strict=True)]
    grid = [extent // side for extent, side in zip(shape, size, strict=True)]
    most = max(1, min(MOST_FIELDS, _MOST_VOXELS // (math.prod(size) * channels)))
    total = math.prod(grid)
    picked = np.random.default_rng(seed).choice(total, min(most, total), replace=False)
    boxes = []
    for index in np.sort(picked):
        corner = [int(i) * side for i, side in zip(np.unravel_index(index, grid), size, strict=True)]
        boxes.append(Box(*((start, start + side) for start, side in zip(corner, size, strict=True))))
    return boxes


def _limits(parts: list[NDArray[Any]]) -> tuple[float, float]:
    """Return the grey values of black and white, apart from each other even in constant images."""
    values = np.concatenate([part.ravel() for part in parts])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.quantile(values, (_BLACK, _WHITE)))
    return (low, high) if high > low else (low, low + 1)
