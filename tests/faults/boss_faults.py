"""The local BOSS with the faults of a plan: an ASGI middleware. What fails, and when, is decided by `boss_plan`."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import blosc
import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nd_synapse.local_boss.responses import BossError, Code, digest, refusal, web_page
from tests.faults.boss_plan import FaultPlan, Rule

__all__ = ["FaultyBoss"]

logger = logging.getLogger(__name__)

_DIGEST = b"content-digest"
_CLOSE_LIMIT_S = 5.0
_CHANNEL = re.compile(r"^/v1/cutout/(?:to_black/)?([^/]+/[^/]+/[^/]+)/")
_TITLES = {
    429: "429 Too Many Requests",
    500: "Server Error (500)",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole reply."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_body(self, body: bytes) -> _Reply:
        """Return the reply with another body that its server stands for."""
        kept = [(name, value) for name, value in self.headers if name != _DIGEST]
        if len(kept) < len(self.headers):
            kept.append((_DIGEST, digest(body).encode()))
        return replace(self, headers=tuple(kept), body=body)

    def start(self, length: int) -> Message:
        """Return the message that begins it, and announces so many bytes."""
        kept = [(name, value) for name, value in self.headers if name != b"content-length"]
        headers = [*kept, (b"content-length", str(length).encode())]
        return {"type": "http.response.start", "status": self.status, "headers": headers}


class FaultyBoss:
    """An ASGI application with the faults of a plan; `kill` ends the server, by default this process with SIGKILL."""

    def __init__(self, application: ASGIApp, plan: FaultPlan, kill: Callable[[], None] | None = None) -> None:
        self._application = application
        self._plan = plan
        self._kill = kill or (lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._written: set[str] = set()
        self._last: dict[str, _Reply] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it fail."""
        method, path = str(scope["method"]), str(scope["path"])
        found = _CHANNEL.match(path)
        channel = found.group(1) if found else ""
        kind = "metadata" if not channel else "cutout-get" if method == "GET" else "cutout-post"
        rule = self._plan.draw(kind, kind == "cutout-get" and channel in self._written)
        if kind == "cutout-post":
            self._written.add(channel)
        if rule is not None:
            logger.warning("fault plan: %s for %s %s", rule.fault, method, path)
        exchange = _Exchange(scope, receive, send)
        if rule is None and not (self._plan.has_stale and kind == "cutout-get"):
            await self._application(scope, receive, send)
        elif rule is None:
            self._last[path] = reply = await self._reply(scope, receive)
            await exchange.give(reply)
        else:
            await self._fail(rule, path, exchange)

    async def _reply(self, scope: Scope, receive: Receive) -> _Reply:
        """Return what the server answers."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._application(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return _Reply(messages[0]["status"], tuple(messages[0]["headers"]), body)

    async def _fail(self, rule: Rule, path: str, exchange: _Exchange) -> None:
        """Let one fault occur."""
        if rule.fault == "restart":
            self._kill()
            await exchange.reset()
            return
        instead = _instead(rule)
        if instead is not None or rule.fault == "reset":
            if rule.done:
                await self._reply(exchange.scope, exchange.receive)
            await (exchange.reset() if instead is None else exchange.give(instead))
            return
        reply = await self._reply(exchange.scope, exchange.receive)
        match rule.fault:
            case "slow":
                await asyncio.sleep(rule.seconds)
                await exchange.give(reply)
            case "stall":
                await exchange.give(reply, pause_s=rule.seconds)
            case "truncated":
                await exchange.cut(reply)
            case _ if reply.status != 200:
                await exchange.give(reply)
            case _:
                await exchange.give(_spoiled(rule.fault, reply, self._last.get(path)))


def _instead(rule: Rule) -> _Reply | None:
    """Return the reply that takes the place of the server's; None if the fault is no such reply."""
    match rule.fault:
        case "quota":
            answer = refusal(BossError(429, 3004, "User is throttled. Expected available tomorrow."))
        case "forbidden":
            message = "This user does not have the required permissions"
            answer = refusal(BossError(403, Code.MISSING_PERMISSION, message))
        case "429-retry-after":
            answer = web_page(429, _TITLES[429])
            answer.headers["Retry-After"] = str(math.ceil(rule.seconds))
        case "429" | "500" | "502" | "503" | "504":
            answer = web_page(int(rule.fault), _TITLES[int(rule.fault)])
        case _:
            return None
    return _Reply(answer.status_code, tuple(answer.raw_headers), bytes(answer.body))


def _spoiled(fault: str, reply: _Reply, before: _Reply | None) -> _Reply:
    """Return a reply with other voxels than the server has."""
    if fault == "corrupted":
        # The digest that came with the body stays, as it does when the line did the damage.
        return replace(reply, body=_damaged(reply.body))
    if fault == "stale" and before is not None:
        return before
    voxels = np.frombuffer(blosc.decompress(reply.body), np.uint8)
    match fault:
        case "wrong-length":
            other = voxels[: len(voxels) // 2]
        case "wrong-dtype":
            other = np.frombuffer(voxels.astype(np.uint16).tobytes(), np.uint8)
        case _:
            other = np.zeros_like(voxels)
    return reply.with_body(blosc.compress(other, typesize=1))


def _damaged(body: bytes) -> bytes:
    """Return packed voxels with a few bytes inverted, where they are packed and not in their header."""
    damaged = bytearray(body)
    for place in range(16 + (len(body) - 16) // 2, len(body), max(1, len(body) // 8)):
        damaged[place] ^= 0xFF
    return bytes(damaged)


class _Exchange:
    """One request and its connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
        # ASGI cannot reset a connection; uvicorn's `send` is a method of the object that holds it
        self._transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined] # as said above

    async def give(self, reply: _Reply, pause_s: float = 0.0) -> None:
        """Send a reply, with a pause in its middle."""
        half = len(reply.body) // 2
        if not reply.body:
            await asyncio.sleep(pause_s)
        await self._send(reply.start(len(reply.body)))
        if half and pause_s:
            await self._send({"type": "http.response.body", "body": reply.body[:half], "more_body": True})
            await asyncio.sleep(pause_s)
        else:
            half = 0
        await self._send({"type": "http.response.body", "body": reply.body[half:]})

    async def cut(self, reply: _Reply) -> None:
        """Send half of a reply, and close the connection."""
        if not reply.body:
            await self.reset()
            return
        await self._send(reply.start(len(reply.body)))
        half = reply.body[: len(reply.body) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        self._transport.close()
        await self._gone()

    async def reset(self) -> None:
        """Break the connection so that the other side notices it as an error."""
        taken: socket.socket = self._transport.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self._gone()

    async def _gone(self) -> None:
        """Wait until the server has noticed that the connection is closed: it would miss the rest of the reply."""
        async with asyncio.timeout(_CLOSE_LIMIT_S):
            while (await self.receive())["type"] != "http.disconnect":
                pass
