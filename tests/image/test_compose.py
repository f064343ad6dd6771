"""A BOSS, an S3 server and the job together, as compose.yaml starts them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.conftest import REPOSITORY
from tests.image.conftest import LIMIT_S, base_of, demand_image, docker

demand_image()

COMPOSE_FILE = REPOSITORY / "compose.yaml"
PUBLISHED = re.compile(r"image: (motoserver/moto:(\S+))")
STAND_IN = """
FROM {base}
RUN python3 -m venv /opt/moto && /opt/moto/bin/pip install --quiet 'moto[server]=={version}'
ENTRYPOINT ["/opt/moto/bin/moto_server", "-H", "0.0.0.0", "-p", "5000"]
"""


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Project:
    """compose.yaml, with names and ports of its own."""

    compose: Callable[..., str]
    s3_url: str


@pytest.fixture(scope="module")
def s3_image(image: str) -> str:
    """Return the published image of the S3 server; where no registry answers, one with the same server."""
    published, version = PUBLISHED.search(COMPOSE_FILE.read_text(encoding="utf-8")).groups()  # type: ignore[union-attr]
    stand_in = f"nd-synapse-moto:{version}"
    for name in (published, stand_in):
        if docker("image", "ls", "--quiet", name):
            return name
    if subprocess.run(["timeout", "60", "docker", "pull", "--quiet", published]).returncode == 0:
        return published
    words = ["docker", "build", "--tag", stand_in, "-"]
    recipe = STAND_IN.format(base=base_of(image), version=version)
    subprocess.run(words, input=recipe, text=True, check=True, timeout=600)
    return stand_in


@pytest.fixture
def project(image: str, s3_image: str, tmp_path: Path) -> Iterator[Project]:
    """Return the project; all of it is gone at the end."""
    override = tmp_path / "override.json"
    override.write_text(json.dumps({"services": {"s3": {"image": s3_image}}}))
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=LIMIT_S).returncode == 0
    program = ["docker", "compose"] if plugin else ["docker-compose"]
    name = f"nd-synapse-test-{uuid.uuid4().hex[:12]}"
    files = ["--file", str(COMPOSE_FILE), "--file", str(override)]
    ports = {"BOSS_PORT": free_port(), "S3_PORT": free_port()}
    environment = {**os.environ, "ND_SYNAPSE_IMAGE": image, **{key: str(port) for key, port in ports.items()}}

    def compose(*words: str) -> str:
        done = subprocess.run(
            [*program, "--project-name", name, *files, *words],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        yield Project(compose, f"http://127.0.0.1:{ports['S3_PORT']}")
    finally:
        compose("down", "--volumes", "--timeout", "5")


def test_the_s3_server_is_the_one_that_the_other_tests_use() -> None:
    (pinned,) = re.findall(r"^moto==(\S+)", (REPOSITORY / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert f"motoserver/moto:{pinned}\n" in COMPOSE_FILE.read_text(encoding="utf-8")


def test_the_job_finds_boss_and_s3_and_delivers_to_both(project: Project) -> None:
    said = project.compose("run", "--rm", "-T", "job")
    assert "and read them back" in said
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=project.s3_url, **keys)
    names = {entry["Key"].rpartition("/")[2] for entry in client.list_objects_v2(Bucket="results")["Contents"]}
    assert {"run.json", "synapses.csv", "nomads-unsupervised-predictions.ome.tiff"} <= names
    assert "run.json" in project.compose("run", "--rm", "--no-deps", "-T", "job", "sh", "-c", "ls results/*")
