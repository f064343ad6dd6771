"""The whole way, from BOSS to S3: `driver.py` against a local BOSS and an S3 server."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import pytest
import requests
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

import driver
from nd_synapse.credentials import Token
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.job import steps
from nd_synapse.job.folder import ResultFolder, locked
from nd_synapse.job.job import Job
from tests.conftest import REPOSITORY
from tests.detection.test_hostile import Fragile
from tests.faults.faulty_s3 import Plan, Rule, through_proxy
from tests.faulty_boss import boss_error, faulty_boss
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.fixtures_s3 import S3Server
from tests.small_disk import small_disk

CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
WHOLE = Box((0, 8), (0, 1024), (0, 1344))
FAR_CORNER = Box((2, 8), (640, 1024), (900, 1344))
SMALL = Box((0, 6), (0, 60), (0, 70))
PREDICTIONS = "nomads-unsupervised-predictions"
POINTS = [f"synapses.annotations/{name}" for name in ("info", "by_id/0.shard", "spatial0/0.shard")]
BYTES = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv", *POINTS)
LOCAL = ("--no-push", "--no-plots")
LIMIT_S = 120


@dataclass(frozen=True)
class Run:
    """A command that ended."""

    code: int
    stderr: str
    path: Path

    @property
    def folder(self) -> Path:
        """The one result folder."""
        (folder,) = (entry for entry in self.path.iterdir() if entry.is_dir())
        return folder

    def manifest(self) -> dict[str, Any]:
        """Content of run.json."""
        return dict(json.loads((self.folder / "run.json").read_text()))

    def table(self) -> list[dict[str, str]]:
        """Rows of synapses.csv."""
        with (self.folder / "synapses.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def mask(self) -> NDArray[np.uint8]:
        """The mask of the OME-TIFF."""
        return tifffile.imread(self.folder / f"{PREDICTIONS}.ome.tiff")


def drive(server: BossServer, path: Path, *arguments: str, token: str | None = None) -> Run:
    """Run a command line of driver.py in this process, with the token in the environment."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("RESULTS_BUCKET", raising=False)
        patch.setenv("BOSS_TOKEN", server.token if token is None else token)
        code = driver.main(["--path", str(path), *arguments])
    assert out.getvalue() == ""
    return Run(code, err.getvalue(), path)


def where(server: BossServer, col: str, exp: str, box: Box) -> list[str]:
    """Return the options that name a volume."""
    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    return ["--host", server.url, "--col", col, "--exp", exp, *ranges]


def drive_small(server: BossServer, path: Path, *arguments: str) -> Run:
    """Run driver.py on the small volume."""
    return drive(server, path, *where(server, "small", "plain", SMALL), *arguments)


def in_boss(server: BossServer, run: Run, box: Box, out: tuple[str, str]) -> NDArray[np.uint8]:
    """Read the mask with intern, past our own code."""
    remote = server.remote()
    z, y, x = (list(ends) for ends in box.ranges)
    channel = remote.get_channel(f"{run.folder.name}_All", *out)
    return np.asarray(remote.get_cutout(channel, 0, x, y, z, parallel=False))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of the files in a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects_of(server: S3Server, bucket: str) -> dict[str, bytes]:
    """Return the content of the objects in a bucket, by key."""
    client = server.client()
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in server.keys(bucket)}


@pytest.fixture(scope="module")
def real_boss(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that holds the real array-tomography volume."""
    data = tmp_path_factory.mktemp("real")
    channels = {name: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for name in CHANNELS}
    fill(data, "weiler", "at_example", channels)
    with start_boss(data) as server:
        yield server


@pytest.fixture(scope="module")
def small_boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that holds small volumes: blobs where two markers meet, a constant channel, two markers of one role.

    a_b/c and a/b_c have one results key.
    """
    data = tmp_path_factory.mktemp("small")
    plain = blobs(SMALL.shape, 5, 25)
    pre, post = plain.values()
    volumes = {
        ("small", "plain"): plain,
        ("small", "twice"): {"SYNAPSIN_a": pre, "SYNAPSIN_b": pre, "PSD95": post},
        ("small", "flat"): {"SYNAPSIN": np.full(SMALL.shape, 7, np.uint8), "PSD95": post},
        ("a_b", "c"): plain,
        ("a", "b_c"): plain,
    }
    for (col, exp), channels in volumes.items():
        fill(data, col, exp, channels)
    with start_boss(data) as server:
        yield server


@pytest.fixture(scope="module")
def plain(small_boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on the small volume with all defaults, that is, pushed and with a report."""
    run = drive_small(small_boss, tmp_path_factory.mktemp("plain"), "--verbose")
    assert run.code == 0, run.stderr
    return run


@pytest.fixture
def folder(plain: Run, tmp_path: Path) -> Path:
    """A copy of its folder that a test may change."""
    return Path(shutil.copytree(plain.folder, tmp_path / plain.folder.name))


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


class TestResults:
    """What a run leaves, on a small volume."""

    @pytest.mark.slow
    def test_second_run_makes_the_channel_equal_to_the_second_mask(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        """BOSS would keep the union; the push does not, and replaces masks of another run only on request."""
        options = ["--out-exp", "second", "--no-plots"]
        first = drive_small(small_boss, tmp_path / "1", *options)
        other = [*options, "--param", "min_voxels=70"]
        refused = drive_small(small_boss, tmp_path / "2", *other)
        assert refused.code == 2
        assert "--overwrite" in refused.stderr
        second = drive_small(small_boss, tmp_path / "2", *other, "--overwrite")
        assert (first.code, second.code) == (0, 0), second.stderr
        assert np.count_nonzero(second.mask()) < np.count_nonzero(first.mask())
        assert np.array_equal(in_boss(small_boss, second, SMALL, ("collman_nomads", "second")), second.mask())

    def test_run_json_describes_the_run_and_nothing_holds_the_token(self, small_boss: BossServer, plain: Run) -> None:
        manifest = plain.manifest()
        assert manifest["asked"]["x_range"] == [0, 70]
        assert manifest["roles"] == {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"}
        assert manifest["counts"]["synapses"] == len(plain.table()) > 0
        assert manifest["voxels"]["All"] == np.count_nonzero(plain.mask())
        assert {"pull", "detect", "registration", "push", "plots"} <= manifest["seconds"].keys()
        assert manifest["registration"]["of_sections"] == 6
        assert 0 < manifest["chance"]["detections"] <= manifest["counts"]["synapses"]
        assert manifest["chance"]["expected"] <= manifest["chance"]["expected_at_most"]
        assert "are expected by chance" in (plain.folder / "job.log").read_text()
        links = list(csv.reader((plain.folder / "NDVIS_links.csv").read_text().splitlines()))
        out = "collman_nomads/nomads_predictions"
        assert links[0] == ["All", f"http://ndwt.neurodata.io/channel_detail/{out}/{plain.folder.name}_All/"]
        assert [name for name, _ in links] == ["All", "All neuroglancer"]
        names = {path.relative_to(plain.folder).as_posix() for path in plain.folder.rglob("*")}
        assert {"job.log", "run.json", *BYTES} <= names
        assert not any(name.startswith(".") for name in names)
        assert small_boss.token not in plain.stderr
        assert not [name for name, body in files_of(plain.folder).items() if small_boss.token.encode() in body]

    @pytest.mark.parametrize("options", [["--cpus", "1"], ["--cpus", "3", "--block-size", "2,13,17"]])
    def test_blocks_and_workers_do_not_show(
        self, small_boss: BossServer, plain: Run, tmp_path: Path, options: list[str]
    ) -> None:
        """The same files, byte for byte, as with the defaults."""
        other = drive_small(small_boss, tmp_path, *LOCAL, *options)
        assert other.code == 0, other.stderr
        for name in BYTES:
            assert (plain.folder / name).read_bytes() == (other.folder / name).read_bytes(), name

    def test_neurodata_cfg_gives_what_the_command_line_leaves_out(self, small_boss: BossServer, tmp_path: Path) -> None:
        config = tmp_path / "neurodata.cfg"
        config.write_text(
            f"[Default]\ntoken = {small_boss.token}\nhost = {small_boss.url}\n"
            "[shared]\ncollection = small\nexperiment = plain\n"
            "[Parallel]\nx_range = 0,50\ny_range = 0,40\nz_range = 0,6\n"
        )
        arguments = ["--config", str(config), "--x-range", "0,70", *LOCAL]
        run = drive(small_boss, tmp_path / "results", *arguments, token="")
        assert run.code == 0, run.stderr
        assert run.mask().shape == (6, 40, 70)

    def test_a_job_whose_blocks_failed_ends_with_3_and_names_them(self, small_boss: BossServer, tmp_path: Path) -> None:
        class Broken(Fragile):
            def detect(self, arrays: Any, finding: Any, place: Any) -> Any:
                if place.shape[0] == 4:
                    raise ValueError("too thick")
                return Fragile.detect(self, arrays, finding, place)

        job = Job(
            host=small_boss.url,
            token=Token(small_boss.token),
            collection="small",
            experiment="plain",
            box=SMALL,
            pipeline=Broken(broken=False),
            block_size=(4, 60, 70),
            path=tmp_path,
            push=False,
        )
        folder = ResultFolder(tmp_path, job.results_key)
        outcome = steps.run(job, folder, lambda *_: None)
        assert [error.exit_code for error in outcome.errors] == [3]
        assert "1 of 2 blocks failed, the first at z 0:4 y 0:60 x 0:70: ValueError: too thick" in str(outcome.errors[0])
        (failed,) = json.loads((folder.root / "run.json").read_text())["failed_blocks"]
        assert failed["box"] == "z 0:4 y 0:60 x 0:70"
        assert "too thick" in failed["traceback"]
        with tifffile.TiffFile(folder.root / f"{PREDICTIONS}.ome.tiff") as tiff:
            assert "Not computed, and 0 here, because blocks failed: z 0:4" in str(tiff.ome_metadata)
        assert "Failed block, 0 in the masks, at z 0:4" in next(folder.root.glob("*.html")).read_text()
        assert folder.work.exists()


# option and value that are wrong, after those of a right command line | exit code | what the sentence says
WRONG: dict[str, tuple[list[str], int, list[str]]] = {
    "unknown-option": (["--frobnicate"], 2, ["--frobnicate", "--help"]),
    "unreachable-host": (["--host", "http://127.0.0.1:9"], 69, ["127.0.0.1:9", "cannot be reached"]),
    "misspelt-collection": (["--col", "smal"], 2, ["smal", "small"]),
    "misspelt-experiment": (["--exp", "plian"], 2, ["plian", "plain"]),
    "misspelt-channel": (["--channels", "presynaptic=SYNAPSN"], 2, ["SYNAPSN", "SYNAPSIN"]),
    "unknown-role": (["--channels", "pre=SYNAPSIN"], 2, ["pre", "presynaptic"]),
    "ambiguous-channel": (["--exp", "twice"], 2, ["SYNAPSIN_a, SYNAPSIN_b", "--channels"]),
    "beyond-the-end": (["--x-range", "0,71"], 2, ["0,71", "x 0,70"]),
    "no-numbers": (["--z-range", "a,b"], 2, ["--z-range", "two whole numbers", "start,stop"]),
    "constant-channel": (["--exp", "flat"], 65, ["SYNAPSIN", "one value"]),
    "unknown-pipeline": (["--pipeline", "nomads"], 2, ["nomads", "nomads-unsupervised"]),
    "unknown-parameter": (["--param", "min_size=3"], 2, ["min_size", "min_voxels"]),
    "malformed-parameter": (["--param", "min_voxels=three"], 2, ["three", "whole number"]),
    "illegal-output-name": (["--out-exp", "not.legal"], 2, ["not.legal", "--out-exp"]),
    "missing-config": (["--config", "nowhere.cfg"], 2, ["nowhere.cfg"]),
}


class TestWrongInput:
    """What users get wrong: one plain sentence, the documented exit code, nothing lost, no token."""

    def check(self, run: Run, code: int, words: list[str], token: str) -> None:
        assert run.code == code, run.stderr
        (sentence,) = (line for line in run.stderr.splitlines() if " ERROR " in line)
        assert "Traceback" not in run.stderr
        assert not [word for word in words if word not in sentence], sentence
        assert token not in run.stderr

    @pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=name, marks=[pytest.mark.slow] if case[1] == 69 else [])
            for name, case in WRONG.items()
        ],
    )
    def test_each_mistake_is_one_sentence_and_its_exit_code(
        self, small_boss: BossServer, tmp_path: Path, case: tuple[list[str], int, list[str]]
    ) -> None:
        wrong, code, words = case
        self.check(drive_small(small_boss, tmp_path, *wrong, "--quiet"), code, words, small_boss.token)

    @pytest.mark.parametrize(
        ("token", "code", "words"),
        [("0123456789abcdef0123456789abcdef01234567", 77, ["token", "BOSS_TOKEN"]), ("", 2, ["--token-file"])],
        ids=["wrong", "none"],
    )
    def test_a_token_that_is_wrong_or_missing_is_named(
        self, small_boss: BossServer, tmp_path: Path, token: str, code: int, words: list[str]
    ) -> None:
        run = drive(small_boss, tmp_path, *where(small_boss, "small", "plain", SMALL), "--quiet", token=token)
        self.check(run, code, words, small_boss.token)

    def test_a_volume_that_is_not_named_is_missed(self, small_boss: BossServer, tmp_path: Path) -> None:
        run = drive(small_boss, tmp_path, "--col", "small", "--quiet")
        self.check(run, 2, ["--host", "--config"], small_boss.token)

    def test_output_experiment_of_another_voxel_size_is_refused_before_the_work(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        tiny = np.zeros((6, 60, 70), np.uint8)
        fill(small_boss.data, "collman_nomads", "coarse", {"anything": tiny}, (35.0, 50.0, 50.0))
        run = drive_small(small_boss, tmp_path, "--out-exp", "coarse", "--quiet")
        assert run.code == 65
        assert "--out-exp" in run.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("forbidden", "exp", "extra", "code"),
        [
            ("PSD95", "plain", [], 77),  # there is no other
            ("SYNAPSIN_a", "twice", [], 77),  # another would be taken in its place
            ("SYNAPSIN_a", "twice", ["--channels", "presynaptic=SYNAPSIN_b"], 0),
            ("SYNAPSIN_a", "twice", ["--channels", "presynaptic=SYNAPSIN_a"], 77),
        ],
    )
    def test_a_channel_that_the_token_may_not_read_is_not_replaced_in_silence(
        self, small_boss: BossServer, tmp_path: Path, forbidden: str, exp: str, extra: list[str], code: int
    ) -> None:
        with faulty_boss(small_boss.url) as between:
            between.add(f"GET .*/channel/{forbidden}", *[boss_error(403, 3001, "no right to read")] * 3)
            arguments = [*where(small_boss, "small", exp, SMALL), "--host", between.url, *LOCAL]
            run = drive(small_boss, tmp_path, *arguments, *extra, "--quiet")
        assert run.code == code, run.stderr
        assert code == 0 or f"the token may not read {forbidden}" in run.stderr

    @pytest.mark.slow
    def test_token_that_may_not_write_keeps_the_results(self, small_boss: BossServer, tmp_path: Path) -> None:
        """The mask is not in BOSS, everything else is done and the exit code says what failed."""
        tokens = json.loads((small_boss.data / "tokens.json").read_text())
        reader = "r" * 39 + "1"
        tokens["tokens"][reader] = {"user": "reader", "role": "none", "read": "all", "write": []}
        (small_boss.data / "tokens.json").write_text(json.dumps(tokens))
        with start_boss(small_boss.data) as server:
            arguments = where(server, "small", "plain", SMALL)
            run = drive(server, tmp_path, *arguments, "--out-exp", "elsewhere", "--no-plots", token=reader)
        assert run.code == 77, run.stderr
        assert set(BYTES) <= files_of(run.folder).keys()
        assert "may not" in run.manifest()["failures"][0]

    def test_full_disk_is_named_and_what_was_there_stays(self, small_boss: BossServer, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "64k") as disk:
            (disk / "kept.txt").write_text("kept")
            run = drive_small(small_boss, disk, "--quiet")
            assert run.code == 74, run.stderr
            assert "no space left" in run.stderr.lower()
            assert "--path" in run.stderr
            assert (disk / "kept.txt").read_text() == "kept"


class TestFolder:
    """What may lie in a result folder, and who may work in it."""

    def test_the_folder_of_another_experiment_with_the_same_key_stays(
        self, small_boss: BossServer, tmp_path: Path
    ) -> None:
        options = [*LOCAL, "--quiet"]
        first = drive(small_boss, tmp_path, *where(small_boss, "a_b", "c", SMALL), *options)
        assert first.code == 0, first.stderr
        before = files_of(first.folder)
        for more in ([], ["--fresh"]):
            second = drive(small_boss, tmp_path, *where(small_boss, "a", "b_c", SMALL), *options, *more)
            assert second.code == 2
            assert "it has those of a_b/c, whose results key is the same" in second.stderr
        assert before == files_of(first.folder)

    def test_a_file_of_the_users_is_refused_before_the_work_and_stays(
        self, small_boss: BossServer, folder: Path
    ) -> None:
        (folder / "notes.txt").write_text("mine")
        before = files_of(folder)
        for more in ([], ["--fresh"]):
            again = drive_small(small_boss, folder.parent, *LOCAL, "--quiet", *more)
            assert again.code == 2
            assert "it has files that no run left there: notes.txt. Move them elsewhere" in again.stderr
        assert files_of(folder) == before
        (folder / "notes.txt").unlink()
        assert drive_small(small_boss, folder.parent, *LOCAL).code == 0
        assert not (folder / "NDVIS_links.csv").exists()

    def test_an_invalid_shared_store_is_refused_before_boss_is_asked_and_results_are_removed(
        self, folder: Path
    ) -> None:
        before = {name: (folder / name).read_bytes() for name in (*BYTES, "run.json")}
        nowhere = BossServer("http://127.0.0.1:9", "a-token-of-nobody", folder, None)  # type: ignore[arg-type]
        parts = ["--shared", "s3://no-prefix", "--phase", "report", "--block-size", "6,60,70"]
        run = drive_small(nowhere, folder.parent, *LOCAL, *parts)
        assert run.code == 2
        assert "--shared s3://no-prefix: it is not of the form s3://bucket/prefix" in run.stderr
        assert {name: (folder / name).read_bytes() for name in before} == before

    @pytest.mark.slow
    def test_fresh_of_the_function_starts_over_as_that_of_the_command_does(
        self, small_boss: BossServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def call(**more: Any) -> dict[str, int]:
            z, y, x = SMALL.ranges
            options: dict[str, Any] = {"path": tmp_path, "push": False, "plots": False, **more}
            driver.driver(small_boss.url, small_boss.token, "small", "plain", z, y, x, **options)
            (written,) = tmp_path.glob("*/run.json")
            return dict(json.loads(written.read_text())["resumed_blocks"])

        with monkeypatch.context() as patch:
            patch.setattr(steps, "_clear", lambda folder: None)
            call()
            assert call()["statistics"] > 0
        assert call(fresh=True) == {}


class TestUpload:
    """``driver.py upload``, and the upload of a job."""

    @pytest.fixture(autouse=True)
    def s3(self, s3_env: S3Server) -> S3Server:
        """An empty S3."""
        return s3_env

    def upload(self, folder: Path, bucket: str) -> tuple[int, str]:
        """Upload a folder; return the exit code and what was logged."""
        with redirect_stderr(io.StringIO()) as err:
            code = driver.main(["upload", str(folder), "--bucket", bucket])
        return code, err.getvalue()

    @pytest.mark.slow
    def test_a_bucket_without_permission_keeps_the_folder_and_names_the_command_that_sends_it(
        self, small_boss: BossServer, s3: S3Server, tmp_path: Path
    ) -> None:
        # moto checks credentials from its n-th call on
        requests.post(f"{s3.url}/moto-api/reset-auth", data="0", timeout=LIMIT_S)
        try:
            run = drive_small(small_boss, tmp_path, *LOCAL, "--bucket", "private-bucket")
        finally:
            requests.post(f"{s3.url}/moto-api/reset-auth", data="inf", timeout=LIMIT_S)
        assert run.code == 77, run.stderr
        assert f"nd-synapse upload {run.folder}" in run.stderr
        assert f"nd-synapse upload {run.folder}" in (run.folder / "job.log").read_text()
        assert (run.folder / "run.json").exists()
        assert (run.folder / ".work").exists()
        code, logged = self.upload(run.folder, "private-bucket")
        assert code == 0, logged
        assert f"{run.folder.name}/run.json" in s3.keys("private-bucket")
        assert not (run.folder / ".work").exists()

    def test_a_folder_is_uploaded_only_as_its_run_left_it_and_under_the_key_of_the_run(
        self, s3: S3Server, plain: Run, folder: Path
    ) -> None:
        folder = folder.rename(folder.with_name("renamed"))
        table = (folder / "synapses.csv").read_bytes()
        (folder / "synapses.csv").write_bytes(table + b"mine\n")
        code, logged = self.upload(folder, "as-it-was")
        assert code == 65
        assert "it is not what its run.json says: changed: synapses.csv" in logged
        (folder / "synapses.csv").write_bytes(table)
        assert self.upload(folder, "as-it-was")[0] == 0
        assert objects_of(s3, "as-it-was") == {f"{plain.folder.name}/{n}": b for n, b in files_of(folder).items()}

    def test_a_folder_whose_run_did_not_end_is_uploaded_as_incomplete(self, s3: S3Server, tmp_path: Path) -> None:
        folder = tmp_path / "some-key"
        folder.mkdir()
        (folder / "synapses.csv").write_text("id\n")
        code, logged = self.upload(folder, "incomplete")
        assert code == 0
        assert "is incomplete, and so is its upload" in logged
        assert s3.keys("incomplete") == ["some-key/synapses.csv"]
        (folder / "run.json").write_text("{}")
        assert self.upload(folder, "incomplete")[0] == 65

    def test_an_upload_does_not_start_while_a_job_works_in_the_folder(
        self, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = ResultFolder(tmp_path, "some-key")
        (folder.root / "synapses.csv").write_text("id\n")
        monkeypatch.setenv("RESULTS_BUCKET", "locked")
        with locked(folder.root):
            code, logged = self.upload(folder.root, "locked")
            assert code == 2
            assert "another job is at work in it" in logged
            with pytest.raises(UsageError, match="another job is at work in it"):
                driver.upload_results(folder.root, "some-key")
        assert "locked" not in {each["Name"] for each in s3.client().list_buckets()["Buckets"]}
        driver.upload_results(folder.root, "some-key")
        assert s3.keys("locked") == ["some-key/synapses.csv"]

    def test_a_symbolic_link_is_refused(self, s3: S3Server, tmp_path: Path) -> None:
        (tmp_path / "key").mkdir()
        (tmp_path / "key" / "synapses.csv").write_text("id\n")
        (tmp_path / "elsewhere").write_text("{}")
        (tmp_path / "key" / "run.json").symlink_to(tmp_path / "elsewhere")
        code, logged = self.upload(tmp_path / "key", "linked")
        assert code == 65
        assert "it has symbolic links: run.json" in logged
        assert "linked" not in {each["Name"] for each in s3.client().list_buckets()["Buckets"]}

    def test_upload_results_puts_every_file_under_the_key(
        self, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "a.csv").write_text("1\n")
        (tmp_path / "sub" / "b.txt").write_text("2\n")
        monkeypatch.setenv("RESULTS_BUCKET", "by-environment")
        driver.upload_results(f"{tmp_path}/", "some_key")
        assert s3.keys("by-environment") == ["some_key/a.csv", "some_key/sub/b.txt"]

    def test_a_defect_in_the_upload_is_in_job_log_with_its_traceback(
        self, small_boss: BossServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr("nd_synapse.job.delivery.upload", broken)
        run = drive_small(small_boss, tmp_path, *LOCAL, "--bucket", "any-bucket")
        assert run.code == 1, run.stderr
        assert "Traceback" not in run.stderr
        assert "Traceback" in (run.folder / "job.log").read_text()
        assert "ZeroDivisionError" in (run.folder / "job.log").read_text()


class TestStoppedUpload:
    """What a signal leaves of an upload; the job is a process of its own."""

    BLOCKS = ("--block-size", "3,30,35")

    @pytest.fixture
    def stopped(self, small_boss: BossServer, s3_env: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
        """A job that was sent a signal in the middle of its upload, to an S3 that hangs from some object on."""
        arguments = [*where(small_boss, "small", "plain", SMALL), *self.BLOCKS, *LOCAL, "--bucket", "stopped"]
        with through_proxy(s3_env) as faulty:
            faulty.plan = Plan([Rule("stall", first=10, times=None)])
            process = subprocess.Popen(
                [sys.executable, "driver.py", "--path", str(tmp_path), *arguments],
                cwd=REPOSITORY,
                env={**os.environ, "BOSS_TOKEN": small_boss.token},
                stderr=subprocess.PIPE,
                text=True,
            )
            deadline = time.monotonic() + LIMIT_S
            while not faulty.plan.hits["stall"]:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(request.param)
            _, stderr = process.communicate(timeout=LIMIT_S)
        run = Run(process.returncode, stderr, tmp_path)
        there = s3_env.keys("stopped")
        assert there
        assert f"{run.folder.name}/run.json" not in there
        return run

    def check_all_is_there(self, server: S3Server, folder: Path) -> None:
        """S3 has what the folder has, and nothing is left to resume from."""
        assert objects_of(server, "stopped") == {
            f"{folder.name}/{name}": body for name, body in files_of(folder).items()
        }
        assert not (folder / ".work").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("stopped", [signal.SIGTERM, signal.SIGKILL], indirect=True)
    def test_the_same_command_computes_nothing_again_and_sends_the_rest(
        self, small_boss: BossServer, s3_env: S3Server, stopped: Run
    ) -> None:
        before = {name: (stopped.folder / name).read_bytes() for name in BYTES}
        again = drive_small(small_boss, stopped.path, *self.BLOCKS, *LOCAL, "--bucket", "stopped")
        assert again.code == 0, again.stderr
        manifest = again.manifest()
        names = ("statistics", "detect", "objects", "masks")
        resumed = manifest["resumed_blocks"]
        # features are measured where synapses begin
        assert 0 < resumed.pop("features") <= manifest["counts"]["blocks"]
        assert resumed == dict.fromkeys(names, manifest["counts"]["blocks"])
        assert {name: (stopped.folder / name).read_bytes() for name in before} == before
        self.check_all_is_there(s3_env, stopped.folder)

    @pytest.mark.parametrize("stopped", [signal.SIGTERM], indirect=True)
    def test_it_names_the_command_that_sends_the_rest_alone(self, s3_env: S3Server, stopped: Run) -> None:
        assert stopped.code == 75, stopped.stderr
        assert "Traceback" not in stopped.stderr
        found = re.search(r"stopped by SIGTERM.*`nd-synapse (upload .*)`", stopped.stderr)
        assert found, stopped.stderr
        assert found[0] in (stopped.folder / "job.log").read_text()
        done = subprocess.run(
            [sys.executable, "-m", "nd_synapse", *shlex.split(found[1])], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        self.check_all_is_there(s3_env, stopped.folder)


class TestImported:
    """The historical functions, imported."""

    def test_driver_returns_info_mask_and_links(self, small_boss: BossServer, tmp_path: Path) -> None:
        info, results, links = driver.driver(
            small_boss.url, small_boss.token, "small", "plain", (0, 6), (0, 60), (0, 70), str(tmp_path), plots=False
        )
        assert isinstance(results, np.ndarray)
        assert results.shape == (6, 60, 70)
        assert results.dtype == np.uint8
        assert info["results_key"] == "nomads-unsupervised_small_plain_z_0_6_y_0_60_x_0_70"
        assert links["All"].endswith(f"/{info['results_key']}_All/")
        assert small_boss.token not in repr((info, links))

    def test_get_data_returns_every_channel_and_the_voxel_size(self, small_boss: BossServer) -> None:
        data_dict, voxel_size = driver.get_data(
            small_boss.url, small_boss.token, "small", "twice", (1, 6), (0, 60), (3, 70)
        )
        assert {name: array.shape for name, array in data_dict.items()} == dict.fromkeys(
            ["PSD95", "SYNAPSIN_a", "SYNAPSIN_b"], (5, 60, 67)
        )
        assert voxel_size == VOXEL_SIZE_NM


@pytest.mark.parametrize("cache", [None, "0.00001"])
def test_dry_run_prints_what_is_needed_and_touches_nothing(
    small_boss: BossServer,
    tmp_path: Path,
    cache: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BOSS_TOKEN", small_boss.token)
    options = ["--path", str(tmp_path / "r"), "--dry-run", "--block-size", "3,30,35"]
    options += ["--cache", cache] if cache else []
    assert driver.main([*where(small_boss, "small", "plain", SMALL), *options]) == 0
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.replace("to pull", "to-pull").splitlines())
    assert printed["blocks"].startswith("8 of at most 3 x 30 x 35")
    assert printed["box"].endswith("25,200 voxels")
    assert ("for --cache holds less" in printed["to-pull"]) == (cache is not None)
    assert printed.keys() >= {"to-pull", "memory", "disk", "time", "channels", "results"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["upload", "verify"])
def test_a_path_that_no_file_system_takes_is_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("x" * 300, str(tmp_path / "loop" / "a"), ""):
        words = ["--bucket", "abc"] if command == "upload" else ["--offline"]
        assert driver.main([command, path, *words]) in (2, 74)
        logged = capfd.readouterr().err
        assert logged.count("\n") == 1
        assert " ERROR " in logged
