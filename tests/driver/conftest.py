"""A BOSS with small volumes, and a run on one of them, for all tests of `driver.py`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.driver.runs import SMALL, Run, drive_small
from tests.fixtures_boss import BossServer, blobs, fill, start_boss


@pytest.fixture(scope="session")
def small_boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that holds small volumes: blobs where two markers meet, a constant channel, two markers of one role.

    a_b/c and a/b_c have one results key.
    """
    data = tmp_path_factory.mktemp("small")
    plain = blobs(SMALL.shape, 5, 25)
    pre, post = plain.values()
    volumes = {
        ("small", "plain"): plain,
        ("small", "twice"): {"SYNAPSIN_a": pre, "SYNAPSIN_b": pre, "PSD95": post},
        ("small", "flat"): {"SYNAPSIN": np.full(SMALL.shape, 7, np.uint8), "PSD95": post},
        ("a_b", "c"): plain,
        ("a", "b_c"): plain,
    }
    for (col, exp), channels in volumes.items():
        fill(data, col, exp, channels)
    with start_boss(data) as server:
        yield server


@pytest.fixture(scope="session")
def plain(small_boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on the small volume with all defaults, that is, pushed and with a report."""
    run = drive_small(small_boss, tmp_path_factory.mktemp("plain"), "--verbose")
    assert run.code == 0, run.stderr
    return run


@pytest.fixture
def folder(plain: Run, tmp_path: Path) -> Path:
    """A copy of its folder that a test may change."""
    return Path(shutil.copytree(plain.folder, tmp_path / plain.folder.name))
