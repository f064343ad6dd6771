"""S3 on which things go wrong: boto3 over HTTP, through a proxy, to a real server."""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.endpoint
from botocore.config import Config

from nd_synapse.aws import bucket, connection
from tests.fixtures_s3 import S3Server

FAULTS = {
    "503 SlowDown": {69},
    "500 InternalError": {69},
    "403 AccessDenied": {77},
    "400 ExpiredToken": {77},
    "damaged": {69},
    "reset": {69},
    "lost answer": {69},
    "truncated": {69},
    "cut head": {69},
    "damaged answer": {69},
    "reset answer": {69},
    "odd list": {69},
    "stall": {69},
}
"""What can go wrong, and with which exit codes what uses S3 may end where it lasts."""

RETRIED = {"503 SlowDown", "500 InternalError", "reset", "lost answer", "truncated", "stall"}
"""What botocore tries again, or does not need."""

REFETCHED = {"reset answer"}
"""What happens to a body that is fetched, and boto3 fetches again."""

# What each fault can happen to, as a pattern for method and path; those that are missing happen to anything. A HEAD has
# no body that could be cut, nor has what answers a DELETE. A list has no check sum. A role that may not remove an
# earlier run.json is warned about: a run.json beside files of another run cannot be kept out without that right.
_FITS = {
    "damaged": "PUT ",
    "truncated": "(GET|PUT|POST) ",
    "damaged answer": "GET (?!.*list-type)",
    "reset answer": "GET ",
    "odd list": "GET .*list-type",
    "403 AccessDenied": "(?!DELETE)",
    "late error": "POST .*uploadId=",
}

PARTS = {
    "the first of parts": r"POST .*\?uploads",
    "a part": "PUT .*partNumber=",
    "the last of parts": "POST .*uploadId=",
}
"""The requests by which a file is sent in parts."""

PART_FAULTS = ("500 InternalError", "damaged", "reset", "lost answer", "truncated", "late error")
"""What can happen to each of them, as far as it fits; S3 may answer 200 to the last one, and then report an error."""

READ_TIMEOUT_S = 0.5


@dataclass
class Rule:
    """When one fault occurs: from the first-th request on, so often, so likely, to what fits a pattern."""

    fault: str
    first: int = 1
    times: int | None = 1
    probability: float = 1.0
    to: str = ""


@dataclass
class Plan:
    """Rules, and how far they have come."""

    rules: list[Rule] = field(default_factory=list)
    seed: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._struck = [0] * len(self.rules)

    def draw(self, requested: str) -> str | None:
        """Return what goes wrong with a request of some method and path."""
        with self._lock:
            self.seen += 1
            for number, rule in enumerate(self.rules):
                spent = rule.times is not None and self._struck[number] >= rule.times
                fits = re.match(rule.to, requested) and re.match(_FITS.get(rule.fault, ""), requested)
                if fits and not spent and self.seen >= rule.first and self._random.random() < rule.probability:
                    self._struck[number] += 1
                    self.hits[rule.fault] += 1
                    return rule.fault
        return None


def alone(fault: str, lasting: bool, first: int, to: str = "") -> Plan:
    """Return a plan of one fault, from the first-th request on."""
    return Plan([Rule(fault, first=first, times=None if lasting else 1, to=to)])


def mixture(seed: int, faults: Collection[str] = FAULTS.keys()) -> Plan:
    """Draw a plan of one to three faults."""
    chance = random.Random(seed)
    rules = []
    for _ in range(chance.randint(1, 3)):
        fault = chance.choice(sorted(faults))
        times = chance.choice([1, 2]) if fault == "stall" else chance.choice([1, 2, 5, None])
        rules.append(Rule(fault, chance.randint(1, 8), times, chance.choice([0.3, 0.6, 1.0])))
    return Plan(rules, seed)


class Forwarding(BaseHTTPRequestHandler):
    """Passes requests on to a server."""

    protocol_version = "HTTP/1.1"
    upstream: str

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send the request on; return status, headers and body of the response."""
        upstream = http.client.HTTPConnection(self.upstream.removeprefix("http://"), timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        try:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            upstream.close()

    def answer(
        self, status: int, headers: dict[str, str], content: bytes, as_far_as: int | None = None, announced: int = 0
    ) -> None:
        """Send a response, as a whole or in part."""
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(announced or len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:as_far_as])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Proxy(Forwarding):
    """Passes requests on to S3, or goes wrong."""

    faulty: FaultyS3

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faulty.plan.draw(f"{self.command} {self.path}")
        if fault == "reset":
            self._reset()
        elif fault == "stall":
            self.faulty.ended.wait(READ_TIMEOUT_S * 1.5)
            self.close_connection = True
        elif fault == "lost answer":
            self._forward(body)
            self._reset()
        elif fault == "truncated":
            status, headers, content = self._forward(body)
            self.answer(status, headers, content, len(content) // 2, announced=len(content) + 100)
            self.close_connection = True
        elif fault == "cut head":
            status, _, content = self._forward(body)
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(content)))
            self.flush_headers()
            self.close_connection = True
        elif fault == "reset answer":
            status, headers, content = self._forward(body)
            self.answer(status, headers, content, len(content) // 2)
            self._reset()
        elif fault == "odd list":
            self.answer(200, {}, b"")
        elif fault in (None, "damaged answer"):
            status, headers, content = self._forward(body)
            # what has no check sum is not compared with any
            if fault and any(name.lower().startswith("x-amz-checksum") for name in headers):
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            self.answer(status, headers, content)
        else:
            # S3 compares what came with the check sum that came with it; the proxy does that for the server.
            codes = {"damaged": "400 XAmzContentChecksumMismatch", "late error": "200 InternalError"}
            number, code = codes.get(fault, fault).split()
            text = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>"
            self.answer(int(number), {}, text.encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the names are http.server's

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # S3 may know nothing of parts any more that were put together; moto does
        puts_together = self.command == "POST" and "uploadId=" in self.path
        if puts_together and self.path in self.faulty.put_together:
            return 404, {}, b"<Error><Code>NoSuchUpload</Code><Message>as S3 says it</Message></Error>"
        response = self.forward(body)
        if puts_together and response[0] == 200:
            self.faulty.put_together.add(self.path)
        return response

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class FaultyS3:
    """A server of S3, and the plan of what goes wrong with it at the moment."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.plan = Plan()
        self.ended = threading.Event()
        self.put_together: set[str] = set()


@contextmanager
def through_proxy(server: S3Server) -> Iterator[FaultyS3]:
    """Put a proxy before a server, and make boto3 go through it, without its pauses."""
    faulty = FaultyS3(server)
    handler = type("Proxy", (_Proxy,), {"faulty": faulty, "upstream": server.url})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.daemon_threads, proxy.block_on_close = True, False
    proxy.handle_error = lambda request, client_address: None  # type: ignore[method-assign] # shorter than a class
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
    }
    hurried: Any = connection._CONFIG.merge(Config(connect_timeout=2, read_timeout=READ_TIMEOUT_S))
    try:
        with (
            mock.patch.dict("os.environ", settings),
            mock.patch.object(connection, "_CONFIG", hurried),
            mock.patch.object(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None)),
            mock.patch.object(bucket, "sleep"),
        ):
            yield faulty
    finally:
        faulty.ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join(5)
