"""What carries the requests of `intern` to BOSS: time-outs, retries, and bounds of what an answer may hold.

It knows no host and no token, and translates no error: see `boss.connection` and `boss.translation`.

`intern` has no time-out and no retry. Both are added here, under its sessions, so that every call has them:

- transient, and tried again: no connection, no answer in time, an answer cut short, status 500, 502, 503, 504;
- never tried again: every other status (429 is a monthly quota), a certificate that is not trusted, a name of a host
  that nobody knows, an answer that is too large;
- POST and PUT too: writing the same voxels twice gives the same voxels, and a resource that the first attempt created
  is found when the second one is refused.

An answer is bounded, too: what it may hold follows from what was asked for, and is checked before `intern` unpacks it.
"""

from __future__ import annotations

import io
import logging
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from boss.translation import OversizedError, is_unknown_name

__all__ = ["Patience", "RetryingAdapter", "expecting"]

log = logging.getLogger(__name__)

# 500 is among them because BOSS answers so while a cuboid is being written; also, alas, to a bad token on a cutout.
_TRANSIENT_STATUS = frozenset({500, 502, 503, 504})
_READ_BYTES = 1 << 20
# Far above any description or list of BOSS, and any page of an error; voxels are allowed on top, see `expecting`.
_PLAIN_BYTES = 16 << 20

# intern builds and sends its requests itself: what its answer may unpack to can reach the adapter only from around the
# call. A context variable, for threads may share a connection.
_voxel_bytes: ContextVar[int] = ContextVar("voxel_bytes", default=0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, and how often it is tried.

    Parameters
    ----------
    connect_s : float
        Limit to open a connection, and to send the body of a request: a mask of a whole block compresses to a few MB.
    read_s : float
        Longest silence while an answer is awaited or read.
    total_s : float
        Limit of one request, with all attempts and the pauses between them: none begins or goes on reading after it.
    attempts : int
        Largest number of attempts.
    pause_s : float
        Upper bound of the first pause; it doubles from pause to pause, and the pause is drawn evenly below it.
    longest_pause_s : float
        What the bound grows to at most.
    """

    connect_s: float = 20.0
    read_s: float = 120.0
    total_s: float = 900.0
    attempts: int = 5
    pause_s: float = 1.0
    longest_pause_s: float = 30.0

    def pause_before(self, attempt: int, chance: float) -> float:
        """Return how long to wait before an attempt.

        Parameters
        ----------
        attempt : int
            Its number; the second is 2.
        chance : float
            A random number in [0, 1).

        Returns
        -------
        float
            The pause in seconds.
        """
        bound: float = min(self.longest_pause_s, self.pause_s * 2.0 ** (attempt - 2))
        return bound * chance


class RetryingAdapter(HTTPAdapter):
    """Sends a request of `requests`, again when it failed for a reason that passes.

    The whole answer is read here, so that one that stops half-way is asked for again, too.

    Parameters
    ----------
    patience : Patience
        The limits.
    clock, sleep, chance : callable
        Seconds that only grow; a pause of so many seconds; a random number in [0, 1).
    """

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(max_retries=0)
        self.patience = patience
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, with the time-outs of `patience`, whatever the session asks for.

        Parameters
        ----------
        request : requests.PreparedRequest
            The request; its body is bytes, so that it can be sent again.
        *args, **kwargs
            What `HTTPAdapter.send` takes.

        Returns
        -------
        requests.Response
            The answer, read to its end; of whatever status after the last attempt.

        Raises
        ------
        requests.RequestException
            That of the last attempt.
        """
        deadline = self._clock() + self.patience.total_s
        options = {**kwargs, "timeout": (self.patience.connect_s, self.patience.read_s), "stream": True}
        for attempt in range(1, self.patience.attempts + 1):
            pause = self.patience.pause_before(attempt + 1, self._chance())
            last = attempt == self.patience.attempts or self._clock() + pause >= deadline
            try:
                response = super().send(request, *args, **options)
                self._read(response, deadline)
            except requests.exceptions.SSLError:
                raise
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if last or self._clock() >= deadline or is_unknown_name(error):
                    raise
                reason = _reason(error)
            else:
                if last or response.status_code not in _TRANSIENT_STATUS:
                    return response
                reason = f"HTTP status {response.status_code}"
            log.warning("%s %s: %s; trying again in %.1f s", request.method, _place(request), reason, pause)
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _read(self, response: requests.Response, deadline: float) -> None:
        """Read the body within deadline and bounds; a time-out of the socket alone lets a byte a minute go on."""
        pieces: list[bytes] = []
        size, most = 0, _PLAIN_BYTES + _voxel_bytes.get()
        try:
            while piece := response.raw.read1(_READ_BYTES, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise OversizedError(f"sends more than {most:,} bytes, which is too much for what was asked")
                if self._clock() > deadline:
                    raise requests.ReadTimeout("the answer takes longer than the limit of a request")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error
        finally:
            response.raw.close()
        body = b"".join(pieces)
        if _voxel_bytes.get():
            _check_unpacked(body, _voxel_bytes.get())
        # requests reads a response from any file; this one is complete.
        response.raw = io.BytesIO(body)


@contextmanager
def expecting(voxel_bytes: int) -> Iterator[None]:
    """Let the answers to the calls within hold voxels, so many and no more.

    Parameters
    ----------
    voxel_bytes : int
        Bytes of the voxels that are asked for, unpacked; one call asks for all of them.

    Yields
    ------
    None
        Once.
    """
    before = _voxel_bytes.set(voxel_bytes)
    try:
        yield
    finally:
        _voxel_bytes.reset(before)


def _check_unpacked(body: bytes, most: int) -> None:
    """Refuse packed voxels that would unpack to more than `most` bytes: intern would make room for them at once."""
    # Blosc 1 begins with 4 bytes of versions and flags, then the sizes unpacked, of a block, and packed. A body that
    # says another size of itself is none, and its unpacking fails before it takes memory.
    if len(body) < 16:
        return
    unpacked, _, packed = struct.unpack_from("<III", body, 4)
    if packed == len(body) and unpacked > most:
        raise OversizedError(f"sent {unpacked:,} bytes of voxels, unpacked, for the {most:,} that were asked for")


def _reason(error: requests.RequestException) -> str:
    """Say in a few words why an attempt failed."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "an answer cut short" if isinstance(error, requests.exceptions.ChunkedEncodingError) else "no connection"


def _place(request: requests.PreparedRequest) -> str:
    """Name the target of a request for the log: its path has the names and ranges, and never the token."""
    parts = urlsplit(request.url or "")
    return f"{parts.netloc}{parts.path}"
