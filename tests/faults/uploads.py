"""An upload to S3 on which things go wrong: boto3 over HTTP, through a proxy, to a real server."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.endpoint
from botocore.config import Config

import s3_connection
from errors import NDSynapseError
from s3 import upload_folder
from tests.faults.jobs import LIMIT_S, Verdict
from tests.fixtures_s3 import S3Server, _wait_for, free_port

FAULTS = {
    "503 SlowDown": {69},
    "500 InternalError": {69},
    "403 AccessDenied": {77},
    "400 ExpiredToken": {77},
    "damaged": {69},
    "reset": {69},
    "lost answer": {69},
    "truncated": {69},
    "stall": {69},
}
"""What can go wrong, and with which exit codes an upload may end where it lasts."""

RETRIED = {"503 SlowDown", "500 InternalError", "reset", "lost answer", "stall"}
"""What botocore tries again by itself."""

READ_TIMEOUT_S = 0.5
FILES = {"synapses.csv": b"id,voxels\n1,31\n", "given-predictions.pkl": bytes(range(256)) * 40, "run.json": b"{}\n"}
OLDER = {name: content + b"older" for name, content in FILES.items()}


@dataclass
class Rule:
    """When one fault occurs: from the first-th request on, so often, so likely."""

    fault: str
    first: int = 1
    times: int | None = 1
    probability: float = 1.0


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

    def draw(self, method: str) -> str | None:
        with self._lock:
            self.seen += 1
            for number, rule in enumerate(self.rules):
                spent = rule.times is not None and self._struck[number] >= rule.times
                # Only what is sent can be damaged. A role that may not remove an earlier run.json is warned about: what
                # this plan looks for, a run.json beside files of another run, cannot be kept out without that right.
                fits = method == "PUT" if rule.fault == "damaged" else method != "DELETE" or "403" not in rule.fault
                if fits and not spent and self.seen >= rule.first and self._random.random() < rule.probability:
                    self._struck[number] += 1
                    self.hits[rule.fault] += 1
                    return rule.fault
        return None


def alone(fault: str, lasting: bool) -> Plan:
    """Return a plan of one fault, from the first file on."""
    return Plan([Rule(fault, first=3, times=None if lasting else 1)])


def mixture(seed: int) -> Plan:
    """Draw a plan of one to three faults."""
    chance = random.Random(seed)
    rules = []
    for _ in range(chance.randint(1, 3)):
        fault = chance.choice(sorted(FAULTS))
        times = chance.choice([1, 2]) if fault == "stall" else chance.choice([1, 2, 5, None])
        rules.append(Rule(fault, chance.randint(1, 8), times, chance.choice([0.3, 0.6, 1.0])))
    return Plan(rules, seed)


class _Proxy(BaseHTTPRequestHandler):
    """Passes requests on to S3, or goes wrong."""

    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.shelf.plan.draw(self.command)
        if fault == "reset":
            self._reset()
        elif fault == "stall":
            self.shelf.ended.wait(READ_TIMEOUT_S * 1.5)
            self.close_connection = True
        elif fault in ("lost answer", "truncated"):
            status, _, content = self._forward(body)
            if fault == "lost answer":
                self._reset()
                return
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(content) + 100))
            self.end_headers()
            self.close_connection = True
        elif fault is None:
            self._answer(*self._forward(body))
        else:
            # S3 compares what came with the check sum that came with it; the proxy does that for the server.
            code = "XAmzContentChecksumMismatch" if fault == "damaged" else fault.split()[1]
            status = 400 if fault == "damaged" else int(fault.split()[0])
            text = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>"
            self._answer(status, {}, text.encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the names are http.server's

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.shelf.server.url.removeprefix("http://"), timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        try:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            upstream.close()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Shelf:
    """A server of S3 behind a proxy that goes wrong, and folders to be uploaded."""

    def __init__(self, root: Path, server: S3Server) -> None:
        self.root = root
        self.server = server
        self.plan = Plan()
        self.ended = threading.Event()
        self._numbers = 0
        self._client = server.client()
        self._client.create_bucket(Bucket="faults")

    def try_out(self, plan: Plan, *, older: bool = True) -> Verdict:
        """Upload a folder under a plan, then again without, if it failed; compare what is in the bucket."""
        self._numbers += 1
        prefix = f"run-{self._numbers}"
        folder = self.root / prefix
        folder.mkdir()
        self._put(folder, OLDER if older else {})
        if older:
            upload_folder(folder, "faults", prefix)
        self._put(folder, FILES)
        began = time.monotonic()
        self.plan = plan
        error: NDSynapseError | None = None
        try:
            upload_folder(folder, "faults", prefix)
        except NDSynapseError as raised:
            error = raised
        finally:
            self.plan = Plan()
        verdict = Verdict(dict(plan.hits), error, time.monotonic() - began)
        if verdict.seconds > LIMIT_S:
            verdict.wrong.append(f"it took {verdict.seconds:.0f} s")
        there = self.objects(prefix)
        if "run.json" in there and there not in (FILES, OLDER):
            verdict.wrong.append("run.json is there beside files of another run, or without them")
        if error is not None:
            upload_folder(folder, "faults", prefix)
        if self.objects(prefix) != FILES:
            verdict.wrong.append("the bucket differs from the folder")
        return verdict

    def _put(self, folder: Path, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def objects(self, prefix: str) -> dict[str, bytes]:
        listed = self._client.list_objects_v2(Bucket="faults", Prefix=f"{prefix}/").get("Contents", [])
        return {
            entry["Key"].removeprefix(f"{prefix}/"): self._client.get_object(Bucket="faults", Key=entry["Key"])[
                "Body"
            ].read()
            for entry in listed
        }


@contextmanager
def running() -> Iterator[S3Server]:
    """Run a server of S3 in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        _wait_for(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def shelf(root: Path, server: S3Server) -> Iterator[Shelf]:
    """Put a proxy before a server, and make boto3 go through it, without its pauses."""
    place = Shelf(root, server)
    handler = type("Proxy", (_Proxy,), {"shelf": place})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.daemon_threads, proxy.block_on_close = True, False
    proxy.handle_error = lambda request, address: None  # type: ignore[method-assign]
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
    hurried: Any = s3_connection._CONFIG.merge(Config(connect_timeout=2, read_timeout=READ_TIMEOUT_S))
    try:
        with (
            mock.patch.dict("os.environ", settings),
            mock.patch.object(s3_connection, "_CONFIG", hurried),
            mock.patch.object(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None)),
        ):
            yield place
    finally:
        place.ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join(5)


@contextmanager
def bench(root: Path) -> Iterator[Shelf]:
    """Set up everything."""
    with running() as server, shelf(root, server) as place:
        yield place
