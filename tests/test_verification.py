"""Results checked again: what is as it should be, and every way in which it may not be."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

import driver
from nd_synapse.aws import upload
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, StorageError, UnavailableError, UsageError
from nd_synapse.files import masks
from nd_synapse.geometry import Box, Frame
from nd_synapse.job.deliverables import sums
from nd_synapse.job.manifest import read_run_file
from nd_synapse.job.recompute import Differences, recompute
from nd_synapse.job.verify import Check, Request, verify
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.ingest import ingest
from nd_synapse.local_boss.stacks import stack_of_array
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Detected, Pipeline, Place
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, start_boss
from tests.fixtures_s3 import S3Server

SHAPE = (20, 300, 330)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
BOX = Box((1, 19), (5, 290), (0, 330))
STEM = "nomads-unsupervised-predictions"


def halves(data_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """Return what is bright, and every second column of it."""
    bright = np.asarray(data_dict["PSD95"] > 100)
    even = bright.copy()
    even[..., 1::2] = False
    return {"All": bright, "Even": even}


halves.masks = ("All", "Even")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with a volume of blobs, some of them long enough to leave a window."""
    rng = np.random.default_rng(8)
    pre, post = (rng.poisson(12, SHAPE).astype(np.uint8) for _ in range(2))
    for z, y, x in rng.integers((1, 4, 4), (18, 296, 326), (300, 3)):
        for channel in (pre, post):
            channel[z - 1 : z + 2, y - 2 : y + 2, x - 2 : x + 2] = 140
    for channel in (pre, post):
        channel[9:12, 20:280, 150:154] = 140
    data = tmp_path_factory.mktemp("verified")
    store = Boss(data)
    for name, voxels in {"SYNAPSIN": pre, "PSD95": post}.items():
        ingest(store, "small", "plain", name, stack_of_array(voxels, name), VOXEL_SIZE_NM)
    for name, voxels in {"SYNAPSIN": pre, "PSD95": post, "VGLUT1": pre, "GABA": post, "gephyrin": post}.items():
        # slices of different brightness: what is learned of one is wrong for another
        brighter = voxels + 4 * np.arange(SHAPE[0], dtype=np.uint8)[:, None, None]
        ingest(store, "small", "many", name, stack_of_array(brighter, name), VOXEL_SIZE_NM)
    store.close()
    with start_boss(data) as server:
        yield server


@pytest.fixture(scope="module")
def made(boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended and pushed."""
    path = tmp_path_factory.mktemp("results")
    info, _, _ = driver.driver(boss.url, boss.token, "small", "plain", BOX.z, BOX.y, BOX.x, path, cpus=1, plots=False)
    return Path(info["folder"])


OWN = "tests.pipelines.variants:bright"
LOW = {"probabilistic": {"threshold": "0.8"}}
"""Parameters without which a pipeline finds next to nothing in these blobs."""


@pytest.fixture(scope="module", params=[*registry.names(), OWN])
def made_by_any(request: pytest.FixtureRequest, boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of every pipeline there is, and of a plain function; nothing is pushed."""
    pipeline = registry.build(request.param, LOW.get(request.param, {}))
    experiment = "plain" if request.param == OWN else "many"
    options: dict[str, Any] = {"pipeline": pipeline, "cpus": 1, "plots": False, "push": False}
    path = tmp_path_factory.mktemp("by-any")
    info, _, _ = driver.driver(boss.url, boss.token, "small", experiment, (1, 19), (5, 270), (90, 190), path, **options)
    return Path(info["folder"])


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / made.name))


def checks(folder: Path, server: BossServer | None = None, **options: object) -> dict[str, Check]:
    """Verify a folder; without a server, the folder alone."""
    token = None if server is None else Token(server.token)
    request = Request(folder=folder, token=token, remote=server is not None, **options)  # type: ignore[arg-type]
    return {check.name: check for check in verify(request)}


def rewritten(folder: Path, **changes: object) -> None:
    """Change fields of run.json."""
    said = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**said, **changes}))


@contextmanager
def answering_heads() -> Iterator[str]:
    """Serve an S3 that has every object, and does not say how large."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class TestWhatIsRight:
    """A run that was left alone."""

    def test_files_masks_table_boss_and_a_sample_are_as_they_should_be(self, made: Path, boss: BossServer) -> None:
        found = checks(made, boss, sample=3)
        expected = dict.fromkeys(["files", "mask", "table", "BOSS", "sample"], True)
        assert {name: check.good for name, check in found.items()} == {**expected, "S3": None}
        assert f"0 voxels differ of {BOX.voxels:,}" in found["BOSS"].found
        assert "3 of 8 parts computed again: 0 voxels differ of" in found["sample"].found
        assert "to judge" not in found["sample"].found

    def test_each_mask_has_the_voxels_that_the_run_told(self, boss: BossServer, tmp_path: Path) -> None:
        """A further mask may hold parts of objects."""
        options: dict[str, Any] = {"pipeline": registry.build(f"{__name__}:halves", {}), "plots": False, "push": False}
        info, _, _ = driver.driver(
            boss.url, boss.token, "small", "plain", BOX.z, BOX.y, BOX.x, tmp_path, cpus=1, **options
        )
        folder = Path(info["folder"])
        told = json.loads((folder / "run.json").read_text())["voxels"]
        assert 0 < told["Even"] < told["All"]
        assert all(check.good for check in verify(Request(folder=folder, remote=False)))
        rewritten(folder, voxels={**told, "Even": told["All"]})
        bad = [check for check in verify(Request(folder=folder, remote=False)) if not check.good]
        assert [check.name for check in bad] == ["mask"]
        assert f"run.json says {told['All']}" in bad[0].found

    def test_a_sample_of_any_pipeline_is_what_its_run_found(self, made_by_any: Path, boss: BossServer) -> None:
        """Whatever a pipeline learned, be it a number a slice, and wherever the part lies."""
        own = OWN if made_by_any.name.startswith("tests-") else None
        found = checks(made_by_any, boss, sample=8, pipeline=own)
        assert found["mask"].good
        assert found["table"].good
        assert not found["table"].found.startswith("0 ")
        assert "4 of 4 parts computed again: 0 voxels differ of" in found["sample"].found
        rows = int(found["table"].found.split()[0])
        assert found["sample"].found.endswith(f"; {rows:,} rows are what was computed")
        assert found["sample"].good

    def test_rows_are_compared_in_the_channels_that_the_run_measured(
        self, boss: BossServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """And not at all where those of a window are too many to hold."""
        options: dict[str, Any] = {"feature_channels": ("PSD95", "GABA"), "cpus": 1, "plots": False, "push": False}
        ranges = (1, 19), (5, 100), (90, 190)
        info, _, _ = driver.driver(boss.url, boss.token, "small", "many", *ranges, tmp_path, **options)
        rows = len((Path(info["folder"]) / "synapses.csv").read_text().splitlines()) - 1
        found = checks(Path(info["folder"]), boss, sample=8)["sample"]
        assert (found.good, found.found.rpartition("; ")[2]) == (True, f"{rows} rows are what was computed")
        monkeypatch.setattr("recomputation._MOST_MEASURED", 1)
        found = checks(Path(info["folder"]), boss, sample=8)["sample"]
        assert (found.good, found.found.rpartition("; ")[2]) == (True, "0 rows are what was computed")

    def test_the_command_ends_with_0_and_tells_every_check(
        self, made: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        told = io.StringIO()
        with redirect_stdout(told):
            assert driver.main(["verify", str(made), "--sample", "1", "--quiet"]) == 0
        assert [line.split()[:2] for line in told.getvalue().splitlines()] == [
            ["--" if name == "S3" else "ok", name] for name in ("files", "mask", "table", "BOSS", "S3", "sample")
        ]
        assert boss.token not in told.getvalue()

    def test_an_upload_is_compared_by_the_checksums_of_s3(
        self, folder: Path, boss: BossServer, s3_env: S3Server
    ) -> None:
        upload.upload_folder(folder, "at-results", folder.name)
        assert checks(folder, boss, bucket="at-results", sample=0)["S3"].good
        place = {"Bucket": "at-results", "Key": f"{folder.name}/synapses.csv"}
        size = (folder / "synapses.csv").stat().st_size
        s3_env.client().put_object(**place, Body=b"x" * size)
        found = checks(folder, boss, bucket="at-results", sample=0)["S3"]
        assert (found.good, found.found) == (False, f"{place['Key']}: its content is another one")
        s3_env.client().delete_object(**place)
        assert "it is not there" in checks(folder, boss, bucket="at-results", sample=0)["S3"].found

    def test_an_upload_is_looked_for_by_the_results_key_whatever_the_folder_is_called_now(
        self, folder: Path, boss: BossServer, s3_env: S3Server
    ) -> None:
        key = folder.name
        upload.upload_folder(folder, "renamed", key)
        folder = folder.rename(folder.with_name("copy"))
        found = checks(folder, boss, bucket="renamed", sample=0)["S3"]
        assert (found.good, found.found) == (True, f"s3://renamed/{key}/ has what the folder has")

    def test_a_bucket_that_the_environment_names_is_none_of_a_run_that_uploaded_nothing(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch, s3_env: S3Server
    ) -> None:
        """It is where the next run goes; whoever uploaded this one later says so."""
        s3_env.client().create_bucket(Bucket="of-the-next-run")
        monkeypatch.setenv("RESULTS_BUCKET", "of-the-next-run")
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        told = io.StringIO()
        with redirect_stdout(told):
            assert driver.main(["verify", str(folder), "--sample", "0", "--quiet"]) == 0
        assert "--   S3      the run uploaded nothing, and no --bucket was given" in told.getvalue()

    def test_the_runs_own_bucket_is_asked_whatever_the_environment_names(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch, s3_env: S3Server
    ) -> None:
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["bucket"] = "its-own"
        rewritten(folder, **said)
        upload.upload_folder(folder, "its-own", folder.name)
        monkeypatch.setenv("RESULTS_BUCKET", "of-the-next-run")
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        told = io.StringIO()
        with redirect_stdout(told):
            assert driver.main(["verify", str(folder), "--sample", "0", "--quiet"]) == 0
        assert "ok   S3      s3://its-own/" in told.getvalue()

    def test_an_object_more_than_the_folder_has_is_named(
        self, folder: Path, boss: BossServer, s3_env: S3Server
    ) -> None:
        upload.upload_folder(folder, "more", folder.name)
        s3_env.client().put_object(Bucket="more", Key=f"{folder.name}/synapses.parquet", Body=b"old")
        s3_env.client().put_object(Bucket="more", Key=f"{folder.name}0/run.json", Body=b"another run's")
        found = checks(folder, boss, bucket="more", sample=0)["S3"]
        assert (found.good, found.found) == (False, f"{folder.name}/synapses.parquet: the folder has no such file")

    def test_an_object_without_a_size_cannot_be_looked_at(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch, s3_env: S3Server
    ) -> None:
        with answering_heads() as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            found = checks(folder, boss, bucket="sizeless", sample=0)["S3"]
        assert isinstance(found.error, UnavailableError)
        assert "S3 does not tell it" in found.found

    def test_a_large_object_is_compared_part_by_part(self, tmp_path: Path, s3_env: S3Server) -> None:
        large = tmp_path / "mask.pkl"
        large.write_bytes(np.random.default_rng(1).bytes(17 * 2**20))
        upload.upload_folder(tmp_path, "parts", "key")
        assert upload.compare_folder(tmp_path, "parts", "key") == {}
        large.write_bytes(large.read_bytes()[:-1] + b"\0")
        assert list(upload.compare_folder(tmp_path, "parts", "key")) == ["key/mask.pkl"]


class TestWhatIsWrong:
    """Each damage is found by the check that looks for it, and costs the command its exit code."""

    def test_a_changed_a_missing_and_a_foreign_file_are_named(self, folder: Path) -> None:
        (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        (folder / "synapses.csv").unlink()
        (folder / "notes.txt").write_text("mine")
        found = checks(folder)
        assert found["files"] == Check(
            "files", "missing: synapses.csv; changed: NDVIS_links.csv; not of this run: notes.txt", good=False
        )
        assert not found["table"].good

    def test_a_symbolic_link_is_named(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (folder / "notes").symlink_to(tmp_path / "notes")
        found = checks(folder)["files"]
        assert (found.good, found.found) == (False, "symbolic links: notes")

    def test_a_voxel_of_one_mask_file_is_found(self, folder: Path) -> None:
        path = folder / f"{STEM}.pkl"
        mask = masks.map_pickle(path, BOX.shape)
        offset = mask.offset + int(np.ravel_multi_index((2, 3, 4), BOX.shape))  # type: ignore[attr-defined]
        body = bytearray(path.read_bytes())
        body[offset] ^= 255
        path.write_bytes(body)
        found = checks(folder)
        assert "1 voxels differ" in found["mask"].found
        assert "the first at z, y, x (3, 8, 4)" in found["mask"].found
        assert [name for name, check in found.items() if check.good is False] == ["files", "mask", "table"]

    @pytest.mark.parametrize("suffix", ["pkl", "ome.tiff"])
    def test_a_mask_file_that_is_none_is_refused_without_running_it(self, folder: Path, suffix: str) -> None:
        (folder / f"{STEM}.{suffix}").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
        assert not checks(folder)["mask"].good

    def test_a_row_of_the_table_that_does_not_fit_the_mask_is_found(self, folder: Path) -> None:
        path = folder / "synapses.csv"
        header, *rows = csv.reader(path.read_text().splitlines())
        rows[4][header.index("voxels")] = "99999"
        path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
        found = checks(folder)["table"]
        assert not found.good
        assert found.found.startswith("synapses.csv: row 5: the mask has fewer than its 99999 voxels at z ")

    @pytest.mark.parametrize(
        ("heading", "cell"),
        [
            ("id", "+5"),
            ("id", "6"),
            ("start_z", "nan"),
            ("start_z", "1_1"),
            ("stop_x", "1" * 5000),
            ("voxels", "0"),
            ("voxels", " 8"),
            ("slices", "17"),
            ("centroid_z_voxel", "999.0"),
            ("centroid_x_voxel", "nan"),
            ("centroid_x_um", "0.125"),
            ("volume_um3", "0.125"),
            ("volume_um3", ""),
            ("touches_border", "maybe"),
            ("touches_border", "FLIPPED"),
            ("equivalent_diameter_um", "0.125"),
            ("elongation", "0.5"),
            ("elongation", "1.50"),
            ("window_fraction", "0.125"),
            ("mean_PSD95", "nan"),
            ("mean_PSD95", "inf"),
            ("mean_PSD95", ""),
            ("mean_PSD95", "140"),
            ("mean_PSD95", "141.0"),
            ("sum_PSD95", "1680.0"),
            ("sum_PSD95", "1"),
            ("window_sum_PSD95", "1"),
            ("contrast_PSD95", ""),
            ("contrast_PSD95", "-inf"),
            ("score", "NaN"),
        ],
    )
    def test_a_cell_that_cannot_be_is_found_without_boss(self, folder: Path, heading: str, cell: str) -> None:
        """Whoever changes the table can change its sum in run.json as well."""

        def change(header: list[str], rows: list[list[str]]) -> None:
            column = header.index(heading)
            rows[4][column] = str(rows[4][column] != "True") if cell == "FLIPPED" else cell

        self.in_the_table(folder, change)
        found = checks(folder)
        assert found["files"].good
        assert found["table"].good is False
        assert found["table"].found.startswith("synapses.csv: row 5")

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"sum_PSD95": +12}, "row 5: its mean_PSD95 is "),
            ({"window_sum_SYNAPSIN": -1}, "row 5: its window_mean_SYNAPSIN is "),
            ({"contrast_PSD95": 1e-9}, "row 5: its contrast_PSD95 is "),
            ({"elongation": 1e-9}, "row 5: its elongation is "),
            ({"score": 1.0}, "row 5: its score is "),
            ({"stop_x": +1}, "row 5: no such object was found at "),
        ],
        ids=str,
    )
    def test_a_measure_that_is_another_is_found_by_the_sample(
        self, folder: Path, boss: BossServer, changed: dict[str, float], told: str
    ) -> None:
        """Each could be, and the means fit their sums: only what was measured tells."""

        def change(header: list[str], rows: list[list[str]]) -> None:
            row = dict(zip(header, rows[4], strict=True))
            for heading, more in changed.items():
                row[heading] = str(type(more)(row[heading]) + more)
            inside = round(int(row["window_sum_PSD95"]) / float(row["window_mean_PSD95"]))
            for channel in ("PSD95", "SYNAPSIN"):
                row[f"mean_{channel}"] = str(int(row[f"sum_{channel}"]) / int(row["voxels"]))
                row[f"window_mean_{channel}"] = str(int(row[f"window_sum_{channel}"]) / inside)
            rows[4] = list(row.values())

        self.in_the_table(folder, change)
        found = checks(folder, boss, sample=8)
        assert found["table"].good
        assert found["sample"].good is False
        assert told in found["sample"].found
        assert " 0 voxels differ" in found["sample"].found

    def test_a_column_that_is_lacking_or_more_is_found_by_the_sample(self, folder: Path, boss: BossServer) -> None:
        def change(header: list[str], rows: list[list[str]]) -> None:
            for row in (header, *rows):
                row[-1:] = ["opinion" if row is header else "1"]

        self.in_the_table(folder, change)
        found = checks(folder, boss, sample=1)
        assert found["table"].good
        assert "are not those that are computed: opinion, score" in found["sample"].found

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b"", "it is empty"),
            (b"id,id\n1,1\n", "two of its columns have one heading"),
            (b"id,voxels\n1\n", "row 1: it has 1 cells of 2"),
            (b"id,voxels\n1,2\n", "row 1 cannot be read"),
            (b"id\n\xff\n", "after row 0 it cannot be read"),
        ],
    )
    def test_what_is_no_table_of_synapses_is_refused(self, folder: Path, body: bytes, told: str) -> None:
        (folder / "synapses.csv").write_bytes(body)
        found = checks(folder)["table"]
        assert found.good is False
        assert told in found.found

    @staticmethod
    def in_the_table(folder: Path, change: Callable[[list[str], list[list[str]]], None]) -> None:
        """Change the table, and its sum in run.json."""
        path = folder / "synapses.csv"
        header, *rows = csv.reader(path.read_text().splitlines())
        change(header, rows)
        path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
        said = json.loads((folder / "run.json").read_text())
        rewritten(folder, files={**said["files"], path.name: sums(folder)[path.name]})

    @pytest.mark.parametrize(
        ("name", "check"), [(f"{STEM}.pkl", "mask"), (f"{STEM}.ome.tiff", "mask"), ("synapses.csv", "table")]
    )
    def test_a_pipe_is_not_waited_for(self, folder: Path, name: str, check: str) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        found = checks(folder)[check]
        assert (found.good, found.found) == (False, f"{name}: it is no file")

    def test_a_voxel_that_somebody_changed_in_boss_is_found(self, folder: Path, boss: BossServer) -> None:
        remote = boss.remote()
        channel = remote.get_channel(f"{folder.name}_All", "collman_nomads", "nomads_predictions")
        place = ([7, 8], [6, 7], [2, 3])
        before = remote.get_cutout(channel, 0, *place, parallel=False)
        remote.create_cutout(channel, 0, *place, np.full((1, 1, 1), 9, np.uint8))
        found = checks(folder, boss, sample=0)["BOSS"]
        remote.create_cutout_to_black(channel, 0, *place)
        remote.create_cutout(channel, 0, *place, before)
        assert not found.good
        assert "1 voxels differ" in found.found
        assert "(2, 6, 7)" in found.found

    def test_masks_that_the_pipeline_does_not_give_are_found_by_the_sample(
        self, folder: Path, boss: BossServer
    ) -> None:
        """The files agree with each other and with run.json, but the run had other parameters."""
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["parameters"]["min_voxels"] = 90
        rewritten(folder, **said)
        found = checks(folder, boss, sample=2)["sample"]
        assert not found.good
        assert " 0 voxels differ" not in found.found

    @pytest.mark.parametrize(
        ("said", "found"),
        [
            ({"finding": {}}, "KeyError"),
            ({"finding": {"threshold:presynaptic": "import os", "threshold:postsynaptic": "7"}}, "TypeError"),
            ({"roles": {}}, "roles of none, by run.json"),
            ({"roles": {"presynaptic": "SYNAPSIN", "third": "PSD95"}}, "roles presynaptic, third, by run.json"),
            ({"roles": {"presynaptic": "SYNAPSIN"}}, "KeyError"),
            ({"roles": {"presynaptic": "SYNAPSIN", "postsynaptic": "nope"}}, "nope"),
            ({"masks": {"Other": STEM}}, "masks Other, by run.json"),
            ({"asked": {"parameters": {"nothing": "1"}}}, "parameter"),
            ({"asked": {"parameters": {"min_voxels": "x"}}}, "min_voxels=x"),
        ],
        ids=str,
    )
    def test_what_no_run_can_have_said_is_wrong(
        self, folder: Path, boss: BossServer, said: dict[str, Any], found: str
    ) -> None:
        """An edited run.json is no defect of ours."""
        before = json.loads((folder / "run.json").read_text())
        rewritten(folder, **{key: {**before[key], **v} if key == "asked" else v for key, v in said.items()})
        sample = checks(folder, boss, sample=1)["sample"]
        assert sample.good is False
        assert found in sample.found

    def test_a_name_that_is_no_line_forges_none(self, folder: Path) -> None:
        (folder / "a\nok   files   all is well\x1b[31m").write_text("")
        (folder / os.fsdecode(b"\xff.txt")).write_text("")
        raw = io.BytesIO()
        told = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
        with redirect_stdout(told):
            assert driver.main(["verify", str(folder), "--offline", "--quiet"]) == DataError.exit_code
        first, *others = raw.getvalue().decode("ascii").splitlines()
        assert first.startswith("BAD  files   not of this run: a\\nok   files   all is well\\x1b[31m, \\udcff.txt")
        assert len(others) == 2

    def test_the_command_ends_with_65_and_one_sentence(self, folder: Path) -> None:
        (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        done = subprocess.run(
            [sys.executable, "driver.py", "verify", str(folder), "--offline"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == DataError.exit_code
        assert "BAD  files" in done.stdout
        assert "Traceback" not in done.stderr
        assert "not as they should be: files" in done.stderr

    def test_a_mask_that_was_to_be_pushed_and_is_not_there_is_wrong(self, folder: Path, boss: BossServer) -> None:
        rewritten(folder, in_boss={"All": "failed: no"})
        found = checks(folder, boss, sample=0)["BOSS"]
        assert (found.good, found.found) == (False, "All was to be pushed, and is not there: failed: no")


def bomb(path: Path, shape: tuple[int, int, int], size: int) -> None:
    """Write a TIFF of slices whose strips, of some kilobytes, inflate to so many bytes each."""
    strip = zlib.compress(bytes(size), 9)
    with path.open("wb") as file:
        masks.write_tiff(file, np.zeros(shape, np.uint8), b"<OME/>")
        place = file.tell()
        file.write(strip)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["StripOffsets"].overwrite([place] * len(page.dataoffsets))  # type: ignore[union-attr]
            page.tags["StripByteCounts"].overwrite([len(strip)] * len(page.dataoffsets))  # type: ignore[union-attr]


class TestSizesOfMasks:
    """Bytes that a file claims are held against what its mask needs, before they are there."""

    SHAPE = (2, 300, 400)

    @pytest.mark.parametrize("more", [-1, 1, 100_000_000], ids=["less", "more", "much more"])
    def test_a_slice_that_inflates_to_another_size_is_refused_in_the_memory_of_a_slice(
        self, tmp_path: Path, more: int
    ) -> None:
        path = tmp_path / "mask.ome.tiff"
        bomb(path, self.SHAPE, 300 * 400 + more)
        tracemalloc.start()
        with pytest.raises(DataError, match="damaged"):
            list(masks.tiff_slices(path, self.SHAPE))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 2_000_000

    def test_slices_of_many_strips_of_any_content_are_read(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        mask = np.multiply(rng.random((3, 700, 900)) < 0.5, 255, dtype=np.uint8)
        path = tmp_path / "mask.ome.tiff"
        with path.open("wb") as file:
            masks.write_tiff(file, mask, b"<OME/>")
        with tifffile.TiffFile(path) as tiff:
            assert len(tiff.pages[0].dataoffsets) > 1
        assert np.array_equal(list(masks.tiff_slices(path, mask.shape)), mask)

    def test_a_shape_that_no_file_can_have_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.pkl"
        for body in (b"", b"cn", b"cnumpy"):
            path.write_bytes(body)
            for shape in ((2**31, 2**31, 2**31), (1, 1, 1), (1, 1, 3)):
                with pytest.raises(DataError, match="it is no mask of shape"):
                    masks.map_pickle(path, shape)

    def test_a_mask_that_is_not_compressed_is_none_of_ours(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.ome.tiff"
        tifffile.imwrite(path, np.zeros(self.SHAPE, np.uint8), photometric="minisblack")
        with pytest.raises(DataError, match="damaged"):
            list(masks.tiff_slices(path, self.SHAPE))


class TestHoles:
    """What a run could not compute is 0 there, and not compared."""

    HOLE = Box((8, 12), (100, 140), (140, 180))
    """The middle of the long object, which is cut there."""

    def holed(self, folder: Path, failed_block: Box) -> None:
        """Make a folder one whose run had a hole: what it cuts is removed, as far as the blob's own rows go."""
        path = folder / f"{STEM}.pkl"
        mask = masks.map_pickle(path, BOX.shape)
        offset, holed = mask.offset, np.array(mask)  # type: ignore[attr-defined]
        holed[failed_block.slices(BOX.start)] = 0
        body = path.read_bytes()
        path.write_bytes(body[:offset] + holed.tobytes() + body[offset + holed.size :])
        with (folder / f"{STEM}.ome.tiff").open("wb") as file:
            masks.write_tiff(file, holed, b"<OME/>")
        rewritten(folder, failed_blocks=[{"box": str(failed_block)}], voxels={"All": int(np.count_nonzero(holed))})

    def test_what_reaches_a_hole_is_not_judged_and_all_else_is(self, folder: Path, boss: BossServer) -> None:
        self.holed(folder, self.HOLE)
        found = checks(folder, boss, sample=8)
        assert found["mask"].good
        assert found["sample"].good
        assert "6 of 6 parts computed again: 0 voxels differ of" in found["sample"].found

    def test_where_a_hole_is_near_every_part_nothing_was_computed_again(self, folder: Path, boss: BossServer) -> None:
        self.holed(folder, BOX)
        found = checks(folder, boss, sample=8)["sample"]
        assert (found.good, found.error) == (None, None)
        assert found.found.startswith("nothing was computed again: of 0 parts")

    def test_where_an_object_fills_every_window_nothing_was_computed_again(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("recomputation._MOST_VOXELS", 1000)
        found = checks(folder, boss, sample=8)["sample"]
        assert found.good is None
        assert "nothing was computed again: of 8 parts off the holes of the run, 0 voxels differ of 0" in found.found


class TestWhatCannotBeLookedAt:
    """A check that cannot be made is told, and hides no other."""

    def told(self, *words: str) -> tuple[int, list[list[str]]]:
        """Run the command; return its exit code and the beginnings of its lines."""
        told = io.StringIO()
        with redirect_stdout(told):
            code = driver.main(["verify", *words, "--quiet"])
        return code, [line.split()[:2] for line in told.getvalue().splitlines()]

    def test_boss_that_refuses_leaves_the_other_checks(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOSS_TOKEN", "public")
        code, lines = self.told(str(folder), "--host", "ftp://nowhere", "--bucket", "Not_A_Bucket")
        assert lines == [
            ["ok", "files"],
            ["ok", "mask"],
            ["ok", "table"],
            *(["??", n] for n in ("BOSS", "S3", "sample")),
        ]
        assert code == UsageError.exit_code

    def test_a_bucket_that_the_user_names_and_there_is_not_is_no_fault_of_the_run(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch, s3_env: S3Server
    ) -> None:
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        told = io.StringIO()
        with redirect_stdout(told):
            assert driver.main(["verify", str(folder), "--sample", "0", "--bucket", "no-such-bucket", "--quiet"]) == 2
        assert " S3      could not be looked at" in told.getvalue()

    def test_what_is_wrong_outweighs_what_cannot_be_looked_at(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BOSS_TOKEN", "public")
        (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        code, lines = self.told(str(folder), "--host", "ftp://nowhere")
        assert lines[0] == ["BAD", "files"]
        assert ["??", "BOSS"] in lines
        assert code == DataError.exit_code

    @pytest.mark.parametrize("host", ["https://boss.example", "http://api.bossdb.io", "api.bossdb.io:444"])
    def test_a_secret_token_goes_to_no_host_that_a_run_json_alone_names(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["host"] = host
        rewritten(folder, **said)

        def sent(*_: object, **__: object) -> None:
            raise AssertionError("a request was sent")

        monkeypatch.setattr(HTTPAdapter, "send", sent)
        found = {check.name: check for check in verify(Request(folder=folder, token=Token("f0e1d2c3b4a5968778695a4b")))}
        for name in ("BOSS", "sample"):
            assert isinstance(found[name].error, UsageError)
            assert "add --host" in found[name].found

    @pytest.mark.parametrize(
        ("token", "host", "given"),
        [
            ("f0e1d2c3b4a5968778695a4b", "https://boss.example", "boss.example"),
            ("f0e1d2c3b4a5968778695a4b", "api.bossdb.io", None),
            ("f0e1d2c3b4a5968778695a4b", "http://localhost:1", None),
            ("public", "https://boss.example", None),
        ],
    )
    def test_a_host_that_is_named_or_ours_and_a_token_that_is_no_secret_are_asked(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, host: str, given: str | None
    ) -> None:
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["host"] = host
        rewritten(folder, **said)
        requested = []

        def sent(_: HTTPAdapter, request: PreparedRequest, **__: object) -> None:
            requested.append(request.url)
            raise UnavailableError("BOSS", "no answer", "Wait")

        monkeypatch.setattr(HTTPAdapter, "send", sent)
        found = {c.name: c for c in verify(Request(folder=folder, token=Token(token), host=given))}
        assert requested
        assert isinstance(found["BOSS"].error, UnavailableError)

    def test_a_file_that_cannot_be_read_leaves_the_other_checks(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(masks, "map_pickle", refused)
        code, lines = self.told(str(folder), "--offline")
        assert lines == [["ok", "files"], ["??", "mask"], ["ok", "table"]]
        assert code == StorageError.exit_code


class TestRunFile:
    """run.json comes from anywhere."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"schema": "other"},
            {"masks": {"All": "../../etc/passwd"}},
            {"masks": ["All"]},
            {"masks": {}},
            {"masks": {"All": "other"}},
            {"files": {"a": 3}},
            {"finding": {"threshold": {"a": 1}}},
            {"finding": {"threshold": math.nan}},
            {"finding": {"mean": [1.0, math.inf]}},
            {"holes": [{"box": "everywhere"}]},
            {"asked": None},
            {"asked": {}},
            {"counts": {}},
        ],
        ids=str,
    )
    def test_what_is_no_run_json_of_ours_is_refused(self, folder: Path, changes: dict[str, object]) -> None:
        rewritten(folder, **changes)
        with pytest.raises(DataError, match=r"run\.json"):
            read_run_file(folder)

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"schema": 1e999}'])
    def test_what_is_no_json_is_refused(self, folder: Path, body: bytes) -> None:
        (folder / "run.json").write_bytes(body)
        with pytest.raises(DataError, match=r"run\.json"):
            read_run_file(folder)

    def test_a_pipe_in_its_place_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "run.json")
        with pytest.raises(DataError, match="it is no file"):
            read_run_file(tmp_path)

    def test_a_folder_without_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no run\.json"):
            read_run_file(tmp_path)

    def test_a_function_in_the_folder_where_the_user_is_is_found(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "mine_alone.py").write_text("def find(data_dict): raise SystemExit('called')\n")
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["pipeline"] = "mine_alone-find"
        said["masks"] = {"All": "mine_alone-find-predictions"}
        rewritten(folder, **said)
        for kind in ("pkl", "ome.tiff"):
            (folder / f"{STEM}.{kind}").rename(folder / f"mine_alone-find-predictions.{kind}")
        words = ["verify", str(folder), "--offline", "--pipeline", "mine_alone:find"]
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "driver.py"), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == DataError.exit_code, done.stderr
        assert "not as they should be: files" in done.stderr

    @pytest.mark.parametrize("name", ["mine_none:find", "json:find", "nothing", "nomads-classifier", OWN])
    def test_a_pipeline_that_is_not_there_or_not_the_runs_is_the_users_mistake(self, folder: Path, name: str) -> None:
        with pytest.raises(UsageError, match=name) as refused:
            checks(folder, pipeline=name)
        assert refused.value.exit_code == 2

    def test_code_that_a_run_json_names_is_not_imported(self, folder: Path, boss: BossServer) -> None:
        """A function of one's own is named on the command line, or not run."""
        said = json.loads((folder / "run.json").read_text())
        said["asked"]["pipeline"] = "antigravity-fly_id"
        said["masks"] = {"All": "antigravity-fly_id-predictions"}
        for kind in ("pkl", "ome.tiff"):
            (folder / f"{STEM}.{kind}").rename(folder / f"antigravity-fly_id-predictions.{kind}")
        rewritten(folder, **said)
        found = checks(folder, boss, sample=1)["sample"]
        assert "nothing was computed again: antigravity-fly_id is no pipeline of ours" in found.found
        said["asked"]["pipeline"] = "antigravity:fly_id"
        rewritten(folder, **said)
        with pytest.raises(DataError, match=r"run\.json"):
            checks(folder, boss, sample=1)
        assert "antigravity" not in sys.modules


def test_differences_add_up_and_name_the_first() -> None:
    box = Box((1, 2), (2, 3), (3, 6))
    one, other = np.array([[[1, 2, 3]]]), np.array([[[1, 0, 0]]])
    both = Differences.between(one, one, box) + Differences.between(one, other, box, other == one)
    left_out = "1 lie in objects too large, or too near a hole, to judge"
    assert str(both) == f"2 voxels differ of 5, the first at z, y, x (1, 2, 4); {left_out}"


class Lattice(Pipeline):
    """Finds every fifth voxel of the box along each axis: what it finds follows from the place alone."""

    name = "lattice"
    help = "a lattice"

    def detect(self, arrays: Any, finding: Any, place: Place) -> Detected:
        """Mark the lattice."""
        assert place.volume == (60, 300, 300)
        z, y, x = (np.arange(start, start + n) % 5 == 0 for start, n in zip(place.start, place.shape, strict=True))
        return Detected({"All": z[:, None, None] & y[:, None] & x})


class Nothing:
    """A volume of zeros."""

    frame = Frame("frame", Box((0, 99), (0, 999), (0, 999)), VOXEL_SIZE_NM)

    def get_cutout(self, _: str, *ranges: tuple[int, int]) -> NDArray[np.uint8]:
        """Return zeros."""
        return np.zeros([stop - start for start, stop in ranges], np.uint8)


def test_a_window_tells_the_pipeline_where_in_the_box_it_lies() -> None:
    box = Box((3, 63), (7, 307), (1, 301))
    z, y, x = (np.arange(n) % 5 == 0 for n in box.shape)
    masks = {"All": np.multiply(z[:, None, None] & y[:, None] & x, 255, dtype=np.uint8)}
    part = Box((32, 48), (256, 307), (256, 301))
    found = recompute(Nothing(), Lattice(), {"any": "a"}, {}, box, masks, part).masks["All"]  # type: ignore[arg-type]
    assert (found.voxels, found.undecided) == (0, 0)
