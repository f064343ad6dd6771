"""The upload of a job and of a folder: whole, refused, or stopped and completed by the next call."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import requests

import driver
from nd_synapse.errors import UsageError
from nd_synapse.job.folder import ResultFolder, locked
from tests.conftest import REPOSITORY
from tests.driver.runs import BYTES, LIMIT_S, LOCAL, SMALL, Run, drive_small, files_of, objects_of, where
from tests.faults.faulty_s3 import Plan, Rule, through_proxy
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server


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
