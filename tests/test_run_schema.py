"""The published schema of run.json holds for the runs of every kind, and says what a reader needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

import driver
from nd_synapse.errors import IncompleteError
from tests.conftest import REPOSITORY
from tests.fixtures_boss import blobs, fill, start_boss
from tests.volumes_on_disk import write

SCHEMA = json.loads((REPOSITORY / "docs" / "run.schema.json").read_bytes())
CHANNELS = blobs((6, 60, 70), 5, 25)


def nothing(channels: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Find nothing."""
    return np.zeros_like(channels["PSD95"], np.bool_)


def half(channels: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Fail on the blocks with a bright corner."""
    if channels["PSD95"][0, 0, 0] > 200:
        raise ValueError("a bright corner")
    return channels["PSD95"] > 150


def run_of(folder: Path, **job: Any) -> dict[str, Any]:
    """Run a job, and return its run.json."""
    with suppress(IncompleteError):
        driver.driver(path=folder, cpus=1, **{"plots": False, **job})
    (file,) = folder.glob("*/run.json")
    content: dict[str, Any] = json.loads(file.read_bytes())
    return content


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema") / "images.zarr"
    channels = {name: voxels.copy() for name, voxels in CHANNELS.items()}
    channels["PSD95"][0, 0, 0], channels["PSD95"][0, 0, 32] = 255, 0
    write("ome05.zarr", folder, channels)
    return folder


@pytest.fixture(scope="module")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    data = tmp_path_factory.mktemp("boss")
    fill(data, "small", "plain", CHANNELS)
    with start_boss(data) as server:
        ranges = {"z_range": (0, 6), "y_range": (0, 60), "x_range": (0, 70)}
        yield {"host": server.url, "token": server.token, "col": "small", "exp": "plain", **ranges}


def check(content: dict[str, Any]) -> None:
    """Refuse a run.json that is not as the schema says."""
    jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def keys_without_meaning(schema: Any, path: str = "") -> Iterator[str]:
    """Give the keys below a schema that have no description."""
    for name, one in schema.get("properties", {}).items():
        if "description" not in one:
            yield f"{path}.{name}"
        yield from keys_without_meaning(one, f"{path}.{name}")
    below = [
        *schema.get("$defs", {}).values(),
        *schema.get("anyOf", ()),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    for one in below:
        if isinstance(one, dict):
            yield from keys_without_meaning(one, path)


def test_every_key_has_a_meaning() -> None:
    assert list(keys_without_meaning(SCHEMA)) == []


@pytest.mark.slow
def test_it_holds_for_a_run_that_was_pushed(boss: dict[str, Any], tmp_path: Path) -> None:
    content = run_of(tmp_path, **boss)
    assert content["links"]
    check(content)


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    return run_of(folder / "run", source=source, out=str(folder / "elsewhere"))


def test_it_holds_for_a_run_on_a_source_that_wrote_elsewhere_too(plain: dict[str, Any]) -> None:
    assert plain["counts"]["synapses"] > 0
    assert plain["out"]
    check(plain)


@pytest.mark.slow
def test_it_holds_for_a_run_that_found_nothing(source: Path, tmp_path: Path) -> None:
    content = run_of(tmp_path, source=source, pipeline="tests.test_run_schema:nothing")
    assert content["counts"]["synapses"] == 0
    check(content)


@pytest.mark.slow
def test_it_holds_for_a_run_with_failed_blocks(source: Path, tmp_path: Path) -> None:
    content = run_of(tmp_path, source=source, pipeline="tests.test_run_schema:half", block_size=(6, 32, 32))
    assert content["failed_blocks"]
    assert content["chance"].keys() == {"reason"}
    check(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("files"),
        lambda content: content.update(more=1),
        lambda content: content["asked"].update(z_range=[1]),
        lambda content: content.update(started=5),
        lambda content: content["files"]["synapses.csv"].update(sha256="x"),
    ],
)
def test_what_no_run_writes_is_none(change: Any, plain: dict[str, Any]) -> None:
    content = deepcopy(plain)
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        check(content)
