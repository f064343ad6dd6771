"""The labelled volumes that pipelines are measured on: synthetic samples (``docs/sample.md``), and tissue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.steps import REAL
from nd_synapse.local_boss.sample import SHAPE
from nd_synapse.local_boss.synthetic import Parameters, SyntheticVolume, generate

__all__ = ["SYNTHETIC", "DataSet", "Labelled", "data_sets", "synthetic"]

SYNTHETIC: dict[str, tuple[tuple[int, int, int], Parameters]] = {
    "sample": (SHAPE, Parameters()),
    "half the signal": (SHAPE, Parameters(punctum_brightness=Parameters().punctum_brightness / 2)),
    "one section, sparse": ((1, 1536, 1536), Parameters(density_per_um3=0.2)),
    "twice the orphans": (SHAPE, Parameters(orphan_synapsin_fraction=0.4, orphan_psd95_fraction=0.3)),
    "dim partners": (SHAPE, Parameters(dim_orphan_fraction=5.0)),
}
"""Name to shape (z, y, x) and parameters."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image and the synapses in it."""

    channels: dict[str, NDArray]
    """uint8 or uint16, shape (z, y, x)."""
    voxel_size_nm: tuple[float, float, float]
    truth_um: dict[str, NDArray[np.float64]]
    """Type to centres, shape (n, 3)."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images that are measured together."""

    name: str
    images: list[Labelled]
    distance_nm: float
    """Largest distance of a pair."""
    strata: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Further names to the images that are left out there."""


def synthetic(name: str, shape: tuple[int, int, int] | None = None, seed: int = 0) -> SyntheticVolume:
    """Draw one of the volumes; a smaller one where `shape` is given."""
    whole, parameters = SYNTHETIC[name]
    return generate(shape or whole, seed=seed, parameters=parameters)


def data_sets() -> Iterator[DataSet]:
    """Yield the data sets; those of tissue only where they are at hand."""
    for name in SYNTHETIC:
        volume = synthetic(name)
        centres, excitatory = volume.synapses.centre_um, volume.synapses.excitatory
        truth = {"excitatory": centres[excitatory], "inhibitory": centres[~excitatory], "every": centres}
        yield DataSet(name, [Labelled(volume.channels, volume.voxel_size_nm, truth)], 300.0)
    if REAL.is_dir():
        yield _weiler()
        yield _psd95()


def _weiler() -> DataSet:
    """Return the patch of mouse barrel cortex with the points of experts."""
    with np.load(REAL.parent / "weiler_dev" / "patch.npz") as stored:
        levels = np.rint(stored["image"] * 65535).astype(np.uint16)
        channels = {str(name): voxels[None] for name, voxels in zip(stored["channels"], levels, strict=True)}
        points = np.pad(stored["points_yx"], ((0, 0), (1, 0))) * 0.1
    return DataSet("weiler_dev", [Labelled(channels, (70.0, 100.0, 100.0), {"excitatory": points})], 500.0)


def _psd95() -> DataSet:
    """Return the images of PSD95, each a volume; the channel is there twice, for pipelines of two markers."""
    with np.load(REAL.parent / "psd95_dev" / "psd95_dev.npz") as stored:
        images, points, of, ids = (stored[name] for name in ("images", "points_zyx", "point_image", "image_id"))
    size_nm = (84.0, 84.0, 84.0)
    each = [
        Labelled({"PSD95": voxels[None], "again": voxels[None]}, size_nm, {"excitatory": points[of == n] * 0.084})
        for n, voxels in enumerate(images)
    ]
    number = ids.astype(int)
    strata = {"below 600": np.flatnonzero(number >= 600), "from 628": np.flatnonzero(number < 628)}
    return DataSet("psd95_dev", each, 340.0, strata)
