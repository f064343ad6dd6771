"""What carries the requests of `intern` to BOSS: time-outs, retries, and bounds of what an answer may hold.

It knows no host, and translates no error: see `boss.connection` and `boss.translation`.

`intern` has no time-out and no retry. Both are added here, under its sessions, so that every call has them; what is
tried again, and when, is decided in `boss.retry`.

A time-out of a socket limits each silence alone: a server may send a byte a minute, or "100 Continue" without end. So
the time that is left of a request is looked at before each reading of the line, from the first byte of the status on;
and before each address that is tried, and each piece that is sent.

An answer is bounded, too: what it may hold follows from what was asked for, and is checked before `intern` unpacks it.
So are its length, its end, and its digest if the server sent one: packed voxels that were damaged on their way may well
unpack. Where JSON was asked for, JSON has to come.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import math
import random
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

from nd_synapse.boss.errors import DamagedError, OversizedError, UntrustedError
from nd_synapse.boss.retry import Patience, mishap_of_answer, mishap_of_error, pause_before
from nd_synapse.credentials import Token
from nd_synapse.http_answer import WholeHeadResponse

__all__ = ["Repeats", "RetryingAdapter", "counting_repeats", "expecting"]

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
_SENT_BYTES = 1 << 14  # one record of an encrypted line
# Far above any description or list of BOSS, and any page of an error; voxels are allowed on top, see `expecting`.
_PLAIN_BYTES = 16 << 20
_JSON = "application/json"
_MOST_PACKINGS = 8
"""Of a body, one within another or one after another; there is one, as a rule."""

# Connections are made by urllib3, far below the adapter; a request and its answer stay in one thread, and one context.
_remaining_s: ContextVar[Callable[[], float]] = ContextVar("remaining_s")

# intern builds and sends its requests itself: what its answer may unpack to can reach the adapter only from around the
# call. A context variable, for threads may share a connection.
_voxel_bytes: ContextVar[int] = ContextVar("voxel_bytes", default=0)


@dataclass(slots=True)
class Repeats:
    """How many attempts were followed by another one.

    Parameters
    ----------
    count : int
        The number by now.
    """

    count: int = 0


_repeats: ContextVar[Repeats | None] = ContextVar("repeats", default=None)


class _Line(io.RawIOBase):
    """A socket's bytes, until the time of a request is up."""

    def __init__(self, line: io.RawIOBase, sock: socket.socket, remaining_s: Callable[[], float]) -> None:
        super().__init__()
        self._line = line
        self._sock = sock
        self._silence_s = sock.gettimeout()
        self._remaining_s = remaining_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there; wait for it no longer than a silence may last, or than there is time."""
        remaining = self._remaining_s()
        if remaining <= 0:
            raise TimeoutError("the answer takes longer than the limit of a request")
        self._sock.settimeout(remaining if self._silence_s is None else min(self._silence_s, remaining))
        return self._line.readinto(buffer)

    def close(self) -> None:
        self._line.close()
        super().close()


class _Response(WholeHeadResponse):
    """An answer that is read in time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Line(self.fp.detach(), sock, _remaining_s.get()))


class _Timed(urllib3.connection.HTTPConnection):
    """A connection that is made, and sent over, in time."""

    response_class = _Response
    # a program that has http.client print what it sends would print the token
    debuglevel = 0

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; urllib3 would give each the time that all of them have."""
        ends = self._ends()
        try:
            # the system looks names up, within limits of its own
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        failure = OSError("it has no address")
        for number, (*_, address) in enumerate(found):
            try:
                # what one leaves of its share is for those after it
                share_s = _left_s(ends) / (len(found) - number)
                line = create_connection(
                    (str(address[0]), self.port), share_s, self.source_address, socket_options=self.socket_options
                )
                # the handshake of an encrypted connection is part of making it
                line.settimeout(_left_s(ends))
            except OSError as error:
                failure = error
            else:
                return line
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from failure
        raise NewConnectionError(self, f"no connection to {self.host}: {failure}") from failure

    def send(self, data: Any) -> None:
        """Send bytes; over an encrypted line, each piece of them would have the time that all have."""
        if self.sock is None:
            self.connect()
        ends = self._ends()
        for start in range(0, len(data), _SENT_BYTES):
            self.sock.settimeout(_left_s(ends))
            super().send(memoryview(data)[start : start + _SENT_BYTES])

    def _ends(self) -> float:
        """Return when what begins now has to have ended."""
        limit_s = self.timeout if isinstance(self.timeout, int | float) else math.inf
        return time.monotonic() + min(limit_s, _remaining_s.get()())


def _left_s(ends: float) -> float:
    """Return how long it is until then; raise if that is over."""
    left_s = ends - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it takes longer than the limit of a request")
    return left_s


class _OpenConnection(_Timed):
    pass


class _SecureConnection(_Timed, urllib3.connection.HTTPSConnection):
    pass


class _OpenPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _OpenConnection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class RetryingAdapter(HTTPAdapter):
    """Sends a request of `requests`, again when it failed for a reason that passes.

    The whole answer is read here, so that one that stops half-way is asked for again, too.

    Parameters
    ----------
    patience : Patience
        The limits.
    token : Token
        Goes into the header of each request while it is on its way, and stays in none.
    clock, sleep, chance : callable
        Seconds that only grow; a pause of so many seconds; a random number in [0, 1).
    """

    def __init__(
        self,
        patience: Patience,
        token: Token,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(max_retries=0)
        self.patience = patience
        self.token = token
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the connections such as end in time."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _OpenPool, "https": _SecurePool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Say which certificates are trusted."""
        try:
            super().cert_verify(*args, **kwargs)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise UntrustedError(error) from error

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, with the time-outs of `patience`, whatever the session asks for."""
        began = self._clock()
        _remaining_s.set(lambda: began + self.patience.total_s - self._clock())
        options = {**kwargs, "timeout": (self.patience.connect_s, self.patience.read_s), "stream": True}
        # what `_unpacked` can follow to its end; requests offers more, depending on what is installed
        request.headers["Accept-Encoding"] = "gzip"
        attempt = 1
        while True:
            error = None
            try:
                response = self._send_signed(request, *args, **options)
                self._read(request, response)
                mishap = mishap_of_answer(response, datetime.now(UTC))
            except requests.RequestException as raised:
                error, mishap = raised, mishap_of_error(raised)
            if mishap is None:
                return response
            attempt += 1
            pause = pause_before(attempt, self._clock() - began, self._chance(), mishap, self.patience)
            if pause is None and error is not None:
                raise error
            if pause is None:
                return response
            if (repeats := _repeats.get()) is not None:
                repeats.count += 1
            log.warning("%s %s: %s; trying again in %.1f s", request.method, _place(request), mishap.reason, pause)
            self._sleep(pause)

    def _send_signed(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request with the token."""
        request.headers["Authorization"] = f"Token {self.token.reveal()}"
        try:
            return super().send(request, *args, **kwargs)
        except requests.exceptions.InvalidHeader as error:
            raise DamagedError("announces more than one length") from error
        finally:
            # an answer, or an error, holds its request
            del request.headers["Authorization"]

    def _read(self, request: requests.PreparedRequest, response: requests.Response) -> None:
        """Read the body within bounds."""
        pieces: list[bytes] = []
        size, most = 0, _PLAIN_BYTES + _voxel_bytes.get()
        try:
            while piece := response.raw.read1(_READ_BYTES, decode_content=False):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise _oversized(most)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error
        finally:
            response.raw.close()
        body = b"".join(pieces)
        del pieces
        packed = body
        for encoding in _packings(response.headers) if body else []:
            if encoding in ("gzip", "x-gzip", "deflate"):
                body = _unpacked(body, most)
        _check_digest(response.headers, packed, body)
        del packed
        # requests reads a response from any file; this one is complete.
        response.raw = io.BytesIO(body)
        if _voxel_bytes.get() and response.status_code == 200:
            _check_voxels(body, _voxel_bytes.get())
        elif request.headers.get("Content-Type") == _JSON and response.status_code in (200, 201):
            _check_json(response)


@contextmanager
def expecting(voxel_bytes: int) -> Iterator[None]:
    """Let the answers to the calls within hold voxels, so many and no more."""
    before = _voxel_bytes.set(voxel_bytes)
    try:
        yield
    finally:
        _voxel_bytes.reset(before)


@contextmanager
def counting_repeats() -> Iterator[Repeats]:
    """Count the attempts of the calls within that failed and were followed by another one."""
    repeats = Repeats()
    before = _repeats.set(repeats)
    try:
        yield repeats
    finally:
        _repeats.reset(before)


def _check_digest(headers: Mapping[str, str], *bodies: bytes) -> None:
    """Refuse a body that has another SHA-256 than its server says (RFC 9530, 2024); most servers say none.

    It should be that of the body as it was on the line, but what packs it on its way may leave that of the body within.
    """
    found = re.search(r"(?:^|[ ,])sha-256=:([A-Za-z0-9+/=]+):", headers.get("Content-Digest", ""))
    if found is not None and found.group(1) not in (
        base64.b64encode(hashlib.sha256(body).digest()).decode() for body in bodies
    ):
        raise DamagedError("differs from the digest that was sent with it")


def _packings(headers: Mapping[str, str]) -> list[str]:
    """Return how a body was packed for the line, the last packing first."""
    packings = [word.strip() for word in headers.get("Content-Encoding", "").lower().split(",")]
    if len(packings) > _MOST_PACKINGS:
        raise DamagedError("was packed for the line again and again")
    return packings[::-1]


def _oversized(most: int) -> OversizedError:
    """Return the error for a body that is larger than it may be."""
    return OversizedError(f"sends more than {most:,} bytes, which is too much for what was asked")


def _unpacked(body: bytes, most: int) -> bytes:
    """Unpack a body that was packed for the line, whole; urllib3 would take one without its end as it is."""
    pieces: list[bytes] = []
    size = 0
    # several may lie one after another; what else stands after one is padding
    while not pieces or body[:2] == b"\x1f\x8b":
        if len(pieces) == _MOST_PACKINGS:
            raise DamagedError("was packed for the line in too many pieces")
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # by gzip or zlib, whichever it is
        try:
            pieces.append(unpacker.decompress(body, most - size + 1))
        except zlib.error as error:
            raise DamagedError("was packed for the line, and cannot be unpacked") from error
        size += len(pieces[-1])
        if size > most:
            raise _oversized(most)
        if not unpacker.eof:
            raise DamagedError("was packed for the line, and has no end")
        body = unpacker.unused_data
    return b"".join(pieces)


def _check_json(response: requests.Response) -> None:
    """Refuse what is no JSON: an answer that was cut short, or the page of whatever stands before BOSS."""
    try:
        response.json()
    except (ValueError, RecursionError) as error:
        size = len(response.content)
        raise DamagedError(f"has {size:,} bytes that are no JSON" if size else "is empty") from error


def _check_voxels(body: bytes, expected: int) -> None:
    """Refuse what does not unpack to `expected` bytes: intern would make room for whatever it announces."""
    # Blosc 1 begins with 4 bytes of versions and flags, then the sizes unpacked, of a block, and packed.
    if len(body) < 16:
        raise DamagedError(f"has {len(body)} bytes, which are no packed voxels")
    unpacked, _, packed = struct.unpack_from("<III", body, 4)
    if packed != len(body):
        raise DamagedError(f"has {len(body):,} bytes, which are no packed voxels, or not all of them")
    if unpacked > expected:
        raise OversizedError(f"sent {unpacked:,} bytes of voxels, unpacked, for the {expected:,} that were asked for")
    if unpacked < expected:
        raise DamagedError(f"holds {unpacked:,} bytes of voxels, unpacked, for the {expected:,} that were asked for")


def _place(request: requests.PreparedRequest) -> str:
    """Name the target of a request for the log: its path has the names and ranges, and never the token."""
    parts = urlsplit(request.url or "")
    return f"{parts.netloc}{parts.path}"
