"""What workers print and log: their parent passes it on without the secrets, which workers do not know.

Standard output and error of a worker are pipes. A record that it logs is a line on its standard error, after a mark.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextvars import copy_context
from threading import Thread
from typing import IO, Any

from nd_synapse import logs
from nd_synapse.redaction import Redactor, redacted
from nd_synapse.text import shortened

__all__ = ["Output", "RecordSender", "join_all", "write_all"]

_MARK = b"\x1e"
_SENT = ("name", "levelno", "levelname", "created", "msecs", "process", "msg", "exc_text", "stack_info")

_PIECE_BYTES = 1 << 16
_LONGEST_LINE, _HELD_BACK = 1 << 22, 1 << 14
"""Bytes of a line that is passed on in parts, and of its end that waits: no secret is longer, and cut in two."""

_MOST = 100_000
"""Characters of a message, and of a traceback, that the parent gets, which shortens them once secrets are removed."""

_LAST_WORDS_S = 1.0
"""How long what a worker printed is waited for; what it started itself may hold its output for ever."""


class RecordSender(logging.Handler):
    """Sends the records of a worker to its parent."""

    def __init__(self) -> None:
        super().__init__()
        # a function may put something else in the place of standard error
        self._descriptor = os.dup(2)
        self.addFilter(Redactor())  # makes one text of the message and its arguments

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        sent = {name: getattr(record, name) for name in _SENT}
        sent |= {name: shortened(text, _MOST) for name, text in sent.items() if isinstance(text, str)}
        try:
            write_all(self._descriptor, _MARK + json.dumps(sent).encode() + b"\n")
        except OSError:
            return  # the parent is gone


def write_all(descriptor: int, data: Any) -> None:
    """Write bytes, all of them."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


class Output:
    """Passes on what a worker prints and logs, until nobody can print there any more."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        # each in the context of the caller, which says whose job.log it is
        self._threads = [
            Thread(target=copy_context().run, args=(_pass_on, pipe, name), name="output", daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def join(self, deadline: float) -> None:
        """Wait until all is passed on, or until a time of `time.monotonic`."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def join_all(outputs: Iterable[Output]) -> None:
    """Wait until all that ended workers printed is passed on, within a limit."""
    deadline = time.monotonic() + _LAST_WORDS_S
    for output in outputs:
        output.join(deadline)


def _pass_on(pipe: IO[bytes], name: str) -> None:
    """Pass on what comes from a pipe, line by line."""
    rest = b""
    with pipe:
        while piece := os.read(pipe.fileno(), _PIECE_BYTES):
            whole, rest = _cut(rest + piece)
            _show(whole, name)
    _show(rest, name)


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Return the whole lines, and what follows them; a bar that is drawn anew is a line."""
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if end == 0 and len(data) > _LONGEST_LINE:
        data = redacted(data.decode("utf-8", "backslashreplace")).encode()
        end = len(data) - _HELD_BACK
    return data[:end], data[end:]


def _show(lines: bytes, name: str) -> None:
    """Print lines, and log the records among them."""
    while lines:
        text, mark, after = lines.partition(_MARK)
        record, _, after = after.partition(b"\n")
        if mark and not _log(record):
            text += record + b"\n"
        if text:
            logs.show(redacted(text.decode("utf-8", "backslashreplace")), getattr(sys, name))
        lines = after


def _log(sent: bytes) -> bool:
    """Log a record as if it were of this process; return False if it is none."""
    try:
        record = logging.makeLogRecord(json.loads(sent))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            Redactor().filter(record)  # a program that imports us may have handlers without
            logger.handle(record)
    except (ValueError, TypeError, AttributeError):
        return False
    return True
