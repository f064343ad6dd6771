"""Functions for a pool of workers to run, and what the tests of pools look at."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from nd_synapse.geometry import Box

BOXES = list(Box.of_shape((6, 1, 1)).tiles((1, 1, 1)))
LIMIT_S = 60


def double(box: Box) -> int:
    return 2 * box.z[0]


def die_at_two(box: Box) -> int:
    if box.z[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return box.z[0]


def die_once(box: Box) -> int:
    """Die at block 2 the first time, as when others took the memory."""
    mark = Path(os.environ["ND_POOL_TEST_FOLDER"]) / "died"
    if box.z[0] == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return box.z[0]


def children() -> set[psutil.Process]:
    """Return the workers of this process."""
    return {child for child in psutil.Process().children() if "nd_synapse.blocks.worker" in str(child.cmdline())}


def note_start() -> None:
    """Count the workers that were set up."""
    (Path(os.environ["ND_POOL_TEST_FOLDER"]) / f"started-{os.getpid()}").touch()


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ND_POOL_TEST_FOLDER", str(tmp_path))
    return tmp_path
