"""Bodies of requests on the local BOSS: slow ones keep nobody waiting, and all of them have room together."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from nd_synapse.local_boss import bodies, server
from tests.fixtures_boss import BossServer, make_place, packed
from tests.local_boss.in_thread import connected, port_of, served, status_of


def test_slow_bodies_hold_no_worker(boss_server: BossServer) -> None:
    """Neither of the catalog nor of the voxels: the workers are as many as the bodies, of both kinds."""
    place = make_place(boss_server)
    place.channel("ch")
    json_head = f"POST /v1/collection/{place.collection.name}-{{}} HTTP/1.1\r\n"
    voxel_head = f"POST /v1/cutout/{place.path('ch')}/0/0:4/0:1/0:1/ HTTP/1.1\r\nContent-Type: application/blosc\r\n"
    rest = f"Authorization: Token {boss_server.token}\r\nContent-Length: 100\r\n\r\n "
    lines = [connected(port_of(boss_server)) for _ in range(16)]
    for number, line in enumerate(lines):
        line.sendall(((json_head.format(number) if number % 2 else voxel_head) + rest).encode())
    time.sleep(0.5)
    began = time.monotonic()
    assert boss_server.ask("GET", f"/v1/cutout/{place.path('ch')}/0/0:4/0:1/0:1/").status_code == 200
    assert boss_server.ask("GET", "/v1/coord/").status_code == 200
    body, headers = packed(np.ones((1, 1, 4), np.uint8)), {"Content-Type": "application/blosc"}
    path = f"/v1/cutout/{place.path('ch')}/0/0:4/0:1/0:1/"
    assert boss_server.ask("POST", path, headers=headers, data=body).status_code == 201
    assert time.monotonic() - began < 5
    for line in lines:
        line.close()


def test_bodies_that_do_not_fit_together_wait_and_then_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of all bodies is bounded; one that comes slowly takes no more than has come."""
    monkeypatch.setattr(server, "BODIES_BYTES", 3 * 2**16)
    monkeypatch.setattr(bodies, "ROOM_LIMIT_S", 1.0)
    with served(tmp_path) as port:
        token = server.tokens.writing_token(tmp_path)
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Token {token}"}
        body = json.dumps({"description": "a" * 2**17}).encode()  # refused for its length, once it is read
        with connected(port) as slow:
            slow.sendall(f"POST /v1/collection/slow HTTP/1.1\r\nAuthorization: Token {token}\r\n".encode())
            slow.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
            time.sleep(0.5)
            reply = requests.post(f"{url}/v1/collection/late", data=body, headers=headers, timeout=20)
            assert reply.status_code == 503
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(requests.post, f"{url}/v1/collection/c", data=body, headers=headers, timeout=20)
                time.sleep(0.2)
                slow.sendall(body[-1:])
                assert status_of(slow.recv(1000)) == 400
                assert waiting.result().status_code == 400
        assert requests.post(f"{url}/v1/collection/c", json={}, headers=headers, timeout=20).status_code == 201
