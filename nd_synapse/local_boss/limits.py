"""HTTP for whoever may connect: what a connection may send, hold, and let the server wait for.

All of this comes before a token is looked at; who may do what, and what a request may ask for, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import resource
from enum import Enum
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

__all__ = ["ACCEPTED_AT_ONCE", "GuardedProtocol", "most_connections"]

LARGEST_HEAD_BYTES = 64 * 2**10
"""Request line and headers together. intern's are below 1 KiB, the ids of a filter may take some more; the parser keeps
whatever comes until they are complete, so without a limit one connection takes all memory. Trailers count as well."""

HEAD_LIMIT_S = 30.0
"""Time from the first byte to the last one of the headers, or from the connection on for its first request. Who
connects has something to ask; half a request otherwise holds its connection for ever."""

SLOWEST_BYTES_S = 1024
"""Bytes a second below which a line is taken for dead, in either direction: a hundredth of the slowest line on which
anybody works with volumes."""

WINDOW_S = 30.0
"""Time over which that rate is looked at: lines pause, and programs do between two reads."""

DRAIN_LIMIT_S = 30.0
"""Time that a body may still come after its request was answered without it. A client that sends before it reads needs
some to find the answer; the body itself is of no use any more."""

LONGEST_PIPELINE = 16
"""Requests that may wait on a connection while an earlier one is answered. Clients of BOSS send none; a chunk of
garbage can hold ten thousand, each of which takes some KiB."""

MOST_CONNECTIONS = 512
"""Connections that may be open at once, where the machine allows as many files. A job has some ten."""

RESERVED_FILES = 256
"""Files that are left for other things than connections: chunks, catalog and locks of eight workers, and connections
that were accepted and are not refused yet."""

ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before those accepted earlier are looked at. asyncio takes as many as its backlog,
2,048 of uvicorn's, and where it has no file left it logs an error for each of them, each second."""

_WATCH_S = 1.0
_SLICE_BYTES = 16 * 2**10


def most_connections() -> int:
    """Return how many connections may be open at once: fewer than files may be."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, max(files - RESERVED_FILES, files // 4)))


class _Part(Enum):
    """What a connection is to send next."""

    HEAD = "headers that are not complete"
    BODY = "a body that is not complete"
    NOTHING = "another request, or none"


class GuardedProtocol(HttpToolsProtocol):
    """HTTP of uvicorn within limits.

    A connection is closed that sends too much before its request begins, or too slowly, or reads its answer too
    slowly. Where too many are open, the one goes that has let the server wait the longest; a new one is refused only
    where all others are being answered.

    Parameters
    ----------
    config : uvicorn.Config
        As uvicorn gives it.
    server_state : ServerState
        What all connections share.
    app_state : dict
        What requests get of the application.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._part = _Part.HEAD
        self._since = self.loop.time()
        self._asked = False
        self._loose_bytes = 0  # that led neither to a request nor to a body so far
        self._window_bytes = 0
        self._unread_since = self._since
        self._unread_bytes = 0
        self._watch: asyncio.TimerHandle | None = None

    # what asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take a connection, and make room for it where there is none."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(_WATCH_S, self._look)
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection, with all timers that hold it."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._watch is not None:
            self._watch.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came, in slices, so that a limit is noticed soon after it is passed."""
        start = 0
        while start < len(data) and not self.transport.is_closing():
            if self._part is _Part.NOTHING:
                self._expect(_Part.HEAD)
            room = min(_SLICE_BYTES, LARGEST_HEAD_BYTES - self._loose_bytes)
            if room == 0:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            part = data[start : start + room]
            start += room
            self._loose_bytes += len(part)
            super().data_received(part)
            if len(self.pipeline) > LONGEST_PIPELINE:
                self.pipeline.clear()
                self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Refuse what is no HTTP; not amid an answer, as uvicorn would."""
        self._refuse(HTTPStatus.BAD_REQUEST)

    # what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        if self._part is not _Part.HEAD:
            self._expect(_Part.HEAD)

    def on_headers_complete(self) -> None:
        """Begin the body of a request, which may be none."""
        super().on_headers_complete()
        self._asked = True
        self._expect(_Part.BODY)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        super().on_body(body)
        self._loose_bytes = 0
        self._window_bytes += len(body)

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._expect(_Part.NOTHING)

    def on_response_complete(self) -> None:
        """End an answer; from now on the connection is idle, or its body is of no use."""
        super().on_response_complete()
        if self._part is not _Part.HEAD:
            self._since = self.loop.time()

    # limits

    def _expect(self, part: _Part) -> None:
        self._part = part
        self._since = self.loop.time()
        self._loose_bytes = 0
        self._window_bytes = 0

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Close the connection if it has let the server wait for too long; look again otherwise."""
        now = self.loop.time()
        if self._is_unread(now):
            self.transport.abort()
            return
        self._watch = self.loop.call_later(_WATCH_S, self._look)
        if not self.transport.is_closing() and self._is_overdue(now):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _is_overdue(self, now: float) -> bool:
        """Tell whether the connection should have sent more by now."""
        waited_s = now - self._since
        if self.flow.read_paused:
            self._since, self._window_bytes = now, 0  # it is we who do not read
            return False
        match self._part:
            case _Part.HEAD:
                return waited_s > HEAD_LIMIT_S
            case _Part.NOTHING:
                # uvicorn's own timer is gone once a byte came after the answer
                return not self._answering and waited_s > self.timeout_keep_alive + _WATCH_S
            case _Part.BODY if not self._answering:
                return waited_s > DRAIN_LIMIT_S
            case _Part.BODY if self.cycle.waiting_for_100_continue:
                self._since = now  # it waits for our word
                return False
        if waited_s < WINDOW_S:
            return False
        enough = self._window_bytes >= SLOWEST_BYTES_S * WINDOW_S
        self._since, self._window_bytes = now, 0
        return not enough

    def _is_unread(self, now: float) -> bool:
        """Tell whether the other side does not read what we have written, all of which is in memory."""
        held = self.transport.get_write_buffer_size()
        # who may write more at any time could keep its size the same, however much is read
        idle = self.flow.write_paused or not self._answering or self.transport.is_closing()
        waits = held > 0 and idle
        if not waits or held > self._unread_bytes:
            self._unread_since, self._unread_bytes = now, held
            return False
        if now - self._unread_since < WINDOW_S:
            return False
        enough = self._unread_bytes - held >= SLOWEST_BYTES_S * WINDOW_S
        self._unread_since, self._unread_bytes = now, held
        return not enough

    def _make_room(self) -> None:
        """Close the connection that has let the server wait the longest, or refuse this one."""
        others = [other for other in self.connections if isinstance(other, GuardedProtocol) and other is not self]
        ranks = {other: other._rank() for other in others if other._holds_a_file()}
        if len(ranks) < most_connections():
            return
        waiting = [(rank, other._since, other) for other, rank in ranks.items() if rank is not None]
        if waiting:
            *_, patient = min(waiting, key=lambda entry: entry[:2])
            patient.transport.abort()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def _holds_a_file(self) -> bool:
        """Tell whether it is open, or still has to send something before it can be closed."""
        return not self.transport.is_closing() or self.transport.get_write_buffer_size() > 0

    def _rank(self) -> int | None:
        """Return how little is lost with the connection, the smallest first; None while it is being answered."""
        if self.transport.is_closing():
            return 0
        if not self._asked:
            return 1
        if not self._answering:
            return 2 if self._part is _Part.BODY else 3
        return 4 if self._part is _Part.BODY else None

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, unless that would stand amid an answer or after it, and close the connection."""
        if self._part is _Part.BODY:
            free = self._answering and not self.cycle.response_started and not self.pipeline
        else:
            free = self._part is _Part.HEAD and not self._answering
        if free:
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, text, len(text), text)
            )
        self.transport.close()
