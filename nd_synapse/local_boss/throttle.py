"""A slow line between a server and its clients: every reply waits, and its body trickles.

It does not slow the work of the server: a reply that is ready only after its delay is late by no more than that work.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nd_synapse.errors import UsageError

__all__ = ["Link", "SlowLink"]

LONGEST_DELAY_MS = 60_000.0
SLOWEST_MB_S = 0.01
# The loop wakes up this often for a reply, whatever the rate: pacing must not cost the cores that are measured.
PART_S = 0.02


@dataclass(frozen=True, slots=True)
class Link:
    """What a line does to each request on it.

    Parameters
    ----------
    delay_ms : float
        Milliseconds from the arrival of a request to the first byte of its reply, from 0 to 60,000.
    rate_mb_s : float
        Millions of bytes of bodies that pass in a second, 0.01 or more; infinite for no limit.

    Raises
    ------
    UsageError
        If one of them is out of its range.
    """

    delay_ms: float = 0.0
    rate_mb_s: float = math.inf

    def __post_init__(self) -> None:
        """Refuse what no line does."""
        # written so that a NaN, which compares as false with everything, is refused
        if not 0 <= self.delay_ms <= LONGEST_DELAY_MS:
            remedy = f"Give --delay-ms a number from 0 to {LONGEST_DELAY_MS:.0f}"
            raise UsageError(f"a delay of {self.delay_ms:g} ms", "no reply can be that late", remedy)
        if not self.rate_mb_s >= SLOWEST_MB_S:
            remedy = f"Give --rate-mb-s a number from {SLOWEST_MB_S} upwards"
            raise UsageError(f"a rate of {self.rate_mb_s:g} MB/s", "no body would ever arrive", remedy)

    @property
    def is_slow(self) -> bool:
        """Whether it makes any request wait."""
        return self.delay_ms > 0 or self.rate_mb_s < math.inf

    def transfer_s(self, size_bytes: int) -> float:
        """Return the seconds that a body takes."""
        return size_bytes / (self.rate_mb_s * 1e6)

    def part_bytes(self, size_bytes: int) -> int:
        """Return how much of a body, in bytes, passes at once; at least 1."""
        return max(1, int(min(self.rate_mb_s * 1e6 * PART_S, size_bytes)))


class SlowLink:
    """An ASGI application behind a slow line.

    Requests of one connection follow each other, so what holds for each request holds for each connection; connections
    do not share the rate. A reply has its headers at the delay, and its last byte when the body has passed. Nothing
    but the clock is waited for, and the times are those of one schedule a request: late wake-ups do not add up.

    An upload is taken in as fast as it comes, and its reply is held back by the time that it would have taken: the
    client waits as long, and no worker of the server waits with it.

    Parameters
    ----------
    application : ASGI application
        What answers.
    link : Link
        The line.
    """

    def __init__(self, application: ASGIApp, link: Link) -> None:
        self._application = application
        self._link = link

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, slowly."""
        passage = _Passage(self._link, receive, send)
        await self._application(scope, passage.receive, passage.send)


class _Passage:
    """One request on its way through the line: `_due` is when the line is free again."""

    def __init__(self, link: Link, receive: Receive, send: Send) -> None:
        self._link = link
        self._receive = receive
        self._send = send
        self._due = time.monotonic() + link.delay_ms / 1e3

    async def receive(self) -> Message:
        """Take a part of the upload, and put the time that it takes on the account of the reply."""
        message = await self._receive()
        self._due += self._link.transfer_s(len(message.get("body", b"")))
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the reply when it is due."""
        if message["type"] == "http.response.start":
            # A reply that was not ready in time begins the schedule of its body when it is.
            self._due = max(self._due, time.monotonic())
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
        wait_s = self._due - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
