"""A local BOSS for tests: a real server in a process of its own, the real client for it, and small volumes.

Tests create what they need, with names of their own, since the default server is shared.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc
import numpy as np
import pytest
import requests
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import (
    ChannelResource,
    CollectionResource,
    CoordinateFrameResource,
    ExperimentResource,
)
from numpy.typing import NDArray

from nd_synapse.files.stacks import stack_of_array
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.ingest import ingest
from nd_synapse.local_boss.tokens import writing_token

REPOSITORY = Path(__file__).resolve().parent.parent
START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0
ANSWER_LIMIT_S = 60.0

_numbers = itertools.count(1)


def fill(
    data: Path,
    collection: str,
    experiment: str,
    channels: Mapping[str, NDArray[Any]],
    voxel_size_nm: tuple[float, float, float] = (70.0, 100.0, 100.0),
) -> None:
    """Store channels in a data folder."""
    boss = Boss(data)
    for name, voxels in channels.items():
        ingest(boss, collection, experiment, name, stack_of_array(voxels, name), voxel_size_nm)
    boss.close()


def blobs(shape: tuple[int, int, int], seed: int, number: int) -> dict[str, NDArray[np.uint8]]:
    """Draw two markers with blobs where they meet."""
    rng = np.random.default_rng(seed)
    channels = {name: rng.poisson(12, shape).astype(np.uint8) for name in ("SYNAPSIN", "PSD95")}
    for z, y, x in rng.integers((1, 4, 4), np.subtract(shape, (1, 4, 4)), (number, 3)):
        for voxels in channels.values():
            voxels[z - 1 : z + 2, y - 2 : y + 2, x - 2 : x + 2] += 120
    return channels


def spots(shape: tuple[int, int, int], seed: int) -> dict[str, NDArray[np.uint8]]:
    """Draw two markers with bright voxels where they meet."""
    rng = np.random.default_rng(seed)
    bright = rng.random(shape) < 0.02
    return {
        name: np.where(bright, rng.integers(120, 255, shape), rng.poisson(10, shape)).astype(np.uint8)
        for name in ("SYNAPSIN", "PSD95")
    }


@dataclass(frozen=True)
class BossServer:
    """A running server: where it is, what it serves, and the process."""

    url: str
    token: str
    data: Path
    process: subprocess.Popen[str]

    @property
    def host(self) -> str:
        """Host and port, as a client takes them."""
        return self.url.removeprefix("http://")

    def remote(self, token: str | None = None) -> BossRemote:
        """Return the real client, by default with the writing token."""
        return BossRemote({"protocol": "http", "host": self.host, "token": token or self.token})

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a raw request; `token` None sends none, empty sends the writing one."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Token {token or self.token}"
        return requests.request(method, self.url + path, headers=sent, timeout=ANSWER_LIMIT_S, **options)

    def kill(self) -> None:
        """Kill the server as a power cut of the process would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_LIMIT_S)


@contextmanager
def start_boss(
    data: Path, *arguments: str, port: int = 0, limits: str = "", log: Path | None = None
) -> Iterator[BossServer]:
    """Run ``nd-synapse boss serve`` on a data folder; it is stopped at the end.

    ``--faults``, ``--delay-ms``, ``--rate-mb-s`` and ``--lag-s`` are options of `tests.serve_boss`; `limits` are
    options of the shell's ``ulimit`` for it, and `log` gets its standard error.
    """
    is_plain = not {"--faults", "--delay-ms", "--rate-mb-s", "--lag-s"} & set(arguments)
    module = ["nd_synapse", "boss", "serve"] if is_plain else ["tests.serve_boss"]
    command = [sys.executable, "-m", *module, "--data", str(data), "--port", str(port), *arguments]
    if limits:
        command = ["/bin/sh", "-c", f'ulimit {limits} && exec "$@"', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, cwd=REPOSITORY
        )
    watchdog = threading.Timer(START_LIMIT_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        watchdog.cancel()
        assert url, f"the server did not start: exit code {process.poll()}"
        yield BossServer(url, writing_token(data), data, process)
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def boss_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """Return the server that tests share."""
    with start_boss(tmp_path_factory.mktemp("boss")) as server:
        yield server


@dataclass(frozen=True)
class Place:
    """An experiment made for one test, with its resources as the real client knows them."""

    server: BossServer
    collection: CollectionResource
    frame: CoordinateFrameResource
    experiment: ExperimentResource

    def channel(self, name: str, datatype: str = "uint8", kind: str = "image", **options: Any) -> ChannelResource:
        """Make a channel."""
        resource = ChannelResource(name, self.collection.name, self.experiment.name, kind, datatype=datatype, **options)
        made: ChannelResource = self.server.remote().create_project(resource)
        return made

    def path(self, channel: str, rest: str = "") -> str:
        """Return ``collection/experiment/channel`` and what follows."""
        return f"{self.collection.name}/{self.experiment.name}/{channel}{rest}"


def new_name(stem: str) -> str:
    """Return a name that no other test of this run has."""
    return f"{stem}-{next(_numbers)}"


def make_place(
    server: BossServer,
    stop: tuple[int, int, int] = (40, 700, 600),
    start: tuple[int, int, int] = (0, 0, 0),
    levels: int = 3,
    samples: int = 1,
) -> Place:
    """Make a collection, a frame (z, y, x) and an experiment with names of their own."""
    remote = server.remote()
    collection = remote.create_project(CollectionResource(new_name("col"), "made by a test"))
    (z0, y0, x0), (z1, y1, x1) = start, stop
    frame = remote.create_project(
        CoordinateFrameResource(new_name("frame"), "", x0, x1, y0, y1, z0, z1, 100, 100, 70, "nanometers")
    )
    experiment = remote.create_project(
        ExperimentResource(
            new_name("exp"),
            collection.name,
            frame.name,
            num_hierarchy_levels=levels,
            num_time_samples=samples,
        )
    )
    return Place(server, collection, frame, experiment)


@pytest.fixture
def place(boss_server: BossServer) -> Place:
    """Return an experiment of 40 x 700 x 600 voxels (z, y, x) on the shared server."""
    return make_place(boss_server)


def packed(voxels: NDArray[Any]) -> bytes:
    """Return an array as an upload carries it."""
    body: bytes = blosc.compress(np.ascontiguousarray(voxels), typesize=voxels.itemsize)
    return body
