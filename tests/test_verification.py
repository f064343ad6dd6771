"""Results checked again: what is intact, and every way in which it may not be."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

import driver
from nd_synapse.boss.destination import Destination
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, StorageError, UnavailableError, UsageError
from nd_synapse.files import masks
from nd_synapse.geometry import Box, Frame
from nd_synapse.job.deliverables import checksums
from nd_synapse.job.manifest import read_run_file
from nd_synapse.job.recompute import Differences, Known, recompute
from nd_synapse.job.verify import Check, Request, verify
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Detected, Pipeline, Place
from tests.fixtures_boss import BossServer, fill, start_boss
from tests.fixtures_s3 import S3Server

SHAPE = (20, 300, 330)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
BOX = Box((1, 19), (5, 290), (0, 330))
STEM = "nomads-unsupervised-predictions"
OWN = "tests.pipelines.variants:bright"
SENSITIVE = {"probabilistic": {"threshold": "0.8"}}
"""Parameters without which a pipeline finds next to nothing in these blobs."""
SECRET = "f0e1d2c3b4a5968778695a4b"


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
    fill(data, "small", "plain", {"SYNAPSIN": pre, "PSD95": post})
    # slices of different brightness: what is learned of one is wrong for another
    more = 4 * np.arange(SHAPE[0], dtype=np.uint8)[:, None, None]
    many = {"SYNAPSIN": pre, "PSD95": post, "VGLUT1": pre, "GABA": post, "gephyrin": post}
    fill(data, "small", "many", {name: voxels + more for name, voxels in many.items()})
    with start_boss(data) as server:
        yield server


def run_job(boss: BossServer, path: Path, experiment: str, *ranges: tuple[int, int], **options: Any) -> Path:
    """Do a job and return its folder."""
    options = {"cpus": 1, "plots": False, **options}
    z, y, x = ranges
    info, _, _ = driver.driver(boss.url, boss.token, "small", experiment, z, y, x, path, **options)
    return Path(info["folder"])


@pytest.fixture(scope="module")
def made(boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended and pushed."""
    return run_job(boss, tmp_path_factory.mktemp("results"), "plain", *BOX.ranges)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / made.name))


def checks(folder: Path, server: BossServer | None = None, **options: object) -> dict[str, Check]:
    """Verify a folder; without a server, the folder alone."""
    token = None if server is None else Token(server.token)
    request = Request(folder=folder, token=token, remote=server is not None, **options)  # type: ignore[arg-type]
    return {check.name: check for check in verify(request)}


def rewritten(folder: Path, requested: dict[str, object] | None = None, **changes: object) -> None:
    """Change fields of run.json, and of the request in it."""
    content = json.loads((folder / "run.json").read_text())
    content["asked"] |= requested or {}
    (folder / "run.json").write_text(json.dumps({**content, **changes}))


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Run ``driver.py verify``; return its exit code and its lines."""
    code = driver.main(["verify", *words, "--quiet"])
    return code, capsys.readouterr().out.splitlines()


class TestIntact:
    """A run that was left alone."""

    def test_files_boss_and_a_sample_are_as_they_should_be(self, made: Path, boss: BossServer) -> None:
        found = checks(made, boss, sample=3)
        assert {name: check.good for name, check in found.items()} == {
            "files": True, "labels": True, "BOSS": True, "S3": None, "sample": True,
        }  # fmt: skip
        assert f"0 voxels differ of {BOX.voxels:,}" in found["BOSS"].found
        assert "3 of 8 parts computed again: 0 voxels differ of" in found["sample"].found
        assert "not compared" not in found["sample"].found

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [*registry.names(), OWN])
    def test_a_sample_of_any_pipeline_is_what_its_run_found(self, boss: BossServer, tmp_path: Path, name: str) -> None:
        """Whatever a pipeline learned, be it a number a slice, and wherever the part lies."""
        pipeline = registry.build(name, SENSITIVE.get(name, {}))
        experiment = "plain" if name == OWN else "many"
        ranges = (1, 19), (5, 270), (90, 190)
        chosen = {"marker": "PSD95"} if name == "puncta" else {}
        folder = run_job(boss, tmp_path, experiment, *ranges, pipeline=pipeline, channels=chosen, push=False)
        sample = checks(folder, boss, sample=8, pipeline=OWN if name == OWN else None)["sample"]
        rows = len((folder / "synapses.csv").read_text().splitlines()) - 1
        assert rows > 0
        assert "4 of 4 parts computed again: 0 voxels differ of" in sample.found
        assert sample.found.endswith(f"; {rows:,} rows are equal")
        assert sample.good

    def test_rows_are_compared_in_the_channels_that_the_run_measured(self, boss: BossServer, tmp_path: Path) -> None:
        ranges = (1, 19), (5, 100), (90, 190)
        folder = run_job(boss, tmp_path, "many", *ranges, feature_channels=("PSD95", "GABA"), push=False)
        rows = len((folder / "synapses.csv").read_text().splitlines()) - 1
        sample = checks(folder, boss, sample=8)["sample"]
        assert (sample.good, sample.found.rpartition("; ")[2]) == (True, f"{rows} rows are equal")

    def test_the_command_prints_every_check_and_ends_with_0(
        self, made: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """RESULTS_BUCKET is where the next run goes, and is not looked at for one that uploaded nothing."""
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        monkeypatch.setenv("RESULTS_BUCKET", "of-the-next-run")
        code, lines = command(capsys, str(made), "--sample", "1")
        marks = [["ok", "files"], ["ok", "labels"], ["ok", "BOSS"], ["--", "S3"], ["ok", "sample"]]
        assert [line.split()[:2] for line in lines] == marks
        assert code == 0
        assert boss.token not in "".join(lines)


class TestLabelsInBoss:
    """The ids, as an annotation channel."""

    def test_they_are_pushed_read_back_and_compared_at_any_later_time(self, boss: BossServer, tmp_path: Path) -> None:
        ranges = (1, 19), (5, 100), (90, 190)
        folder = run_job(boss, tmp_path / "a", "plain", *ranges, push_labels=True)
        run = json.loads((folder / "run.json").read_text())
        channel = f"collman_nomads/nomads_predictions/{folder.name}_All_ids"
        assert run["in_boss"]["All_ids"].startswith(f"{channel}, {run['voxels']['All']:,} voxels, read back and equal")
        assert "%22type%22%3A%22segmentation%22" in run["links"]["All_ids neuroglancer"]
        request = Request(folder=folder, token=Token(boss.token), host=boss.url, sample=0)
        found = [check for check in verify(request) if check.name == "BOSS"]
        assert [check.good for check in found] == [True, True]
        assert found[1].found.startswith(f"{channel}: 0 voxels differ of ")
        # other ids in the same places: what is not zero is replaced as well
        other = run_job(boss, tmp_path / "b", "plain", *ranges, push_labels=True, overwrite=True,
                        pipeline=registry.build("nomads-unsupervised", {"min_voxels": "60"}))  # fmt: skip
        assert json.loads((other / "run.json").read_text())["failures"] == []
        assert [check.good for check in verify(request) if check.name == "BOSS"] == [False, False]

    def test_a_channel_of_another_type_is_refused_before_the_work(self, boss: BossServer, tmp_path: Path) -> None:
        destination = Destination("a", "b", "c", datatype="uint64")
        assert (destination.kind, Destination("a", "b", "c").kind) == ("annotation", "image")
        with pytest.raises(UsageError, match="nothing is pushed"):
            run_job(boss, tmp_path, "plain", (1, 19), (5, 100), (90, 190), push=False, push_labels=True)


class TestS3:
    """The objects of an upload."""

    @pytest.fixture
    def uploaded(self, folder: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, boss: BossServer) -> Path:
        """A folder whose run has a bucket, uploaded there, and called otherwise since."""
        rewritten(folder, {"bucket": "its-own"})
        assert driver.main(["upload", str(folder), "--bucket", "its-own", "--quiet"]) == 0
        monkeypatch.setenv("RESULTS_BUCKET", "of-the-next-run")
        return folder.rename(folder.with_name("renamed"))

    def test_it_is_looked_for_in_the_bucket_and_under_the_key_of_the_run(
        self, uploaded: Path, made: Path, boss: BossServer
    ) -> None:
        found = checks(uploaded, boss, sample=0)["S3"]
        assert (found.good, found.found) == (True, f"s3://its-own/{made.name}/ has what the folder has")

    def test_changed_missing_and_other_objects_are_named(
        self, uploaded: Path, made: Path, boss: BossServer, s3_env: S3Server
    ) -> None:
        client, key = s3_env.client(), made.name
        size = (uploaded / "synapses.csv").stat().st_size
        client.put_object(Bucket="its-own", Key=f"{key}/synapses.csv", Body=b"x" * size)
        client.put_object(Bucket="its-own", Key=f"{key}/synapses.parquet", Body=b"old")
        client.put_object(Bucket="its-own", Key=f"{key}0/run.json", Body=b"another run's")
        client.delete_object(Bucket="its-own", Key=f"{key}/NDVIS_links.csv")
        found = checks(uploaded, boss, sample=0)["S3"]
        assert not found.good
        faulty = sorted(fault.partition(":")[0].removeprefix(f"{key}/") for fault in found.found.split("; "))
        assert faulty == ["NDVIS_links.csv", "synapses.csv", "synapses.parquet"]

    def test_a_bucket_that_the_user_misspelt_is_no_fault_of_the_run(
        self,
        folder: Path,
        boss: BossServer,
        monkeypatch: pytest.MonkeyPatch,
        s3_env: S3Server,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("BOSS_TOKEN", boss.token)
        code, lines = command(capsys, str(folder), "--sample", "0", "--bucket", "no-such-bucket")
        assert lines[3].startswith("??   S3      could not be checked")
        assert code == 2


def change_table(folder: Path, change: Callable[[list[str], list[list[str]]], None]) -> None:
    """Change the table, and its checksum in run.json."""
    path = folder / "synapses.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    change(header, rows)
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    content = json.loads((folder / "run.json").read_text())
    rewritten(folder, files={**content["files"], path.name: checksums(folder)[path.name]})


class TestDamaged:
    """Each damage is found by the check that looks for it, and costs the command its exit code."""

    def test_changed_missing_and_foreign_files_and_links_are_named(self, folder: Path, tmp_path: Path) -> None:
        (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        (folder / "synapses.csv").unlink()
        (folder / "notes.txt").write_text("mine")
        (folder / "linked").symlink_to(tmp_path)
        expected = "missing: synapses.csv; changed: NDVIS_links.csv; not of this run: notes.txt; symbolic links: linked"
        assert checks(folder)["files"] == Check("files", expected, good=False)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("heading", "more", "found"),
        [
            ("sum_PSD95", +12, "row 5: its sum_PSD95 is "),
            ("contrast_PSD95", 1e-9, "row 5: its contrast_PSD95 is "),
            ("score", 1.0, "row 5: its score is "),
            ("stop_x", +1, "row 5: no such object was found at "),
        ],
    )
    def test_a_cell_that_was_changed_is_found_by_the_sample(
        self, folder: Path, boss: BossServer, heading: str, more: float, found: str
    ) -> None:
        def change(header: list[str], rows: list[list[str]]) -> None:
            column = header.index(heading)
            rows[4][column] = str(type(more)(rows[4][column]) + more)

        change_table(folder, change)
        made = checks(folder, boss, sample=8)
        assert made["files"].good
        assert made["sample"].good is False
        assert found in made["sample"].found
        assert " 0 voxels differ" in made["sample"].found

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda header, rows: rows.pop(4), "synapses.csv has no row of the object at z "),
            (lambda header, rows: rows.append(rows[4]), "no such object was found at z "),
            (
                lambda header, rows: header.__setitem__(header.index("score"), "opinion"),
                "the columns opinion, score are not both in it",
            ),
            (lambda header, rows: rows[4].pop(), "synapses.csv: line 6 has"),
            (lambda header, rows: header.clear(), "synapses.csv: it has no header"),
            (lambda header, rows: rows[4].__setitem__(1, "x"), "is damaged, cut short, or not what its name says"),
        ],
        ids=["row missing", "row twice", "column", "cell missing", "no header", "no number"],
    )
    def test_a_table_of_another_shape_is_found_by_the_sample(
        self, folder: Path, boss: BossServer, change: Callable[[list[str], list[list[str]]], None], found: str
    ) -> None:
        change_table(folder, change)
        sample = checks(folder, boss, sample=8)["sample"]
        assert sample.good is False
        assert found in sample.found

    @pytest.mark.parametrize("how", ["missing", "pipe", "other"])
    @pytest.mark.parametrize("name", [f"{STEM}.pkl", "synapses.csv"])
    def test_a_file_that_is_none_of_ours_is_not_waited_for_or_run(
        self, folder: Path, boss: BossServer, name: str, how: str
    ) -> None:
        (folder / name).unlink()
        if how == "pipe":
            os.mkfifo(folder / name)
        elif how == "other":
            (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
        found = checks(folder, boss, sample=1)
        assert found["files"].good is False
        assert found["sample"].good is False
        assert name in found["sample"].found

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

    def test_masks_of_other_parameters_are_found_by_the_sample(self, folder: Path, boss: BossServer) -> None:
        content = json.loads((folder / "run.json").read_text())
        rewritten(folder, {"parameters": {**content["asked"]["parameters"], "min_voxels": 90}})
        found = checks(folder, boss, sample=2)["sample"]
        assert not found.good
        assert " 0 voxels differ" not in found.found

    @pytest.mark.parametrize(
        ("requested", "changes", "found"),
        [
            ({}, {"finding": {}}, "KeyError"),
            ({}, {"roles": {"presynaptic": "SYNAPSIN"}}, "KeyError"),
            ({}, {"roles": {"presynaptic": "SYNAPSIN", "postsynaptic": "nope"}}, "nope"),
            ({}, {"masks": {"Other": STEM}}, "masks Other in run.json"),
            ({"parameters": {"nothing": "1"}}, {}, "parameter"),
            ({"parameters": {"min_voxels": "x"}}, {}, "min_voxels=x"),
        ],
        ids=["finding", "role", "channel", "masks", "parameter", "value"],
    )
    def test_a_run_of_another_version_is_no_defect(
        self, folder: Path, boss: BossServer, requested: dict[str, Any], changes: dict[str, Any], found: str
    ) -> None:
        rewritten(folder, requested, **changes)
        sample = checks(folder, boss, sample=1)["sample"]
        assert sample.good is False
        assert found in sample.found

    def test_a_name_with_line_ends_forges_no_line(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "a\nok   files   all is well\x1b[31m").write_text("")
        (folder / os.fsdecode(b"\xff.txt")).write_text("")
        code, lines = command(capsys, str(folder), "--offline")
        assert code == DataError.exit_code
        assert lines[0] == "BAD  files   not of this run: a\\nok   files   all is well\\x1b[31m, \\udcff.txt"
        assert len(lines) == 2

    def test_a_mask_that_was_to_be_pushed_and_is_not_there_is_wrong(self, folder: Path, boss: BossServer) -> None:
        rewritten(folder, in_boss={"All": "failed: no"})
        found = checks(folder, boss, sample=0)["BOSS"]
        assert (found.good, found.found) == (False, "All was to be pushed, and is not there: failed: no")


class TestFailedBlocks:
    """What a run could not compute is 0 there, and not compared."""

    def fail(self, folder: Path, block: Box) -> None:
        """Make a folder that of a run in which a block failed."""
        path = folder / f"{STEM}.pkl"
        mask = masks.map_pickle(path, BOX.shape)
        offset, without = mask.offset, np.array(mask)  # type: ignore[attr-defined]
        without[block.slices(BOX.start)] = 0
        body = path.read_bytes()
        path.write_bytes(body[:offset] + without.tobytes() + body[offset + without.size :])
        rewritten(folder, failed_blocks=[{"box": str(block)}])

    def test_objects_that_reach_a_failed_block_are_not_compared_and_all_others_are(
        self, folder: Path, boss: BossServer
    ) -> None:
        # the middle of the long object
        self.fail(folder, Box((8, 12), (100, 140), (140, 180)))
        found = checks(folder, boss, sample=8)["sample"]
        assert found.good
        assert "6 of 6 parts computed again: 0 voxels differ of" in found.found

    def test_nothing_is_computed_again_near_failed_blocks(self, folder: Path, boss: BossServer) -> None:
        self.fail(folder, BOX)
        found = checks(folder, boss, sample=8)["sample"]
        assert (found.good, found.error) == (None, None)
        assert found.found.startswith("nothing was computed again: of 0 parts")

    def test_nothing_is_computed_again_where_no_window_is_small_enough(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nd_synapse.job.recompute._MOST_VOXELS", 1000)
        found = checks(folder, boss, sample=8)["sample"]
        assert found.good is None
        assert "of 8 parts away from failed blocks, 0 voxels differ of 0" in found.found


class TestNotChecked:
    """A check that cannot be made is printed, and does not prevent the others."""

    @pytest.mark.parametrize(("damaged", "code"), [(False, UsageError.exit_code), (True, DataError.exit_code)])
    def test_boss_that_refuses_leaves_the_other_checks(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        damaged: bool,
        code: int,
    ) -> None:
        """What is wrong decides the exit code before what could not be checked."""
        monkeypatch.setenv("BOSS_TOKEN", "public")
        if damaged:
            (folder / "NDVIS_links.csv").write_text("All,http://elsewhere\n")
        ended, lines = command(capsys, str(folder), "--host", "ftp://nowhere", "--bucket", "Not_A_Bucket")
        marks = ["BAD" if damaged else "ok", "ok", "??", "??", "??"]
        assert [line.split()[:2] for line in lines] == [
            [mark, name] for mark, name in zip(marks, ["files", "labels", "BOSS", "S3", "sample"], strict=True)
        ]
        assert ended == code

    def test_a_file_that_cannot_be_read_leaves_the_other_checks(
        self, folder: Path, boss: BossServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(masks, "map_pickle", refused)
        found = checks(folder, boss, sample=1)
        assert found["files"].good
        assert isinstance(found["BOSS"].error, StorageError)

    @pytest.mark.parametrize(
        ("token", "host", "given", "is_sent"),
        [
            (SECRET, "https://boss.example", None, False),
            (SECRET, "http://api.bossdb.io", None, False),
            (SECRET, "api.bossdb.io:444", None, False),
            (SECRET, "https://boss.example", "boss.example", True),
            (SECRET, "api.bossdb.io", None, True),
            (SECRET, "http://localhost:1", None, True),
            ("public", "https://boss.example", None, True),
        ],
    )
    def test_a_secret_token_goes_to_no_host_that_run_json_alone_names(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, host: str, given: str | None, is_sent: bool
    ) -> None:
        rewritten(folder, {"host": host})
        sent = []

        def send(_: HTTPAdapter, request: PreparedRequest, **__: object) -> None:
            sent.append(request.url)
            raise UnavailableError("BOSS", "no answer", "Wait")

        monkeypatch.setattr(HTTPAdapter, "send", send)
        found = {c.name: c for c in verify(Request(folder=folder, token=Token(token), host=given))}
        assert bool(sent) == is_sent
        for name in ("BOSS", "sample"):
            assert isinstance(found[name].error, UnavailableError if is_sent else UsageError)
            assert is_sent or "add --host" in found[name].found


class TestRunFile:
    """run.json of another version, or damaged."""

    def test_a_folder_without_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no run\.json"):
            read_run_file(tmp_path)

    @pytest.mark.parametrize("name", ["mine_none:find", "json:find", "nothing", "nomads-classifier", OWN])
    def test_a_pipeline_that_is_not_there_or_not_of_the_run_is_the_users_mistake(self, folder: Path, name: str) -> None:
        with pytest.raises(UsageError, match=name) as refused:
            checks(folder, pipeline=name)
        assert refused.value.exit_code == 2

    def test_a_function_in_the_working_folder_is_found(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine_alone.py").write_text("def find(data_dict): raise SystemExit('called')\n")
        rewritten(folder, {"pipeline": "mine_alone-find"})
        monkeypatch.setattr(sys, "path", sys.path[:])
        monkeypatch.chdir(tmp_path)
        assert driver.main(["verify", str(folder), "--offline", "--pipeline", "mine_alone:find"]) == 0

    @pytest.mark.parametrize("name", ["antigravity-fly_id", "antigravity:fly_id"])
    def test_code_that_a_run_json_names_is_not_imported(self, folder: Path, boss: BossServer, name: str) -> None:
        """A function of one's own is named on the command line, or not run."""
        rewritten(folder, {"pipeline": name})
        found = checks(folder, boss, sample=1)["sample"]
        assert f"nothing was computed again: {name} is not an installed pipeline" in found.found
        assert "antigravity" not in sys.modules


def test_differences_add_up_and_name_the_first() -> None:
    box = Box((1, 2), (2, 3), (3, 6))
    one, other = np.array([[[1, 2, 3]]]), np.array([[[1, 0, 0]]])
    both = Differences.between(one, one, box) + Differences.between(one, other, box, other == one)
    left_out = "1 not compared: their objects are too large, or reach failed blocks"
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


class Zeros:
    """A volume of zeros."""

    frame = Frame("frame", Box((0, 99), (0, 999), (0, 999)), VOXEL_SIZE_NM)

    def get_cutout(self, _: str, *ranges: tuple[int, int]) -> NDArray[np.uint8]:
        """Return zeros."""
        return np.zeros([stop - start for start, stop in ranges], np.uint8)


def test_a_pipeline_computes_a_window_as_at_its_place_in_the_box() -> None:
    box = Box((3, 63), (7, 307), (1, 301))
    z, y, x = (np.arange(n) % 5 == 0 for n in box.shape)
    mask = np.multiply(z[:, None, None] & y[:, None] & x, 255, dtype=np.uint8)
    known = Known(source=Zeros(), pipeline=Lattice(), roles={"any": "a"}, finding={}, box=box)  # type: ignore[arg-type]
    found = recompute(known, {"All": mask}, Box((32, 48), (256, 307), (256, 301))).masks["All"]
    assert (found.voxels, found.undecided) == (0, 0)
