"""Levels of a volume in BOSS above the finest: their voxels, their frame, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import driver
from nd_synapse.boss import catalog, connection
from nd_synapse.boss.catalog import at_level
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.geometry import Box, Frame
from nd_synapse.job.manifest import read_run_file
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, EXPERIMENTS
from tests.fixtures_boss import BossServer, blobs, fill
from tests.in_process import main, restored

SHAPE = (6, 121, 140)
CHANNELS_0 = blobs(SHAPE, 5, 40)
CHANNELS_1 = {name: voxels[:, ::2, ::2] for name, voxels in CHANNELS_0.items()}


@pytest.mark.parametrize(
    ("method", "shape", "size"),
    [("anisotropic", (7, 2, 3), (70, 400, 400)), ("isotropic", (2, 2, 3), (280, 400, 400))],
)
def test_a_level_has_half_the_voxels_of_the_one_before(
    method: str, shape: tuple[int, ...], size: tuple[float, ...]
) -> None:
    frame = Frame("a", Box((0, 7), (0, 8), (0, 9)), (70, 100, 100))
    experiment = {"name": "exp", "num_hierarchy_levels": 3, "hierarchy_method": method}
    assert at_level(frame, experiment, 0) == frame
    coarse = at_level(frame, experiment, 2)
    assert coarse.extent.stop == shape
    assert coarse.voxel_size_nm == size
    with pytest.raises(UnknownNameError, match="it has the levels 0 to 2"):
        at_level(frame, experiment, 3)


@pytest.fixture(scope="module")
def where(boss_server: BossServer) -> dict[str, Any]:
    """An experiment with a level 1, of which this BOSS does not say that it is computed: it computes none."""
    fill(boss_server.data, "levels", "two", CHANNELS_0)
    boss = Boss(boss_server.data)
    boss.catalog.update(EXPERIMENTS, "levels", "two", fields={"num_hierarchy_levels": 2})
    for name, voxels in CHANNELS_1.items():
        channel = boss.catalog.get(CHANNELS, "levels", "two", name)
        boss.voxels.write(channel, 1, Box.of_shape(voxels.shape), (0, 1), voxels[np.newaxis])
    boss.close()
    return {"source": f"boss://{boss_server.url}/levels/two", "token": boss_server.token, "resolution": 1}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let BOSS say that it has computed the levels."""
    plain: Callable[..., Any] = connection.describe_resource
    monkeypatch.setattr(
        catalog, "describe_resource", lambda *what: {**plain(*what), "downsample_status": "DOWNSAMPLED"}
    )


def test_a_level_is_read_searched_and_verified(where: dict[str, Any], computed: None, tmp_path: Path) -> None:
    data, size = driver.get_data(**where)
    assert size == (70, 200, 200)
    assert all(np.array_equal(data[name], voxels) for name, voxels in CHANNELS_1.items())
    info, mask, _ = driver.driver(**where, path=tmp_path, plots=False, push=False, cpus=1)
    assert isinstance(mask, np.ndarray)
    assert mask.shape == CHANNELS_1["PSD95"].shape
    folder = Path(info["folder"])
    assert folder.name == "nomads-unsupervised_levels_two_level1_z_0_6_y_0_61_x_0_70"
    assert read_run_file(folder).resolution == 1
    with restored(), redirect_stderr(io.StringIO()):
        assert main("nd-synapse", "verify", str(folder), "--token", where["token"]) == 0


def test_a_level_that_is_not_computed_is_not_read_as_black(where: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"level 1 is not computed \(NOT_DOWNSAMPLED\)"):
        driver.driver(**where, only_channels=["PSD95"], push=False)


def test_a_level_is_not_pushed(where: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the masks would be those of level 1"):
        driver.driver(**where)
    with pytest.raises(UnknownNameError, match="it has the levels 0 to 1"):
        driver.get_data(**{**where, "resolution": 2})
