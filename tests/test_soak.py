"""Nothing grows from job to job; ``python -m tests.soak`` says more, and takes ten minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


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
