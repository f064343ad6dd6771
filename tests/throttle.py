"""A slow link in front of an ASGI application: every reply is delayed, and its body is paced."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Link", "Throttle"]

# how often the loop wakes up for a reply, whatever the rate: pacing must not cost the cores that are measured
PART_S = 0.02


@dataclass(frozen=True, slots=True)
class Link:
    """Delay from a request to the first byte of its reply, and the rate of each body in millions of bytes a second."""

    delay_ms: float = 0.0
    rate_mb_s: float = math.inf

    @property
    def is_slow(self) -> bool:
        """Whether any request waits."""
        return self.delay_ms > 0 or self.rate_mb_s < math.inf

    def transfer_s(self, size_bytes: int) -> float:
        """Return the seconds that a body takes."""
        return size_bytes / (self.rate_mb_s * 1e6)

    def part_bytes(self, size_bytes: int) -> int:
        """Return how much of a body, in bytes, passes at once; at least 1."""
        return max(1, int(min(self.rate_mb_s * 1e6 * PART_S, size_bytes)))


class Throttle:
    """An ASGI application behind a slow link; each connection has the rate for itself.

    An upload is read as fast as it comes, and its reply is held back by the time that it would have taken.
    """

    def __init__(
        self,
        application: ASGIApp,
        link: Link,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._application = application
        self._link = link
        self._clock = clock
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, slowly."""
        exchange = _Exchange(self._link, receive, send, self._clock, self._sleep)
        await self._application(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request; `_due` is when the next part of its reply may pass. Late wake-ups do not add up."""

    def __init__(
        self,
        link: Link,
        receive: Receive,
        send: Send,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._link = link
        self._receive = receive
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._due = clock() + link.delay_ms / 1e3

    async def receive(self) -> Message:
        """Take a part of the upload, and delay the reply by the time that it takes."""
        message = await self._receive()
        self._due += self._link.transfer_s(len(message.get("body", b"")))
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the reply when it is due."""
        if message["type"] == "http.response.start":
            # A reply that was not ready in time begins the schedule of its body when it is.
            self._due = max(self._due, self._clock())
            await self._until_due()
            await self._send(message)
        else:
            await self._send_body(message)

    async def _send_body(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        part_bytes = self._link.part_bytes(len(body))
        for start in range(0, max(len(body), 1), part_bytes):
            part = body[start : start + part_bytes]
            self._due += self._link.transfer_s(len(part))
            await self._until_due()
            follows = start + part_bytes < len(body) or message.get("more_body", False)
            await self._send({**message, "body": part, "more_body": follows})

    async def _until_due(self) -> None:
        wait_s = self._due - self._clock()
        if wait_s > 0:
            await self._sleep(wait_s)
