"""No run shows the token, however it was given, whatever its pipeline or its server repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server
from tests.secrets.looked import MARK, WATCH, Looked, config, run, where


class TestDriver:
    """The main job."""

    def test_a_run_that_is_pushed_and_uploaded_leaves_no_trace_of_it(
        self, boss: BossServer, s3_env: S3Server, tmp_path: Path
    ) -> None:
        looked = Looked("driver.py, all steps, --verbose")
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
        watched = {"PYTHONPATH": str(tmp_path / "site"), "STARTED": str(tmp_path / "started")}
        words = [
            "driver.py",
            *where(boss),
            "--path",
            str(tmp_path),
            "--bucket",
            "at-results",
            "--verbose",
            "--cpus",
            "1",
        ]
        # with an empty folder of matplotlib's, which then starts a program to look for fonts
        run(looked, words, 0, BOSS_TOKEN=MARK, MPLCONFIGDIR=str(tmp_path / "fonts"), **watched)
        looked.at("what children were started with", (tmp_path / "started").read_bytes())
        assert (tmp_path / "started").read_bytes().count(b"\n") >= 2
        looked.below(tmp_path)
        client = s3_env.client()
        for key in s3_env.keys("at-results"):
            held = client.get_object(Bucket="at-results", Key=key)
            looked.at("S3 objects", held["Body"].read())
            looked.at("S3 metadata", json.dumps([key, held["Metadata"], held["ResponseMetadata"]["HTTPHeaders"]]))
        assert {"stderr", "json", "log", "html", "pkl", "children's environ", "S3 objects"} <= set(looked.places)
        looked.done(0)

    @pytest.mark.slow
    def test_a_description_that_repeats_it_is_not_repeated(self, boss: BossServer, tmp_path: Path) -> None:
        """BOSS answers 200, and says what somebody pasted, or what it was sent."""
        looked = Looked("driver.py, a token in the experiment's description")
        change = {"description": f"sent Token {MARK}, {MARK}"}
        assert boss.ask("PUT", "/v1/collection/small/experiment/plain/", MARK, json=change).ok
        try:
            run(looked, ["driver.py", *where(boss), "--path", str(tmp_path), "--cpus", "1"], 0, BOSS_TOKEN=MARK)
        finally:
            assert boss.ask("PUT", "/v1/collection/small/experiment/plain/", MARK, json={"description": ""}).ok
        looked.below(tmp_path)
        assert "sent Token ***" in next(tmp_path.glob("*/run.json")).read_text()
        looked.done(0)

    @pytest.mark.slow
    @pytest.mark.parametrize("function", ["partly", "says"])
    def test_a_pipeline_that_logs_all_it_knows_does_not_know_it(
        self, boss: BossServer, tmp_path: Path, function: str
    ) -> None:
        """Its messages are in run.json, the report and the log, which are uploaded."""
        code = 3 if function == "partly" else 0
        looked = Looked(f"driver.py --token, a function that {function}")
        words = [*where(boss), "--path", str(tmp_path), "--no-push", "--block-size", "4,16,16", "--cpus", "1"]
        run(looked, ["driver.py", *words, "--pipeline", f"tests.secrets.functions:{function}", "--token", MARK], code)
        looked.below(tmp_path)
        written = next(tmp_path.glob("*/run.json")) if code else next(tmp_path.glob("*/job.log"))
        assert "all that I know" in written.read_text()
        looked.done(code)

    @pytest.mark.slow
    def test_a_pipeline_that_has_it_from_elsewhere_and_prints_and_logs_it_does_not_show_it(
        self, boss: BossServer, tmp_path: Path
    ) -> None:
        """Workers do not know the secrets, so what they wrote themselves was redacted by its form alone."""
        looked = Looked("driver.py, a function that prints and logs the token, which its module holds")
        words = [*where(boss), "--path", str(tmp_path), "--no-push", "--block-size", "4,48,56", "--no-plots"]
        run(looked, ["driver.py", *words, "--pipeline", "tests.secrets.functions:confiding"], 0, BOSS_TOKEN=MARK)
        looked.below(tmp_path)
        assert looked.printed.count("all that I know: ***") >= 5
        assert next(tmp_path.glob("*/job.log")).read_text().count("all that I know: ***") >= 2
        looked.done(0)

    @pytest.mark.slow
    def test_no_secret_of_the_environment_is_in_the_results_of_a_function_that_raises_all_it_finds(
        self, boss: BossServer, tmp_path: Path
    ) -> None:
        """Keys of AWS were in run.json, whose folder is uploaded."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "BOSS_TOKEN")
        given = {**dict.fromkeys(names, MARK), "FTP_PROXY": "http://me:of-a-proxy@127.0.0.1:1"}
        looked = Looked("driver.py, a function that raises the environments of worker and parent")
        words = [*where(boss), "--path", str(tmp_path), "--no-push", "--block-size", "4,16,16", "--cpus", "1"]
        run(looked, ["driver.py", *words, "--pipeline", "tests.secrets.functions:nosy", "--verbose"], 3, **given)
        looked.below(tmp_path)
        record = next(tmp_path.glob("*/run.json")).read_text()
        assert "all that I know" in record
        assert "AWS_SECRET_ACCESS_KEY=***" in record
        assert not any(b"of-a-proxy" in path.read_bytes() for path in tmp_path.glob("*/*") if path.is_file())
        looked.done(3)

    def test_a_server_that_repeats_the_token_is_not_repeated(self, echo: str, tmp_path: Path) -> None:
        looked = Looked("driver.py --token, a server that repeats it")
        run(looked, ["driver.py", *where(echo), "--path", str(tmp_path), "--verbose", "--token", MARK], 2)
        looked.below(tmp_path)
        looked.done(2)

    @pytest.mark.slow
    @pytest.mark.parametrize("level", ["--verbose", ""], ids=["verbose", "default"])
    @pytest.mark.parametrize("way", ["environment", "option", "file", "config"])
    def test_no_way_to_give_it_shows_it_at_any_level(
        self, boss: BossServer, tmp_path: Path, way: str, level: str
    ) -> None:
        (tmp_path / "token").write_text(MARK)
        (tmp_path / "token").chmod(0o644)  # warned about
        given = {
            "environment": [],
            "option": ["--token", MARK],
            "file": ["--token-file", str(tmp_path / "token")],
            "config": ["--config", str(config(tmp_path / "neurodata.cfg", boss.url))],
        }[way]
        for exp, code in {"plain": 0, "flat": 65, "missing": 2}.items():
            looked = Looked(f"driver.py, token by {way}, {level or 'default level'}, {exp}")
            words = ["driver.py", *where(boss, exp), "--path", str(tmp_path / "r"), *given, "--no-plots", "--cpus", "1"]
            run(looked, [*words, *([level] if level else [])], code, **({"BOSS_TOKEN": MARK} if not given else {}))
            if (tmp_path / "r").is_dir():
                looked.below(tmp_path / "r")
            looked.done(code)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["--dry-run"], 0),
            (["--list-pipelines"], 0),
            (["--help"], 0),
            (["--frobnicate"], 2),
            (["--z-range", "x"], 2),
            (["--pipeline", "tests.secrets.functions:fails"], 65),
            (["--pipeline", "tests.secrets.functions:defect"], 2),
        ],
        ids=str,
    )
    def test_no_mistake_shows_it(self, boss: BossServer, tmp_path: Path, words: list[str], code: int) -> None:
        looked = Looked(f"driver.py {' '.join(words)}")
        command = ["driver.py", *where(boss), "--path", str(tmp_path), "--no-plots", "--no-push", "--verbose", *words]
        run(looked, [*command, "--token", MARK], code)
        looked.below(tmp_path)
        looked.done(code)
