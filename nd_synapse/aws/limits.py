"""Limits on a request to AWS: connections of botocore that end when its time is up, and whose answers have to be whole.

It retries nothing and translates nothing: to botocore, either is a connection that broke.

botocore limits each silence alone, so a server that sends a byte a minute, reads one, or says "100 Continue" without
end, would hold its caller for ever. Here a timer shuts the socket, whatever the request is at by then.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from typing import Any

import urllib3
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPResponse, AWSHTTPSConnection

from nd_synapse.http_answer import WholeHeadResponse, is_ahead

__all__ = ["LIMIT_S", "limited"]

LIMIT_S = 300.0
"""How long one attempt at a request may take, from its connection to the last byte of its answer. The largest bodies
are parts of 8 MB, and finished blocks of a run in parts, some tens of MB."""


class _EarlyAnswer(WholeHeadResponse, AWSHTTPResponse):  # type: ignore[misc] # botocore publishes no types
    """An answer that came instead of "100 Continue", of which botocore has read the status."""

    status_came = True


class _Limited:
    """A connection that is ended when the time of its request is up; mixed into those of botocore."""

    response_class: Any = WholeHeadResponse
    _alarm: threading.Timer | None = None

    def connect(self) -> None:
        """Connect; a proxy may trickle, too."""
        self._set_alarm()
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, from which on the time runs."""
        self._set_alarm()
        super().request(*args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        """Close the connection; nothing is waited for any more."""
        self.rest()
        super().close()  # type: ignore[misc]

    def rest(self) -> None:
        """Let an idle connection be."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        self.rest()
        self._alarm = threading.Timer(LIMIT_S, self._end)
        self._alarm.daemon = True
        self._alarm.start()

    def _end(self) -> None:
        sock = getattr(self, "sock", None)
        if isinstance(sock, socket.socket) and self._alarm is threading.current_thread():
            # Whoever waits at it is told that it broke. One of TLS would first wait for its peer's farewell.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _is_100_continue_status(self, line: bytes) -> bool:
        """Tell whether the body may be sent; botocore would take "103 Early Hints" for an answer, and send none."""
        words = line.split(None, 2)
        is_status = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
        return is_status and is_ahead(int(words[1]))

    def _handle_expect_response(self, body: Any) -> None:
        """Send the body, or read an answer that came instead; its head has to come whole, too."""
        super()._handle_expect_response(body)  # type: ignore[misc]
        early = self.response_class
        if isinstance(early, functools.partial):
            self.response_class = functools.partial(_EarlyAnswer, **early.keywords)

    def _consume_headers(self, fp: Any) -> None:
        """Skip what follows on "100 Continue"; botocore would look for its end for ever where the line has ended."""
        while line := fp.readline():
            if line == b"\r\n":
                return
        raise ConnectionResetError("the connection ended within the headers of 100 Continue")


class _OpenConnection(_Limited, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Limited, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _OpenConnection

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        # botocore takes an answer that was cut short for a whole one: half a list, and no answer at all to a PUT
        return super().urlopen(*args, **{**kwargs, "enforce_content_length": True})

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.rest()
        super()._put_conn(conn)


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def limited(client: Any) -> Any:
    """Let each attempt at a request of a client end in time."""
    # botocore has no setting for its connections; a test holds that this one takes effect.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_SecurePool)
    return client
