"""A small volume whose puncta cross any cut, and a job on it without a BOSS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import driver
from tests.volumes_on_disk import write

__all__ = ["SHAPE", "blobs", "run", "write_blobs"]

SHAPE = (7, 70, 90)


def blobs() -> dict[str, np.ndarray]:
    """Return two channels with puncta in the same places."""
    rng = np.random.default_rng(4)
    pre, post = (rng.poisson(12, SHAPE).astype(np.uint8) for _ in range(2))
    for z, y, x in rng.integers((1, 3, 3), (6, 67, 87), (40, 3)):
        for channel in (pre, post):
            channel[z - 1 : z + 2, y - 2 : y + 2, x - 2 : x + 2] = 150
    return {"SYNAPSIN": pre, "PSD95": post}


def write_blobs(place: Path) -> Path:
    """Write the volume as OME-Zarr."""
    write("ome05.zarr", place, blobs())
    return place


def run(source: Path | str, path: Path, *more: str) -> Path:
    """Run a job on a volume, and return its result folder."""
    words = ["--source", str(source), "--path", str(path), "--no-plots", "--no-upload", "--quiet", *more]
    assert driver.main(words) == 0
    (folder,) = path.iterdir()
    return folder
