"""What is reported of a running job."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nd_synapse import logs, progress
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    logs.apply(None)


def test_elsewhere_it_is_a_line_as_a_step_begins_and_one_as_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    logs.apply(logs.LogSettings(logging.INFO))
    with progress.reporting(shown=True) as report:
        for step in ("pull", "detect"):
            for done in range(4):
                report(step, done, 3, "2.0 million voxels/s")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    both = ("3 blocks to do", "3 of 3 blocks, 2.0 million voxels/s")
    assert lines == [f"INFO {step}: {words}" for step in ("pull", "detect") for words in both]


def test_a_long_step_says_how_far_it_is_once_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    logs.apply(logs.LogSettings(logging.INFO))
    with progress.reporting(shown=True) as report:
        for done in range(8):
            report("push", done, 100)
    lines = [line.rpartition("push: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "100 blocks to do"
    assert 1 < len(lines) < 5


def test_on_a_terminal_it_is_a_bar_with_speed_time_left_and_failures() -> None:
    program = (
        "import time\nfrom nd_synapse import progress\n"
        "with progress.reporting(shown=True) as report:\n"
        "    for done in range(4):\n"
        "        report('detect', done, 3, f'7.5 million voxels/s, {done} failed'); time.sleep(0.15)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(30) == 0
    assert re.search(rb"detect: +67%.*2/3 \[.*<.*block.*7.5 million voxels/s, 2 failed", shown)


def test_where_standard_error_is_closed_nothing_is_said() -> None:
    program = "import logging; from nd_synapse import logs, progress; logs.apply(logs.LogSettings())\n"
    program += "with progress.reporting(shown=True) as report: report('detect', 1, 1)\n"
    done = subprocess.run(["bash", "-c", f'exec 2>&-; "{sys.executable}" -c "{program}"'], cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0
