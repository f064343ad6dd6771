"""An answer over HTTP whose head has to come whole: what `boss.transport` and `aws_limits` read answers with.

It reads as http.client does, which takes a head that was cut short for a whole one: without the lines that were lost,
an answer that announced its length is one of no length, and empty.
"""

from __future__ import annotations

import http.client
from typing import Any

__all__ = ["WholeHeadResponse"]


class _Head:
    """A file whose lines do not end with the connection."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        if not line:
            raise http.client.RemoteDisconnected("the connection ended within the head of an answer")
        return line

    def close(self) -> None:
        self._file.close()


class WholeHeadResponse(http.client.HTTPResponse):
    """An answer that is refused, as one that never came, where its head was cut short."""

    def begin(self) -> None:
        """Read status and headers.

        Raises
        ------
        http.client.RemoteDisconnected
            If the connection ends before they do.
        """
        file = self.fp
        self.fp = _Head(file)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            # http.client lets go of what it closed
            if self.fp is not None:
                self.fp = file
