"""Cutouts of the local BOSS through the real client: what is written is read, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures_boss import BossServer, Place, make_place


@pytest.mark.parametrize(
    ("datatype", "kind"), [("uint8", "image"), ("uint16", "image"), ("uint8", "annotation"), ("uint64", "annotation")]
)
def test_what_is_written_is_read_back(place: Place, datatype: str, kind: str) -> None:
    remote = place.server.remote()
    channel = place.channel("ch", datatype, kind)
    rng = np.random.default_rng(1)
    data = rng.integers(0, np.iinfo(datatype).max, (20, 530, 90), datatype, endpoint=True)
    remote.create_cutout(channel, 0, [500, 590], [10, 540], [15, 35], data)
    np.testing.assert_array_equal(remote.get_cutout(channel, 0, [500, 590], [10, 540], [15, 35]), data)
    around = remote.get_cutout(channel, 0, [0, 600], [0, 700], [0, 40])
    assert around.astype(np.uint64).sum() == data.astype(np.uint64).sum()
