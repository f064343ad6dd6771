"""Uploads against an S3 server that checks signatures, which moto does not: rclone's, a program of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nd_synapse.aws.connection import s3_client
from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.errors import PermissionDeniedError
from nd_synapse.job.upload import upload_folder
from tests.fixtures_s3 import S3Server, free_port

KEY, SECRET = "synapse-key", "synapse-secret-0123456789"


@pytest.fixture(scope="module")
def signed_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("rclone")
    port = free_port()
    program = str(Path(sys.executable).with_name("rclone"))
    words = ["serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", ""]
    process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        for _ in range(300):
            assert process.poll() is None, "rclone ended at once"
            try:
                urllib.request.urlopen(server.url, timeout=10).close()
            except urllib.error.HTTPError:
                break  # it answers, and refuses who gives no signature
            except urllib.error.URLError:
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def keys(signed_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "AWS_ENDPOINT_URL": signed_s3.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result folder with a file of several parts."""
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "synapses.csv").write_text("id\n1\n")
    (tmp_path / "mask.tif").write_bytes(bytes(range(256)) * 50_000)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("keys")
def test_a_folder_is_uploaded_and_once_more(folder: Path) -> None:
    client = s3_client()
    client.create_bucket(Bucket="signed")
    first = upload_folder(folder, "signed", "key")
    for one in first:
        body = client.get_object(Bucket="signed", Key=one.key)["Body"].read()
        assert body == (folder / one.key.removeprefix("key/")).read_bytes()
    # it keeps no metadata, by which a file that is there already would be known
    assert len(upload_folder(folder, "signed", "key")) == len(first) == 3


@pytest.mark.usefixtures("keys")
def test_blocks_are_left_and_fetched() -> None:
    shared_store = S3SharedStore("s3://blocks/run")
    s3_client().create_bucket(Bucket="blocks")
    shared_store.put("parts", "0_0_0.npz", b"voxels")
    assert shared_store.names("parts") == {"0_0_0.npz"}
    assert shared_store.get("parts", "0_0_0.npz", 100) == b"voxels"


@pytest.mark.usefixtures("keys")
def test_a_wrong_secret_is_refused_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(PermissionDeniedError) as refused:
        upload_folder(folder, "signed", "refused")
    assert "another-secret" not in str(refused.value)
