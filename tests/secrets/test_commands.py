"""No other command shows the token, nor does the cloud that it uses."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.batch.fixtures import BUCKET, account, aws, client
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored
from tests.secrets.looked import MARK, RANGES, Looked, config, run, where

__all__ = ["account", "aws"]


class TestBatch:
    """Runs on AWS Batch, whose jobs everybody can describe who has the account."""

    @pytest.mark.slow
    def test_no_command_leaves_it_in_the_cloud(self, boss: BossServer, aws: S3Server, tmp_path: Path) -> None:
        address = f"s3://{BUCKET}/runs/secret"
        submit = ["submit", "--queue", "nd", "--job-definition", "nd"]
        submit += ["--run-bucket", BUCKET, "--run", "secret", "--yes"]
        job = [*where(boss), "--block-size", "4,16,16", "--no-push"]
        (tmp_path / "token").write_text(MARK)
        (tmp_path / "token").chmod(0o600)
        for words, code in [
            (["plan", *job], 0),
            (["plan", *job, "--json", "--token", MARK], 0),
            ([*submit, *job, "--token-file", str(tmp_path / "token")], 0),
            ([*submit, *job], 2),
            ([*submit[:-3], "--run", "again", "--yes", *where(boss, "missing"), "--no-push"], 2),
            ([*submit[:-3], "--run", "again", "--yes", *job, "--tag", MARK], 2),
            (["status", address], 0),
            (["status", address, "--verbose"], 0),
            (["status", f"s3://{BUCKET}/runs/none"], 2),
            (["status", MARK], 2),
            (["logs", address], 2),
            (["resume", address, "--yes"], 0),
            (["cancel", address], 0),
        ]:
            looked = Looked(f"nd-synapse batch {words[0]}")
            run(looked, ["-m", "nd_synapse", "batch", *words], code, BOSS_TOKEN=MARK)
            looked.done(code)
        looked = Looked("what nd-synapse batch left on AWS")
        batch, s3 = client(aws, "batch"), client(aws, "s3")
        queued = [
            one["jobId"]
            for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
            for one in batch.list_jobs(jobQueue="nd", jobStatus=status)["jobSummaryList"]
        ]
        assert queued
        looked.at("job descriptions", json.dumps(batch.describe_jobs(jobs=queued)["jobs"], default=str))
        looked.at("job definitions", json.dumps(batch.describe_job_definitions()["jobDefinitions"], default=str))
        for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
            held = s3.get_object(Bucket=BUCKET, Key=entry["Key"])
            looked.at("S3 objects", held["Body"].read())
            looked.at("S3 metadata", json.dumps([entry["Key"], held["Metadata"]]))
        looked.done(0)


class TestOtherCommands:
    """All other commands."""

    @pytest.mark.parametrize(
        "words",
        [
            ["driver.py", "upload", "F", "--bucket", "b", "--token", MARK],
            ["driver.py", "--host", "h", "--tokn", MARK],
            ["driver.py", "--host", "h", f"--quiet={MARK}"],
            ["driver.py", "--host", "h", "--cpus", MARK],
            ["driver.py", "verify", "a", MARK],
            ["driver.py", *RANGES, "--col", "c", "--exp", "e", "--host", "h", "--verbose", "--token-file", MARK],
            ["nd_multicore", "a", "b", "--token", MARK],
            ["nd-synapse", "batch", MARK],
            ["nd-synapse", MARK],
            ["driver.py", *where("h"), "--z-range", MARK],
            ["driver.py", *where("h"), "--param", MARK],
            ["driver.py", *where("h"), "--token", MARK, "--exp", f"{MARK}/"],
        ],
        ids=lambda words: " ".join(words).replace(MARK, "TOKEN"),
    )
    def test_a_token_in_the_wrong_place_is_not_repeated(
        self, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        looked = Looked(" ".join(words).replace(MARK, "TOKEN"))
        with restored():
            code = main(*words)
        looked.at("output", "".join(capsys.readouterr()))
        assert code == 2
        looked.done(2)

    @pytest.mark.slow
    def test_uploading_and_verifying_leave_no_trace_of_it(
        self, ended: Path, boss: BossServer, s3_env: S3Server
    ) -> None:
        for words, code in [
            (["upload", str(ended), "--bucket", "later", "--verbose"], 0),
            (["verify", str(ended), "--sample", "1", "--bucket", "later", "--verbose"], 0),
        ]:
            looked = Looked(f"driver.py {words[0]}")
            run(looked, ["driver.py", *words], code, BOSS_TOKEN=MARK)
            looked.below(ended)
            looked.done(code)

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["verify", "FOLDER", "--host", f"https://host.invalid/?token={MARK}"], 2),
            (["verify", "FOLDER", "--bucket", MARK], 2),
            (["verify", "FOLDER", "--pipeline", f"{MARK}:x"], 2),
            (["verify", f"FOLDER/../{MARK}", "--offline"], 2),
            (["--host", "h", "--path", f"FOLDER/{MARK}", "--dry-run"], 2),
        ],
        ids=lambda words: " ".join(words).replace(MARK, "TOKEN") if isinstance(words, list) else str(words),
    )
    def test_a_known_token_in_another_argument_is_removed(
        self,
        ended: Path,
        s3_env: S3Server,
        words: list[str],
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        looked = Looked(f"driver.py {' '.join(words)}".replace(MARK, "TOKEN"))
        monkeypatch.setenv("BOSS_TOKEN", MARK)
        with restored():
            assert main("driver.py", *(word.replace("FOLDER", str(ended)) for word in words)) == code
        looked.at("output", "".join(capsys.readouterr()))
        looked.done(code)

    def test_a_token_in_the_name_of_a_file_is_removed(
        self, ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        looked = Looked("driver.py verify, a file of the token's name")
        copy = shutil.copytree(ended, tmp_path / "copy")
        (copy / MARK).touch()
        monkeypatch.setenv("BOSS_TOKEN", MARK)
        with restored():
            assert main("driver.py", "verify", str(copy), "--offline") == 65
        output = "".join(capsys.readouterr())
        assert "not of this run" in output
        looked.at("output", output)
        looked.done(65)

    @pytest.mark.parametrize("option", ["--channels", "--param", "--z-range", "--pipeline", "--config", "--block-size"])
    def test_a_token_of_a_file_is_known_before_any_message(
        self, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "token").write_text("my-own-token-12345")
        words = ["driver.py", *where("h"), "--token-file", str(tmp_path / "token"), option, "xmy-own-token-12345"]
        with restored():
            assert main(*words) == 2
        assert "my-own-token" not in "".join(capsys.readouterr())

    def test_a_token_of_neurodata_cfg_is_known_before_any_message_about_its_host(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with restored():
            assert main("driver.py", "--config", str(config(tmp_path / "cfg", f"http://h/?t={MARK}"))) == 2
        assert MARK not in "".join(capsys.readouterr())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    def test_secrets_of_aws_are_not_repeated_either(self, ended: Path, s3_env: S3Server, name: str) -> None:
        """Such as one that was read from a file with its line end, which no header can carry."""
        looked = Looked(f"driver.py upload, a line end in {name}")
        code = 0 if name == "AWS_SECRET_ACCESS_KEY" else 2
        run(looked, ["driver.py", "upload", str(ended), "--bucket", "later", "--verbose"], code, **{name: f"{MARK}\n"})
        assert (code == 0) != ("that no HTTP header" in looked.printed)
        looked.done(code)

    @pytest.mark.slow
    def test_uploading_and_verifying_that_fail_leave_no_trace_of_it(
        self, ended: Path, boss: BossServer, echo: str, s3_env: S3Server
    ) -> None:
        for words, code in [
            (["upload", str(ended), "--bucket", "Not_A_Bucket"], 2),
            (["upload", str(ended.parent), "--bucket", "later"], 2),
            (["verify", str(ended), "--host", echo, "--token", MARK, "--verbose"], 2),
            (["verify", str(ended), "--token", MARK[:7]], 2),
            (["verify", str(ended.parent), "--offline"], 2),
        ]:
            looked = Looked(f"driver.py {' '.join(words[:1] + words[2:]).replace(MARK, 'TOKEN')}")
            run(looked, ["driver.py", *words], code, BOSS_TOKEN=MARK)
            looked.done(code)

    @pytest.mark.slow
    def test_a_function_on_blocks_that_logs_all_it_knows_does_not_know_it(
        self, boss: BossServer, tmp_path: Path
    ) -> None:
        looked = Looked("python -m nd_multicore, a function that raises all it finds")
        words = [
            "-m",
            "nd_multicore",
            str(config(tmp_path / "neurodata.cfg", boss.url)),
            "tests.secrets.functions:fails",
        ]
        run(looked, [*words, "--cpus", "1"], 3, BOSS_TOKEN=MARK)
        looked.done(3)

    @pytest.mark.slow
    @pytest.mark.parametrize("exp", ["plain", "missing"])
    def test_functions_on_blocks_leave_no_trace_of_it(self, boss: BossServer, tmp_path: Path, exp: str) -> None:
        code = 0 if exp == "plain" else 2
        looked = Looked(f"python -m nd_multicore, {exp}")
        cfg = config(tmp_path / "neurodata.cfg", boss.url, exp)
        scratch = tmp_path / "scratch"
        run(
            looked,
            ["-m", "nd_multicore", str(cfg), "tests.secrets.functions:size", "--cpus", "1", "--scratch", str(scratch)],
            code,
        )
        if scratch.is_dir():
            looked.below(scratch)
        looked.done(code)

    @pytest.mark.slow
    def test_the_local_boss_does_not_log_it(self, boss: BossServer, tmp_path: Path) -> None:
        looked = Looked("nd-synapse boss serve --verbose")
        server = subprocess.Popen(
            [sys.executable, "-m", "nd_synapse", "boss", "serve", "--data", str(boss.data), "--verbose"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        try:
            run(
                looked,
                ["driver.py", *where(url), "--path", str(tmp_path), "--no-plots", "--cpus", "1"],
                0,
                BOSS_TOKEN=MARK,
            )
            run(looked, ["driver.py", *where(url, "x"), "--path", str(tmp_path), "--quiet"], 2, BOSS_TOKEN=MARK)
        finally:
            server.terminate()
            out, err = server.communicate(timeout=20)
        looked.at("server's stdout", out)
        looked.at("server's stderr", err)
        assert b"/v1/cutout/" in err
        looked.done(server.returncode)

    @pytest.mark.slow
    def test_commands_that_need_no_token_do_not_show_that_of_the_environment(self, tmp_path: Path) -> None:
        table, stack = tmp_path / "table.csv", tmp_path / "stack.tif"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["z_um", "y_um", "x_um", "mean_a"], *([i, i, i, i * i % 7] for i in range(30))])
        tifffile.imwrite(stack, np.zeros((2, 3, 4), np.uint8), photometric="minisblack")
        into = ["--data", str(tmp_path / "data"), "--col", "a", "--exp", "b", "--voxel-size-nm", "70,100,100"]
        detections = ["--detections", str(table), "--truth", str(table)]
        for words, code in [
            (["-m", "pymeda_driver", str(table), "--out", str(tmp_path / "report")], 0),
            (["-m", "pymeda_driver", str(stack), "--out", str(tmp_path / "report")], 65),
            (["-m", "nd_synapse", "evaluate", *detections, "--out", str(tmp_path / "out")], 0),
            (["-m", "nd_synapse", "evaluate", "--detections", str(stack), "--truth", str(table)], 65),
            (["-m", "nd_synapse", "boss", "ingest", *into, "--chan", "c", str(stack)], 0),
            (["-m", "nd_synapse", "boss", "ingest", *into, "--chan", "c", str(table)], 65),
        ]:
            looked = Looked(f"python -m {words[1]}, {'success' if code == 0 else 'failure'}")
            run(looked, words, code, BOSS_TOKEN=MARK)
            looked.below(tmp_path)
            looked.done(code)
