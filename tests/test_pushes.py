"""A push that reports done is what the channel holds in the end, however late BOSS erases."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nd_synapse.boss.catalog import find_channel
from nd_synapse.boss.connection import Patience, connect
from nd_synapse.boss.cutouts import erase_block, read_cutout
from nd_synapse.boss.push import Destination, push_mask
from nd_synapse.geometry import Box, Frame
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS
from nd_synapse.local_boss.cutouts import UnservedError
from tests import pushes
from tests.fixtures_boss import BossServer, fill, start_boss
from tests.late_boss import FastClock, LateVoxels

BOX = Box((0, 20), (0, 24), (0, 20))
FRAME = Frame("frame", BOX, (70.0, 100.0, 100.0))
MASK = np.random.default_rng(1).random(BOX.shape) < 0.1
EMPTY = np.zeros(BOX.shape, bool)
PATIENT = Patience(connect_s=30, read_s=90, attempts=10, pause_s=0.1, longest_pause_s=1)


def push(server: BossServer | tuple[str, str], maker: str) -> None:
    """Push the mask, or the empty one, to the one channel."""
    url, token = server if isinstance(server, tuple) else (server.url, server.token)
    remote = connect(url, token, patience=PATIENT)
    mask = EMPTY if maker == "empty" else MASK
    push_mask(remote, Destination("out", "pushes", "mask", maker, overwrite=True), BOX, mask, FRAME)


def held(server: BossServer) -> np.ndarray:
    remote = connect(server.url, server.token, patience=PATIENT)
    return read_cutout(remote, find_channel(remote, "out", "pushes", "mask"), BOX)


def wrong(results):
    return [(seed, sentence) for seed, result in enumerate(results) for sentence in (*result.wrong, *result.refused)]


def test_a_few_sequences_of_pushes_end_right_whatever_the_lag(tmp_path):
    with pushes.bench(tmp_path) as bench:
        results = [bench.run(seed) for seed in range(len(pushes.LAGS))]
    assert not wrong(results)
    assert all(result.done for result in results)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_sequences_of_pushes_empties_kills_and_readers_end_right_whatever_the_lag(tmp_path):
    with pushes.bench(tmp_path) as bench:
        results = [bench.run(seed) for seed in range(10 * len(pushes.LAGS))]
    assert not wrong(results)
    assert sum(result.killed for result in results) > 10
    assert sum(result.done for result in results) > 230


def test_the_late_boss_has_the_order_of_boss(tmp_path):
    """A read does not wait for an erase; one after a write that follows an erase waits for both, a minute at most."""
    fill(tmp_path, "col", "exp", {"chan": np.full(BOX.shape, 7, np.uint8)})
    boss, clock, lags = Boss(tmp_path), FastClock(), iter([50.0, 0.0, 100.0])
    channel, times = boss.catalog.get(CHANNELS, "col", "exp", "chan"), (0, 1)
    late = LateVoxels(tmp_path, lambda _: next(lags), clock)
    part = Box((0, 1), (0, 1), (0, 1))  # the cuboid has another, which is not queued for
    late.erase(channel, 0, part, times)
    assert late.read(channel, 0, BOX, times).min() == 7
    assert clock.time_s == 0
    late.write(channel, 0, part, times, np.zeros((1, 1, 1, 1), np.uint8))
    assert late.read(channel, 0, Box((16, 20), *BOX.ranges[1:]), times).min() == 7
    assert clock.time_s == 0
    again = LateVoxels(tmp_path, lambda _: next(lags), clock)  # the queue outlives the server
    assert again.in_the_end(channel, BOX).min() == 0
    held = again.read(channel, 0, BOX, times)
    assert np.count_nonzero(held) == BOX.voxels - 1
    assert clock.time_s == pytest.approx(50, abs=0.1)
    again.write(channel, 0, part, times, np.ones((1, 1, 1, 1), np.uint8))
    with pytest.raises(UnservedError):
        again.read(channel, 0, part, times)
    assert again.read(channel, 0, part, times).item() == 1


@pytest.mark.slow
def test_a_mask_pushed_again_at_once_after_an_empty_one_stays_though_the_server_is_killed(tmp_path):
    """With real seconds: the erases of the empty mask were queued when its push was cut off."""
    lag_s = 6
    with start_boss(tmp_path, "--lag-s", str(lag_s)) as server:
        push(server, "mask")
        remote = connect(server.url, server.token, patience=PATIENT)
        erase_block(remote, find_channel(remote, "out", "pushes", "mask"), BOX)  # and then its client died
        server.kill()
        with start_boss(tmp_path, "--lag-s", str(lag_s), port=int(server.host.rpartition(":")[2])) as again:
            assert held(again).any(), "a busy machine: the erase was carried out already"
            push(again, "mask")
            np.testing.assert_array_equal(held(again), np.where(MASK, 255, 0))
            time.sleep(2 * lag_s)
            np.testing.assert_array_equal(held(again), np.where(MASK, 255, 0))
            push(again, "empty")
            assert not held(again).any()


@pytest.mark.slow
@pytest.mark.parametrize("lag_s", [2, 8])
def test_pushes_by_processes_that_are_killed_end_right_with_real_lags(tmp_path: Path, lag_s: int):
    """Client and server are processes that die; the last push is left to end."""
    rng, spawn = random.Random(lag_s), multiprocessing.get_context("spawn")
    arguments = (tmp_path, "--lag-s", str(lag_s))
    with start_boss(*arguments) as server:
        port = int(server.host.rpartition(":")[2])
        push(server, "mask")
    for number in range(6):
        with start_boss(*arguments, port=port) as server:
            client = spawn.Process(target=push, args=((server.url, server.token), ("empty", "mask")[number % 2]))
            client.start()
            if number % 3 == 2:
                threading.Timer(rng.uniform(0.5, 1.5), server.kill).start()
            client.join(rng.uniform(0.8, 2.0))
            client.kill()
            client.join()
    with start_boss(*arguments, port=port) as server:
        for maker in ("empty", "mask"):
            push(server, maker)
        np.testing.assert_array_equal(held(server), np.where(MASK, 255, 0))
        time.sleep(2 * lag_s)
        np.testing.assert_array_equal(held(server), np.where(MASK, 255, 0))
