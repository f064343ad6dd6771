"""An answer over HTTP whose head has to come whole: what `boss.transport` and `aws_limits` read answers with.

It limits no time: whoever gives it a line does. It reads as http.client does, but for three things:

- http.client takes a head that was cut short for a whole one: without the lines that were lost, an answer that
  announced its length is one of no length, and empty;
- of what may be said ahead of an answer, http.client skips 100 alone. It takes 102 and 103 for the answer, and the
  answer itself, left on the line, is then what the next request gets;
- a line that is no header ends the headers for http.client, whatever follows, and urllib3 logs a traceback.
"""

from __future__ import annotations

import http.client
import re
from http import HTTPStatus
from typing import Any

__all__ = ["WholeHeadResponse", "is_ahead"]

_HEADER = re.compile(rb"[!-9;-~]+:[^\r\n]*\r?\n")
_BLANK = (b"\r\n", b"\n")
_MOST_SKIPPED = 100
"""Lines of an answer's head that may be no headers; http.client takes as many headers."""
_LINE_BYTES = 65537  # one more than http.client takes


def is_ahead(status: int) -> bool:
    """Tell whether a status is said ahead of an answer, which follows on the same connection."""
    return 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS


class _Head:
    """The lines of heads, a status and headers each; they do not end with the connection, and all else is left out."""

    def __init__(self, file: Any, *, status_came: bool) -> None:
        self._file = file
        self._in_headers = status_came
        self._kept = False
        self._skipped = 0

    def readline(self, limit: int = -1) -> bytes:
        while True:
            line: bytes = self._file.readline(limit)
            if not line:
                raise http.client.RemoteDisconnected("the connection ended within the head of an answer")
            if not self._in_headers or line in _BLANK or len(line) == limit:
                self._in_headers, self._kept = line not in _BLANK, False
                return line
            # a line that begins with a space goes on with the header before it
            self._kept = self._kept if line[:1] in b" \t" else _HEADER.fullmatch(line) is not None
            if self._kept:
                return line
            self._skipped += 1
            if self._skipped > _MOST_SKIPPED:
                raise http.client.HTTPException(f"more than {_MOST_SKIPPED} lines of a head are no headers")

    def close(self) -> None:
        self._file.close()


class WholeHeadResponse(http.client.HTTPResponse):
    """An answer that is refused, as one that never came, where its head was cut short."""

    status_came = False
    """Whether somebody has read the status before."""

    def begin(self) -> None:
        """Read status and headers."""
        file = self.fp
        self.fp = _Head(file, status_came=self.status_came)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            # http.client lets go of what it closed
            if self.fp is not None:
                self.fp = file
        # a header may still be nonsense, such as a type of several parts without what parts them: urllib3 would log it
        self.headers.defects.clear()
        self.headers.set_payload("")

    def _read_status(self) -> tuple[str, int, str]:
        """Read on to the status of the answer itself."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.BadStatusLine(f"{version} {status} {reason}")
            if status == HTTPStatus.CONTINUE or not is_ahead(status):
                return version, status, reason
            while self.fp.readline(_LINE_BYTES) not in (*_BLANK, b""):
                pass
