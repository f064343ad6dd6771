"""A proxy that stands between a client and a BOSS, and fails where a test says so.

It is no BOSS of its own: without a server behind it, it has only the faults that it was given.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HTML = "<!doctype html><html><body><h1>Server Error (500)</h1></body></html>"

Fault = Callable[["Handler"], None]


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Plan:
    """Faults for the next requests whose "METHOD /path" matches, in order."""

    upstream: str | None
    faults: list[tuple[re.Pattern[str], Fault]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def add(self, pattern: str, *faults: Fault) -> None:
        self.faults += [(re.compile(pattern), fault) for fault in faults]

    def clear(self) -> None:
        self.faults.clear()
        self.seen.clear()

    def take(self, line: str) -> Fault | None:
        with self.lock:
            for number, (pattern, fault) in enumerate(self.faults):
                if pattern.search(line):
                    del self.faults[number]
                    return fault
        return None

    def count(self, pattern: str) -> int:
        return sum(1 for seen in self.seen if re.search(pattern, f"{seen.method} {seen.path}"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Plan

    def setup(self) -> None:
        super().setup()
        self.plan.connections += 1

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.plan.seen.append(Seen(self.command, self.path, dict(self.headers), self.body))
        fault = self.plan.take(f"{self.command} {self.path}")
        if fault is not None:
            fault(self)
        elif self.plan.upstream:
            self.forward()
        else:
            self.reply(404, json.dumps({"status": 404, "code": 4000, "message": "nothing here"}), "application/json")

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - names of http.server

    def forward(self) -> None:
        upstream = http.client.HTTPConnection(urlsplit(str(self.plan.upstream)).netloc, timeout=30)
        try:
            upstream.request(self.command, self.path, self.body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            self.reply(answer.status, content, answer.getheader("Content-Type", ""))
        finally:
            upstream.close()

    def reply(self, status: int, content: str | bytes, kind: str = "text/html", **headers: str) -> None:
        raw = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args) -> None:
        """Say nothing."""


def says(status: int, body: object = HTML, **headers: str) -> Fault:
    """Answer with a status; a body that is no text is sent as JSON."""
    if isinstance(body, str | bytes):
        return lambda handler: handler.reply(status, body, **headers)
    return lambda handler: handler.reply(status, json.dumps(body), "application/json", **headers)


def boss_error(status: int, code: int, message: str) -> Fault:
    return says(status, {"status": status, "code": code, "message": message})


def resets(handler: Handler) -> None:
    """Break the connection without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def hangs(handler: Handler) -> None:
    """Answer nothing until the test is over."""
    handler.plan.stop.wait(30)
    handler.close_connection = True


def stops_half_way(handler: Handler) -> None:
    """Promise more than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"x" * 100)
    handler.close_connection = True


class QuietServer(ThreadingHTTPServer):
    """A server that prints nothing of connections that broke."""

    daemon_threads = True
    # threads that hang are stopped by the plan; none is waited for without a limit
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


@contextmanager
def faulty_boss(upstream: str | None = None) -> Iterator[Plan]:
    """Run the proxy on a free port of this machine."""
    plan = Plan(upstream)
    server = QuietServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"plan": plan}))
    plan.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield plan
    finally:
        plan.stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
