"""Whatever a server of AWS does, an attempt at a request ends when its time is up."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from batch.client import BatchDoor
from nd_synapse.aws import connection, limits
from nd_synapse.errors import UnavailableError
from tests.fixtures_s3 import S3Server
from tests.raw_line import Certificate, Speaker, certificate, saying, speaking

LIMIT_S = 0.5
REQUEST = {"Bucket": "bucket", "Key": "key"}


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, trusted: Certificate) -> pytest.MonkeyPatch:
    """Credentials that are none, one attempt, and little time."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_CA_BUNDLE": str(trusted.path),
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    once = connection._CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    monkeypatch.setattr(connection, "_CONFIG", once)
    monkeypatch.setattr(limits, "LIMIT_S", LIMIT_S)
    return monkeypatch


def reads_slowly(line: socket.socket, ended: threading.Event) -> None:
    """Take a few bytes of a request now and then."""
    line.recv(4096)
    line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not ended.wait(0.05):
        line.recv(64)


def get(client: Any) -> None:
    client.get_object(**REQUEST)["Body"].read()


def put(client: Any) -> None:
    client.put_object(**REQUEST, Body=b"x" * 8_000_000)


OK = b"HTTP/1.1 200 OK\r\n"
TRICKLES = {
    "a header": (saying(OK + b"X-a: ", b"a"), get),
    "100 Continue": (saying(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), put),
    "headers of 100 Continue": (saying(b"HTTP/1.1 100 Continue\r\n", b"X-a: b\r\n"), put),
    "a status": (saying(b"HTTP", b"/"), get),
    "a body": (saying(OK + b"Content-Length: 100000\r\n\r\n", b"a"), get),
    "chunks": (saying(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"), get),
    "a reader": (reads_slowly, put),
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["open", "encrypted"])
@pytest.mark.parametrize(("speaker", "call"), TRICKLES.values(), ids=TRICKLES)
def test_a_server_that_trickles_is_given_up(
    settings: pytest.MonkeyPatch, trusted: Certificate, speaker: Speaker, call: Any, encrypted: bool
) -> None:
    """Time-outs of sockets limit each silence alone, and here there is none."""
    with speaking(speaker, trusted.context if encrypted else None) as host:
        settings.setenv("AWS_ENDPOINT_URL", f"{'https' if encrypted else 'http'}://{host}")
        client = connection.client()
        start = time.monotonic()
        with pytest.raises(UnavailableError), connection.translated("trying", "Go on"):
            call(client)
        took = time.monotonic() - start
    assert LIMIT_S * 0.9 < took < LIMIT_S * 6
    client.close()


CUT = {
    "headers of 100 Continue": (saying(b"HTTP/1.1 100 Continue\r\n"), put),
    "headers of an answer instead": (saying(OK + b"ETag: a\r\n"), put),
    "another protocol": (saying(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), get),
    "another protocol instead": (saying(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), put),
    "headers": (saying(OK + b"Content-Type: text/plain\r\n"), get),
    "a body": (saying(OK + b"Content-Length: 10\r\n\r\nabc"), get),
}


@pytest.mark.parametrize(("speaker", "call"), CUT.values(), ids=CUT)
def test_an_answer_that_is_cut_short_is_none(settings: pytest.MonkeyPatch, speaker: Speaker, call: Any) -> None:
    """botocore alone would look for the end of the first for ever, and take the second for an empty object."""
    with speaking(speaker) as host:
        settings.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        client = connection.client()
        with pytest.raises(UnavailableError), connection.translated("trying", "Go on"):
            call(client)
    client.close()


def test_what_is_said_ahead_of_an_answer_is_not_taken_for_it(settings: pytest.MonkeyPatch) -> None:
    """botocore would take 103 for the answer to an upload, send nothing, and say that it was done."""
    ahead = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    bodies = []

    def speak(line: socket.socket, ended: threading.Event) -> None:
        for number in range(2):
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += line.recv(65536)
            line.sendall(ahead)
            while number == 0 and not heard.endswith(b"y"):
                heard += line.recv(65536)
            bodies.append(heard)
            ended.wait(0.1)
            line.sendall(ahead + OK + b"ETag: %d\r\nContent-Length: 0\r\n\r\n" % number)

    with speaking(speak) as host:
        settings.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        client = connection.client()
        assert client.put_object(**REQUEST, Body=b"x" * 9999 + b"y")["ETag"] == "0"
        assert client.head_object(**REQUEST)["ETag"] == "1"
        client.close()
    assert bodies[0].count(b"x" * 9999) == 1


def test_the_door_to_batch_gives_up_as_well(settings: pytest.MonkeyPatch) -> None:
    with speaking(saying(OK + b"X-a: ", b"a")) as host:
        settings.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        with pytest.raises(UnavailableError):
            BatchDoor().submit({"jobName": "a", "jobQueue": "b", "jobDefinition": "c"})


def test_an_idle_connection_has_no_limit_and_no_thread(
    s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "LIMIT_S", 5.0)
    client = connection.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(**REQUEST, Body=b"abc")
    assert client.get_object(**REQUEST)["Body"].read() == b"abc"
    waiting = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for thread in waiting:
        thread.join(2)  # each was told to end
    assert not any(thread.is_alive() for thread in waiting)
    client.close()
