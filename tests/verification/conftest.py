"""A BOSS with blobs, and the folder of a run on them that ended and pushed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures_boss import BossServer, fill, start_boss
from tests.verification.checked import BOX, SHAPE, run_job


@pytest.fixture(scope="session")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with a volume of blobs, some of them long enough to leave a window."""
    rng = np.random.default_rng(8)
    pre, post = (rng.poisson(12, SHAPE).astype(np.uint8) for _ in range(2))
    for z, y, x in rng.integers((1, 4, 4), (18, 296, 326), (300, 3)):
        for channel in (pre, post):
            channel[z - 1 : z + 2, y - 2 : y + 2, x - 2 : x + 2] = 140
    for channel in (pre, post):
        channel[9:12, 20:280, 150:154] = 140
    data = tmp_path_factory.mktemp("verified")
    fill(data, "small", "plain", {"SYNAPSIN": pre, "PSD95": post})
    # slices of different brightness: what is learned of one is wrong for another
    more = 4 * np.arange(SHAPE[0], dtype=np.uint8)[:, None, None]
    many = {"SYNAPSIN": pre, "PSD95": post, "VGLUT1": pre, "GABA": post, "gephyrin": post}
    fill(data, "small", "many", {name: voxels + more for name, voxels in many.items()})
    with start_boss(data) as server:
        yield server


@pytest.fixture(scope="session")
def made(boss: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended and pushed."""
    return run_job(boss, tmp_path_factory.mktemp("results"), "plain", *BOX.ranges)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / made.name))
