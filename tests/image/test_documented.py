"""The Docker commands of the documents, run by a shell word by word; only names of this machine are others."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.conftest import REPOSITORY
from tests.fixtures_boss import blobs, fill, start_boss
from tests.fixtures_s3 import S3Server, free_port
from tests.image.conftest import base_of, demand_image, docker
from tests.markdown import code, fenced
from tests.test_docs import README
from tests.volumes_on_disk import write

demand_image()
pytestmark = pytest.mark.timeout(1200)  # an image is built

CONTAINER = REPOSITORY / "docs" / "container.md"
COMPOSE_FILE = REPOSITORY / "compose.yaml"
PUBLISHED = re.compile(r"image: (motoserver/moto:(\S+))")
STAND_IN = """
FROM {base}
RUN python3 -m venv /opt/moto && /opt/moto/bin/pip install --quiet 'moto[server]=={version}'
ENTRYPOINT ["/opt/moto/bin/moto_server", "-H", "0.0.0.0", "-p", "5000"]
"""
CLUSTERS = REPOSITORY / "docs" / "clusters.md"
LIMIT_S = 1000


@dataclass(frozen=True)
class Compose:
    """How compose is called here, and where its S3 server answers."""

    changes: dict[str, str]
    s3_url: str


def shown(document: Path, words: str) -> str:
    """Return the one fenced block of a document in which some words stand."""
    (block,) = (text for text in fenced(document.read_text(encoding="utf-8")) if words in text)
    return block


def run(script: str, folder: Path, changes: dict[str, str]) -> str:
    """Run a script in a folder, with the words that are changed in it; return what it writes."""
    for words, others in changes.items():
        assert words in script
        script = script.replace(words, others)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def another(image: str) -> Iterator[str]:
    """Return the name of an image to build."""
    yield f"{image}-documented"
    docker("image", "rm", f"{image}-documented")


def test_the_image_is_built_and_demonstrated_as_readme_says(image: str, another: str, volume: str) -> None:
    """The base is that of the image under test, since not every machine reaches the published one."""
    names = {
        "-t nd-synapse": f"-t {another} --build-arg BASE_IMAGE={base_of(image)}",
        "nd-synapse demo": f"{another} demo",
        "nd-results": volume,
    }
    assert "Report: /app/results/demo/" in run(shown(README, "docker run"), REPOSITORY, names)


@pytest.fixture
def s3_image(image: str) -> str:
    """Return the published image of the S3 server; where no registry answers, one with the same server."""
    published, version = PUBLISHED.search(COMPOSE_FILE.read_text(encoding="utf-8")).groups()  # type: ignore[union-attr] # it is there
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
def compose(
    image: str, another: str, s3_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Compose]:
    """Name compose.yaml, a base that this machine has, and ports and names of its own in the environment."""
    override, ports = tmp_path / "override.json", (free_port(), free_port())
    build = {"build": {"args": {"BASE_IMAGE": base_of(image)}}}
    override.write_text(json.dumps({"services": {"s3": {"image": s3_image}, "boss": build, "job": build}}))
    settings = {
        "COMPOSE_FILE": f"{COMPOSE_FILE}:{override}",
        "COMPOSE_PROJECT_NAME": f"nd-synapse-test-{uuid.uuid4().hex[:12]}",
        "ND_SYNAPSE_IMAGE": another,
        **{name: str(port) for name, port in zip(("BOSS_PORT", "S3_PORT"), ports, strict=True)},
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=LIMIT_S).returncode == 0
    changes = {} if plugin else {"docker compose": "docker-compose"}
    try:
        yield Compose(changes, f"http://127.0.0.1:{ports[1]}")
    finally:
        run("docker compose down --volumes --timeout 5", tmp_path, changes)


def test_the_s3_server_is_the_one_that_the_other_tests_use() -> None:
    (pinned,) = re.findall(r"^moto==(\S+)", (REPOSITORY / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert f"motoserver/moto:{pinned}\n" in COMPOSE_FILE.read_text(encoding="utf-8")


def test_the_composed_job_finds_boss_and_s3_and_delivers_to_both(compose: Compose, tmp_path: Path) -> None:
    assert "and read them back" in run(shown(CONTAINER, "compose build"), tmp_path, compose.changes)
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=compose.s3_url, **keys)
    names = {entry["Key"].rpartition("/")[2] for entry in client.list_objects_v2(Bucket="results")["Contents"]}
    assert {"run.json", "synapses.csv", "nomads-unsupervised-predictions.ome.tiff"} <= names
    run(shown(CONTAINER, "compose down"), tmp_path, compose.changes)
    assert len([*(tmp_path / "results").glob("*/run.json")]) == 1


@pytest.mark.parametrize("command", [line for line in code(CONTAINER.read_text()) if line.startswith("docker run")])
def test_a_command_in_the_text_runs(image: str, command: str, tmp_path: Path) -> None:
    assert "Report: /app/results/demo/" in run(command, tmp_path, {"nd-synapse demo": f"{image} demo"})


def test_a_job_on_data_in_boss_leaves_its_results_in_a_folder_and_in_s3(
    image: str, s3_env: S3Server, tmp_path: Path
) -> None:
    fill(tmp_path / "boss", "my_lab", "my_slice", blobs((16, 256, 256), 0, 200))
    with start_boss(tmp_path / "boss") as boss:
        (tmp_path / "boss_token").write_text(boss.token)
        changes = {
            "docker run": "docker run --network host -e AWS_ENDPOINT_URL",
            "nd-synapse --host api.bossdb.io": f"{image} --host {boss.url}",
            "0,2048": "0,256",
        }
        run(shown(CONTAINER, "--user"), tmp_path, changes)
    (folder,) = (entry for entry in (tmp_path / "results").iterdir() if entry.is_dir())
    assert f"{folder.name}/run.json" in s3_env.keys("my-results")


def test_the_loop_over_parts_ends_with_the_results(image: str, tmp_path: Path) -> None:
    write("ome05.zarr", tmp_path / "volume.ome.zarr", blobs((4, 1100, 1100), 0, 600))
    run(
        shown(CLUSTERS, "docker run"),
        tmp_path,
        {"-v /data": f"-v {tmp_path}", "nd-synapse --source": f"{image} --source"},
    )
    (record,) = (tmp_path / "results").glob("*/run.json")
    assert record.with_name("synapses.csv").is_file()
