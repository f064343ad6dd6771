"""What is not HTTP, or hardly: the local BOSS survives all of it, and is not larger for it."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.fixtures_boss import BossServer, make_place, start_boss

SEED = 20261125
CASES = 700
ANSWER_S = 0.2  # a server that waits for more says nothing; it is left alone with what it has
QUICK_S = 2.0
MOST_GROWTH_BYTES = 16 * 2**20
SETTLE_S = 20.0

Case = Callable[[random.Random, str], bytes]


def junk(draw: random.Random, most: int = 300) -> bytes:
    return draw.randbytes(draw.randint(1, most))


def number(draw: random.Random) -> str:
    digits = "9" * draw.choice([1, 10, 19, 20, 40, 5000])
    return draw.choice(["-1", "+5", "0x10", "1e9", "1_0", " 7", "", "٣", "5, 5", "NaN", str(2**31), str(2**63), digits])


def request(draw: random.Random, token: str, *lines: str, method: str = "", path: str = "", body: bytes = b"") -> bytes:
    """Return a request that is right but for the lines, or the path, that it was given."""
    method = method or draw.choice(["GET", "POST", "PUT", "DELETE"])
    path = path or draw.choice(
        ["/ping/", "/v1/collection//", "/v1/coord/x", "/v1/meta/a/b/c", "/v1/cutout/a/b/c/0/0:1/0:1/0:1/", "/"]
    )
    head = [f"{method} {path} HTTP/1.1", "Host: boss"]
    if draw.random() < 0.5:
        head.append(f"Authorization: Token {token}")
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def garbage(draw: random.Random, token: str) -> bytes:
    return junk(draw, draw.choice([10, 1000, 20000]))


def half(draw: random.Random, token: str) -> bytes:
    whole = request(draw, token)
    return whole[: draw.randrange(len(whole))]


def changed(draw: random.Random, token: str) -> bytes:
    """A right request with bytes replaced, doubled or gone."""
    whole = bytearray(request(draw, token, "Content-Length: 2", body=b"{}"))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(whole))
        whole[place : place + draw.randint(0, 2)] = draw.choice([b"\x00", b"\n", b"\r", b"", b" ", junk(draw, 4)])
    return bytes(whole)


def nuls(draw: random.Random, token: str) -> bytes:
    path = draw.choice(["/ping/\x00", "/v1/collection/a%00b", "/v1/collection/%0d%0aX: y", "/%ff%fe", "/v1/meta/\x00"])
    return request(draw, token, draw.choice(["X: a\x00b", "X\x00: b", "Cookie: \x01\x02"]), path=path)


def two_lengths(draw: random.Random, token: str) -> bytes:
    first, second = draw.choice([("2", "3"), ("2", "2"), ("0", "50"), ("2", "-2")])
    return request(draw, token, f"Content-Length: {first}", f"Content-Length: {second}", method="POST", body=b"{}")


def length_and_chunks(draw: random.Random, token: str) -> bytes:
    lines = [
        "Content-Length: 5",
        f"Transfer-Encoding: {draw.choice(['chunked', 'x, chunked', 'chunked, x', 'CHUNKED'])}",
    ]
    draw.shuffle(lines)
    return request(draw, token, *lines, method="POST", body=b"0\r\n\r\n" + request(draw, token))


def bad_chunks(draw: random.Random, token: str) -> bytes:
    body = draw.choice(
        [
            b"zz\r\nab\r\n0\r\n\r\n",
            b"-1\r\n",
            b"f" * 17 + b"\r\nab",
            b"ffffffffffffffff\r\n" + junk(draw),
            b"2\r\nabc\r\n0\r\n\r\n",
            b"2;" + b"x" * 3000 + b"\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}\r\n0\r\nTrailer: " + junk(draw),
            b"1\r\n{\r\n" * 50,
            junk(draw),
        ]
    )
    return request(draw, token, "Transfer-Encoding: chunked", method="POST", body=body)


def huge_numbers(draw: random.Random, token: str) -> bytes:
    digits = "9" * draw.choice([12, 25, 3000])
    paths = [f"/v1/cutout/a/b/c/0/0:{digits}/0:1/0:1/", f"/v1/ids/a/b/c/9/{digits}:0/0:1/0:1/0:{digits}/"]
    paths += [f"/v1/reserve/a/b/c/{digits}", f"/v1/boundingbox/a/b/c/0/{digits}/"]
    return request(draw, token, f"Content-Length: {number(draw)}", path=draw.choice(paths), body=junk(draw))


def cut_short(draw: random.Random, token: str) -> bytes:
    lines = [f"Content-Length: {draw.choice([10, 10**6, 10**8])}", "Content-Type: application/blosc"]
    if draw.random() < 0.3:
        lines.append("Expect: 100-continue")
    return request(draw, token, *lines, method="POST", body=junk(draw, 9))


def wrong_method(draw: random.Random, token: str) -> bytes:
    method = draw.choice(
        ["CONNECT", "TRACE", "BREW", "get", "PROPFIND", "HEAD", "OPTIONS", "PRI", "GET GET", "M" * 999]
    )
    line = draw.choice(["X: y", "Upgrade: websocket\r\nConnection: upgrade", "Upgrade: h2c\r\nConnection: Upgrade"])
    return request(draw, token, line, method=method, path=draw.choice(["*", "host:1", "//", "http://[", "/ping/"]))


def wrong_version(draw: random.Random, token: str) -> bytes:
    version = draw.choice([b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.0", b"HTTP/11", b"http/1.1", b"", b"RTSP/1.0"])
    return request(draw, token).replace(b"HTTP/1.1", version)


def many_headers(draw: random.Random, token: str) -> bytes:
    count = draw.choice([100, 2000, 9000])
    return request(draw, token, *(f"X-{n}: {draw.choice(['', 'y'])}" for n in range(count)))


def pipelined(draw: random.Random, token: str) -> bytes:
    kinds = [half, changed, garbage, wrong_version]
    right = [request(draw, token, method="GET") for _ in range(draw.choice([1, 3, 2000]))]
    return b"".join(right) + draw.choice(kinds)(draw, token)


def form(draw: random.Random, token: str) -> bytes:
    """JSON that is none, or none that anybody means, at a place that takes JSON."""
    body = draw.choice(
        [b"[" * 5000, b'{"a":' * 3000, b'{"public":' + b"9" * 5000 + b"}", b"\xff\xfe{}", b"null", b'"a']
    )
    return request(
        draw, token, f"Content-Length: {len(body)}", method="POST", path=f"/v1/collection/{draw.random()}", body=body
    )


KINDS: list[Case] = [
    garbage,
    half,
    changed,
    nuls,
    two_lengths,
    length_and_chunks,
    bad_chunks,
    huge_numbers,
    cut_short,
    wrong_method,
    wrong_version,
    many_headers,
    pipelined,
    form,
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BossServer, Path]]:
    data = tmp_path_factory.mktemp("malformed")
    with start_boss(data, limits="-v 4000000", log=data / "log") as running:
        yield running, data / "log"


def send(running: BossServer, seed: int) -> None:
    """Send one case, in one piece or several, and take or leave what is answered."""
    draw = random.Random(seed)
    body = KINDS[seed % len(KINDS)](draw, running.token)
    host, _, port = running.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as line, contextlib.suppress(ConnectionError):
        cut = draw.choice([0, 0, draw.randrange(len(body) + 1)])
        line.sendall(body[:cut])
        line.sendall(body[cut:])
        match draw.choice(["listen", "listen", "half-close", "leave", "break"]):
            case "leave":
                return
            case "break":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return
            case "half-close":
                with contextlib.suppress(OSError):  # the server may have gone
                    line.shutdown(socket.SHUT_WR)
        line.settimeout(ANSWER_S)
        with contextlib.suppress(TimeoutError):
            while line.recv(65536):
                pass


def throw(running: BossServer, seeds: range) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: send(running, seed), seeds))


@pytest.mark.slow
def test_for_any_bytes_the_server_goes_on_and_keeps_nothing_of_them(target: tuple[BossServer, Path]) -> None:
    running, log = target
    place = make_place(running)
    place.channel("ch")
    process = psutil.Process(running.process.pid)
    throw(running, range(SEED, SEED + 100))  # the first ones of each kind warm the server up
    assert connections_left(process) == 0
    files, size = process.num_fds(), process.memory_info().rss

    throw(running, range(SEED + 100, SEED + CASES))

    began = time.monotonic()
    assert running.ask("GET", f"/v1/cutout/{place.path('ch')}/0/0:4/0:1/0:1/").status_code == 200
    assert requests.get(f"{running.url}/ping/", timeout=5).status_code == 200
    assert time.monotonic() - began < QUICK_S
    assert process.memory_info().rss < size + MOST_GROWTH_BYTES
    assert connections_left(process) == 0
    assert process.num_fds() <= files + 3  # the catalog may have one more
    text = log.read_text()
    assert running.token not in text
    assert "Traceback" not in text
    assert len(text) < 100_000


def connections_left(process: psutil.Process) -> int:
    """Return how many connections the server has still, a while after the last of ours was closed."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        left = sum(made.status != psutil.CONN_LISTEN for made in process.net_connections("tcp"))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
