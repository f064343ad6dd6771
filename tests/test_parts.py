"""A run in parts: processes that meet on S3 or in a folder, as those of an array do, end with the bytes of one job."""

from __future__ import annotations

import errno
import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.boss.cutouts import erase_block
from nd_synapse.errors import StorageError, UnknownNameError, UsageError
from nd_synapse.files.shared_folder import SharedFolder
from nd_synapse.geometry import Box
from tests.conftest import REPOSITORY
from tests.driver.runs import PREDICTIONS, where
from tests.fixtures_boss import BossServer, fill, spots, start_boss
from tests.fixtures_s3 import S3Server

SHAPE = (12, 96, 96)
VOLUME = Box.of_shape(SHAPE)
SAME = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv")
SHARDS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    data = tmp_path_factory.mktemp("parts")
    fill(data, "parts", "spots", spots(SHAPE, 12))
    fill(data, "parts", "deep", spots((40, 96, 96), 12))
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
    options = ["--block-size", "4,48,48", "--cpus", "1", "--no-push"]
    volume = where(server, "parts", "spots", VOLUME)
    return [sys.executable, "driver.py", "--path", str(path), *volume, *options, *extra]


def run(line: list[str], environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, cwd=REPOSITORY, env={**environment, **more}, capture_output=True, text=True, timeout=120, check=False
    )


def phases(shards: int) -> Iterator[tuple[str, int]]:
    """Yield the phases of a run in parts, and the numbers of their parts."""
    for phase in ("statistics", "detection", "contacts", "join", "objects"):
        for index in range(1 if phase == "join" else shards):
            yield phase, index


def results(path: Path) -> dict[str, bytes]:
    """Return masks, table and figures: all that a run comes to, but for the time that it took."""
    (marker,) = path.glob("*/run.json")
    folder = marker.parent
    figures = sorted((folder / "figures").iterdir())
    assert len(figures) > 15
    return {file.name: file.read_bytes() for file in [*(folder / name for name in SAME), *figures]}


@pytest.fixture(params=["s3", "folder"])
def shared(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> str:
    """Return where the parts of a run meet: the same commands work on S3 and on a folder."""
    # a name of its own, for all runs of this file are in one bucket
    name = f"run-{secrets.token_hex(4)}"
    return f"s3://parts/{name}" if request.param == "s3" else f"file://{tmp_path}/{name}"


def bodies(shared: str, s3_server: S3Server) -> dict[str, bytes]:
    """Return all that a run left in its shared store, past the code under test."""
    if shared.startswith("file://"):
        root = Path(shared.removeprefix("file://"))
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    client, prefix = s3_server.client(), shared.removeprefix("s3://parts/") + "/"
    keys = [key for key in s3_server.keys("parts") if key.startswith(prefix)]
    return {key.removeprefix(prefix): client.get_object(Bucket="parts", Key=key)["Body"].read() for key in keys}


@pytest.fixture(scope="module")
def single(server: BossServer, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what one job comes to."""
    path = tmp_path_factory.mktemp("single")
    assert run(command(server, path), environment).returncode == 0
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_an_array_ends_with_the_bytes_of_one_job_though_its_jobs_are_killed(
    server: BossServer, environment: dict[str, str], s3_server: S3Server, single: Path, shared: str, tmp_path: Path
) -> None:
    parts = ["--shared", shared, "--shards", str(SHARDS)]
    for phase, index in phases(SHARDS):
        # each in a folder of its own, as on a machine of its own; the first attempt of some is killed in the middle
        index_in_array = {"AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
        path = tmp_path / f"{phase}-{index}"
        line = command(server, path / "first", *parts, "--phase", phase)
        if index == 1:
            before = len(bodies(shared, s3_server))
            killed = subprocess.Popen(
                line, cwd=REPOSITORY, env={**environment, **index_in_array}, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 60
            while len(bodies(shared, s3_server)) < before + 2 and killed.poll() is None:
                assert time.monotonic() < deadline
            killed.kill()
            killed.wait(60)
            line = command(server, path / "second", *parts, "--phase", phase)
        done = run(line, environment, **index_in_array)
        assert done.returncode == 0, done.stderr
        assert f"part {index} of {SHARDS} is done, 0 of its blocks failed" in done.stderr
    last = run(command(server, tmp_path / "last", *parts[:2], "--phase", "report"), environment)
    assert last.returncode == 0, last.stderr
    assert results(tmp_path / "last") == results(single)
    manifest = json.loads(next((tmp_path / "last").glob("*/run.json")).read_text())
    alone = json.loads(next(single.glob("*/run.json")).read_text())
    assert manifest["density"] == alone["density"]
    blocks = manifest["counts"]["blocks"]
    resumed = manifest["resumed_blocks"]
    assert resumed.pop("features") > 0
    assert resumed == dict.fromkeys(("statistics", "detect", "objects"), blocks)
    # nothing that was left there holds the token
    for body in bodies(shared, s3_server).values():
        assert server.token.encode() not in body


def attempts(line: list[str], environment: dict[str, str], index: int, kills: random.Random, root: Path) -> None:
    """Do a part by two attempts at once; of every third one is killed at any moment and begun again."""

    def attempt(name: str) -> subprocess.Popen[bytes]:
        options = ["--shard", str(index), "--path", str(root / name)]
        return subprocess.Popen([*line, *options], cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE)

    one, other = attempt("one"), attempt("other")
    if kills.random() < 1 / 3:
        time.sleep(kills.uniform(0.5, 4))
        one.kill()
        one.communicate()
        one = attempt("again")
    for process in (other, one):
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 0, messages.decode()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("shared", "shards"), [("folder", 1), ("s3", 3), ("folder", 7)], indirect=["shared"])
def test_any_number_of_parts_each_done_twice_at_once_ends_with_the_bytes_of_one_job(
    server: BossServer, environment: dict[str, str], single: Path, shared: str, shards: int, tmp_path: Path
) -> None:
    kills = random.Random(shards)
    for phase, index in phases(shards):
        line = command(server, tmp_path, "--shared", shared, "--shards", str(shards), "--phase", phase)
        attempts(line, environment, index, kills, tmp_path / f"{phase}-{index}")
    done = run(command(server, tmp_path / "last", "--shared", shared, "--phase", "report"), environment)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "last") == results(single)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_masks_are_pushed_and_proven_by_parts_though_one_is_killed(
    server: BossServer, environment: dict[str, str], shared: str, tmp_path: Path
) -> None:
    def line(name: str, *extra: str) -> list[str]:
        # requests to BOSS end at multiples of 32 sections: there are two
        volume = where(server, "parts", "deep", Box((26, 38), (0, 96), (0, 96)))
        options = ["--block-size", "4,48,48", "--cpus", "1", "--shared", shared, "--out-exp", shared[-8:]]
        return [sys.executable, "driver.py", "--path", str(tmp_path / name), *volume, *options, *extra]

    for phase, index in phases(2):
        done = run(line("parts", "--phase", phase, "--shards", "2", "--shard", str(index)), environment)
        assert done.returncode == 0, done.stderr
    first = line("killed", "--phase", "push", "--shards", "2", "--shard", "0")
    killed = subprocess.Popen(first, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    time.sleep(2)
    killed.kill()
    killed.wait(60)
    for index in (0, 1, 1):
        done = run(line("push", "--phase", "push", "--shards", "2", "--shard", str(index)), environment)
        assert done.returncode == 0, done.stderr
    assert "was pushed and read back before" in done.stderr
    last = run(line("last", "--phase", "report"), environment)
    assert last.returncode == 0, last.stderr
    manifest = next((tmp_path / "last").glob("*/run.json"))
    assert json.loads(manifest.read_text())["in_boss"]["All"].endswith("read back and equal; parts that did it: 2")
    check = [sys.executable, "-m", "nd_synapse", "verify", str(manifest.parent)]
    verified = run(check, environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    # what somebody wrote since is no proof: the report pushes again
    remote = server.remote()
    channel = remote.get_channel(
        json.loads(manifest.read_text())["in_boss"]["All"].split(",")[0].split("/")[2], "collman_nomads", shared[-8:]
    )
    erase_block(remote, channel, Box((26, 32), (0, 96), (0, 96)))
    again = run(line("again", "--phase", "report"), environment)
    assert again.returncode == 0, again.stderr
    manifest = next((tmp_path / "again").glob("*/run.json"))
    assert json.loads(manifest.read_text())["in_boss"]["All"].endswith("read back and equal")
    verified = run([*check[:-1], str(manifest.parent)], environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_parts_without_a_common_block_size_are_refused(
    server: BossServer, environment: dict[str, str], tmp_path: Path
) -> None:
    line = [sys.executable, "driver.py", "--path", str(tmp_path), *where(server, "parts", "spots", VOLUME)]
    done = run([*line, "--shared", "s3://parts/x", "--phase", "report"], environment)
    assert (done.returncode, "--block-size" in done.stderr) == (2, True)


@pytest.fixture
def shared_store(
    s3_server: S3Server, environment: dict[str, str], shared: str, monkeypatch: pytest.MonkeyPatch
) -> SharedStore:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, environment[name])
    return S3SharedStore(shared) if shared.startswith("s3:") else SharedFolder(shared)


def test_what_is_in_the_shared_store_never_changes_unless_it_was_damaged(shared_store: SharedStore) -> None:
    shared_store.put("kind", "a.npz", b"first")
    shared_store.put("kind", "a.npz", b"second")
    shared_store.put("kind", "b.npz", b"")
    assert shared_store.names("kind") == {"a.npz", "b.npz"}
    assert shared_store.names("other") == set()
    with pytest.raises(UnknownNameError, match=r"c\.npz"):
        shared_store.get("kind", "c.npz", 1)
    assert (shared_store.get("kind", "a.npz", 100), shared_store.get("kind", "b.npz", 100)) == (b"first", b"")
    shared_store.put("kind", "b.npz", b"instead", replaces=True)
    assert shared_store.get("kind", "b.npz", 100) == b"instead"
    assert (shared_store.get("kind", "a.npz", 4), shared_store.get("kind", "a.npz", 5)) == (None, b"first")


def test_of_many_writes_at_once_one_is_there_whole(shared_store: SharedStore) -> None:
    written = [bytes([number]) * 2**20 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(partial(shared_store.put, "kind", "a.npz"), written))
    assert shared_store.get("kind", "a.npz", 2**20) in written
    assert shared_store.names("kind") == {"a.npz"}


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
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


@pytest.mark.usefixtures("shared_store")
@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_a_plain_sentence() -> None:
    missing = S3SharedStore("s3://no-such-bucket-here/run")
    for ask in (lambda: missing.names("kind"), lambda: missing.get("k", "a", 1), lambda: missing.put("k", "a", b"")):
        with pytest.raises((UsageError, StorageError), match="no-such-bucket-here"):
            ask()


def test_a_writer_that_was_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    store = SharedFolder(str(tmp_path / "run"))
    with (
        mock.patch("nd_synapse.files.shared_folder._link", side_effect=KeyboardInterrupt),
        mock.patch("pathlib.Path.unlink"),
        pytest.raises(KeyboardInterrupt),
    ):
        store.put("kind", "a.npz", b"half")
    assert len(list((tmp_path / "run" / "kind").iterdir())) == 1
    assert store.names("kind") == set()
    store.put("kind", "a.npz", b"whole")
    assert (store.names("kind"), store.get("kind", "a.npz", 9)) == ({"a.npz"}, b"whole")


@pytest.mark.parametrize(
    "url", ["file://host/run", "file:run", "http://host/run", "file:///tmp/../etc", "", "/no-such-disk/mounted/run"]
)
def test_a_shared_folder_that_may_be_another_on_each_machine_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--shared"):
        SharedFolder(url)


def test_a_folder_is_the_same_as_a_path_and_as_a_url(tmp_path: Path) -> None:
    named = SharedFolder(f"file://{tmp_path}/a%20run")
    assert named.root == SharedFolder(f"{tmp_path}/a run/").root == tmp_path / "a run"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSPC, errno.EACCES])
def test_what_a_file_system_refuses_is_a_plain_sentence(tmp_path: Path, number: int) -> None:
    store = SharedFolder(str(tmp_path / "run"))
    with (
        mock.patch("pathlib.Path.hardlink_to", side_effect=OSError(number, os.strerror(number))),
        pytest.raises(StorageError, match=os.strerror(number)) as error,
    ):
        store.put("kind", "a.npz", b"x")
    assert ("another file system" in str(error.value)) == (number in (errno.EPERM, errno.ENOTSUP))
    assert list((tmp_path / "run" / "kind").iterdir()) == []
