"""The real array-tomography volume, all the way: folder, BOSS, S3 and table agree."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.geometry import Box
from tests.driver.runs import LOCAL, PREDICTIONS, VOXEL_SIZE_NM, Run, drive, files_of, in_boss, objects_of, where
from tests.fixtures_boss import BossServer, fill, start_boss
from tests.fixtures_s3 import S3Server

CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")
WHOLE = Box((0, 8), (0, 1024), (0, 1344))
FAR_CORNER = Box((2, 8), (640, 1024), (900, 1344))


@pytest.fixture(scope="module")
def real_boss(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that holds the real array-tomography volume."""
    data = tmp_path_factory.mktemp("real")
    channels = {name: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for name in CHANNELS}
    fill(data, "weiler", "at_example", channels)
    with start_boss(data) as server:
        yield server


@pytest.mark.slow
class TestRealVolume:
    """The real array-tomography volume, all the way."""

    @pytest.mark.parametrize(
        "box", [pytest.param(WHOLE, marks=pytest.mark.slow), FAR_CORNER], ids=["whole", "far-corner"]
    )
    def test_boss_folder_s3_and_table_agree(
        self, real_boss: BossServer, s3_env: S3Server, tmp_path: Path, box: Box
    ) -> None:
        """One mask in BOSS, in both files of the folder, in S3; each object of it is a row of the table."""
        run = drive(
            real_boss, tmp_path, *where(real_boss, "weiler", "at_example", box), "--bucket", "at-results", "--overwrite"
        )
        assert run.code == 0, run.stderr
        mask = run.mask()
        assert mask.shape == box.shape
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(in_boss(real_boss, run, box, ("collman_nomads", "nomads_predictions")), mask)
        assert np.array_equal(pickle.loads((run.folder / f"{PREDICTIONS}.pkl").read_bytes()), mask)
        assert objects_of(s3_env, "at-results") == files_of(run.path)
        labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
        assert len(run.table()) == labels.max() > 200
        if box == FAR_CORNER:
            self.check_rows(real_boss, run, labels)

    def check_rows(self, boss: BossServer, run: Run, labels: NDArray[Any]) -> None:
        """Compare centroid, volume, border and mean of each channel with each object measured by itself."""
        remote = boss.remote()
        z, y, x = (list(ends) for ends in FAR_CORNER.ranges)
        images = {
            name: remote.get_cutout(remote.get_channel(name, "weiler", "at_example"), 0, x, y, z, parallel=False)
            for name in CHANNELS
        }
        places = ndimage.find_objects(labels)
        firsts = np.unique(labels, return_index=True)[1][1:]
        for number, (row, first) in enumerate(zip(run.table(), np.sort(firsts), strict=True), start=1):
            label = labels.ravel()[first]
            place = places[label - 1]
            voxels = np.argwhere(labels[place] == label) + [along.start for along in place]
            centroid = voxels.mean(axis=0) + FAR_CORNER.start
            assert int(row["id"]) == number
            assert int(row["voxels"]) == len(voxels)
            for axis, voxel, size in zip("zyx", centroid, VOXEL_SIZE_NM, strict=True):
                assert float(row[f"centroid_{axis}_voxel"]) == pytest.approx(voxel, abs=1e-4)
                assert float(row[f"centroid_{axis}_um"]) == pytest.approx(voxel * size / 1000, abs=1e-4)
            assert float(row["volume_um3"]) == pytest.approx(len(voxels) * 0.0007)
            touches = np.any(voxels == 0) or np.any(voxels == np.array(FAR_CORNER.shape) - 1)
            assert row["touches_border"] == str(bool(touches))
            for name, image in images.items():
                assert float(row[f"mean_{name}"]) == pytest.approx(image[tuple(voxels.T)].mean(), rel=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("marker", "objects", "voxels"), [("presynaptic", 2078, 1257556), ("postsynaptic", 2273, None)]
    )
    def test_one_channel_mode_is_the_historical_result(
        self, real_boss: BossServer, shared_data: Path, tmp_path: Path, marker: str, objects: int, voxels: int | None
    ) -> None:
        """PSD95 then SYNAPSIN, and swapped: the published program's figures, voxel for voxel."""
        parameters = ["--param", "evidence=one-channel", "--param", f"marker={marker}"]
        volume = where(real_boss, "weiler", "at_example", WHOLE)
        run = drive(real_boss, tmp_path, *volume, *parameters, *LOCAL, "--quiet")
        assert run.code == 0
        # the volume's sections and channels are displaced
        assert all("WARNING registration of" in line for line in run.stderr.splitlines())
        assert len(run.table()) == objects
        mask = run.mask() > 0
        assert voxels is None or np.count_nonzero(mask) == voxels
        channel = {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"}[marker]
        assert np.array_equal(mask, historical_mask(tifffile.imread(shared_data / "at_example" / f"{channel}.tif")))


def historical_mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The historical procedure in plain floating point, as its definition says it."""
    scores = (image - image.mean()) / image.std()
    feature = 2 * ndimage.convolve(scores, np.full((3, 3, 3), 1 / 27), mode="reflect")
    counts, edges = np.histogram(feature, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / below
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.cumsum(counts[::-1]))[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    labels, _ = ndimage.label(feature > centres[np.argmax(between)], np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(sizes[labels] > 30)
