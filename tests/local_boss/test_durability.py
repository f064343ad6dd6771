"""What the local BOSS has answered stays: killed processes, several writers, a server that is asked to stop."""

from __future__ import annotations

import fcntl
import multiprocessing
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
import zarr

from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.locks import StripedLocks
from nd_synapse.local_boss.models import Channel
from tests.fixtures_boss import START_LIMIT_S, BossServer, Place, make_place, packed, start_boss

HEADERS = {"Content-Type": "application/blosc"}
FRAME = {
    **{f"{axis}_start": 0 for axis in "xyz"},
    **{f"{axis}_stop": 64 for axis in "xyz"},
    **{f"{axis}_voxel_size": 1 for axis in "xyz"},
    "voxel_unit": "nanometers",
}


def filled(boss: Boss, name: str = "c") -> Channel:
    """Return a new channel of 64 x 64 x 64 voxels."""
    boss.catalog.create(COLLECTIONS, name)
    boss.catalog.create(FRAMES, name, fields=FRAME)
    boss.catalog.create(EXPERIMENTS, name, "e", fields={"coord_frame": name})
    return boss.catalog.create(CHANNELS, name, "e", "ch", fields={"type": "image", "datatype": "uint8"})


def write_until_it_dies(place: Place, writer: int, acknowledged: list[tuple[int, int]]) -> None:
    """Write one row after another into the same chunks; note those that were answered with 201."""
    session = requests.Session()
    session.headers.update({**HEADERS, "Authorization": f"Token {place.server.token}"})
    for row in range(700):
        z = writer
        body = packed(np.full((1, 1, 600), row % 250 + 1, np.uint8))
        url = f"{place.server.url}/v1/cutout/{place.path('ch')}/0/0:600/{row}:{row + 1}/{z}:{z + 1}/"
        try:
            reply = session.post(url, data=body, timeout=20)
        except requests.ConnectionError:
            return
        assert reply.status_code == 201
        acknowledged.append((z, row))


def test_what_was_answered_survives_kill_9_during_writes(tmp_path: Path) -> None:
    """Three writers in the same chunks; the server is killed in the middle of it, twice."""
    with start_boss(tmp_path) as server:
        place = make_place(server)
        place.channel("ch")
    port = 0
    acknowledged: list[tuple[int, int]] = []
    for _ in range(2):
        with start_boss(tmp_path, port=port) as server:
            running = Place(server, place.collection, place.frame, place.experiment)
            enough = len(acknowledged) + 12
            with ThreadPoolExecutor(3) as pool:
                writers = [pool.submit(write_until_it_dies, running, n, acknowledged) for n in range(3)]
                deadline = time.monotonic() + START_LIMIT_S
                while len(acknowledged) < enough and time.monotonic() < deadline:
                    time.sleep(0.01)
                server.kill()
                for writer in writers:
                    writer.result()
            assert len(acknowledged) >= enough
    with start_boss(tmp_path) as server:
        channel = server.remote().get_channel("ch", place.collection.name, place.experiment.name)
        stored = server.remote().get_cutout(channel, 0, [0, 600], [0, 700], [0, 40])
        for z, row in acknowledged:
            assert (stored[z, row] == row % 250 + 1).all(), f"row {row} of slice {z} was answered with 201"
        assert not stored[3:].any()
    assert not list((tmp_path / "voxels").rglob("*.partial")), "the next start sweeps up what killed writers left"


@pytest.mark.slow
def test_resources_survive_kill_9(tmp_path: Path) -> None:
    with start_boss(tmp_path) as server:
        place = make_place(server)
        place.channel("ch")
        server.remote().create_metadata(place.collection, {"k": "v"})
        server.kill()
    with start_boss(tmp_path) as server:
        assert server.remote().list_channels(place.collection.name, place.experiment.name) == ["ch"]
        assert server.remote().get_metadata(place.collection, ["k"]) == {"k": "v"}


def test_a_stray_file_of_a_killed_writer_is_neither_served_nor_kept(tmp_path: Path) -> None:
    boss = Boss(tmp_path)
    channel = filled(boss)
    boss.voxels.write(channel, 0, Box.of_shape((1, 1, 1)), (0, 1), np.full((1, 1, 1, 1), 5, np.uint8))
    chunk = tmp_path / "voxels" / str(channel.id) / "0" / "c" / "0" / "0" / "0" / "0"
    stray = chunk.with_name("0.abcdef.partial")
    stray.write_bytes(chunk.read_bytes()[:10])
    assert boss.voxels.read(channel, 0, Box.of_shape((64, 64, 64)), (0, 1)).sum() == 5
    assert [box for _, box, _ in boss.voxels.chunks(channel, 0)] == [Box((0, 16), (0, 64), (0, 64))]
    assert boss.voxels.sweep() == 1
    assert boss.voxels.sweep() == 0
    assert chunk.exists()
    assert not stray.exists()


def write_rows(data: Path, rows: range) -> None:
    """Write rows of one chunk, each with a value of its own, from this process."""
    boss = Boss(data)
    channel = boss.catalog.get(CHANNELS, "c", "e", "ch")
    for row in rows:
        box = Box((0, 1), (row, row + 1), (0, 64))
        boss.voxels.write(channel, 0, box, (0, 1), np.full((1, 1, 1, 64), row + 1, np.uint8))
    boss.close()


@pytest.mark.slow
def test_concurrent_writes_to_one_chunk_lose_nothing(tmp_path: Path) -> None:
    """Two processes of two threads each, all in the same chunk."""
    boss = Boss(tmp_path)
    channel = filled(boss)
    spawned = multiprocessing.get_context("spawn")
    others = [spawned.Process(target=write_rows, args=(tmp_path, range(n, 64, 4))) for n in (0, 1)]
    for process in others:
        process.start()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_rows, [tmp_path] * 2, [range(2, 64, 4), range(3, 64, 4)]))
    for process in others:
        process.join(30)
        assert process.exitcode == 0
    stored = boss.voxels.read(channel, 0, Box((0, 1), (0, 64), (0, 64)), (0, 1))
    np.testing.assert_array_equal(stored[0, 0, :, 0], np.arange(1, 65))


def test_ingest_and_server_share_a_folder(boss_server: BossServer) -> None:
    """What another process writes is served at once, resources and voxels."""
    boss = Boss(boss_server.data)
    channel = filled(boss, "beside")
    boss.voxels.write(channel, 0, Box.of_shape((1, 1, 2)), (0, 1), np.array([[[[3, 4]]]], np.uint8))
    boss.close()
    found = boss_server.remote().get_channel("ch", "beside", "e")
    assert boss_server.remote().get_cutout(found, 0, [0, 2], [0, 1], [0, 1]).tolist() == [[[3, 4]]]


@pytest.mark.slow
def test_a_reader_sees_whole_chunks_only(tmp_path: Path) -> None:
    """While a chunk is rewritten over and over, each read shows one of its versions and no mixture."""
    boss = Boss(tmp_path)
    channel = filled(boss)
    whole, stop = Box((0, 16), (0, 64), (0, 64)), threading.Event()

    def rewrite() -> None:
        value = 1
        while not stop.is_set():
            boss.voxels.write(channel, 0, whole, (0, 1), np.full((1, *whole.shape), value, np.uint8))
            value = value % 250 + 1

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(rewrite)
        try:
            seen = [np.unique(boss.voxels.read(channel, 0, whole, (0, 1))) for _ in range(150)]
        finally:
            stop.set()
        writer.result(20)
    assert all(len(values) == 1 for values in seen)
    assert len({int(values[0]) for values in seen}) > 1, "the writer did write meanwhile"


def test_zero_chunks_take_no_space(tmp_path: Path) -> None:
    boss = Boss(tmp_path)
    channel = filled(boss)
    box = Box.of_shape((64, 64, 64))
    boss.voxels.write(channel, 0, box, (0, 1), np.zeros((1, *box.shape), np.uint8))
    assert not list(boss.voxels.chunks(channel, 0))
    boss.voxels.write(channel, 0, box, (0, 1), np.ones((1, *box.shape), np.uint8))
    assert len(list(boss.voxels.chunks(channel, 0))) == 4
    boss.voxels.erase(channel, 0, box, (0, 1))
    assert not list(boss.voxels.chunks(channel, 0))
    assert not [path for path in (tmp_path / "voxels").rglob("c/*/*/*/*") if path.is_file()]


def test_the_voxels_open_in_any_reader_of_zarr(tmp_path: Path) -> None:
    boss = Boss(tmp_path)
    channel = filled(boss)
    boss.voxels.write(channel, 0, Box((20, 21), (1, 2), (3, 4)), (0, 1), np.full((1, 1, 1, 1), 9, np.uint8))
    array = zarr.open_array(tmp_path / "voxels" / str(channel.id) / "0", mode="r")
    assert (array.shape, array.chunks, array.metadata.zarr_format) == ((1, 64, 64, 64), (1, 16, 512, 512), 3)
    assert array[0, 20, 1, 3] == 9


def test_a_damaged_chunk_is_an_error_and_no_voxels(boss_server: BossServer) -> None:
    place = make_place(boss_server)
    channel = place.channel("ch")
    remote = boss_server.remote()
    remote.create_cutout(channel, 0, [0, 600], [0, 1], [0, 1], np.full((1, 1, 600), 3, np.uint8))
    number = Boss(boss_server.data).catalog.get(CHANNELS, channel.coll_name, channel.exp_name, "ch").id
    chunk = boss_server.data / "voxels" / str(number) / "0" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    cutout = f"/v1/cutout/{place.path('ch')}/0"
    assert boss_server.ask("GET", f"{cutout}/0:600/0:1/0:1/").status_code == 500
    assert boss_server.ask("GET", f"{cutout}/512:600/0:1/0:1/").status_code == 200, "the other chunk is whole"
    body = packed(np.ones((1, 1, 1), np.uint8))
    assert boss_server.ask("POST", f"{cutout}/0:1/0:1/0:1/", headers=HEADERS, data=body).json()["code"] == 9001


def wait_until_it_asks_for_a_lock(server: BossServer) -> None:
    """Wait until the server has one of its lock files open, as it has while it waits for the lock."""
    process, folder = psutil.Process(server.process.pid), server.data / "locks"
    deadline = time.monotonic() + START_LIMIT_S
    while not any(Path(file.path).parent == folder for file in process.open_files()):
        assert time.monotonic() < deadline, "no request came as far as a lock"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_within_five_seconds(tmp_path: Path, number: signal.Signals) -> None:
    """Even with a connection that stays open, an upload that never ends, and a request that waits for a lock."""
    with start_boss(tmp_path) as server:
        place = make_place(server)
        place.channel("ch")
        idle = requests.Session()
        idle.get(f"{server.url}/ping/", timeout=5)
        name, port = server.host.split(":")
        endless = socket.create_connection((name, int(port)), timeout=5)
        start = f"POST /v1/cutout/{place.path('ch')}/0/0:9/0:9/0:9/ HTTP/1.1\r\nHost: x\r\nContent-Length: 745\r\n"
        headers = f"Content-Type: application/blosc\r\nAuthorization: Token {server.token}\r\n\r\n"
        endless.sendall(f"{start}{headers}start of the body".encode())
        body = packed(np.ones((1, 1, 1), np.uint8))
        path = f"/v1/cutout/{place.path('ch')}/0/0:1/0:1/0:1/"
        assert server.ask("POST", path, headers=HEADERS, data=body).status_code == 201
        locks = [file.open("ab") for file in (tmp_path / "locks").iterdir()]
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.ask, "POST", path, headers=HEADERS, data=body)
            wait_until_it_asks_for_a_lock(server)
            started = time.monotonic()
            server.process.send_signal(number)
            assert server.process.wait(10) == 0
            assert time.monotonic() - started < 5
            assert isinstance(waiting.exception(10), requests.ConnectionError)
        for lock in locks:
            lock.close()
        idle.close()
        endless.close()


def test_a_lock_that_nobody_gives_back_is_an_error_in_the_end(tmp_path: Path) -> None:
    locks = StripedLocks(tmp_path, limit_s=0.2)
    with locks.hold("a"), pytest.raises(StorageError, match="another writer"), locks.hold("a"):
        pass
    with locks.hold("a"):
        pass


def test_small_questions_are_answered_while_large_cutouts_are_served(boss_server: BossServer) -> None:
    """The event loop is never blocked: a ping comes back at once while the workers pack hundreds of megabytes."""
    place = make_place(boss_server, stop=(96, 1024, 1024))
    place.channel("ch")
    cutout = f"/v1/cutout/{place.path('ch')}/0/0:1024/0:1024/0:96/"
    with ThreadPoolExecutor(3) as pool:
        large = [pool.submit(boss_server.ask, "GET", cutout) for _ in range(6)]
        answered = 0
        while not all(reply.done() for reply in large):
            assert boss_server.ask("GET", f"/v1/collection/{place.collection.name}").status_code == 200
            answered += 1
        assert [reply.result().status_code for reply in large] == [200] * 6
    assert answered > 1, "one may have come before the first of the large ones"


def test_the_server_keeps_no_files_open(boss_server: BossServer) -> None:
    place = make_place(boss_server)
    place.channel("ch")
    process = psutil.Process(boss_server.process.pid)
    body = packed(np.ones((1, 1, 1), np.uint8))
    counts = []
    for _ in range(2):
        for x in range(25):
            path = f"/v1/cutout/{place.path('ch')}/0/{x}:{x + 1}/0:1/0:1/"
            assert boss_server.ask("POST", path, headers=HEADERS, data=body).status_code == 201
        counts.append(process.num_fds())
    assert counts[1] <= counts[0] + 3
