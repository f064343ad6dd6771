"""An S3 server for the tests: moto in a process of its own, over HTTP. It checks neither signatures nor rights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
import pytest

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "127.0.0.1",
}
"""What boto3 takes from the environment: credentials that are none, and no others from elsewhere."""


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    url: str

    def client(self, region: str = "us-east-1") -> Any:
        """Return a boto3 client that looks at the server past the code under test."""
        return _client(self.url, region)

    def keys(self, bucket: str) -> list[str]:
        """Return the keys in a bucket."""
        return [entry["Key"] for entry in self.client().list_objects_v2(Bucket=bucket).get("Contents", [])]

    def reset(self) -> None:
        """Forget all buckets."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=10).close()


@cache
def _client(url: str, region: str) -> Any:
    """Making a client takes longer than most requests."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.session.Session(**keys).client("s3", region_name=region, endpoint_url=url)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@contextmanager
def start_s3(**environment: str) -> Iterator[S3Server]:
    """Start moto, with settings of its own in the environment."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        _wait_for(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "the S3 server ended at once"
        try:
            server.reset()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the S3 server did not answer within 30 s")


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Point boto3's environment at an empty server, with credentials that are none."""
    s3_server.reset()
    settings = {
        "AWS_ENDPOINT_URL": s3_server.url,
        "STORAGE_EMULATOR_HOST": s3_server.url,  # it has the XML API of Google's store, too
        "CLOUDSDK_CONFIG": "/dev/null",
        **SETTINGS,
    }
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL_S3",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_nowhere() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
