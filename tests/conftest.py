"""Fixtures for all tests: real servers, and the real data where it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest_plugins = ["tests.fixtures_boss", "tests.fixtures_google", "tests.fixtures_s3"]

REPOSITORY = Path(__file__).resolve().parent.parent


# no deadline: no test may fail by the speed of a busy machine; no explaining: it crashes CPython 3.11 at times
_COMMON = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("everyday", _COMMON, max_examples=12)
settings.register_profile("ci", _COMMON, max_examples=30)
settings.register_profile("long", _COMMON, max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "everyday")

# google-auth would look for a machine of Google around this one
os.environ["NO_GCE_CHECK"] = "true"

# a shell that starts the tests in the background has them ignore SIGINT, and what they start would, too
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data that may not be redistributed; it lies beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not here: no {folder}")
    return folder
