"""Masks to push to a local BOSS, and what its channel then has to hold."""

from __future__ import annotations

import numpy as np
import pytest

from nd_boss import Destination, Patience, connect
from nd_synapse.geometry import Box, Frame
from tests.fixtures_boss import Place, make_place, new_name

BRISK = Patience(connect_s=5, read_s=20, attempts=3, pause_s=0.02, longest_pause_s=0.05)
STOP = (20, 540, 530)
FRAME = Frame("given-frame", Box.of_shape(STOP), (70.0, 100.0, 100.0))
BOX = Box((3, 19), (100, 530), (50, 520))  # across borders of cuboids, aligned with none


def masks(box: Box, seed: int, density: float = 0.05) -> np.ndarray:
    """Draw a mask of clumps, much of which is empty."""
    rng = np.random.default_rng(seed)
    mask = rng.random(box.shape) < density
    mask[:, : box.shape[1] // 3] &= rng.random((box.shape[0], 1, box.shape[2])) < 0.3
    mask[: box.shape[0] // 4] = False
    return mask


def remote_of(server, url=None):
    return connect(url or server.url, server.token, patience=BRISK)


def read_all(server, destination: Destination) -> np.ndarray:
    """Read a whole channel by way of the plain client."""
    remote = server.remote()
    channel = remote.get_channel(destination.channel, destination.collection, destination.experiment)
    assert (channel.type, channel.datatype, channel.base_resolution) == ("image", "uint8", 0)
    (z, y, x) = STOP
    return remote.get_cutout(channel, 0, [0, x], [0, y], [0, z], parallel=False)


def expected(*pushes: tuple[Box, np.ndarray], before: np.ndarray | None = None) -> np.ndarray:
    volume = np.zeros(STOP, np.uint8) if before is None else before.copy()
    for box, mask in pushes:
        volume[box.slices()] = np.where(mask, 255, 0)
    return volume


@pytest.fixture(scope="module")
def place(boss_server) -> Place:
    return make_place(boss_server, STOP)


@pytest.fixture
def destination(place) -> Destination:
    return Destination(place.collection.name, place.experiment.name, new_name("mask"))
