"""A connection to BOSS has limits, tries again what passes, and names what does not."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import pickle
import socket
import subprocess
import sys
import time
import traceback
import zlib
from dataclasses import replace

import blosc
import numpy as np
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource, CollectionResource

from nd_synapse.boss import errors
from nd_synapse.boss.connection import Patience, address_of, call, connect, describe_resource
from nd_synapse.boss.cutouts import read_cutout, write_block
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
from tests.conftest import REPOSITORY
from tests.faulty_boss import boss_error, dribbles, faulty_boss, hangs, resets, says, stops_half_way
from tests.raw_line import certificate, saying, speaking

SECRET = "5ecret%25token~0123456789abcdef"
BRISK = Patience(connect_s=2, read_s=0.5, total_s=5, attempts=3, pause_s=0.02, longest_pause_s=0.05)
COLLECTION = {"name": "collman", "description": "", "creator": "me", "public": False, "experiments": []}


@pytest.fixture
def boss():
    with faulty_boss() as plan:
        yield plan


def ask(url, token=SECRET, patience=BRISK):
    """Ask for one collection."""
    return describe_resource(
        connect(url, token, patience=patience), "collection collman", CollectionResource("collman")
    )


@pytest.mark.parametrize(
    ("given_host", "url"),
    [
        ("api.bossdb.io", "https://api.bossdb.io"),
        ("api.bossdb.io:8443", "https://api.bossdb.io:8443"),
        ("https://api.bossdb.io/", "https://api.bossdb.io"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("localhost", "https://localhost"),
    ],
)
def test_a_host_is_a_name_or_a_url(given_host, url):
    assert address_of(given_host).url == url


@pytest.mark.parametrize(
    "given_host",
    [
        *["", " ", "a b", "host\n", "ftp://host", "http://", "host/v1", "host?x", "host#x", "host:port", "host:99999"],
        *["-host", "ho_st..x", "http://me:hunter22@host", "[::1", "[zz]", "h%41st", "a" * 300, "http:/host"],
    ],
)
def test_what_is_no_host_is_refused_with_an_example(given_host):
    with pytest.raises(UsageError) as caught:
        address_of(given_host)
    assert "api.bossdb.io" in str(caught.value) or "token" in str(caught.value)
    assert "hunter22" not in str(caught.value)


@given(st.text(max_size=30))
def test_for_any_text_as_host_the_answer_is_an_address_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert address_of(text).protocol in {"http", "https"}


@given(attempt=st.integers(2, 40), chance=st.floats(0, 1, exclude_max=True))
def test_for_any_attempt_the_pause_is_bounded(attempt, chance):
    patience = Patience()
    assert 0 <= patience.pause_before(attempt, chance) <= patience.longest_pause_s


def test_the_token_is_sent_as_it_is(boss):
    boss.add("GET", says(200, COLLECTION))
    assert ask(boss.url)["name"] == "collman"
    assert boss.seen[0].headers["Authorization"] == f"Token {SECRET}"


def test_netrc_does_not_replace_the_token(boss, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    boss.add("GET", says(200, COLLECTION))
    ask(boss.url)
    assert boss.seen[0].headers["Authorization"] == f"Token {SECRET}"


def test_one_connection_serves_many_requests(boss):
    boss.add("GET", *[says(200, COLLECTION)] * 5)
    remote = connect(boss.url, SECRET, patience=BRISK)
    for _ in range(5):
        describe_resource(remote, "collection", CollectionResource("collman"))
    assert boss.connections == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(says(500), id="500"),
        pytest.param(says(502), id="502"),
        pytest.param(says(503), id="503"),
        pytest.param(says(504), id="504"),
        pytest.param(resets, id="reset"),
        pytest.param(hangs, id="hangs"),
        pytest.param(stops_half_way, id="half an answer"),
    ],
)
def test_what_passes_is_tried_again(boss, caplog, fault):
    boss.add("GET", fault, fault, says(200, COLLECTION))
    assert ask(boss.url) == COLLECTION
    assert boss.count("GET") == 3
    assert caplog.text.count("trying again in") == 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(says(503), "503, after the retries", id="503"),
        pytest.param(resets, "cannot be reached, after the retries", id="reset"),
        pytest.param(hangs, "did not answer in time, after the retries", id="hangs"),
        pytest.param(stops_half_way, "cannot be read", id="half an answer"),
    ],
)
def test_what_does_not_pass_ends_after_the_last_attempt(boss, fault, found):
    boss.add("GET", *[fault] * 10)
    with pytest.raises(UnavailableError) as caught:
        ask(boss.url)
    assert found in caught.value.found
    assert boss.url in caught.value.found
    assert caught.value.exit_code == 69
    assert boss.count("GET") == BRISK.attempts


@pytest.mark.parametrize(
    ("fault", "expected", "found"),
    [
        pytest.param(says(401, {"detail": "Invalid token."}), PermissionDeniedError, "not accept the token", id="401"),
        pytest.param(boss_error(403, 3001, "No right to read"), PermissionDeniedError, "No right to read", id="403"),
        pytest.param(boss_error(404, 4000, "collman does not exist."), UnknownNameError, "there is none", id="404"),
        pytest.param(boss_error(404, 4005, "marked"), UnknownNameError, "was deleted", id="deleted"),
        pytest.param(says(404), UnavailableError, "no message of BOSS", id="404 of another server"),
        pytest.param(boss_error(400, 1001, "Incorrect cutout"), UsageError, "Incorrect cutout", id="400"),
        pytest.param(boss_error(413, 2000, "over 500MB"), DataError, "over 500MB", id="413"),
        pytest.param(says(413), DataError, "too large", id="413 of a proxy"),
        pytest.param(boss_error(429, 3004, "User is throttled."), UnavailableError, "quota", id="429"),
        pytest.param(
            says(301, "", Location="https://new.example/v1?a=b"), UsageError, "on to https://new.example", id="moved"
        ),
        pytest.param(says(418), UnavailableError, "418", id="teapot"),
        pytest.param(says(200, [1, 2]), UnavailableError, "does not make sense", id="list"),
        pytest.param(says(200, {"name": "else"}), UnavailableError, "does not make sense", id="other"),
    ],
)
def test_what_does_not_pass_is_asked_once_and_named(boss, fault, expected, found):
    boss.add("GET", fault)
    with pytest.raises(NDSynapseError) as caught:
        ask(boss.url)
    assert type(caught.value) is expected
    assert found in caught.value.found
    assert caught.value.requested == "collection collman"
    assert caught.value.__cause__ is not None
    assert boss.count("GET") == 1


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "//x y", "http://h:99999999/", "http://[zz]/", "\xff"])
@pytest.mark.parametrize(
    ("status", "expected", "found"),
    [
        (403, PermissionDeniedError, "says: no"),
        (404, UnknownNameError, "says: no"),
        (429, UnavailableError, "quota"),
        (500, UnavailableError, "says: no"),
    ],
)
def test_an_address_that_is_none_hides_no_refusal(boss, location, status, expected, found):
    """It used to end the job with a traceback."""
    boss.add("GET", *[says(status, {"status": status, "code": 3001, "message": "no"}, Location=location)] * 10)
    with pytest.raises(NDSynapseError, match=found) as caught:
        ask(boss.url)
    assert type(caught.value) is expected


def test_an_answer_that_cannot_even_be_translated_is_named_without_the_token(boss, monkeypatch):
    def stumble(*_arguments):
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(errors, "_scrub", stumble)
    boss.add("GET", boss_error(403, 3001, f"Token {SECRET} may not"))
    with pytest.raises(UnavailableError, match="does not make sense") as caught:
        ask(boss.url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_redirect_is_not_followed(boss):
    with faulty_boss() as elsewhere:
        boss.add("GET", says(302, "", Location=f"{elsewhere.url}/v1/collection/collman"))
        with pytest.raises(UsageError):
            ask(boss.url)
        assert not elsewhere.seen


def test_an_answer_that_never_ends_is_given_up(boss):
    boss.add("GET", *[dribbles] * 10)
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="in time"):
        ask(boss.url, patience=Patience(connect_s=2, read_s=2, total_s=1, attempts=5, pause_s=0.01))
    assert time.monotonic() - start < 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 200 OK\r\nX-a: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP", b"/"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    ],
    ids=["a header", "100 Continue", "a status", "a body", "chunks"],
)
def test_an_answer_that_trickles_is_given_up(first, then):
    start = time.monotonic()
    with speaking(saying(first, then)) as host, pytest.raises(UnavailableError, match="in time"):
        ask(f"http://{host}", patience=Patience(connect_s=1, read_s=1, total_s=0.5, attempts=5, pause_s=0.01))
    assert time.monotonic() - start < 3


def test_an_answer_whose_head_was_cut_short_is_asked_for_again():
    """Without the length that it lost it would be one of no length: an empty description, or no voxels."""
    heads = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", b"HTTP/1.1 404 Not Found\r\n"]
    body = json.dumps(COLLECTION).encode()
    answers = iter([*heads, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)])

    def speak(line, ended):
        saying(next(answers))(line, ended)

    with speaking(speak) as host:
        assert ask(f"http://{host}") == COLLECTION


def whole(body, status=b"200 OK", headers=b""):
    """Return an answer as it is on the line."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


def requests_on(line):
    """Yield the requests that come on one connection, without bodies."""
    heard = b""
    while piece := line.recv(65536):
        heard += piece
        while b"\r\n\r\n" in heard:
            request, _, heard = heard.partition(b"\r\n\r\n")
            yield request


@pytest.mark.parametrize(
    "ahead",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nno header\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 199\n\n",
    ],
    ids=["103", "102", "several", "199"],
)
def test_what_is_said_ahead_of_an_answer_is_not_taken_for_it(ahead):
    """It was, and the next call on the connection got the voxels of the one before it."""
    layers = [blosc.compress(bytes([number] * 6), typesize=1) for number in (1, 2)]
    connections = []

    def speak(line, ended):
        connections.append(line)
        for number, _ in enumerate(requests_on(line)):
            line.sendall(ahead)
            ended.wait(0.1)
            line.sendall(whole(layers[number]))

    channel = ChannelResource("c", "col", "exp", datatype="uint8")
    with speaking(speak) as host:
        remote = connect(f"http://{host}", SECRET, patience=BRISK)
        read = [read_cutout(remote, channel, Box((z, z + 1), (0, 2), (0, 3))) for z in (0, 1)]
    assert [np.unique(voxels).tolist() for voxels in read] == [[1], [2]]
    assert len(connections) == 1


@pytest.mark.parametrize(
    "fault", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 099 x\r\n\r\n"]
)
def test_a_status_that_ends_no_request_costs_its_connection_and_passes(fault):
    connections = []

    def speak(line, _ended):
        connections.append(line)
        for _ in requests_on(line):
            line.sendall(fault if len(connections) == 1 else whole(json.dumps(COLLECTION).encode()))

    with speaking(speak) as host:
        assert ask(f"http://{host}") == COLLECTION
    assert len(connections) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b"a name: b",
        b": no name",
        b" nothing to go on with",
        b"X: a\rb",
        b"From me",
        b"Content-Type: multipart/x",
    ],
)
def test_a_line_that_is_no_header_changes_nothing(line, caplog):
    """The headers after it were lost, the length among them, and the log had a traceback."""
    body = json.dumps(COLLECTION).encode()
    said = whole(body).replace(b"Content-Length", line + b"\r\nContent-Length")
    with speaking(saying(said)) as host:
        start = time.monotonic()
        assert ask(f"http://{host}") == COLLECTION
    assert time.monotonic() - start < BRISK.read_s
    assert not caplog.records


def test_a_head_without_end_of_what_is_no_header_is_given_up():
    lines = b"no header\r\n" * 50
    with (
        speaking(saying(b"HTTP/1.1 200 OK\r\n", lines)) as host,
        pytest.raises(UnavailableError, match="not what HTTP"),
    ):
        ask(f"http://{host}")


GZIPPED = gzip.compress(json.dumps(COLLECTION).encode())
IN_GZIP = b"Content-Encoding: gzip\r\n"
DAMAGED = {
    "gzip without its end": (whole(GZIPPED[:-12], headers=IN_GZIP), "has no end"),
    "gzip that is none": (whole(b"0" * 40, headers=IN_GZIP), "cannot be unpacked"),
    "gzip again and again": (
        whole(GZIPPED, headers=b"Content-Encoding: " + b"gzip," * 50 + b"\r\n"),
        "again and again",
    ),
    "gzip in pieces": (whole(gzip.compress(b"") * 50, headers=IN_GZIP), "too many pieces"),
    "JSON without its end": (
        b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(COLLECTION).encode()[:30],
        "30 bytes that are no JSON",
    ),
    "nothing": (whole(b""), "is empty"),
    "nothing in gzip": (whole(b"", headers=IN_GZIP), "is empty"),
    "a page": (whole(b"<html>maintenance</html>"), "are no JSON"),
    "two lengths": (whole(b"{}", headers=b"Content-Length: 3\r\n"), "more than one length"),
}


@pytest.mark.parametrize(("damaged", "found"), DAMAGED.values(), ids=DAMAGED)
def test_an_answer_that_is_damaged_is_asked_for_again_and_then_named(damaged, found):
    for good in (BRISK.attempts, None):
        heard = []

        def speak(line, ended, good=good, heard=heard):
            heard.append(line)
            answer = whole(GZIPPED, headers=IN_GZIP) if len(heard) == good else damaged
            saying(answer)(line, ended)

        # a busy machine may let an answer wait, which would be an attempt that failed for another reason
        patient = replace(BRISK, connect_s=10, read_s=10, total_s=60)
        with speaking(speak) as host:
            if good:
                assert ask(f"http://{host}", patience=patient) == COLLECTION
            else:
                with pytest.raises(UnavailableError, match=f"does not make sense: it .*{found}, after the retries"):
                    ask(f"http://{host}", patience=patient)
        assert len(heard) == BRISK.attempts


TEXT = json.dumps(COLLECTION).encode()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(TEXT), "gzip"),
        (gzip.compress(TEXT[:20]) + gzip.compress(TEXT[20:]) + b"padding", "X-GZip"),
        (zlib.compress(TEXT), "deflate"),
        (zlib.compress(gzip.compress(TEXT)), "gzip, deflate"),
        (TEXT, "identity"),
    ],
    ids=["gzip", "two pieces", "deflate", "twice", "identity"],
)
@pytest.mark.parametrize("digested", ["the line", "the text"])
def test_an_answer_may_be_packed_for_the_line(boss, packed, encoding, digested):
    """Its digest may be that of either: what packs it on its way need not know that there is one."""
    headers = {"Content-Encoding": encoding, "Content-Digest": digest(packed if digested == "the line" else TEXT)}
    boss.add("GET", says(200, packed, **headers))
    assert ask(boss.url) == COLLECTION
    assert boss.seen[0].headers["Accept-Encoding"] == "gzip"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """One for the address of the test server, and one for another."""
    root = tmp_path_factory.mktemp("tls")
    return certificate(root / "right", "127.0.0.1"), certificate(root / "wrong", "boss.example")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_that_the_user_trusts_is_taken(certificates, monkeypatch, variable):
    right, _ = certificates
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(right.path))
    body = json.dumps(COLLECTION).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with speaking(saying(answer), right.context) as host:
        assert ask(f"https://{host}") == COLLECTION


def encrypted(line, certificate):
    """Begin to speak on an encrypted line; return it once a request came."""
    secure = certificate.context.wrap_socket(line, server_side=True, suppress_ragged_eofs=True)
    secure.recv(65536)
    return secure


def ends_in_the_handshake(line, _certificate):
    line.recv(10)
    line.shutdown(socket.SHUT_RDWR)


def alerts(line, _certificate):
    line.recv(65536)
    line.sendall(bytes([21, 3, 3, 0, 2, 2, 80]))  # internal_error
    time.sleep(0.05)


def answers_in_the_open(line, _certificate):
    line.recv(65536)
    line.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def damages_the_answer(line, certificate):
    raw = socket.socket(fileno=encrypted(line, certificate).detach())
    raw.sendall(bytes([23, 3, 3, 0, 40]) + bytes(40))
    time.sleep(0.05)
    raw.close()


def ends_before_the_answer(line, certificate):
    socket.socket(fileno=encrypted(line, certificate).detach()).close()


@pytest.mark.parametrize(
    "fault",
    [ends_in_the_handshake, alerts, answers_in_the_open, damages_the_answer, ends_before_the_answer],
    ids=lambda fault: fault.__name__,
)
def test_an_encrypted_connection_that_breaks_is_tried_again(certificates, monkeypatch, fault):
    """A server that restarts, or whatever stands before it: it used to be called untrusted at once."""
    right, _ = certificates
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(right.path))
    connections = []

    def speak(line, _ended):
        connections.append(line)
        if len(connections) < BRISK.attempts:
            fault(line, right)
        else:
            with encrypted(line, right) as secure:
                secure.sendall(whole(json.dumps(COLLECTION).encode()))

    with speaking(speak) as host:
        assert ask(f"https://{host}") == COLLECTION
    assert len(connections) == BRISK.attempts


@pytest.mark.parametrize("fault", [ends_in_the_handshake, alerts], ids=lambda fault: fault.__name__)
def test_an_encrypted_connection_that_always_breaks_is_named(fault):
    with speaking(lambda line, _ended: fault(line, None)) as host:  # noqa: SIM117
        with pytest.raises(UnavailableError, match=r"the encrypted connection to https://\S+ broke, after the retries"):
            ask(f"https://{host}")


@pytest.mark.parametrize("kind", ["missing", "no certificates"])
def test_a_file_of_certificates_that_cannot_be_read_is_named_at_once(tmp_path, monkeypatch, caplog, kind):
    file = tmp_path / "trusted.pem"
    if kind == "no certificates":
        file.write_text("none\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    connected = []
    with speaking(lambda line, _ended: connected.append(line)) as host:  # noqa: SIM117
        with pytest.raises(UnavailableError, match="no trusted encrypted"):
            ask(f"https://{host}")
    assert len(connected) <= 1
    assert "trying again" not in caplog.text


@pytest.mark.parametrize("case", ["not trusted", "of another host", "trusted by no file"])
def test_the_token_goes_to_no_host_without_a_certificate(certificates, monkeypatch, case):
    right, wrong = certificates
    heard = []

    def listen(line, _ended):
        heard.append(line.recv(65536))

    shown = wrong if case == "of another host" else right
    trusted = {"not trusted": None, "of another host": str(wrong.path), "trusted by no file": ""}[case]
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
        if trusted is not None:
            monkeypatch.setenv(variable, trusted)
    with speaking(listen, shown.context) as host, pytest.raises(UnavailableError, match="no trusted encrypted"):
        ask(f"https://{host}")
    assert not any(heard)


def test_a_host_where_nothing_listens_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"http://127.0.0.1:{port} cannot be reached"):
        ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("number", "attempts"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, BRISK.attempts)], ids=["unknown", "busy"]
)
def test_a_host_whose_name_nobody_knows_is_named_at_once(monkeypatch, number, attempts):
    """A misspelt name stays misspelt; name servers that fail for a while say so."""
    requested = []

    def fail(host, *_args, **_options):
        requested.append(host)
        raise socket.gaierror(number, "as the test wishes")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnavailableError, match=r"the name of https://boss\.invalid is not known"):
        ask("boss.invalid")
    assert len(requested) == attempts


@contextlib.contextmanager
def deaf(address, port):
    """Take no connection at an address, and refuse none."""
    with contextlib.ExitStack() as open_sockets:
        server = open_sockets.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(4):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        time.sleep(0.05)
        yield server.getsockname()[1]


def resolve(monkeypatch, *addresses):
    """Give boss.test these addresses."""
    known = socket.getaddrinfo

    def answer(host, port, *arguments, **options):
        hosts = addresses if host == "boss.test" else [host]
        return [found for name in hosts for found in known(name, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_all_addresses_of_a_host_together_have_the_time_of_one(monkeypatch):
    """Each had it: a host of eight could take 8 x 20 s, and a request go on beyond its 900."""
    resolve(monkeypatch, *["127.0.0.1"] * 8)
    patience = Patience(connect_s=0.4, read_s=1, total_s=1, attempts=5, pause_s=0.01)
    with deaf("127.0.0.1", 0) as port:
        start = time.monotonic()
        with pytest.raises(UnavailableError, match="did not answer in time"):
            ask(f"http://boss.test:{port}", patience=patience)
    assert 0.8 < time.monotonic() - start < 1.5


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch):
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    with speaking(saying(whole(json.dumps(COLLECTION).encode()))) as host, deaf("127.0.0.2", int(host.split(":")[1])):
        once = Patience(connect_s=0.6, read_s=1, total_s=1, attempts=1)
        assert ask(host.replace("127.0.0.1", "http://boss.test"), patience=once) == COLLECTION


@pytest.mark.parametrize("secure", [False, True], ids=["open", "encrypted"])
@pytest.mark.parametrize(("send_s", "total_s", "attempts"), [(0.5, 9, 1), (9, 0.5, 5)], ids=["sending", "in all"])
def test_a_server_that_reads_too_slowly_is_given_up(certificates, monkeypatch, secure, send_s, total_s, attempts):
    """Over an encrypted line, each 16 kB used to have the limit of all."""
    right, _ = certificates
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(right.path))

    def read_slowly(line, ended):
        while line.recv(4096) and not ended.wait(0.05):
            pass

    box = Box((0, 16), (0, 512), (0, 512))
    noise = np.random.default_rng(0).integers(0, 256, box.shape, np.uint8)
    patience = Patience(connect_s=send_s, read_s=9, total_s=total_s, attempts=attempts, pause_s=0.01)
    with speaking(read_slowly, right.context if secure else None) as host:
        remote = connect(f"{'https' if secure else 'http'}://{host}", SECRET, patience=patience)
        start = time.monotonic()
        with pytest.raises(UnavailableError, match="did not answer in time"):
            write_block(remote, ChannelResource("c", "col", "exp", datatype="uint8"), box, noise)
    assert time.monotonic() - start < 2


def test_a_server_without_encryption_needs_http_in_its_address(boss):
    with pytest.raises(UnavailableError, match="http:// for a server without encryption"):
        ask(boss.url.removeprefix("http://"))
    assert not boss.seen


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
def test_a_token_on_an_open_line_is_warned_about(caplog, host, token, warned):
    connect(host, token)
    assert ("not encrypted" in caplog.text) is warned


def test_a_bad_token_is_named_although_cutouts_answer_it_with_status_500(boss):
    boss.add("GET /v1/cutout", *[says(500)] * 10)
    boss.add("GET /v1/collection/", says(401, {"detail": "Invalid token."}))
    channel = ChannelResource("c", "col", "exp", datatype="uint8")
    with pytest.raises(PermissionDeniedError, match="does not accept the token"):
        read_cutout(connect(boss.url, SECRET, patience=BRISK), channel, Box((0, 1), (0, 2), (0, 3)))


@pytest.mark.parametrize(
    "body", [b"", b"no blosc at all, but long enough for a header", b"\x02\x01\x11\x01" + bytes(60)]
)
def test_a_cutout_that_is_none_is_not_taken_for_voxels(boss, body):
    boss.add("GET", *[says(200, body)] * BRISK.attempts)
    channel = ChannelResource("c", "col", "exp", datatype="uint8")
    with pytest.raises(UnavailableError, match="does not make sense"):
        read_cutout(connect(boss.url, SECRET, patience=BRISK), channel, Box((0, 1), (0, 2), (0, 3)))


HUGE = 250 * 10**6


def bomb(wrap):
    """Answer with what takes a thousand times its size once it is unpacked."""
    return {
        "voxels": says(200, blosc.compress(bytes(HUGE), typesize=1, clevel=1)),
        "a page in gzip": says(200, gzip.compress(bytes(HUGE), 1), **{"Content-Encoding": "gzip"}),
        "an endless page": endless,
    }[wrap]


def endless(handler):
    """Send zeros as long as somebody reads them."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(HUGE))
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(HUGE // 10**6):
            handler.wfile.write(bytes(10**6))


@pytest.mark.parametrize("wrap", ["voxels", "a page in gzip", "an endless page"])
def test_an_answer_that_would_fill_the_memory_is_refused_before_it_does(boss, wrap):
    """A few hundred kB for a cutout of 6 voxels must not make room for as many MB: whoever answers may not be BOSS."""
    boss.add("GET", bomb(wrap))
    command = [sys.executable, "-c", READ_SIX_VOXELS, boss.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=True)
    name, words, megabytes = done.stdout.splitlines()
    assert name == "UnavailableError"
    assert "asked" in words
    assert int(megabytes) < 100
    assert boss.count("GET") == 1


READ_SIX_VOXELS = """
import resource, sys
from intern.resource.boss.resource import ChannelResource
from boss.connection import connect
from boss.voxels import read_cutout
from box import Box
from errors import NDSynapseError
remote, channel = connect(sys.argv[1], "public"), ChannelResource("c", "col", "exp", datatype="uint8")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_cutout(remote, channel, Box((0, 1), (0, 2), (0, 3)))
except NDSynapseError as error:
    print(type(error).__name__)
    print(error.found)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_list_that_would_fill_the_memory_is_refused(boss):
    boss.add("GET", endless)
    with pytest.raises(UnavailableError, match="too much for what was asked"):
        ask(boss.url)


@given(content=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_for_any_voxels_an_answer_of_their_size_is_taken(content):
    """Noise does not compress: its packed form is larger than it is."""
    voxels = np.frombuffer(content or b"1", np.uint8)
    with faulty_boss() as plan:
        plan.add("GET", says(200, blosc.compress(voxels.tobytes(), typesize=1)))
        channel = ChannelResource("c", "col", "exp", datatype="uint8")
        box = Box((0, 1), (0, 1), (0, len(voxels)))
        read = read_cutout(connect(plan.url, SECRET, patience=BRISK), channel, box)
    np.testing.assert_array_equal(read.ravel(), voxels)


LEAKS = [
    pytest.param(says(401, {"detail": f"Invalid token {SECRET}."}), id="echoed by a 401"),
    pytest.param(boss_error(403, 3001, f"Token {SECRET} may not"), id="echoed by a 403"),
    pytest.param(boss_error(404, 4000, f"{SECRET} not found"), id="echoed by a 404"),
    pytest.param(boss_error(400, 1001, f"what is {SECRET}"), id="echoed by a 400"),
    pytest.param(says(500, f"<pre>Authorization: Token {SECRET}</pre>"), id="echoed by a debug page"),
    pytest.param(says(200, f"<html>{SECRET}</html>"), id="echoed by a page"),
    pytest.param(says(200, f'{{"name": "{SECRET}", bad'), id="echoed by broken JSON"),
    pytest.param(
        says(404, f"<p>{SECRET}</p>", **{"X-Sent": SECRET, "Set-Cookie": f"a={SECRET}"}), id="echoed by headers"
    ),
    pytest.param(says(301, "", Location=f"https://{SECRET}.example/"), id="echoed by a redirect"),
    pytest.param(says(503), id="503"),
    pytest.param(says(429), id="429"),
    pytest.param(resets, id="reset"),
    pytest.param(hangs, id="hangs"),
    pytest.param(stops_half_way, id="half an answer"),
]


@pytest.mark.parametrize("fault", LEAKS)
@pytest.mark.parametrize("what", ["describe", "list", "read", "write"])
def test_the_token_is_in_no_message_traceback_or_log_line(boss, caplog, fault, what):
    caplog.set_level(logging.DEBUG)
    boss.add(".", *[fault] * 12)
    patience = Patience(connect_s=1, read_s=0.1, total_s=2, attempts=2, pause_s=0.001)
    remote = connect(boss.url, SECRET, patience=patience)
    channel = ChannelResource("c", "col", "exp", datatype="uint8")
    box = Box((0, 1), (0, 2), (0, 3))
    ones = np.ones(box.shape, np.uint8)
    calls = {
        "describe": lambda: describe_resource(remote, "collection", CollectionResource("col")),
        "list": lambda: call(remote, "collections", remote.list_collections),
        "read": lambda: read_cutout(remote, channel, box),
        "write": lambda: write_block(remote, channel, box, ones),
    }
    with pytest.raises(NDSynapseError) as caught:
        calls[what]()
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + str(error) + repr(error) + caplog.text
    assert SECRET not in shown
    assert SECRET not in "".join(repr(vars(link.request)) for link in chain(error) if getattr(link, "request", None))
    assert SECRET not in repr(remote)
    for link in chain(error):
        assert SECRET not in held(link)


def held(error):
    """All that can be found in one foreign exception."""
    response = getattr(error, "response", None)
    found = [repr(vars(error)), repr(error.args)]
    if response is not None:
        found += [response.text, repr(response.headers), repr(vars(response))]
    if not isinstance(error, urllib3.exceptions.HTTPError):  # these cannot be pickled
        found.append(pickle.dumps(error).decode("latin-1"))
    return " ".join(found)


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
