"""The limit of memory that other tests rely on: it kills what exceeds it, and measures what does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import memory_limit
from tests.memory_limit import NoLimitError, demand_memory_limit, run_limited

MB = 10**6
LIMIT = 200 * MB
LIMIT_S = 60.0

HOLD = "import sys, time; held = b'x' * (int(sys.argv[1]) * 10**6); time.sleep(0.3); print(len(held))"
CHILDREN = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", sys.argv[1], size]) for size in sys.argv[2:]]
print([child.wait() for child in children])
"""
FILE = """
import sys
with open(sys.argv[1], "w+b") as file:
    for _ in range(400):
        file.write(bytes(10**6))
    file.seek(0)
    print(sum(len(part) for part in iter(lambda: file.read(10**6), b"")))
"""


@pytest.fixture(autouse=True)
def limit() -> None:
    demand_memory_limit()


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


def test_a_command_beyond_the_limit_dies() -> None:
    done = run_limited(python(HOLD, 300), LIMIT, timeout_s=LIMIT_S)
    assert (done.returncode, done.stdout) == (-9, "")
    assert done.killed == 1
    assert done.peak_bytes <= LIMIT


@pytest.mark.parametrize("size", [50, 150])
def test_a_command_below_the_limit_lives_and_its_peak_is_measured(size: int) -> None:
    start = run_limited(python(HOLD, 0), LIMIT, timeout_s=LIMIT_S).peak_bytes
    done = run_limited(python(HOLD, size), LIMIT, timeout_s=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr, done.killed) == (0, f"{size * MB}\n", "", 0)
    assert done.peak_bytes - start == pytest.approx(size * MB, rel=0.1)


def test_children_share_the_limit() -> None:
    lived = run_limited(python(CHILDREN, HOLD, 80, 80), LIMIT, timeout_s=LIMIT_S)
    assert (lived.stdout.splitlines()[-1], lived.killed) == ("[0, 0]", 0)
    assert lived.peak_bytes > 160 * MB
    died = run_limited(python(CHILDREN, HOLD, 120, 120), LIMIT, timeout_s=LIMIT_S)
    assert "-9" in died.stdout.splitlines()[-1]
    assert died.killed >= 1


def test_pages_of_files_are_no_part_of_the_peak(tmp_path: Path) -> None:
    """The kernel gives them up where it must: a file twice as large as the limit is written and read."""
    done = run_limited(python(FILE, tmp_path / "file"), LIMIT, timeout_s=LIMIT_S)
    assert (done.returncode, done.stdout, done.killed) == (0, f"{400 * MB}\n", 0)
    assert done.peak_bytes < 40 * MB


def test_without_any_means_the_test_is_skipped_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "_places", list)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NoLimitError, match="there is no systemd-run"):
        run_limited(["true"], LIMIT, timeout_s=LIMIT_S)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no memory limit"):
        demand_memory_limit()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no memory limit"):
        demand_memory_limit()
