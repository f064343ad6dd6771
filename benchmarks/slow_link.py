"""A slow link in front of a web server or store: ``python -m benchmarks.slow_link URL`` prints its own address.

Each reply comes after 50 ms, and each connection has 10 MB/s.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DELAY_S = 0.05
BYTES_A_S = 10e6
PIECE = 1 << 16


class _Link(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""

    def do_GET(self) -> None:
        """Forward a request, and send its reply slowly."""
        due = time.monotonic() + DELAY_S
        there = http.client.HTTPConnection(self.upstream)
        there.request(self.command, self.path, headers=dict(self.headers.items()))
        reply = there.getresponse()
        body = reply.read()
        there.close()
        time.sleep(max(0.0, due - time.monotonic()))
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            due += len(piece) / BYTES_A_S
            time.sleep(max(0.0, due - time.monotonic()))
            self.wfile.write(piece)

    do_HEAD = do_GET  # noqa: N815 - the names are those of http.server

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def slowed(url: str) -> Iterator[str]:
    """Put a slow link, in a process of its own, in front of a server; yield its address."""
    command = [sys.executable, "-m", "benchmarks.slow_link", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=20)


def main() -> None:
    """Serve until the process is ended."""
    _Link.upstream = urlsplit(sys.argv[1]).netloc
    with _Server(("127.0.0.1", 0), _Link) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
