"""A connection to BOSS has limits, retries transient failures, and names the others."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import blosc
import numpy as np
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource, CollectionResource

from nd_synapse import responses
from nd_synapse.boss.address import address_of
from nd_synapse.boss.connection import Patience, connect, describe_resource
from nd_synapse.boss.cutouts import erase_block, read_cutout, write_block
from nd_synapse.boss.transport import BossAdapter
from nd_synapse.credentials import Token
from nd_synapse.errors import (
    DataError,
    NDSynapseError,
    PermissionDeniedError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.geometry import Box
from nd_synapse.local_boss.responses import digest
from tests.faulty_boss import Fault, Handler, Plan, boss_error, faulty_boss, hangs, resets, says, stops_half_way
from tests.raw_line import Certificate, certificate, saying, speaking

SECRET = "5ecret%25token~0123456789abcdef"
BRISK = Patience(connect_s=10, read_s=30, attempts=3, pause_s=0.001, longest_pause_s=0.01)
COLLECTION = {"name": "collman", "description": "", "creator": "me", "public": False, "experiments": []}
CHANNEL = ChannelResource("c", "col", "exp", datatype="uint8")
BOX = Box((0, 2), (0, 3), (0, 4))
VOXELS = np.arange(24, dtype=np.uint8).reshape(BOX.shape)
PACKED = blosc.compress(VOXELS.tobytes(), typesize=1)


@pytest.fixture
def boss() -> Iterator[Plan]:
    with faulty_boss() as plan:
        yield plan


def ask(url: str, token: str = SECRET, patience: Patience = BRISK) -> Any:
    """Ask for one collection."""
    return describe_resource(
        connect(url, token, patience=patience), "collection collman", CollectionResource("collman")
    )


def read(url: str, patience: Patience = BRISK) -> np.ndarray:
    return read_cutout(connect(url, SECRET, patience=patience), CHANNEL, BOX)


@pytest.mark.parametrize(
    ("given_host", "url"),
    [
        ("api.bossdb.io", "https://api.bossdb.io"),
        ("api.bossdb.io:8443", "https://api.bossdb.io:8443"),
        ("https://api.bossdb.io/", "https://api.bossdb.io"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_host_is_a_name_or_a_url(given_host, url):
    assert address_of(given_host).url == url


@pytest.mark.parametrize(
    "given_host",
    [
        *["", "a b", "host\n", "ftp://host", "http://", "host/v1", "host?x", "host#x", "host:port", "host:99999"],
        *["-host", "ho_st..x", "http://me:hunter22@host", "[::1", "[zz]", "h%41st", "a" * 300, "http:/host"],
    ],
)
def test_an_invalid_host_is_refused_with_an_example(given_host):
    with pytest.raises(UsageError) as caught:
        address_of(given_host)
    assert "api.bossdb.io" in str(caught.value) or "token" in str(caught.value)
    assert "hunter22" not in str(caught.value)


def test_the_token_is_sent_as_it_is_whatever_netrc_says(boss, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    boss.add("GET", says(200, COLLECTION))
    assert ask(boss.url)["name"] == "collman"
    assert boss.seen[0].headers["Authorization"] == f"Token {SECRET}"


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(says(500), "status 500, after the retries", id="500"),
        pytest.param(says(502), "status 502, after the retries", id="502"),
        pytest.param(says(503), "status 503, after the retries", id="503"),
        pytest.param(says(504), "status 504, after the retries", id="504"),
        pytest.param(says(429), "takes no more requests for now", id="429 of a proxy"),
        pytest.param(resets, "broke the connection", id="reset"),
        pytest.param(stops_half_way, "broke the connection", id="half an answer"),
    ],
)
def test_a_transient_failure_is_retried_and_named_after_the_last_attempt(boss, caplog, fault: Fault, found: str):
    boss.add("GET", fault, fault, says(200, COLLECTION))
    assert ask(boss.url) == COLLECTION
    assert boss.count("GET") == 3
    assert len([record for record in caplog.records if "etrying" in record.msg or "again" in record.msg]) == 2
    assert SECRET not in caplog.text
    boss.clear()
    boss.add("GET", *[fault] * 10)
    with pytest.raises(UnavailableError, match=found) as caught:
        ask(boss.url)
    assert boss.url in caught.value.found
    assert caught.value.exit_code == 69
    assert boss.count("GET") == BRISK.attempts


def stalls_half_way(handler: Handler) -> None:
    """Send half of an answer, and then nothing."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)
    hangs(handler)


@pytest.mark.parametrize("fault", [hangs, stalls_half_way], ids=["no answer", "half an answer"])
def test_an_answer_that_stalls_ends_by_the_read_limit_and_is_retried(boss, fault):
    # a busy machine may make an attempt late that was not to be: there are many
    patience = replace(BRISK, read_s=0.3, attempts=50)
    boss.add("GET", fault)
    boss.add("GET", *[says(200, COLLECTION)] * 50)
    assert ask(boss.url, patience=patience) == COLLECTION
    assert boss.count("GET") >= 2
    boss.clear()
    boss.add("GET", *[fault] * 10)
    with pytest.raises(UnavailableError, match="did not answer in time"):
        ask(boss.url, patience=replace(BRISK, read_s=0.1))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_an_answer_that_comes_byte_by_byte_without_end_is_cut_and_named(monkeypatch, head):
    monkeypatch.setattr(responses, "_RESPONSE_S", 0.2)

    def drip(line: socket.socket, ended: threading.Event) -> None:
        line.recv(65536)
        line.sendall(head)
        while not ended.wait(0.01):
            line.sendall(b"0")

    with speaking(drip) as host, pytest.raises(UnavailableError, match="did not answer in time, after the retries"):
        ask(f"http://{host}")


@pytest.mark.parametrize("call", ["write", "erase"])
def test_writes_are_retried_and_the_failed_attempts_are_counted(boss, call):
    boss.add(".", says(504), resets, says(201 if call == "write" else 200, b""))
    remote = connect(boss.url, SECRET, patience=BRISK)
    if call == "write":
        assert write_block(remote, CHANNEL, BOX, VOXELS) == 2
        assert blosc.decompress(boss.seen[-1].body) == VOXELS.tobytes()
    else:
        assert erase_block(remote, CHANNEL, BOX) == 2


@pytest.mark.parametrize(
    ("fault", "expected", "found"),
    [
        pytest.param(says(401, {"detail": "Invalid token."}), PermissionDeniedError, "not accept the token", id="401"),
        pytest.param(boss_error(403, 3001, "No right to read"), PermissionDeniedError, "No right to read", id="403"),
        pytest.param(boss_error(404, 4000, "collman does not exist."), UnknownNameError, "there is none", id="404"),
        pytest.param(boss_error(404, 4005, "marked"), UnknownNameError, "was deleted", id="deleted"),
        pytest.param(says(404), UnavailableError, "without a BOSS message", id="404 of another server"),
        pytest.param(boss_error(400, 1001, "Incorrect cutout"), UsageError, "Incorrect cutout", id="400"),
        pytest.param(boss_error(413, 2000, "over 500MB"), DataError, "over 500MB", id="413"),
        pytest.param(says(413, **{"Retry-After": "1"}), DataError, "too large", id="413 of a proxy"),
        pytest.param(boss_error(429, 3004, "User is throttled."), UnavailableError, "quota", id="quota"),
        pytest.param(
            says(429, {"code": 3004}, **{"Retry-After": "1"}), UnavailableError, "quota", id="quota with Retry-After"
        ),
        pytest.param(
            says(301, "", Location="https://new.example/v1?a=b"), UsageError, "to https://new.example", id="moved"
        ),
        pytest.param(says(403, "", Location="http://["), PermissionDeniedError, "may not", id="an invalid address"),
        pytest.param(says(418), UnavailableError, "418", id="teapot"),
        pytest.param(says(200), UnavailableError, "does not make sense", id="HTML"),
        pytest.param(says(200, ""), UnavailableError, "does not make sense", id="nothing"),
        pytest.param(says(200, [1, 2]), UnavailableError, "does not make sense", id="list"),
        pytest.param(says(200, {"name": "else"}), UnavailableError, "does not make sense", id="other"),
        pytest.param(
            says(200, b"0" * 40, **{"Content-Encoding": "gzip"}), UnavailableError, "cannot be read", id="no gzip"
        ),
        pytest.param(says(503, **{"Retry-After": "soon"}), UnavailableError, "not make sense", id="no Retry-After"),
    ],
)
def test_a_permanent_failure_is_requested_once_and_named(boss, fault, expected, found):
    boss.add("GET", fault)
    with pytest.raises(NDSynapseError) as caught:
        ask(boss.url)
    assert type(caught.value) is expected
    assert found in caught.value.found
    assert caught.value.requested == "collection collman"
    assert caught.value.__cause__ is not None
    assert boss.count("GET") == 1


def test_a_redirect_is_not_followed(boss):
    with faulty_boss() as elsewhere:
        boss.add("GET", says(302, "", Location=f"{elsewhere.url}/v1/collection/collman"))
        with pytest.raises(UsageError):
            ask(boss.url)
        assert not elsewhere.seen


def test_the_pauses_grow_within_their_limit_and_retry_after_has_one():
    retry = BossAdapter(Patience(), Token("public")).max_retries
    pauses = []
    for _ in range(4):
        retry = retry.increment("GET", "/", error=urllib3.exceptions.ProtocolError())
        pauses.append(retry.get_backoff_time())
    assert pauses[0] == 0
    assert all(bound <= pause <= bound + 1 for bound, pause in zip((2, 4, 8), pauses[1:], strict=True))
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        retry.increment("GET", "/", error=urllib3.exceptions.ProtocolError())
    assert retry.parse_retry_after("7") == 7
    assert retry.parse_retry_after("36000") == 120


def test_a_server_that_asks_for_a_pause_gets_it(boss, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    boss.add("GET", says(429, **{"Retry-After": "7"}), says(200, COLLECTION))
    assert ask(boss.url) == COLLECTION
    assert 7 in pauses


def test_a_server_that_does_not_speak_http_is_named():
    with speaking(saying(b"SSH-2.0-OpenSSH_9.2\r\n")) as host, pytest.raises(UnavailableError, match="is not HTTP"):
        ask(f"http://{host}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Certificate]:
    """Return one for the address of the test server, and one for another."""
    root = tmp_path_factory.mktemp("tls")
    return certificate(root / "right", "127.0.0.1"), certificate(root / "wrong", "boss.example")


def whole(body: bytes) -> bytes:
    """Return an answer as it is on the wire."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_that_the_user_trusts_is_accepted(certificates, monkeypatch, variable):
    right, _ = certificates
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(right.path))
    with speaking(saying(whole(json.dumps(COLLECTION).encode())), right.context) as host:
        assert ask(f"https://{host}") == COLLECTION


def test_an_encrypted_connection_that_breaks_is_retried(certificates, monkeypatch):
    """A server that restarts, or a proxy before it."""
    right, _ = certificates
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(right.path))
    connections: list[socket.socket] = []

    def speak(line: socket.socket, ended: threading.Event) -> None:
        connections.append(line)
        if len(connections) == 1:
            line.recv(10)
            line.shutdown(socket.SHUT_RDWR)
        elif len(connections) == 2:
            line.recv(65536)
            line.sendall(bytes([21, 3, 3, 0, 2, 2, 80]))  # the alert internal_error
            ended.wait(0.05)
        else:
            with right.context.wrap_socket(line, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(whole(json.dumps(COLLECTION).encode()))

    with speaking(speak) as host:
        assert ask(f"https://{host}") == COLLECTION
    assert len(connections) == 3


def test_a_server_that_does_not_encrypt_is_asked_once():
    """A host name without http:// in front of it: the user should not wait for retries that cannot help."""
    connections: list[socket.socket] = []

    def speak(line: socket.socket, _ended: threading.Event) -> None:
        connections.append(line)
        line.recv(65536)
        line.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with speaking(speak) as host, pytest.raises(UnavailableError, match="http:// for a server without encryption"):
        ask(f"https://{host}")
    assert len(connections) == 1


@pytest.mark.parametrize("case", ["not trusted", "of another host", "no such file", "no certificates"])
def test_the_token_is_not_sent_to_a_host_without_a_trusted_certificate(
    certificates, monkeypatch, tmp_path, caplog, case
):
    right, wrong = certificates
    heard: list[bytes] = []
    empty = tmp_path / "empty.pem"
    empty.write_text("none\n")
    bundle: Path | None = {
        "of another host": wrong.path,
        "no such file": tmp_path / "no",
        "no certificates": empty,
    }.get(case)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    if bundle is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    shown = wrong if case == "of another host" else right
    with (
        speaking(lambda line, _: heard.append(line.recv(65536)), shown.context) as host,
        pytest.raises(UnavailableError, match=r"no trusted encrypted.*REQUESTS_CA_BUNDLE"),
    ):
        ask(f"https://{host}")
    assert not any(heard)
    assert "Retrying" not in caplog.text or case == "no certificates"


def test_a_server_without_encryption_needs_http_in_its_address(boss):
    with pytest.raises(UnavailableError, match="http:// for a server without encryption"):
        ask(boss.url.removeprefix("http://"))
    assert not boss.seen


def test_a_host_where_nothing_listens_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"http://127.0.0.1:{port} cannot be reached"):
        ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("number", "attempts"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, BRISK.attempts)], ids=["unknown", "busy"]
)
def test_an_unknown_host_name_is_named_at_once(monkeypatch, number, attempts):
    """A misspelt name stays misspelt; name servers that fail for a while say so."""
    requested = []

    def fail(host: str, *_args: Any, **_options: Any) -> None:
        requested.append(host)
        raise socket.gaierror(number, "as the test wants it")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnavailableError, match=r"the name of https://boss\.invalid is not known"):
        ask("boss.invalid")
    assert len(requested) == attempts


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [
        ("http://boss.example", SECRET, True),
        ("http://boss.example", "public", False),
        ("http://127.0.0.1:1", SECRET, False),
        ("http://localhost:1", SECRET, False),
        ("http://boss.localhost:1", SECRET, True),  # which a name server may send elsewhere
        ("https://boss.example", SECRET, False),
    ],
)
def test_a_token_over_an_unencrypted_connection_is_warned_about(caplog, host, token, warned):
    connect(host, token)
    assert ("not encrypted" in caplog.text) is warned


def test_a_bad_token_is_named_although_cutouts_answer_it_with_status_500(boss):
    boss.add("GET /v1/cutout", *[says(500)] * 10)
    boss.add("GET /v1/collection/", says(401, {"detail": "Invalid token."}))
    with pytest.raises(PermissionDeniedError, match="does not accept the token"):
        read(boss.url)


def damaged_inside() -> bytes:
    """Return packed voxels of the right lengths that cannot be unpacked."""
    noise = np.random.default_rng(0).integers(0, 4, 24_000, np.uint8).tobytes()
    body = bytearray(blosc.compress(noise, typesize=1, cname="zstd"))
    body[16 : len(body) // 2] = bytes(len(body) // 2 - 16)
    body[4:8] = struct.pack("<I", BOX.voxels)
    return bytes(body)


DAMAGED = {
    "empty": says(200, b""),
    "HTML": says(200, b"<html>welcome, please sign in to this network first</html>"),
    "short": says(200, PACKED[:-1]),
    "long": says(200, PACKED + b"\0"),
    "half of the voxels": says(200, blosc.compress(VOXELS.tobytes()[:12], typesize=1)),
    "voxels of another type": says(200, blosc.compress(VOXELS.astype(np.uint16).tobytes(), typesize=2)),
    "damaged inside": says(200, damaged_inside()),
    "another digest": says(200, PACKED, **{"Content-Digest": f"sha-512=:AAAA:, {digest(b'else')}"}),
}


@pytest.mark.parametrize("fault", DAMAGED.values(), ids=DAMAGED)
def test_damaged_voxels_are_requested_again_and_never_taken(boss, fault):
    boss.add("GET", fault, says(200, PACKED, **{"Content-Digest": digest(PACKED)}))
    voxels = read(boss.url)
    np.testing.assert_array_equal(voxels, VOXELS)
    assert voxels.flags.writeable
    boss.clear()
    boss.add("GET", *[fault] * 9)
    with pytest.raises(UnavailableError, match=r"does not make sense: .*after the retries"):
        read(boss.url)
    assert boss.count("GET") == 3


def test_voxels_are_not_unpacked_if_they_are_more_than_requested(boss, monkeypatch):
    """A small answer may announce gigabytes; memory for them must not be allocated."""
    boss.add("GET", *[says(200, blosc.compress(bytes(10**6), typesize=1))] * 3)
    monkeypatch.setattr(blosc, "decompress", lambda body: pytest.fail("it was unpacked"))
    with pytest.raises(UnavailableError, match=r"1,000,000 bytes of voxels instead of 24"):
        read(boss.url)


@settings(max_examples=12, deadline=None)
@given(place=st.integers(0, len(PACKED) - 1))
def test_for_any_damaged_byte_voxels_with_a_digest_are_requested_again(place):
    flipped = PACKED[:place] + bytes([PACKED[place] ^ 0x55]) + PACKED[place + 1 :]
    with faulty_boss() as boss:
        headers = {"Content-Digest": digest(PACKED)}
        boss.add("GET", says(200, flipped, **headers), says(200, PACKED, **headers))
        np.testing.assert_array_equal(read(boss.url), VOXELS)
        assert boss.count("GET") == 2


LEAKS = [
    pytest.param(says(401, {"detail": f"Invalid token {SECRET}."}), id="repeated by a 401"),
    pytest.param(boss_error(400, 1001, f"what is {SECRET}"), id="repeated by a 400"),
    pytest.param(says(500, f"<pre>Authorization: Token {SECRET}</pre>"), id="repeated by a debug page"),
    pytest.param(says(200, f'{{"name": "{SECRET}", bad'), id="repeated by broken JSON"),
    pytest.param(says(301, "", Location=f"https://{SECRET}.example/"), id="repeated by a redirect"),
    pytest.param(says(503), id="503"),
    pytest.param(resets, id="reset"),
    pytest.param(hangs, id="hangs"),
]


@pytest.mark.parametrize("fault", LEAKS)
@pytest.mark.parametrize("what", ["describe", "read", "write"])
def test_the_token_is_in_no_message_traceback_or_log_line(boss, caplog, fault, what):
    caplog.set_level(logging.DEBUG)
    boss.add(".", *[fault] * 12)
    remote = connect(boss.url, SECRET, patience=Patience(read_s=0.1, attempts=2, pause_s=0.001))
    calls = {
        "describe": lambda: describe_resource(remote, "collection", CollectionResource("col")),
        "read": lambda: read_cutout(remote, CHANNEL, BOX),
        "write": lambda: write_block(remote, CHANNEL, BOX, VOXELS),
    }
    with pytest.raises(NDSynapseError) as caught:
        calls[what]()
    error: Any = caught.value
    shown = "".join(traceback.format_exception(error)) + caplog.text + repr(remote)
    while error is not None:
        shown += f"{error} {error!r} {vars(error.request) if getattr(error, 'request', None) else ''}"
        error = error.__cause__ or error.__context__
    assert SECRET not in shown
