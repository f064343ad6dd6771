"""A result folder to upload, and a proxy before S3 that refuses what a test names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

from nd_synapse.aws import connection
from tests.faults.faulty_s3 import Forwarding

if TYPE_CHECKING:
    from tests.fixtures_s3 import S3Server


PREFIX = "nomads-unsupervised_collman_M247514_z_0_8_y_0_64_x_0_64"
Refusal = Callable[[str, str], int | None]
"""From method and path to the status that is answered instead of S3, or None."""
Faulty = Callable[[Refusal], AbstractContextManager[list[tuple[str, str]]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result folder as a job leaves it."""
    root = tmp_path / PREFIX
    (root / "report" / "plots").mkdir(parents=True)
    (root / ".work").mkdir()
    (root / ".work" / "block_0.npy").write_bytes(b"scratch")
    (root / ".synapses.csv.17.part").write_bytes(b"half")
    for name, text in {
        "NDVIS_links.csv": "All,http://example.org/\n",
        "job.log": "started\n",
        "nomads-unsupervised-predictions.pkl": "pickle",
        "nomads-unsupervised-predictions.ome.tiff": "tiff",
        "report/index.html": "<!doctype html>",
        "report/plots/size.png": "png",
        "run.json": "{}",
        "synapses.csv": "id\n1\n",
    }.items():
        (root / name).write_text(text)
    return root


class _Proxy(Forwarding):
    """Passes requests on to S3, except those that the test refuses."""

    refusal: Refusal
    seen: list[tuple[str, str]]

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path))
        status = type(self).refusal(self.command, self.path)
        if status is None:
            self.answer(*self.forward(body))
            return
        code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "Other")
        self.answer(status, {}, f"<Error><Code>{code}</Code><Message>as requested</Message></Error>".encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the names are http.server's


@pytest.fixture
def faulty_s3(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """A context in which the server refuses what the test says; gives the list of the requests seen."""

    @contextmanager
    def refusing(refusal: Refusal) -> Iterator[list[tuple[str, str]]]:
        seen: list[tuple[str, str]] = []
        handler = type("Proxy", (_Proxy,), {"upstream": s3_env.url, "refusal": staticmethod(refusal), "seen": seen})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield seen
            finally:
                server.shutdown()
                thread.join()

    return refusing


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts instead of four: the waits between them are botocore's, not ours."""
    retries = {"retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setattr(connection, "_CONFIG", connection._CONFIG.merge(Config(**retries)))
