"""Nothing grows from job to job; ``python -m tests.soak`` says more, and takes ten minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.soak import SLACK_BYTES, Sample, grown


@pytest.mark.slow
def test_a_soak_of_one_job_ends_with_its_figures() -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", "0.01"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "temporary_files" in done.stdout


@pytest.mark.slow
def test_nothing_grows_from_job_to_job() -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", "120"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_grows_is_seen() -> None:
    before = Sample(2**28, 2**28, 10, 10, 5, 5, 0)
    assert not any(more for _, _, more in grown([before], [before]).values())
    after = Sample(2**28 + 2**26, 2**28 + SLACK_BYTES // 2, 20, 10, 5, 9, 1)
    found = grown([before], [after])
    assert {name for name, (_, _, more) in found.items() if more} == {"job_bytes", "job_files", "server_threads"}
