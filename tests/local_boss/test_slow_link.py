"""The slow line of the local BOSS: as late as it was told to be, for one client and for many, and off by default."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from nd_synapse.errors import UsageError
from nd_synapse.local_boss.throttle import Link
from tests.fixtures_boss import ANSWER_LIMIT_S, BossServer, Place, make_place, packed, start_boss
from tests.local_boss.test_command import run

DELAY_S = 0.2
RATE_MB_S = 0.6
TOLERANCE = 0.05
ROUNDS = 5
SHAPE = (2, 400, 500)
RANGES = "/0/0:500/0:400/0:2/"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    link = ["--delay-ms", str(DELAY_S * 1e3), "--rate-mb-s", str(RATE_MB_S)]
    with start_boss(tmp_path_factory.mktemp("slow"), *link) as server:
        yield server


@pytest.fixture(scope="module")
def noise(slow: BossServer) -> tuple[Place, bytes]:
    """Return an experiment with a channel of noise, which no codec makes smaller, and its packed voxels."""
    place = make_place(slow)
    place.channel("noise")
    body = packed(np.random.default_rng(1).integers(1, 256, SHAPE, np.uint8))
    assert upload(place, body).status_code == 201
    return place, body


def upload(place: Place, body: bytes) -> requests.Response:
    headers = {"Content-Type": "application/blosc"}
    return place.server.ask("POST", f"/v1/cutout/{place.path('noise')}{RANGES}", headers=headers, data=body)


def expected_s(size_bytes: int) -> float:
    return DELAY_S + size_bytes / (RATE_MB_S * 1e6)


def assert_on_time(measure: Callable[[], list[tuple[float, float]]]) -> None:
    """Hold pairs of measured and expected seconds: none is ever early, and none is late in one of a few rounds.

    A machine that is busy with something else makes a reply late; nothing but a fault makes one early.
    """
    for _ in range(ROUNDS):
        pairs = measure()
        assert all(measured >= expected for measured, expected in pairs)
        if all(measured <= expected * (1 + TOLERANCE) for measured, expected in pairs):
            return
    pytest.fail(f"late in each of {ROUNDS} rounds, at last (measured, expected): {pairs}")


def timed_cutout(place: Place, start: threading.Barrier) -> list[tuple[float, float]]:
    """Return the measured and the expected seconds to the headers and to the end, on a connection that is open."""
    headers = {"Authorization": f"Token {place.server.token}", "Accept": "application/blosc"}
    with requests.Session() as session:
        session.headers.update(headers)
        session.get(f"{place.server.url}/ping/", timeout=ANSWER_LIMIT_S)
        start.wait(ANSWER_LIMIT_S)
        began = time.perf_counter()
        url = f"{place.server.url}/v1/cutout/{place.path('noise')}{RANGES}"
        response = session.get(url, timeout=ANSWER_LIMIT_S, stream=True)
        first = time.perf_counter() - began
        size = len(response.content)
        whole = time.perf_counter() - began
    assert response.headers["Content-Length"] == str(size)
    assert "Transfer-Encoding" not in response.headers
    return [(first, DELAY_S), (whole, expected_s(size))]


@pytest.mark.parametrize("clients", [1, 8])
def test_each_connection_has_the_delay_and_the_rate_of_its_own(noise: tuple[Place, bytes], clients: int) -> None:
    place, _ = noise

    def measure() -> list[tuple[float, float]]:
        start = threading.Barrier(clients)
        with ThreadPoolExecutor(clients) as pool:
            return list(chain(*pool.map(lambda _: timed_cutout(place, start), range(clients))))

    assert_on_time(measure)


def test_waiting_costs_the_server_no_time_of_a_core(noise: tuple[Place, bytes]) -> None:
    """A server that burns a core while it waits would slow the job that is measured against it."""
    place, _ = noise
    process = psutil.Process(place.server.process.pid)
    before = process.cpu_times()
    _, (whole, _) = timed_cutout(place, threading.Barrier(1))
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.1 * whole


def test_the_reply_to_an_upload_is_as_late_as_if_the_upload_had_been_paced(noise: tuple[Place, bytes]) -> None:
    place, body = noise

    def measure() -> list[tuple[float, float]]:
        began = time.perf_counter()
        assert upload(place, body).status_code == 201
        return [(time.perf_counter() - began, expected_s(len(body)))]

    assert_on_time(measure)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/collection/nope", 404), ("HEAD", "/ping/", 200), ("GET", "/nope", 404)],
    ids=["a refusal", "no body", "no such page"],
)
def test_every_reply_waits(slow: BossServer, method: str, path: str, status: int) -> None:
    def measure() -> list[tuple[float, float]]:
        began = time.perf_counter()
        response = slow.ask(method, path)
        assert response.status_code == status
        return [(time.perf_counter() - began, expected_s(len(response.content)))]

    assert_on_time(measure)


def test_the_real_client_reads_what_was_written(noise: tuple[Place, bytes]) -> None:
    place, body = noise
    remote = place.server.remote()
    channel = remote.get_channel("noise", place.collection.name, place.experiment.name)
    voxels = remote.get_cutout(channel, 0, [0, 500], [0, 400], [0, 2])
    assert packed(voxels) == body


def test_nothing_is_slow_unless_asked_for(boss_server: BossServer) -> None:
    assert not Link().is_slow
    began = time.perf_counter()
    for _ in range(10):
        assert boss_server.ask("GET", "/ping/").status_code == 200
    assert time.perf_counter() - began < 10 * DELAY_S


@pytest.mark.parametrize(
    ("delay_ms", "rate_mb_s", "words"),
    [
        (-1, 1, r"a delay of -1 ms: .* --delay-ms a number from 0 to 60000"),
        (float("nan"), 1, "a delay of nan ms"),
        (float("inf"), 1, "a delay of inf ms"),
        (60_001, 1, "a delay of 60001 ms"),
        (0, 0, r"a rate of 0 MB/s: .* --rate-mb-s a number from 0\.01 upwards"),
        (0, -5, "a rate of -5 MB/s"),
        (0, float("nan"), "a rate of nan MB/s"),
    ],
)
def test_a_line_that_cannot_be_is_refused(delay_ms: float, rate_mb_s: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Link(delay_ms, rate_mb_s)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--delay-ms", "-1"], "a delay of -1 ms: "),
        (["--rate-mb-s", "0"], "a rate of 0 MB/s: "),
        (["--rate-mb-s", "fast"], "argument --rate-mb-s: invalid float value: 'fast'"),
    ],
)
def test_the_command_refuses_a_line_that_cannot_be(tmp_path: Path, arguments: list[str], words: str) -> None:
    data = tmp_path / "data"
    done = run("serve", "--data", str(data), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not data.exists()
