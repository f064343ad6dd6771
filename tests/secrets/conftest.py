"""A BOSS that takes the marked token, a server that repeats it, and a run that ended."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

import driver
from nd_synapse.local_boss.tokens import writing_token
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.secrets.looked import MARK, SHAPE


class _Echo(http.server.BaseHTTPRequestHandler):
    """A server that repeats in its answer, and in its headers, what it was sent."""

    def do_GET(self) -> None:
        sent = self.headers["Authorization"]
        body = json.dumps(
            {"status": 400, "code": 1000, "message": f"you sent {sent}, {quote(sent)}, {sent!r}"}
        ).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Sent", sent)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names are those of http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is that of http.server
        """Keep quiet."""


@pytest.fixture(scope="session")
def echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS that takes the marked token, with a small volume, and a constant one in which nothing can be found."""
    data = tmp_path_factory.mktemp("boss")
    channels = blobs(SHAPE, 2, 12)
    fill(data, "small", "plain", channels)
    fill(data, "small", "flat", {**channels, "SYNAPSIN": np.full(SHAPE, 7, np.uint8)})
    assert writing_token(data) != MARK  # that makes the file
    tokens = json.loads((data / "tokens.json").read_text())
    (rights,) = (rights for rights in tokens["tokens"].values() if rights["role"] == "admin")
    tokens["tokens"] = {MARK: rights}
    (data / "tokens.json").write_text(json.dumps(tokens))
    with start_boss(data) as server:
        yield server


@pytest.fixture
def ended(boss: BossServer, tmp_path: Path) -> Path:
    """The folder of a run that ended."""
    info, _, _ = driver.driver(
        boss.url, MARK, "small", "plain", (0, 4), (0, 48), (0, 56), tmp_path / "ended", plots=False, cpus=1
    )
    return Path(info["folder"])
