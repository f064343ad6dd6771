"""Bodies of requests: taken in by the event loop, within what memory all of them together may have.

It knows no request but its body; what a body means, and who may send it, is known elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

__all__ = ["Bodies", "CrowdedError", "TooLargeError"]

ROOM_LIMIT_S = 60.0
"""How long a body waits for others to go. They go when they were worked on, which takes seconds; but several that are
incomplete can wait for each other."""


class TooLargeError(Exception):
    """The body is larger than the proxy in front of the real server lets through."""


class CrowdedError(Exception):
    """There is no memory for the body, and none became free for a long time."""


class Bodies:
    """The bodies that are in memory, of requests that are received or worked on.

    What has come counts, not what was announced, so that a slow body does not keep others out.

    Parameters
    ----------
    limit_bytes : int
        How much memory they may have.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def received(self, request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
        """Take in a body, and keep its memory for as long as the context lasts."""
        body = bytearray()
        held_bytes = 0
        try:
            async for part in request.stream():
                if len(body) + len(part) > limit_bytes:
                    raise TooLargeError
                await self._hold(len(part))
                held_bytes += len(part)
                body += part
            yield bytes(body)
        finally:
            self._held_bytes -= held_bytes
            self._freed.set()
            self._freed = asyncio.Event()

    async def _hold(self, size_bytes: int) -> None:
        if self._held_bytes + size_bytes > self._limit_bytes:
            try:
                async with asyncio.timeout(ROOM_LIMIT_S):
                    while self._held_bytes + size_bytes > self._limit_bytes:
                        await self._freed.wait()
            except TimeoutError as error:
                raise CrowdedError from error
        self._held_bytes += size_bytes
