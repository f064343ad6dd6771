"""An HTTP proxy in a process of its own that notes what it was asked: ``python -m tests.proxy TARGET PASSWORD NOTES``.

Whatever host a request names, it goes to the target, a host and port of this machine.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

LIMIT_S = 20


class _Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _note(self) -> bool:
        """Note a request; return whether its user is known."""
        headers = dict(self.headers.items())
        with NOTES.open("a") as notes:
            notes.write(json.dumps([self.command, self.path, headers]) + "\n")
        expected = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        if PASSWORD and headers.get("Proxy-Authorization") != f"Basic {expected}":
            self.send_error(407)
            return False
        return True

    def do_GET(self) -> None:
        if not self._note():
            return
        del self.headers["Proxy-Authorization"]
        path = "/" + self.path.split("/", 3)[3]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if name != "Connection")
        with socket.create_connection(TARGET, LIMIT_S) as there:
            there.sendall(f"{self.command} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode() + body)
            while piece := there.recv(65536):
                self.wfile.write(piece)
        self.close_connection = True

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are those of http.server

    def do_CONNECT(self) -> None:
        if not self._note():
            return
        with socket.create_connection(TARGET, LIMIT_S) as there:
            self.send_response(200)
            self.end_headers()
            other = {self.connection: there, there: self.connection}
            while ready := select.select(list(other), [], [], LIMIT_S)[0]:
                for line in ready:
                    piece = line.recv(65536)
                    if not piece:
                        return
                    other[line].sendall(piece)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is that of http.server
        """Keep quiet."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    address: str
    """Host and port."""
    notes: Path

    @property
    def seen(self) -> list[tuple[str, str, dict[str, str]]]:
        """Method, target and headers of each request."""
        return [tuple(json.loads(line)) for line in self.notes.read_text().splitlines()]


@contextlib.contextmanager
def proxy_to(target: str, notes: Path, password: str = "") -> Iterator[Proxy]:
    """Run a proxy to a host and port; with a password it wants ``me`` and that."""
    notes.touch()
    command = [sys.executable, "-m", "tests.proxy", target, password, str(notes)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Proxy(f"127.0.0.1:{process.stdout.readline().strip()}", notes)
        finally:
            process.terminate()


if __name__ == "__main__":
    _host, _port = sys.argv[1].split(":")
    TARGET, PASSWORD, NOTES = (_host, int(_port)), sys.argv[2], Path(sys.argv[3])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as _server:
        print(_server.server_address[1], flush=True)
        _server.serve_forever()
