"""Volumes that a block-wise detection gets wrong first, a source that counts, and a pipeline that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box, Range
from nd_synapse.pipeline.contract import Detected, Finding, Place
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import Arrays

SHAPE = (12, 48, 48)
SIZE = (4, 16, 16)


def background() -> NDArray[np.uint8]:
    return np.random.default_rng(0).poisson(10, SHAPE).astype(np.uint8)


def thread() -> NDArray[np.uint8]:
    """One long thin object that goes through blocks along every axis."""
    voxels = background()
    for step in range(48):
        z = min(step // 4, 11)
        voxels[z, step, max(0, step - 1) : step + 2] = 220
        voxels[z, max(0, step - 1) : step + 2, step] = 220
    return voxels


def corners() -> NDArray[np.uint8]:
    """Small objects that touch across the corners of eight blocks only."""
    voxels = background()
    for z, y, x in ((4, 16, 16), (4, 32, 16), (8, 16, 32), (8, 32, 32)):
        voxels[z - 2 : z, y - 2 : y, x - 2 : x] = 220
        voxels[z : z + 2, y : y + 2, x : x + 2] = 220
    return voxels


def empty_block() -> NDArray[np.uint8]:
    """Spots everywhere but in one block, which is zero."""
    voxels = background()
    voxels[np.random.default_rng(1).random(SHAPE) < 0.01] = 220
    voxels[4:8, 16:32, 16:32] = 0
    return voxels


def constant_block() -> NDArray[np.uint8]:
    """Spots everywhere but in one block, which is saturated."""
    voxels = background()
    voxels[np.random.default_rng(2).random(SHAPE) < 0.01] = 220
    voxels[0:4, 0:16, 32:48] = 255
    return voxels


def dense() -> NDArray[np.uint8]:
    """Objects so large that each is in several blocks."""
    voxels = background()
    voxels[np.random.default_rng(3).random(SHAPE) < 0.2] = 220
    return voxels


class Counting(Arrays):
    """A source that records its requests."""

    requested: list[tuple[str, Box]]

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        self.requested.append((channel, Box(z_range, y_range, x_range)))
        return super().get_cutout(channel, z_range, y_range, x_range)


@dataclass(frozen=True, slots=True)
class Fragile(NomadsUnsupervised):
    """The pipeline, failing on a block that holds a certain voxel, as long as a flag says so."""

    broken: bool = True

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        halo = self.halo(place.voxel_size_nm)
        inside = tuple(slice(margin, margin + n) for margin, n in zip(halo, place.shape, strict=True))
        if self.broken and (arrays["presynaptic"][inside] == 254).any():
            raise ValueError("a voxel that I cannot stand")
        return NomadsUnsupervised.detect(self, arrays, finding, place)
