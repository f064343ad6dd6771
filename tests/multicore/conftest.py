"""A BOSS that holds ramps, as a neurodata.cfg names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_boss import BossServer, fill
from tests.multicore.ramps import ramp


@pytest.fixture(scope="session")
def config(boss_server: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fill(boss_server.data, "multicore", "ramps", {"ramp": ramp(), "twice": 2 * ramp()})
    path = tmp_path_factory.mktemp("config") / "neurodata.cfg"
    path.write_text(
        f"[Default]\ntoken = {boss_server.token}\nhost = {boss_server.url}\n"
        "[shared]\ncollection = multicore\nexperiment = ramps\n"
        "[Parallel]\nchannels = ramp,twice\nx_range = 3,30\ny_range = 0,20\nz_range = 1,5\nresolution = 0\n"
    )
    return path
