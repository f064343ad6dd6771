"""On the real volume, too, blocks do not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import pipelines
from detection import Plan, detect
from tests.detection.test_passes import ROLES, VOXEL_SIZE_NM, Arrays, same

WHOLE = (8, 1024, 1344)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [{}, {"evidence": "one-channel"}], ids=["both", "one-channel"])
@pytest.mark.parametrize("name", pipelines.names())
def test_no_voxel_differs_between_four_ways_to_cut(
    shared_data: Path, tmp_path: Path, name: str, mode: dict[str, str]
) -> None:
    images = {role: tifffile.imread(shared_data / "at_example" / f"{file}.tif") for role, file in FILES.items()}
    source = Arrays(**images)
    found = {}
    for size in (WHOLE, (8, 256, 256), (3, 100, 77), (1, 1024, 1344)):
        folder = tmp_path / "x".join(map(str, size))
        folder.mkdir()
        pipeline = pipelines.build(name, mode)
        plan = Plan(source, source.box, pipeline, ROLES, tuple(images), VOXEL_SIZE_NM, size, folder)
        found[size] = detect(plan, 2)
        differ = np.count_nonzero(np.asarray(found[size].masks["All"]) != np.asarray(found[WHOLE].masks["All"]))
        print(f"{name} {mode}: {found[size].blocks} blocks of {size}: {differ} voxels differ")
        same(found[WHOLE], found[size])


FILES = {"pre": "SYNAPSIN", "post": "PSD95"}
