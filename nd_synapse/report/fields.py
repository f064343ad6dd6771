"""Fields: small boxes of the images, drawn at random, whose voxels stand for the whole volume."""

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

__all__ = ["Field", "Fields", "grey_range", "piled_up"]

SIZE = (8, 256, 256)
MOST_FIELDS = 12
_MOST_VOXELS = 64_000_000
_BLACK, _WHITE = 0.01, 0.995


@dataclass(frozen=True, slots=True)
class Field:
    """A box, from the first voxel of the volume, and its voxels (z, y, x) by channel."""

    box: Box
    voxels: Mapping[str, NDArray[Any]]


class Fields:
    """The fields of a volume; `images` are channels of one shape (z, y, x), read at the first use."""

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
            # a service that does not answer fails slowly: the next figure does not try again
            self._unreadable = f"The voxels of the images could not be read: {error}"
            raise NothingToDrawError(self._unreadable) from error

    @cached_property
    def contrast(self) -> dict[str, tuple[float, float]]:
        """Grey values shown as black and as white, by channel: the 1 % and 99.5 % quantiles in the fields."""
        return {name: self._contrast(name) for name in self.images}

    def _contrast(self, name: str) -> tuple[float, float]:
        parts = [field.voxels[name][:, ::2, ::2].ravel() for field in self.all]
        return grey_range(np.concatenate(parts), _BLACK, _WHITE)

    @cached_property
    def at_top(self) -> dict[str, float]:
        """Share of the voxels that have a channel's largest value, if they pile up there (else 0); 1 if all do."""
        return {
            name: piled_up(np.concatenate([field.voxels[name][:, ::2, ::2].ravel() for field in self.all]))
            for name in self.images
        }

    def need(self) -> None:
        """Raise NothingToDrawError if there are no images, or reading them has failed."""
        if self._unreadable:
            raise NothingToDrawError(self._unreadable)
        if not self.images:
            raise NothingToDrawError("The report was drawn from the table alone, without the voxels of the images.")


def chosen(shape: tuple[int, int, int], channels: int, seed: int) -> list[Box]:
    """Choose the boxes of the fields at random, in the order of the volume."""
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


def piled_up(values: NDArray[Any]) -> float:
    """Return the share of values at the largest one, 0 unless more are there than in the twentieth below it."""
    values = values.astype(np.uint8) if values.dtype == bool else values[np.isfinite(values)]
    if not values.size:
        return 0.0
    low, top = values.min(), values.max()
    if low == top:
        return 1.0
    at_top = int(np.count_nonzero(values == top))
    near = int(np.count_nonzero(values >= top - (float(top) - float(low)) / 20)) - at_top
    return at_top / values.size if values.dtype.kind in "iu" and at_top > near else 0.0


def grey_range(values: NDArray[Any], black: float, white: float) -> tuple[float, float]:
    """Return two quantiles of the finite values, at least 1 apart if they coincide; 0 and 1 without any."""
    values = values.astype(np.uint8) if values.dtype == bool else values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.quantile(values, (black, white)))
    return (low, high) if high > low else (low, low + 1)
