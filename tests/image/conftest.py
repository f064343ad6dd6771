"""The image, containers of it, and what they talk to: a BOSS with the sample and an S3 server, on the host.

It builds nothing: `engine` beside it does, and ``make test-image`` calls that first.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.files.stacks import stack_of_array
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.ingest import ingest
from nd_synapse.local_boss.sample import COLLECTION, EXPERIMENT, write_sample
from tests.fixtures_boss import BossServer, start_boss
from tests.fixtures_s3 import S3Server

IMAGE_VARIABLE = "ND_SYNAPSE_IMAGE"
LIMIT_S = 180.0
SHAPE = (16, 512, 512)

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
HOST = ("--network", "host")
"""The servers of the tests listen on the loopback interface of this machine."""


def docker(*words: str, limit_s: float = LIMIT_S) -> str:
    """Run the client; return what it prints, or fail with what it says."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, f"docker {words[0]}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Container:
    """A container that was started, until the test that started it ends."""

    name: str

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return int(docker("wait", self.name))

    @property
    def log(self) -> str:
        """All that it wrote."""
        done = subprocess.run(
            ["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S
        )
        return done.stdout

    @property
    def description(self) -> dict[str, Any]:
        """What the engine knows of it."""
        (found,) = json.loads(docker("inspect", self.name))
        return dict(found)

    def results(self, folder: Path) -> Path:
        """Copy its results to a folder; return the one result folder in it."""
        docker("cp", f"{self.name}:/app/results/.", str(folder))
        (found,) = (entry for entry in folder.iterdir() if entry.is_dir())
        return found


def demand_image() -> None:
    """Skip the module that calls this where no image was built for it."""
    if IMAGE_VARIABLE not in os.environ:
        pytest.skip("`make test-image` builds the image and runs these", allow_module_level=True)


@pytest.fixture(scope="session")
def image() -> str:
    """Return the name of the image."""
    return os.environ[IMAGE_VARIABLE]


def configuration(image: str) -> dict[str, Any]:
    """Return the part of an image's description that its containers take over."""
    (found,) = json.loads(docker("image", "inspect", image))
    return dict(found["Config"])


def base_of(image: str) -> str:
    """Return the name of the image that an image was made from."""
    return str(configuration(image)["Labels"]["org.opencontainers.image.base.name"])


@contextmanager
def started(image: str, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    """Start a container; it is gone at the end, and with it the volumes that have no name."""
    name = f"nd-synapse-test-{uuid.uuid4().hex[:12]}"
    try:
        docker("run", "--detach", "--name", name, *options, image, *arguments)
        yield Container(name)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, timeout=LIMIT_S)


@dataclass(frozen=True)
class Ended:
    """What a container came to."""

    code: int
    log: str


def ended(image: str, *arguments: str, options: tuple[str, ...] = ()) -> Ended:
    """Run a container to its end."""
    with started(image, *arguments, options=options) as container:
        return Ended(container.wait(), container.log)


@pytest.fixture
def volume() -> Iterator[str]:
    """Return a named volume."""
    name = f"nd-synapse-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with the synthetic sample, and an experiment whose one marker is constant."""
    data = tmp_path_factory.mktemp("boss")
    boss = Boss(data)
    write_sample(boss, SHAPE)
    flat = np.full((4, 40, 40), 7, np.uint8)
    for name in ("Synapsin", "PSD95"):
        ingest(boss, "flat", "flat", name, stack_of_array(flat, name), (70.0, 100.0, 100.0))
    boss.close()
    return data


@pytest.fixture(scope="session")
def sample_boss(sample_data: Path) -> Iterator[BossServer]:
    """Serve it."""
    with start_boss(sample_data) as server:
        yield server


def requested(server: BossServer, *more: str, shape: tuple[int, int, int] = SHAPE) -> list[str]:
    """Return the words that ask for the sample."""
    ranges = [word for axis, stop in zip("zyx", shape, strict=True) for word in (f"--{axis}-range", f"0,{stop}")]
    return ["--host", server.url, "--col", COLLECTION, "--exp", EXPERIMENT, *ranges, *more]


def with_token(server: BossServer) -> tuple[str, ...]:
    """Return the options that hand the token over in the environment."""
    return "--env", f"BOSS_TOKEN={server.token}"


def with_s3(server: S3Server) -> tuple[str, ...]:
    """Return the options that lead to an S3 server."""
    settings = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return tuple(word for name, value in settings.items() for word in ("--env", f"{name}={value}"))
