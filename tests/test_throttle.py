"""The slow link of tests and benchmarks, held to its schedule by a clock that the test moves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.throttle import Link, Throttle

DELAY_S = 0.2
RATE_MB_S = 0.5


class Clock:
    """Time that passes in sleeps alone."""

    def __init__(self) -> None:
        self.now_s = 10.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def exchanged(upload: bytes, reply: bytes, work_s: float = 0.0) -> list[tuple[float, dict[str, Any]]]:
    """Return the messages of one reply with the seconds at which each was sent."""
    clock = Clock()
    sent: list[tuple[float, dict[str, Any]]] = []

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        clock.now_s += work_s
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": reply})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": upload}

    async def send(message: Any) -> None:
        sent.append((clock.now_s - 10.0, message))

    link = Throttle(application, Link(DELAY_S * 1e3, RATE_MB_S), clock, clock.sleep)
    asyncio.run(link({"type": "http"}, receive, send))
    return sent


@pytest.mark.parametrize(
    ("upload", "reply", "work_s", "start_s", "end_s"),
    [
        (b"", b"", 0.0, 0.2, 0.2),
        (b"", b"x" * 250_000, 0.0, 0.2, 0.7),
        (b"x" * 250_000, b"", 0.0, 0.7, 0.7),
        (b"", b"x" * 250_000, 3.0, 3.0, 3.5),
    ],
    ids=["no body", "a reply", "an upload", "a server that is slower than the link"],
)
def test_a_reply_starts_after_the_delay_and_ends_when_its_body_has_passed(
    upload: bytes, reply: bytes, work_s: float, start_s: float, end_s: float
) -> None:
    sent = exchanged(upload, reply, work_s)
    assert sent[0][0] == pytest.approx(start_s)
    assert sent[-1][0] == pytest.approx(end_s)
    assert b"".join(message.get("body", b"") for _, message in sent) == reply
    assert [message.get("more_body", True) for _, message in sent[1:]].count(False) == 1


def test_a_link_without_delay_and_rate_is_not_slow() -> None:
    assert not Link().is_slow
