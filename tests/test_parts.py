"""A run in parts: processes that meet on S3 alone, like the jobs of an array, end with the bytes of one job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.errors import StorageError, UsageError
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, fill, spots, start_boss
from tests.fixtures_s3 import S3Server
from tests.test_driver import PREDICTIONS, where

SHAPE = (12, 96, 96)
VOLUME = Box.of_shape(SHAPE)
SAME = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv")
SHARDS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    data = tmp_path_factory.mktemp("parts")
    fill(data, "parts", "spots", spots(SHAPE, 12))
    with start_boss(data) as running:
        yield running


@pytest.fixture(scope="module")
def environment(server: BossServer, s3_server: S3Server) -> dict[str, str]:
    s3_server.client().create_bucket(Bucket="parts")
    return {
        **os.environ,
        "BOSS_TOKEN": server.token,
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def command(server: BossServer, path: Path, *extra: str) -> list[str]:
    options = ["--block-size", "4,32,32", "--cpus", "1", "--no-push"]
    volume = where(server, "parts", "spots", VOLUME)
    return [sys.executable, "driver.py", "--path", str(path), *volume, *options, *extra]


def run(line: list[str], environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, cwd=REPOSITORY, env={**environment, **more}, capture_output=True, text=True, timeout=120, check=False
    )


def results(path: Path) -> dict[str, bytes]:
    """Return masks, table and figures: all that a run comes to, but for the time that it took."""
    (folder,) = path.iterdir()
    figures = sorted((folder / "figures").iterdir())
    assert len(figures) > 15
    return {file.name: file.read_bytes() for file in [*(folder / name for name in SAME), *figures]}


@pytest.mark.slow
def test_an_array_ends_with_the_bytes_of_one_job_though_its_jobs_are_killed(
    server: BossServer, environment: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    assert run(command(server, tmp_path / "single"), environment).returncode == 0
    shared = ["--shared", "s3://parts/run", "--shards", str(SHARDS)]
    for phase in ("statistics", "detection"):
        for index in range(SHARDS):
            # each in a folder of its own, as on a machine of its own; the first attempt of some is killed in the middle
            index_in_array = {"AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
            path = tmp_path / f"{phase}-{index}"
            line = command(server, path / "first", *shared, "--phase", phase)
            if index == 1:
                before = len(s3_server.keys("parts"))
                killed = subprocess.Popen(
                    line, cwd=REPOSITORY, env={**environment, **index_in_array}, stderr=subprocess.DEVNULL
                )
                deadline = time.monotonic() + 60
                while len(s3_server.keys("parts")) < before + 4 and killed.poll() is None:
                    assert time.monotonic() < deadline
                killed.kill()
                killed.wait(60)
                line = command(server, path / "second", *shared, "--phase", phase)
            done = run(line, environment, **index_in_array)
            assert done.returncode == 0, done.stderr
            assert f"part {index} of {SHARDS} is done, 0 of its blocks failed" in done.stderr
    last = run(command(server, tmp_path / "last", *shared[:2], "--phase", "report"), environment)
    assert last.returncode == 0, last.stderr
    assert results(tmp_path / "last") == results(tmp_path / "single")
    manifest = json.loads(next((tmp_path / "last").glob("*/run.json")).read_text())
    single = json.loads(next((tmp_path / "single").glob("*/run.json")).read_text())
    assert manifest["density"] == single["density"]
    blocks = manifest["counts"]["blocks"]
    assert manifest["resumed_blocks"] == {"statistics": blocks, "detect": blocks}
    # nothing that was left there holds the token
    for key in s3_server.keys("parts"):
        assert server.token.encode() not in s3_server.client().get_object(Bucket="parts", Key=key)["Body"].read()


def test_parts_without_a_common_block_size_are_refused(
    server: BossServer, environment: dict[str, str], tmp_path: Path
) -> None:
    line = [sys.executable, "driver.py", "--path", str(tmp_path), *where(server, "parts", "spots", VOLUME)]
    done = run([*line, "--shared", "s3://parts/x", "--phase", "report"], environment)
    assert (done.returncode, "--block-size" in done.stderr) == (2, True)


@pytest.fixture
def shared_store(s3_server: S3Server, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3SharedStore:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, environment[name])
    return S3SharedStore("s3://parts/shared")


def test_what_is_in_the_shared_store_never_changes(shared_store: S3SharedStore) -> None:
    shared_store.put("kind", "a.npz", b"first")
    shared_store.put("kind", "a.npz", b"second")
    shared_store.put("kind", "b.npz", b"")
    assert shared_store.names("kind") == {"a.npz", "b.npz"}
    assert shared_store.names("other") == set()
    assert (shared_store.get("kind", "a.npz", 100), shared_store.get("kind", "b.npz", 100)) == (b"first", b"")


def test_a_shared_store_lists_more_than_one_answer_of_s3_holds(
    shared_store: S3SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        shared_store.put("many", f"{number}.npz", b"x")
    monkeypatch.setattr(
        shared_store._bucket._client,
        "list_objects_v2",
        partial(shared_store._bucket._client.list_objects_v2, MaxKeys=2),
    )
    assert shared_store.names("many") == {f"{number}.npz" for number in range(5)}


def test_a_bucket_that_is_not_there_is_a_plain_sentence(shared_store: S3SharedStore) -> None:
    missing = S3SharedStore("s3://no-such-bucket-here/run")
    for ask in (lambda: missing.names("kind"), lambda: missing.get("k", "a", 1), lambda: missing.put("k", "a", b"")):
        with pytest.raises((UsageError, StorageError), match="no-such-bucket-here"):
            ask()
