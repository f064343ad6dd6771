"""A log that anybody who may connect cannot fill: of lines that are alike it takes few.

It changes no level and no form; whoever sets up the log adds it to a handler.
"""

from __future__ import annotations

import logging
import time

__all__ = ["LINES", "SPAN_S", "Sparing"]

LINES = 10
"""Lines of a kind in a span: enough to see what happens. asyncio wrote four megabytes a second of one kind where it had
no file left for a connection, and a line is written for each request that is no HTTP."""

SPAN_S = 60.0
"""The span."""

_KINDS = 1000
_LOUD = ("asyncio", "uvicorn.error", "local_boss.server")


class Sparing(logging.Filter):
    """Drops what was said often enough, by the loggers that strangers can make speak.

    Lines are of one kind if they are of one logger and one form, whatever is put into that. The first line of the next
    span says how many were dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is to be written."""
        if record.name not in _LOUD or record.levelno < logging.WARNING:
            return True
        kind = (record.name, str(record.msg).partition("\n")[0])
        now = time.monotonic()
        if len(self._said) > _KINDS:
            self._said.clear()
        since, count = self._said.get(kind, (now, 0))
        if now - since > SPAN_S:
            if count > LINES:
                record.msg = f"{record.msg} [{count - LINES} more like this were not logged]"
            since, count = now, 0
        self._said[kind] = since, count + 1
        return count < LINES
