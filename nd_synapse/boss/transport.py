"""How requests to BOSS are sent: time limits, retries, and the token. It translates no error: see `boss.errors`.

`intern` has neither time limits nor retries; the adapter below is mounted on its sessions.
"""

from __future__ import annotations

import logging
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from urllib3.exceptions import MaxRetryError, NameResolutionError, ProxyError, SSLError

from nd_synapse.boss.errors import is_storage_trouble, parse_body
from nd_synapse.credentials import Token
from nd_synapse.responses import WholeAdapter

__all__ = ["BossAdapter", "BossRetry", "Patience"]

log = logging.getLogger(__name__)

# BOSS answers 500 while a cuboid is being written, and 400 to writes that its storage could not take. A proxy before it
# answers 429. What else BOSS answers with 400 and 429 is final, see `_is_final`.
_TRANSIENT_STATUS = frozenset({400, 429, 500, 502, 503, 504})
_LONGEST_RETRY_AFTER_S = 120


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits and retries of one request."""

    connect_s: float = 20.0
    """Limit to open a connection, and to send each piece of the body."""
    read_s: float = 120.0
    """Longest silence while a response is awaited or read."""
    attempts: int = 5
    pause_s: float = 1.0
    """Unit of the pauses: none before the second attempt, then 2, 4, 8 of it, and up to one more at random."""
    longest_pause_s: float = 30.0
    """Upper limit of a pause, unless the server asks for a longer one with Retry-After."""

    def settling_s(self, repeats: int) -> float:
        """Return how long to wait for attempts that were given up, which BOSS may still carry out."""
        return min(self.read_s, self.longest_pause_s * repeats)


class BossRetry(urllib3.Retry):
    """The retries of urllib3, without those that cannot help."""

    RETRY_AFTER_STATUS_CODES = frozenset()
    """No further status is retried because a response has Retry-After."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> BossRetry:
        """Count an attempt that failed, or raise if there is no further one."""
        if _is_permanent(error) if error is not None else _is_final(response):
            raise MaxRetryError(_pool, str(url), error)
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        if error is None:  # urllib3 itself logs connections that break
            log.warning("%s %s: HTTP status %d; trying again", method, url, response.status)
        return retry


def _is_final(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether BOSS refuses by a code of its own: a monthly quota that is used up, or an invalid request."""
    fields = parse_body(response.data)
    if response.status == 400:
        return not is_storage_trouble(fields.get("code"), str(fields.get("message")))
    return response.status == 429 and "code" in fields


def _is_permanent(error: Exception) -> bool:
    """Return whether an error stays: an untrusted certificate, no encryption, an unknown host, a proxy that refuses."""
    if isinstance(error, ProxyError) and "Tunnel connection failed: 4" in str(error.original_error):
        return True
    if isinstance(error, NameResolutionError):
        return getattr(error.__cause__, "errno", None) != socket.EAI_AGAIN
    return isinstance(error, SSLError) and any(
        isinstance(part, ssl.SSLCertVerificationError) or getattr(part, "reason", None) == "WRONG_VERSION_NUMBER"
        for part in error.args
    )


class BossAdapter(WholeAdapter):
    """Sends requests with the token, within the limits of `patience`."""

    def __init__(self, patience: Patience, token: Token) -> None:
        retry = BossRetry(
            total=patience.attempts - 1,
            # A write that is repeated writes the same voxels, and a resource that exists already is looked up.
            allowed_methods=None,
            status_forcelist=_TRANSIENT_STATUS,
            raise_on_status=False,
            backoff_factor=patience.pause_s,
            backoff_jitter=patience.pause_s,
            backoff_max=patience.longest_pause_s,
            retry_after_max=_LONGEST_RETRY_AFTER_S,
        )
        super().__init__(max_retries=retry)
        self.patience = patience
        self.token = token

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; responses and errors hold it afterwards, without the token."""
        request.headers["Authorization"] = f"Token {self.token.reveal()}"
        limits = (self.patience.connect_s, self.patience.read_s)
        try:
            return super().send(request, *args, **{**kwargs, "timeout": limits})
        finally:
            del request.headers["Authorization"]
