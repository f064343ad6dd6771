"""Where the log goes, and what never goes there."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nd_synapse import logs
from nd_synapse.blocks.pool import BlockPool, Boxes
from nd_synapse.credentials import Token
from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY

TOKEN = Token("0a1b2c3d4e5f60718293a4b5c6d7e8f901234567")
SECRET = TOKEN.reveal()


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    logs.apply(None)


def test_job_log_has_utc_times_and_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    logs.apply(logs.LogSettings(logging.CRITICAL))
    for word in ("first", "second"):
        with logs.job_log(tmp_path / "job.log", TOKEN):
            logging.getLogger("driver").info("the %s run", word)
        logging.getLogger("driver").warning("not in the log")
    monkeypatch.undo()
    time.tzset()
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert [re.sub(r"\[\d+\]", "", line.split(" ", 1)[1]) for line in lines] == [
        "INFO driver the first run",
        "INFO driver the second run",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*", lines[0])
    written = time.strptime(lines[0].split(".")[0], "%Y-%m-%dT%H:%M:%S")
    assert abs(time.mktime(written) - time.mktime(time.gmtime())) < 60


def test_no_handler_shows_the_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.apply(logs.LogSettings(logging.DEBUG))
    with logs.job_log(tmp_path / "job.log", TOKEN):
        logging.getLogger("a").info("header %s", {"Authorization": f"Token {SECRET}"})
        try:
            int(SECRET)
        except ValueError:
            logging.getLogger("b").exception("failed with %s", SECRET)
    text = (tmp_path / "job.log").read_text() + capsys.readouterr().err
    assert text.count("failed with") == 2
    assert SECRET not in text


def _warn(box: Box) -> None:
    logging.getLogger("worker").warning("block %s with %s", box, os.environ.get("BOSS_TOKEN"))


def test_workers_log_to_the_same_file_and_do_not_know_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOSS_TOKEN", SECRET)
    boxes = list(Box.of_shape((4, 4, 4)).tiles((2, 4, 4)))
    with logs.job_log(tmp_path / "job.log", TOKEN), BlockPool(2) as pool:
        list(pool.run(_warn, Boxes(boxes)))
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert sorted(re.sub(r".*worker\[\d+\] ", "", line) for line in lines) == [
        "block z 0:2 y 0:4 x 0:4 with None",
        "block z 2:4 y 0:4 x 0:4 with None",
    ]


def test_jobs_in_threads_log_each_to_its_own_file_and_none_has_the_token_of_another(tmp_path: Path) -> None:
    """The one that ended last put back the handlers and tokens of the other."""
    before = list(logging.root.handlers)
    turns = {name: threading.Barrier(2, timeout=30) for name in ("begun", "logged", "first ended")}
    tokens = {"one": TOKEN, "other": Token("f" * 40)}

    def job(name: str) -> None:
        with logs.job_log(tmp_path / name, tokens[name]):
            turns["begun"].wait()
            logging.getLogger("driver").warning("%s knows %s", name, [token.reveal() for token in tokens.values()])
            turns["logged"].wait()
            if name == "other":
                turns["first ended"].wait()
                logging.getLogger("driver").warning("other goes on with %s", tokens["other"].reveal())
        if name == "one":
            turns["first ended"].wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(job, tokens))
    written = {name: [line.split("] ", 1)[1] for line in (tmp_path / name).read_text().splitlines()] for name in tokens}
    assert written == {
        "one": ["one knows ['***', '***']"],
        "other": ["other knows ['***', '***']", "other goes on with ***"],
    }
    assert logging.root.handlers == before


def test_log_on_a_full_disk_is_given_up_with_one_warning(tmp_path: Path) -> None:
    """logging alone prints a traceback for every line. A limit of file sizes stands for a full disk."""
    file = tmp_path / "job.log"
    program = (
        "import logging, pathlib, resource; from nd_synapse import logs; from nd_synapse.credentials import Token\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "logs.apply(logs.LogSettings())\n"
        f"with logs.job_log(pathlib.Path({str(file)!r}), Token('public')):\n"
        "    for n in range(5): logging.getLogger('driver').info('line %d', n)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.count(f"WARNING {file} ends here: File too large") == 1
    assert done.stderr.count("INFO line") == 5
    assert "Traceback" not in done.stderr


def test_log_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="directory"), logs.job_log(tmp_path, TOKEN):
        pass


def test_a_program_that_imports_us_keeps_its_own_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    before = list(root.handlers), root.level, logging.getLogger("botocore").level
    with logs.job_log(tmp_path / "job.log", TOKEN):
        assert len(root.handlers) == len(before[0]) + 1
        assert root.level == logging.INFO
        logging.getLogger("driver").debug("for nobody")
        logging.getLogger("driver").info("for both")
    assert (list(root.handlers), root.level, logging.getLogger("botocore").level) == before
    assert "for both" in (tmp_path / "job.log").read_text()
    assert "for nobody" not in (tmp_path / "job.log").read_text()
    logs.apply(logs.LogSettings())
    logs.apply(None)
    assert (list(root.handlers), root.level, logging.getLogger("botocore").level) == before


def test_a_traceback_is_one_line_on_the_terminal_and_whole_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """botocore logs its tracebacks as warnings."""
    logs.apply(logs.LogSettings())
    with logs.job_log(tmp_path / "job.log", TOKEN):
        try:
            int("no number")
        except ValueError:
            logging.getLogger("botocore.credentials").warning("refreshing failed", exc_info=True)
    shown = capsys.readouterr().err
    assert shown.endswith(
        " WARNING refreshing failed: ValueError: invalid literal for int() with base 10: 'no number'\n"
    )
    assert shown.count("\n") == 1
    assert "Traceback (most recent call last)" in (tmp_path / "job.log").read_text()


def test_no_message_is_more_than_a_line_of_bounded_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.apply(logs.LogSettings())
    with logs.job_log(tmp_path / "job.log", TOKEN):
        logging.getLogger("a").error("no file %s", "x\ny" + "z" * 1_000_000)
    for text in (capsys.readouterr().err, (tmp_path / "job.log").read_text()):
        assert text.count("\n") == 1
        assert "no file x\\ny" in text
        assert len(text) < 5000


def test_a_request_that_is_repeated_is_said_without_the_bookkeeping_of_its_library() -> None:
    said = "Retrying (Retry(total=3, connect=2)) after connection broken by 'ReadTimeoutError(\"timed out\")': /a/b"
    record = logging.LogRecord("urllib3.connectionpool", logging.WARNING, "", 1, said, None, None)

    line = logs._Lines("%(message)s", traces=False).format(record)
    assert line == 'Retrying /a/b after ReadTimeoutError("timed out")'
