"""On the real volume, too, blocks do not show: every pipeline, four ways to cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.registration import Registration, measure_registration
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from tests.detection.arrays import VOXEL_SIZE_NM, Arrays, same
from tests.pipelines.variants import built

WHOLE = (8, 1024, 1344)
QUARTER = (8, 512, 672)
SIZES = ((8, 256, 256), (3, 100, 77), (1, 1024, 1344))
CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")
CHOSEN = {"nomads-classifier": {"gaba": "LY"}, "puncta": {"marker": "PSD95"}}
"""The volume has no marker of inhibitory synapses: the fill takes its part, for the arithmetic alone."""

BESIDE = 5
"""Pixels beside padding."""


def read(folder: Path, names: Iterable[str], extent: tuple[int, int, int] = WHOLE) -> dict[str, NDArray[Any]]:
    """Read channels of the volume, or a part of it."""
    part = Box.of_shape(extent).slices()
    return {name: tifffile.imread(folder / "at_example" / f"{name}.tif")[part] for name in names}


def everything(channels: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Detect all that is tissue."""
    return np.ones(next(iter(channels.values())).shape, np.bool_)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["nomads-unsupervised", "nomads-classifier"])
def test_beside_padding_no_more_is_detected_than_elsewhere(shared_data: Path, variant: str) -> None:
    """Nothing was imaged there, and the edges of what was are resampled: each would be a row of synapses."""
    pipeline = built(variant)
    volumes = read(shared_data, CHANNELS)
    chosen = {"nomads-classifier": {"gaba": "LY", "gephyrin": "GLUR1"}}.get(variant, {})
    searched = {name: volumes[name] for name in pipeline.choose(CHANNELS, chosen).values()}
    found = detect_arrays(pipeline, searched, VOXEL_SIZE_NM, chosen=chosen)
    assert found.finding["padding"] == {channel: [0] for channel in searched}
    whole = detect_arrays(registry.build(f"{__name__}:everything", {}), searched, VOXEL_SIZE_NM)
    tissue = whole.masks["All"] != 0
    assert np.count_nonzero(tissue) == found.tissue.total
    distance = np.stack([ndimage.distance_transform_edt(section) for section in tissue])
    places = [np.floor(found.table[f"centroid_{axis}_voxel"] + 0.5).astype(np.int64) for axis in "zyx"]
    beside = distance[*places] <= BESIDE
    zone = (distance <= BESIDE) & tissue
    expected = np.count_nonzero(zone) / found.tissue.total
    times = beside.mean() / expected
    print(f"{variant}: {beside.sum()} of {len(beside)} objects beside padding, {times:.2f} times as many as elsewhere")
    assert times <= 1.5


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*registry.names(), "function"])
def test_no_voxel_differs_between_four_ways_to_cut(shared_data: Path, tmp_path: Path, variant: str) -> None:
    """The default on the whole volume, the others on a quarter of it."""
    pipeline = built(variant)
    extent = WHOLE if variant == "nomads-unsupervised" else QUARTER
    source = Arrays(**read(shared_data, CHANNELS[:2] if variant == "function" else CHANNELS, extent))
    roles = pipeline.choose(source.channels, CHOSEN.get(variant, {}))
    found = {}
    for size in (extent, *SIZES):
        folder = tmp_path / "x".join(map(str, size))
        folder.mkdir()
        plan = Plan(source, source.box, pipeline, roles, CHANNELS[:2], VOXEL_SIZE_NM, size, folder)
        found[size] = detect(plan, 2)
        differ = sum(
            np.count_nonzero(np.asarray(mask) != np.asarray(found[extent].masks[name]))
            for name, mask in found[size].masks.items()
        )
        objects = len(found[size].table["id"])
        blocks = f"{found[size].blocks} blocks of {size}"
        print(f"{variant}: {objects} objects, {blocks}: {differ} voxels differ in {len(found[size].masks)} masks")
        assert objects > 100
        same(found[extent], found[size])
        assert registration(found[size], extent) == registration(found[extent], extent)


def registration(detection: Detection, extent: tuple[int, int, int]) -> Registration:
    """Return the shifts in the images as the detection left them."""
    return measure_registration(detection.images, CHANNELS[:2], Box.of_shape(extent), VOXEL_SIZE_NM)


@pytest.mark.slow
def test_its_density_is_that_of_the_brick_and_not_of_all_that_its_border_cuts(shared_data: Path) -> None:
    found = detect_arrays(built("nomads-unsupervised"), read(shared_data, CHANNELS), VOXEL_SIZE_NM).density
    first, last, every = (count.per_um3 or 0 for count in (found.without_low, found.without_high, found.every))
    print(f"{found}; by first planes {first:.3f}, by last {last:.3f}; all {every:.3f}, {found.cut} of them cut")
    assert found.interval is not None
    assert min(first, last) < (found.brick.per_um3 or 0) < max(first, last) < every
    assert found.brick.per_um3 == pytest.approx(found.brick.synapses / found.brick.um3)
