"""The demonstration removes what demonstrations wrote, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nd_synapse.cli import demo
from nd_synapse.cli.demo import main, make_room
from nd_synapse.errors import UnavailableError, UsageError


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A home folder given by mistake must survive."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("years")
    assert main(["--path", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert main(["--path", str(tmp_path / "file")]) == 74
    assert (tmp_path / "file").read_text() == "text"


def test_an_earlier_demonstration_is_removed_and_what_stands_beside_it_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    make_room(folder)
    for name in ("boss", "results", "notes"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("text")
    make_room(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".nd-synapse-demo", "notes"]


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    make_room(tmp_path / "demo")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("text")
    (tmp_path / "demo" / "results").symlink_to(tmp_path / "elsewhere")
    assert main(["--path", str(tmp_path / "demo")]) == 74
    assert (tmp_path / "elsewhere" / "file").exists()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    make_room(tmp_path)
    with pytest.raises(UsageError):
        make_room(tmp_path.parent)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Start programs that say nothing, do not end and ignore the request to, in the place of all that is started."""
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

    def start_deaf(_command: object, **options: Any) -> subprocess.Popen[str]:
        started.append(start([sys.executable, "-c", code], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start_deaf)
    for limit in ("_START_LIMIT_S", "_STOP_LIMIT_S", "_JOB_LIMIT_S"):
        monkeypatch.setattr(demo, limit, 1.0)
    return started


def test_a_server_that_never_says_where_it_is_is_given_up(deaf: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="did not start within 1 s"), demo._served_boss(tmp_path):
        pytest.fail("it is served")
    assert [process.poll() for process in deaf] == [-signal.SIGKILL]


def test_a_job_that_never_ends_is_given_up(deaf: list[subprocess.Popen[str]]) -> None:
    with pytest.raises(UnavailableError, match="did not end within 1 s"):
        demo._run(["driver.py"], dict(os.environ))
    assert [process.poll() for process in deaf] == [-signal.SIGKILL]


def test_a_server_that_does_not_end_is_killed(deaf: list[subprocess.Popen[str]]) -> None:
    process = subprocess.Popen(["server"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)  # until it ignores the request to end
    demo._stop(process)
    assert deaf[0].poll() == -signal.SIGKILL
