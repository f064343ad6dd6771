"""`make audit` looks every pinned package up, and passes only where all were looked up and none has a known hole.

The list of holes is a server here that answers as that of OSV does (https://google.github.io/osv.dev/post-v1-query/);
what is known of the pinned packages today, only the real one can tell.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LISTS = [f"requirements{kind}.txt" for kind in ("", "-build", "-demo", "-dev", "-tools")]


def pinned() -> set[tuple[str, str]]:
    """Return all packages that are pinned somewhere, and their versions."""
    found: set[tuple[str, str]] = set()
    for name in LISTS:
        for line in re.findall(r"^[A-Za-z0-9].*", (REPOSITORY / name).read_text(), re.MULTILINE):
            one = Requirement(line.rstrip("\\ "))
            # those of other systems are not installed on this one
            if one.marker is None or one.marker.evaluate():
                found.add((canonicalize_name(one.name), str(one.specifier).removeprefix("==")))
    return found


@dataclass
class Registry:
    """What is known of packages, and what was asked."""

    url: str = ""
    failed_blocks: dict[str, str] = field(default_factory=dict)
    status: int = 200
    requested: set[tuple[str, str]] = field(default_factory=set)

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        name = query["package"]["name"]
        self.requested.add((name, query["version"]))
        if name not in self.failed_blocks:
            return {}
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": []}]
        return {"vulns": [{"id": self.failed_blocks[name], "summary": "as the test wishes", "affected": affected}]}


@contextmanager
def registry(**known: Any) -> Iterator[Registry]:
    made = Registry(**known)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(made.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))).encode()
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def audit(url: str) -> subprocess.CompletedProcess[str]:
    service = f"AUDIT_SERVICE=-s osv --osv-url={url}"
    # what make was told of another target is not for this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "audit", service],
        cwd=REPOSITORY,
        env={**environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_pinned_package_is_looked_up() -> None:
    with registry() as known:
        done = audit(known.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pinned()) > 50
    assert known.requested == pinned()


def test_a_known_vulnerability_is_named_and_fails() -> None:
    with registry(failed_blocks={"urllib3": "PYSEC-0000-1"}) as known:
        done = audit(known.url)
    assert done.returncode != 0
    assert re.search(r"urllib3 .*PYSEC-0000-1", done.stdout)


def test_what_cannot_be_looked_up_fails() -> None:
    with registry(status=503) as known:
        done = audit(known.url)
    assert known.requested
    assert done.returncode != 0
    assert "No known vulnerabilities found" not in done.stdout + done.stderr
    nobody = audit(known.url)
    assert nobody.returncode != 0
    assert "No known vulnerabilities found" not in nobody.stdout + nobody.stderr
