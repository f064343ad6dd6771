"""A local BOSS in a thread of this process, so that a test may shorten its limits; and bytes to and from one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from nd_synapse.local_boss import tokens
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.server import application, bound, configured
from tests.fixtures_boss import BossServer

LIMIT_S = 20.0


@contextmanager
def served(data: Path) -> Iterator[int]:
    """Serve a data folder; yield the port."""
    boss = Boss(data)
    with bound("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configured(application(boss, tokens.load(data))))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        port = listener.getsockname()[1]
        thread.start()
        deadline = time.monotonic() + LIMIT_S
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(LIMIT_S)
            boss.close()
            assert not thread.is_alive()


def connected(port: int) -> socket.socket:
    """Return a connection on which nothing waits for longer than any limit."""
    return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)


def answered(line: socket.socket) -> bytes:
    """Return all that comes until the other side closes, or breaks, the connection."""
    found = bytearray()
    try:
        while part := line.recv(65536):
            found += part
    except ConnectionError:
        pass
    return bytes(found)


def port_of(running: BossServer) -> int:
    return int(running.host.rpartition(":")[2])


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply else 0
