"""Of a run that was left alone every check is good, in the folder, in BOSS and in S3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import driver
from nd_synapse.boss.destination import Destination
from nd_synapse.credentials import Token
from nd_synapse.errors import UsageError
from nd_synapse.job.verify import Request, verify
from nd_synapse.pipeline import registry
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server
from tests.verification.checked import BOX, OWN, checks, command, rewritten, run_job

SENSITIVE = {"probabilistic": {"threshold": "0.8"}}
"""Parameters without which a pipeline finds next to nothing in these blobs."""


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
