"""The token shows nowhere: every command, in success and failure, at every log level, with a marked token.

``python -m tests.test_secrets`` runs all of it and prints the table: command, exit code, where was looked, leaks.
"""

from __future__ import annotations

import csv
import http.client
import http.server
import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile

import driver
import nd_multicore
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.job.job import Job
from nd_synapse.local_boss.tokens import writing_token
from NeuroDataResource import NeuroDataResource
from tests.batch.fixtures import BUCKET, account, aws, client
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored

__all__ = ["account", "aws"]

MARK = "d5f07b31e9c4a8620bd5f07b31e9c4a8620bd5f0"
"""The token of all tests here; the server takes it, and every trace of it is a leak."""

FORMS = {
    MARK.encode(),
    MARK[:16].encode(),
}
SHAPE = (4, 48, 56)
LIMIT_S = 120
RANGES = ["--z-range", "0,4", "--y-range", "0,48", "--x-range", "0,56"]
ROWS: list[tuple[str, int, str, int]] = []
"""What was looked at: command, exit code, places, leaks."""


@dataclass
class Looked:
    """Places that were looked at, by name, and those where the token was."""

    command: str
    places: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    printed: str = ""

    def at(self, place: str, body: bytes | str) -> None:
        body = body.encode("utf-8", "replace") if isinstance(body, str) else body
        self.places[place] = self.places.get(place, 0) + len(body)
        if any(form in body for form in FORMS):
            self.leaks.append(place)

    def below(self, folder: Path) -> None:
        """Look into every file, and into what TIFF compresses or hides."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.at(path.suffix.lstrip(".") or path.name, path.read_bytes())
                self.at("file names", str(path.relative_to(folder)))
            if path.name.endswith(".tiff"):
                with tifffile.TiffFile(path) as tif:
                    self.at("TIFF description", tif.pages.first.description)

    def done(self, code: int) -> None:
        """Note what was found, and refuse any trace."""
        ROWS.append((self.command, code, ", ".join(self.places), len(self.leaks)))
        assert sum(self.places.values()) > 0
        assert not self.leaks, self.command


class _Echo(http.server.BaseHTTPRequestHandler):
    """A server that repeats in its answer, and in its headers, what it was sent."""

    def do_GET(self) -> None:
        sent = self.headers["Authorization"]
        body = json.dumps(
            {"status": 400, "code": 1000, "message": f"you sent {sent}, {quote(sent)}, {sent!r}"}
        ).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Sent", sent)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names are those of http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that takes the marked token, with a small volume, and a constant one in which nothing can be found."""
    data = tmp_path_factory.mktemp("boss")
    channels = blobs(SHAPE, 2, 12)
    fill(data, "small", "plain", channels)
    fill(data, "small", "flat", {**channels, "SYNAPSIN": np.full(SHAPE, 7, np.uint8)})
    assert writing_token(data) != MARK  # that makes the file
    tokens = json.loads((data / "tokens.json").read_text())
    (rights,) = (rights for rights in tokens["tokens"].values() if rights["role"] == "admin")
    tokens["tokens"] = {MARK: rights}
    (data / "tokens.json").write_text(json.dumps(tokens))
    with start_boss(data) as server:
        yield server


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command, without what the machine may have of ours."""
    ours = ("RESULTS_BUCKET", "BOSS_TOKEN")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **more}


def run(looked: Looked, words: list[str], code: int, **more: str) -> None:
    """Run a command, look at all that it prints, and at its children while it runs."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watcher = threading.Thread(target=_watch, args=(process, looked), daemon=True)
    watcher.start()
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    watcher.join(10)
    looked.at("stdout", out)
    looked.at("stderr", err)
    looked.printed = (out + err).decode(errors="replace")
    assert process.returncode == code, err.decode(errors="replace")[-2000:]


def _watch(process: subprocess.Popen[bytes], looked: Looked) -> None:
    """Look at command lines and environments of what a process starts, as other programs of its user can."""
    while process.poll() is None:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError, ValueError):
                    continue  # it has ended
        ours = {process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        for pid in ours - {process.pid}:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if words == Path(f"/proc/{process.pid}/cmdline").read_bytes():
                    continue  # it shows its parent's until it is a program of its own
                looked.at("children's cmdline", words)
                looked.at("children's environ", Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:
                continue
        time.sleep(0.05)


WATCH = """
import _posixsubprocess, os
_start = _posixsubprocess.fork_exec

def fork_exec(args, *more):
    given = [word if isinstance(word, bytes) else os.fsencode(word) for word in args]
    # None is what this process itself has
    has = more[4] if more[4] is not None else [key + b"=" + value for key, value in os.environb.items()]
    with open(os.environ["STARTED"], "ab") as log:
        log.write(b" ".join(given) + b" " + b" ".join(has) + bytes([10]))
    return _start(args, *more)

_posixsubprocess.fork_exec = fork_exec
"""
"""Writes down what each program is started with, however short it lives."""


def where(server: BossServer | str, exp: str = "plain") -> list[str]:
    url = server if isinstance(server, str) else server.url
    return ["--host", url, "--col", "small", "--exp", exp, *RANGES]


def config(path: Path, url: str, exp: str = "plain") -> Path:
    """Write a neurodata.cfg that holds the token."""
    path.write_text(
        f"[Default]\ntoken = {MARK}\nhost = {url}\n[shared]\ncollection = small\nexperiment = {exp}\n"
        "[Parallel]\nx_range = 0,56\ny_range = 0,48\nz_range = 0,4\n"
    )
    return path


@pytest.fixture
def ended(boss: BossServer, tmp_path: Path) -> Path:
    """The folder of a run that ended."""
    info, _, _ = driver.driver(
        boss.url, MARK, "small", "plain", (0, 4), (0, 48), (0, 56), tmp_path / "ended", plots=False, cpus=1
    )
    return Path(info["folder"])


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
        run(looked, ["driver.py", *words, "--pipeline", f"tests.test_secrets:{function}", "--token", MARK], code)
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
        run(looked, ["driver.py", *words, "--pipeline", "tests.test_secrets:confiding"], 0, BOSS_TOKEN=MARK)
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
        run(looked, ["driver.py", *words, "--pipeline", "tests.test_secrets:nosy", "--verbose"], 3, **given)
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
    @pytest.mark.parametrize("level", ["--verbose", "--quiet", ""], ids=["verbose", "quiet", "default"])
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
            (["--pipeline", "tests.test_secrets:fails"], 65),
            (["--pipeline", "tests.test_secrets:defect"], 2),
        ],
        ids=str,
    )
    def test_no_mistake_shows_it(self, boss: BossServer, tmp_path: Path, words: list[str], code: int) -> None:
        looked = Looked(f"driver.py {' '.join(words)}")
        command = ["driver.py", *where(boss), "--path", str(tmp_path), "--no-plots", "--no-push", "--verbose", *words]
        run(looked, [*command, "--token", MARK], code)
        looked.below(tmp_path)
        looked.done(code)


def size(data_dict: Mapping[str, object]) -> dict[str, object]:
    """A function that returns a table."""
    return {"channels": np.array([len(data_dict)])}


def fails(data_dict: Mapping[str, object]) -> object:
    """A function that says all that it can find."""
    raise RuntimeError(f"{os.environ} {sys.argv} {data_dict.keys()}")


def says(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that logs all that it can find."""
    logging.getLogger(__name__).warning("all that I know: %s %s", dict(os.environ), sys.argv)
    return np.asarray(next(iter(data_dict.values())) > 100).astype(np.uint8) * np.uint8(255)


def partly(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that fails on some blocks."""
    if int(next(iter(data_dict.values())).sum()) % 2:
        raise RuntimeError(f"all that I know: {dict(os.environ)} {sys.argv}")
    return says(data_dict)


def nosy(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline that fails on some blocks with all that it finds, the environment of its parent included."""
    if int(next(iter(data_dict.values())).sum()) % 2:
        parent = Path(f"/proc/{os.getppid()}/environ").read_text().split("\0")
        raise RuntimeError(f"all that I know: {parent} {dict(os.environ)}")
    return says(data_dict)


def confides(secret: str) -> None:
    """Print and log a secret that this process knows of its own, in every way in which a program writes."""
    print("all that I know:", secret, repr(secret), quote(secret), json.dumps({"token": secret}))
    print(f"not the end of a line: {secret}", end="", file=sys.stderr, flush=True)
    log = logging.getLogger(__name__)
    log.warning("all that I know: %s", secret)
    try:
        raise ValueError(secret)  # noqa: TRY301 - what a user writes
    except ValueError:
        log.exception("all that I know", stack_info=True)
    for descriptor in (1, 2):
        os.write(descriptor, f"all that I know: {secret[:20]}".encode())
        os.write(descriptor, f"{secret[20:]}\n".encode())
    repeat = "import sys; print('all that I know:', sys.stdin.read())"
    subprocess.run([sys.executable, "-c", repeat], input=secret, text=True, check=True)
    print("x" * 4_400_000 + secret + "x" * 900_000)
    if os.fork() == 0:
        log.warning("all that I know: %s", secret)
        os._exit(0)
    os.wait()


def confiding(data_dict: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A pipeline whose module holds the token."""
    confides(MARK)
    return says(data_dict)


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
        words = ["-m", "nd_multicore", str(config(tmp_path / "neurodata.cfg", boss.url)), "tests.test_secrets:fails"]
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
            ["-m", "nd_multicore", str(cfg), "tests.test_secrets:size", "--cpus", "1", "--scratch", str(scratch)],
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


class TestImported:
    """What functions return and raise."""

    def test_returned_values_and_errors_do_not_hold_it(self, boss: BossServer, echo: str, tmp_path: Path) -> None:
        looked = Looked("driver.driver(), get_data(), errors of them")
        ranges = ((0, 4), (0, 48), (0, 56))
        returned = driver.driver(boss.url, MARK, "small", "plain", *ranges, tmp_path, plots=False, cpus=1)
        for value in (returned, driver.get_data(boss.url, MARK, "small", "plain", *ranges)):
            looked.at("repr of returned values", repr(value))
            looked.at("pickle of returned values", pickle.dumps(value))
        z, y, x = ranges
        volume = NeuroDataResource(boss.url, MARK, "small", "plain", [], x, y, z)
        job = Job(host=boss.url, token=volume.token, collection="small", experiment="plain", box=Box(*ranges))
        looked.at(
            "repr of values",
            repr([volume, job, volume.token, vars(volume)]) + str(job.requested()) + str(volume.describe()),
        )
        for holder in (volume, job, volume.token):
            with pytest.raises(TypeError, match="token is pickled only"):
                pickle.dumps(holder)
        for part in (volume.remote, volume.remote.volume_service, volume.remote.project_service.session):
            looked.at("what intern's objects hold", f"{vars(part)} {pickle.dumps(part)!r}")
        for url, exp in [(boss.url, "missing"), (echo, "plain")]:
            with pytest.raises(NDSynapseError) as caught:
                driver.driver(url, MARK, "small", exp, *ranges, tmp_path, plots=False, cpus=1)
            looked.at("tracebacks", "".join(traceback.format_exception(caught.value)))
            looked.at("pickle of errors", pickle.dumps(caught.value))
            cause = caught.value.__cause__
            while cause is not None:
                looked.at("repr of causes", f"{cause!r} {vars(cause)}")
                answer = getattr(cause, "response", None)
                if answer is not None:
                    looked.at("answers that causes hold", f"{answer.text} {answer.headers}")
                    looked.at("pickle of causes", pickle.dumps(cause))
                cause = cause.__cause__ or cause.__context__
        looked.below(tmp_path)
        looked.done(0)

    def test_a_function_that_prints_and_logs_what_it_was_given_does_not_show_it(
        self, boss: BossServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """In its closure and in its arguments; workers import no program that they could ask for it."""
        looked = Looked("nd_multicore.run_parallel(), a function that prints and logs the token in its closure")
        secret = MARK

        def function(given: str, data_dict: Mapping[str, object]) -> None:
            confides(secret)
            confides(given)

        cfg = config(tmp_path / "neurodata.cfg", boss.url)
        nd_multicore.run_parallel(cfg, partial(function, MARK), 1, block_size=(56, 48, 4))
        looked.at("output", "".join(capfd.readouterr()))
        looked.at("records", caplog.text)
        looked.done(0)

    def test_programs_that_print_what_is_sent_do_not_print_it(
        self, boss: BossServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that imports us may have http.client print requests, and every logger log all."""
        looked = Looked("driver.get_data(), http.client printing, loggers at DEBUG")
        monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
        shown = io.StringIO()
        handler = logging.StreamHandler(shown)
        root = logging.getLogger()
        loggers = [root, logging.getLogger("urllib3")]
        before = [logger.level for logger in loggers]
        root.addHandler(handler)
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        try:
            driver.get_data(boss.url, MARK, "small", "plain", (0, 4), (0, 48), (0, 56))
        finally:
            root.removeHandler(handler)
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
        looked.at("stdout", "".join(capsys.readouterr()))
        looked.at("loggers", shown.getvalue())
        assert "/v1/cutout/" in shown.getvalue()
        looked.done(0)


def report() -> int:
    """Run all tests of secrets and print what was looked at."""
    # what this module imported by now needs no assertions rewritten
    quiet = ["-q", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    files = map(str, sorted(Path(__file__).parent.glob("test_secrets*.py")))
    code = pytest.main([*files, "-m", "", *quiet])
    rows = sys.modules["tests.test_secrets"].ROWS if "tests.test_secrets" in sys.modules else ROWS
    for command, ended_with, places, leaks in rows:
        print(f"{command} | {ended_with} | {places} | {leaks}")
    print(f"{len(rows)} commands and calls, {sum(row[3] for row in rows)} places with the token")
    return int(code)


if __name__ == "__main__":
    sys.exit(report())
