"""Responses that are read whole: one that is cut short is requested again, and one that does not end is ended."""

from __future__ import annotations

import io
import socket
import threading
from contextlib import suppress
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

__all__ = ["WholeAdapter", "unsigned"]

_RESPONSE_S = 900.0
"""Limit of a whole response, from its first byte to its last: the limit of a socket starts anew with every byte."""


def unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request as it is: without an `auth` of its own a session signs with what .netrc has."""
    return request


class _Connection(urllib3.connection.HTTPConnection):
    debuglevel = 0  # http.client would print the token for a program that turns this on

    def getresponse(self) -> Any:
        """Read a response with its body, and end the connection if that takes longer than the limit."""
        late = threading.Event()
        timer = threading.Timer(_RESPONSE_S, _end, (late, self.sock))
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError(f"the response has not ended after {_RESPONSE_S:g} s")


def _end(late: threading.Event, sock: socket.socket) -> None:
    """End a connection whose response takes too long."""
    late.set()
    with suppress(OSError):  # it has been closed
        sock.shutdown(socket.SHUT_RDWR)


class _SecureConnection(_Connection, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _Connection

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request; the body is read within an attempt, so that one that is cut short is requested again."""
        return super().urlopen(*args, **{**kwargs, "preload_content": True, "decode_content": True})


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class Body(io.BytesIO):
    """The whole body of a response."""

    repeats = 0
    """Attempts that failed before: BOSS may still carry each of them out."""


class WholeAdapter(HTTPAdapter):
    """Reads each response with its body within an attempt, in a limited time."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let the pools above make the connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Let the pools above make the connections that go through a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Wrap a response, whose body has been read."""
        response = super().build_response(req, resp)
        response.raw = Body(resp.data)
        response.raw.repeats = len(resp.retries.history) if resp.retries is not None else 0
        return response
