"""Volumes in S3 and on a web server that answers as a test wishes, and jobs that are refused."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fixtures_boss import blobs
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored

SHAPE = (6, 60, 70)
CHANNELS = blobs(SHAPE, 5, 25)
PART = ((1, 5), (7, 44), (30, 70))


def put(server: S3Server, folder: Path, bucket: str = "volumes", acl: str = "private") -> str:
    """Copy a folder to S3, and return its address."""
    client = server.client()
    client.create_bucket(Bucket=bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"lab/{folder.name}/{file.relative_to(folder)}"
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ACL=acl)
    return f"s3://{bucket}/lab/{folder.name}"


def refusal(uri: str, *words: str, path: Path, dry: bool = True) -> tuple[int, str]:
    """Run a job that is refused; return its exit code and its one line, after those of requests that broke."""
    printed = io.StringIO()
    more = ["--dry-run"] if dry else ["--quiet"]
    with restored(), redirect_stderr(printed):
        code = main("nd-synapse", "run", "--source", uri, *words, "--path", str(path / "out"), "--no-plots", *more)
    (line,) = [line for line in printed.getvalue().splitlines() if "Retrying" not in line]
    return code, line


class Server(ThreadingHTTPServer):
    """A web server that lists nothing and reads no ranges; `answers` gives other statuses to some paths."""

    request_queue_size = 128  # a source opens many connections at once
    requests: list[str]
    answers: dict[str, int]
    page: bytes = b""
    """What is sent, with 200, in the place of a file that is missing."""
    broken: str = ""
    """How the first response for a chunk ends: "cut" short, or never, byte after "byte"."""


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        status = next((code for part, code in self.server.answers.items() if part in self.path), 200)
        if self.server.page and not Path(self.translate_path(self.path)).is_file():
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.page)))
            self.end_headers()
            self.wfile.write(self.server.page)
        elif status != 200 or Path(self.translate_path(self.path)).is_dir():
            self.send_error(status if status != 200 else 404)
        elif self.server.broken and "/c/" in self.path:
            how, self.server.broken = self.server.broken, ""
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with suppress(OSError):  # until the client has had enough
                while how == "byte":
                    self.wfile.write(b" ")
                    time.sleep(0.02)
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path, **answers: int) -> Iterator[tuple[str, Server]]:
    """Serve a folder; yield its address."""
    server = Server(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.requests, server.answers = [], answers
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
