"""Volumes in memory as the source of a detection, and whether two detections are the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box, Frame, Range
from tests.pipelines.variants import built

ROLES = {"presynaptic": "pre", "postsynaptic": "post"}
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)


class Arrays:
    """A source that holds its voxels in memory; it goes to workers with them."""

    def __init__(self, origin: tuple[int, int, int] = (0, 0, 0), /, **channels: NDArray[Any]) -> None:
        self.data = channels
        self.box = Box.of_shape(next(iter(channels.values())).shape, origin)
        self.frame = Frame("arrays", self.box, VOXEL_SIZE_NM)
        self.identity = "arrays"
        self.description = ""
        self.channels = self.image_channels = self.requested_channels = list(channels)

    def dtype(self, channel: str) -> np.dtype[Any]:
        return self.data[channel].dtype

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        return self.data[channel][Box(z_range, y_range, x_range).slices(self.box.start)]


def plan(
    source: Arrays,
    folder: Path,
    size: tuple[int, int, int],
    box: Box | None = None,
    variant: str = "nomads-unsupervised",
) -> Plan:
    pipeline = built(variant)
    chosen = {} if set(source.channels) != set(ROLES.values()) else ROLES
    channels = tuple(source.channels)
    roles = pipeline.choose(channels, chosen)
    return Plan(source, box or source.box, pipeline, roles, channels, VOXEL_SIZE_NM, size, folder)


def noisy(shape: tuple[int, int, int], dtype: type[np.unsignedinteger[Any]], seed: int) -> Arrays:
    """Noise with spots where both channels are bright, the full depth of the type used."""
    rng = np.random.default_rng(seed)
    spots = rng.random(shape) < 0.02
    top = np.iinfo(dtype).max
    channels = {}
    for name in ROLES.values():
        noise = rng.integers(0, top // 3, shape)
        channels[name] = np.where(spots, rng.integers(top // 2, top + 1, shape), noise).astype(dtype)
    return Arrays(**channels)


def same(one: Detection, other: Detection) -> None:
    """Assert that two detections are the same bytes."""
    assert one.finding == other.finding
    assert one.brightness == other.brightness
    assert one.density.as_json() == other.density.as_json()
    assert one.chance == other.chance
    assert one.masks.keys() == other.masks.keys()
    for name, mask in one.masks.items():
        assert np.asarray(mask).tobytes() == np.asarray(other.masks[name]).tobytes()
    assert np.asarray(one.labels).tobytes() == np.asarray(other.labels).tobytes()
    assert np.array_equal(np.setdiff1d(one.labels, 0), one.table["id"])
    assert one.table.keys() == other.table.keys()
    for name, values in one.table.items():
        assert values.dtype == other.table[name].dtype
        assert values.tobytes() == other.table[name].tobytes(), name
    for left, right in ((one.overviews, other.overviews), (one.mask_overviews, other.mask_overviews)):
        assert {name: pixels.tobytes() for name, pixels in left.items()} == {
            name: pixels.tobytes() for name, pixels in right.items()
        }


class Loaded:
    """A volume that was read while its files were there."""

    def __init__(self, volume: BlockVolume) -> None:
        self._voxels = np.asarray(volume)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._voxels
