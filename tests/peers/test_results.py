"""What a run writes is valid for programs of others, and they read it voxel for voxel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr

from nd_synapse.files import masks as mask_files
from nd_synapse.files import multiscale
from tests.fixtures_boss import REPOSITORY
from tests.peers.test_sources import PYTHON
from tests.volumes_with_puncta import run, write_blobs

PART = ("--z-range", "1,7", "--y-range", "5,70", "--x-range", "9,90")
LEVELS = 3


@pytest.mark.slow
def test_labels_masks_and_segmentation_are_valid_and_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not PYTHON.exists():
        assert "CI" not in os.environ, "the environment of `make peers` is not there"
        pytest.skip("the environment of `make peers` is not there")
    monkeypatch.setattr(multiscale, "_PLANE", 30)
    monkeypatch.setattr(mask_files, "_STRIPS", 30)
    monkeypatch.setattr(mask_files, "_TILE", (32, 32))
    segmentation = tmp_path / "segmentation"
    folder = run(write_blobs(tmp_path / "v.zarr"), tmp_path / "made", *PART, "--out", f"precomputed://{segmentation}")
    command = [PYTHON, REPOSITORY / "tests/peers/read.py", folder, segmentation, tmp_path / "found.npz"]
    done = subprocess.run(command, timeout=250, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["Image", "Labels", "ImageLabel"]
    group = zarr.open_group(folder / "synapses.ome.zarr", mode="r")
    with np.load(tmp_path / "found.npz") as found:
        for level in range(LEVELS):
            ids, mask = np.asarray(group[f"labels/synapses/{level}"]), np.asarray(group[str(level)])
            assert ids.any()
            volumes = ("ome-zarr-py synapses", "tensorstore zarr", "tensorstore precomputed", "cloud-volume")
            for peer in (*volumes, "napari labels"):
                np.testing.assert_array_equal(found[f"{peer} {level}"], ids, err_msg=peer)
            for peer in ("ome-zarr-py synapses.ome.zarr", "napari image"):
                np.testing.assert_array_equal(found[f"{peer} {level}"], mask, err_msg=peer)
            for peer in ("tensorstore", "cloud-volume"):
                assert found[f"{peer} start {level}"].tolist() == [n >> level for n in (1, 5, 9)]
            assert found[f"cloud-volume size {level}"].tolist() == [n << level for n in (70, 100, 100)]
        for kind in ("image", "labels"):
            assert found[f"napari {kind} size"].tolist() == [70, 100, 100]
        ids = np.asarray(group["labels/synapses/0"])
        assert found["pandas id"].dtype == np.int64
        np.testing.assert_array_equal(np.bincount(ids.ravel())[found["pandas id"]], found["pandas voxels"])
        assert found["pandas centroid_x_um"].dtype == np.float64
        np.testing.assert_array_equal(found["tifffile 0"], np.asarray(group["0"]))
        assert found["tifffile 1"].shape == (6, 33, 41)
