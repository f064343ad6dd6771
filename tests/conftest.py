"""Fixtures for all tests: real servers, and the real data where it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures_boss", "tests.fixtures_s3"]

REPOSITORY = Path(__file__).resolve().parent.parent


# a shell that starts the tests in the background has them ignore SIGINT, and what they start would, too
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data that may not be redistributed; it lies beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not here: no {folder}")
    return folder
