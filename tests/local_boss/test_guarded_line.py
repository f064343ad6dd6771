"""What a connection may send and hold before anybody looks at a token."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from nd_synapse.local_boss import limits, log_filter, tokens
from tests.fixtures_boss import BossServer, make_place, packed, start_boss
from tests.local_boss.in_thread import answered, connected, port_of, served, status_of

PING = b"GET /ping/ HTTP/1.1\r\nHost: boss\r\n\r\n"
LAST_PING = b"GET /ping/ HTTP/1.1\r\nHost: boss\r\nConnection: close\r\n\r\n"
HEAD_BYTES = limits.LARGEST_HEAD_BYTES
FILES = 320  # connections may be 80, then


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    with start_boss(tmp_path_factory.mktemp("guarded"), limits="-v 4000000") as running:
        yield running


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the port of a server whose limits are short."""
    for name in ("HEAD_LIMIT_S", "WINDOW_S", "DRAIN_LIMIT_S"):
        monkeypatch.setattr(limits, name, 0.5)
    monkeypatch.setattr(limits, "_WATCH_S", 0.05)
    with served(tmp_path) as port:
        yield port


def size_of(running: BossServer) -> int:
    size: int = psutil.Process(running.process.pid).memory_info().rss
    return size


def pinged(line: socket.socket) -> bytes:
    """Return the whole reply to a request, and leave the connection open."""
    line.sendall(PING)
    reply = line.recv(1000)
    while not reply.endswith(b"}"):
        reply += line.recv(1000)
    return reply


def head(size_bytes: int, kind: str) -> bytes:
    """Return a request whose head has so many bytes."""
    start, end = b"GET /ping/", b" HTTP/1.1\r\nHost: boss\r\nConnection: close\r\n"
    room = size_bytes - len(start + end + b"\r\n")
    match kind:
        case "URL":
            return start + b"?" + b"a" * (room - 1) + end + b"\r\n"
        case "one header":
            return start + end + b"x: " + b"a" * (room - 5) + b"\r\n\r\n"
        case _:
            lines = [b"x-%05d: %b\r\n" % (n, b"a" * 89) for n in range(room // 100 - 1)]
            rest = room - 100 * len(lines)
            return start + end + b"".join(lines) + b"y: " + b"a" * (rest - 5) + b"\r\n\r\n"


KINDS = ["URL", "one header", "many headers"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_may_have_64_kib_and_no_byte_more(guarded: BossServer, kind: str) -> None:
    for size, status in [(HEAD_BYTES, 200), (HEAD_BYTES + 1, 431)]:
        request = head(size, kind)
        assert len(request) == size
        with connected(port_of(guarded)) as line:
            line.sendall(request)
            assert status_of(answered(line)) == status, (kind, size)


@pytest.mark.parametrize("kind", [*KINDS, "trailers", "a chunk's extension", "empty lines"])
def test_a_head_without_end_takes_no_memory(guarded: BossServer, kind: str) -> None:
    before = size_of(guarded)
    more = {"many headers": b"x-abcdefghij: 0123456789\r\n" * 400, "empty lines": b"\r\n" * 5000}.get(
        kind, b"a" * 10000
    )
    chunked = b"POST /v1/collection/none HTTP/1.1\r\nHost: boss\r\nTransfer-Encoding: chunked\r\n\r\n"
    start = {
        "URL": b"GET /",
        "one header": b"GET / HTTP/1.1\r\nx: ",
        "many headers": b"GET / HTTP/1.1\r\n",
        "trailers": chunked + b"1\r\na\r\n0\r\nx: ",
        "a chunk's extension": chunked + b"1;",
        "empty lines": b"",
    }[kind]
    sent = 0
    with connected(port_of(guarded)) as line, contextlib.suppress(ConnectionError):
        line.sendall(start)
        while sent < 50 * 2**20:
            line.sendall(more)
            sent += len(more)
    assert sent < 20 * 2**20, "the server took it all"
    assert size_of(guarded) < before + 8 * 2**20


def test_pipelined_requests_without_end_take_no_memory(guarded: BossServer) -> None:
    before = size_of(guarded)
    lines = [connected(port_of(guarded)) for _ in range(10)]
    for line in lines:
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                line.sendall(PING * 5000)
    assert requests.get(f"{guarded.url}/ping/", timeout=5).status_code == 200
    assert size_of(guarded) < before + 16 * 2**20
    for line in lines:
        line.close()


def test_a_few_pipelined_requests_are_answered_in_their_order(guarded: BossServer) -> None:
    with connected(port_of(guarded)) as line:
        line.sendall(PING + b"GET /nowhere HTTP/1.1\r\nHost: boss\r\n\r\n" + PING * 8 + LAST_PING)
        statuses = [int(part[:3]) for part in answered(line).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, *[200] * 9]


HALVES = {
    "nothing": (b"", 408),
    "half a line": (b"GET /ping", 408),
    "half a head": (b"GET /ping/ HTTP/1.1\r\nHost: bo", 408),
    "an empty line after an answer": (PING + b"\r\n", 408),
    "half a request after an answer": (PING + b"GET /ping", 408),
    "half a body that nobody wants": (b"PUT /ping/ HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc", 200),
    "half a body of a stranger": (b"POST /v1/collection/c HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc", 401),
}


@pytest.mark.parametrize(("sent", "status"), HALVES.values(), ids=HALVES.keys())
def test_half_a_request_is_not_waited_for_without_end(hasty: int, sent: bytes, status: int) -> None:
    began = time.monotonic()
    with connected(hasty) as line:
        if sent.startswith(PING):
            assert status_of(pinged(line)) == 200
            sent = sent.removeprefix(PING)
        line.sendall(sent)
        assert status_of(answered(line)) == status
    assert 0.4 < time.monotonic() - began < 5


def test_a_head_that_trickles_is_late_as_well(hasty: int) -> None:
    """A byte now and then does not begin the time anew."""
    began = time.monotonic()
    with connected(hasty) as line, contextlib.suppress(ConnectionError):
        for byte in b"GET /" + b"a" * 200:
            line.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - began < 5


def test_a_body_that_trickles_is_refused_and_one_that_is_slow_is_not(
    hasty: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = next(iter(json.loads((tmp_path / "tokens.json").read_text())["tokens"]))
    request = f"POST /v1/collection/{{}} HTTP/1.1\r\nAuthorization: Token {token}\r\nConnection: close\r\n"
    with connected(hasty) as line:
        line.sendall(f"{request.format('trickles')}Content-Length: 100\r\n\r\n".encode())
        for _ in range(100):
            time.sleep(0.05)
            try:
                line.sendall(b" ")
            except ConnectionError:
                break
        else:
            pytest.fail("the server waited for all of it")
    body = json.dumps({"description": "a" * 3000}).encode()
    with connected(hasty) as line:
        line.sendall(f"{request.format('slow')}Content-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 100):
            line.sendall(body[start : start + 100])
            time.sleep(0.05)  # 2,000 bytes a second
        assert status_of(answered(line)) == 201


def test_a_client_that_waits_for_our_word_is_not_late(hasty: int, tmp_path: Path) -> None:
    token = next(iter(json.loads((tmp_path / "tokens.json").read_text())["tokens"]))
    with connected(hasty) as line:
        line.sendall(
            f"POST /v1/collection/waits HTTP/1.1\r\nAuthorization: Token {token}\r\nExpect: 100-continue\r\n"
            "Connection: close\r\nContent-Length: 2\r\n\r\n".encode()
        )
        assert line.recv(1000).startswith(b"HTTP/1.1 100 ")
        line.sendall(b"{}")
        assert status_of(answered(line)) == 201


def test_an_idle_connection_is_kept_for_the_next_request(hasty: int) -> None:
    """Clients keep connections for longer than a request may take to come."""
    with connected(hasty) as line:
        for _ in range(3):
            assert status_of(pinged(line)) == 200
            time.sleep(0.8)


def test_an_answer_that_nobody_reads_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_S", 0.5)
    monkeypatch.setattr(limits, "_WATCH_S", 0.05)
    gone = threading.Event()
    lost = limits.GuardedProtocol.connection_lost

    def log_error(self: limits.GuardedProtocol, error: Exception | None) -> None:
        lost(self, error)
        if self.cycle is not None and self.scope["path"].startswith("/v1/cutout"):
            gone.set()

    monkeypatch.setattr(limits.GuardedProtocol, "connection_lost", log_error)
    with served(tmp_path) as port:
        running = BossServer(f"http://127.0.0.1:{port}", tokens.writing_token(tmp_path), tmp_path, None)  # type: ignore[arg-type]
        place = make_place(running, stop=(64, 512, 512))
        place.channel("noise")
        noise = np.random.default_rng(0).integers(1, 256, (64, 512, 512), np.uint8)
        path = f"/v1/cutout/{place.path('noise')}/0/0:512/0:512/0:64/"
        headers = {"Content-Type": "application/blosc"}
        assert running.ask("POST", path, headers=headers, data=packed(noise)).status_code == 201
        gone.clear()
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", port))
            line.sendall(f"GET {path} HTTP/1.1\r\nAuthorization: Token {running.token}\r\n\r\n".encode())
            assert gone.wait(10)
        reply = running.ask("GET", path, stream=True)
        time.sleep(0.3)
        assert len(reply.content) > 2**24, "who pauses for less than the limit gets it all"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BossServer, Path]]:
    """Return a server that may have few files open, and its log."""
    data = tmp_path_factory.mktemp("narrow")
    with start_boss(data, limits=f"-n {FILES}", log=data / "log") as running:
        yield running, data / "log"


def test_half_open_connections_keep_nobody_out(narrow: tuple[BossServer, Path]) -> None:
    """There are four times as many as the server may have files."""
    running, log = narrow
    lines = []
    idle = requests.Session()
    assert idle.get(f"{running.url}/ping/", timeout=5).status_code == 200
    for number in range(4 * FILES):
        line = connected(port_of(running))
        line.sendall(b"GET /ping/ HTTP/1.1\r\n")
        lines.append(line)
        if number % 100 == 0:
            assert requests.get(f"{running.url}/ping/", timeout=5).status_code == 200
    assert psutil.Process(running.process.pid).num_fds() < FILES // 2
    assert idle.get(f"{running.url}/ping/", timeout=5).status_code == 200
    for line in lines:
        line.close()
    assert log.read_text() == ""


def test_connections_that_are_answered_are_not_closed_for_others(tmp_path: Path) -> None:
    """One more than may be is refused, with an answer, as long as all others are at work."""
    with start_boss(tmp_path, "--delay-ms", "6000", limits=f"-n {FILES}") as running:
        lines = []
        for _ in range(FILES // 4):
            lines.append(connected(port_of(running)))
            lines[-1].sendall(LAST_PING)
        time.sleep(0.5)
        with connected(port_of(running)) as line:
            assert status_of(answered(line)) == 503
        with ThreadPoolExecutor(len(lines)) as pool:
            assert [status_of(reply) for reply in pool.map(answered, lines)] == [200] * len(lines)
        for line in lines:
            line.close()


def test_lines_that_are_alike_are_logged_a_few_times(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparing = log_filter.Sparing()
    now = 0.0
    monkeypatch.setattr(log_filter.time, "monotonic", lambda: now)

    def said(text: str, name: str = "asyncio", level: int = logging.ERROR) -> str | None:
        record = logging.LogRecord(name, level, "", 1, text, (), None)
        return record.getMessage() if sparing.filter(record) else None

    first = [said(f"accept() out of system resource\nsocket: {n}") for n in range(1000)]
    assert sum(line is not None for line in first) == log_filter.LINES
    assert said("something else") == "something else"
    assert all(said("a request", "uvicorn.access", logging.INFO) for _ in range(100))
    assert all(said("fault plan: %s", "local_boss.faulty_line", logging.WARNING) for _ in range(100))
    now = log_filter.SPAN_S + 1
    assert said("accept() out of system resource") == (
        f"accept() out of system resource [{1000 - log_filter.LINES} more like this were not logged]"
    )
    assert said("accept() out of system resource") == "accept() out of system resource"


def test_garbage_fills_no_log(narrow: tuple[BossServer, Path]) -> None:
    running, log = narrow
    before = log.stat().st_size
    for _ in range(300):
        with connected(port_of(running)) as line:
            line.sendall(b"\x00\x01garbage\r\n\r\n")
            assert status_of(answered(line)) == 400
    assert log.stat().st_size < before + 2000
