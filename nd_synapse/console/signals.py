"""SIGINT and SIGTERM: the first interrupts the program, which has a few seconds to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["end_at_once", "handle", "ignore"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_CODE = os.EX_TEMPFAIL
"""That of `errors.StoppedError`, which is not imported yet when the first handler is set."""

_LIMIT_S = 9


def end_at_once() -> None:
    """From now on, end the process on a signal: while nothing has begun, as during imports."""
    _set(lambda *_: _end("it was stopped by a signal before it began. The same command starts it"))


def handle() -> None:
    """From now on, turn the first signal into KeyboardInterrupt, and ignore those that follow.

    Batch, ``docker stop`` and ``kill`` send SIGTERM. Other threads than the main one get no signals.
    """
    _set(_interrupt)


def ignore() -> None:
    """From now on, ignore signals."""
    _set(signal.SIG_IGN)


def _set(handler: Callable[..., Any] | signal.Handlers) -> None:
    with suppress(ValueError):  # this is not the main thread
        for number in _NUMBERS:
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    """Interrupt the program, once."""
    ignore()
    # Python may not be able to raise the interrupt (in a destructor), and the end of the program may hang
    late = f"it was stopped by a signal, and had not ended {_LIMIT_S} s later. The same command goes on where it was"
    signal.signal(signal.SIGALRM, lambda *_: _end(late))
    signal.alarm(_LIMIT_S)
    raise KeyboardInterrupt


def _end(found: str) -> None:
    """End the process with a message."""
    with suppress(OSError):
        os.write(2, f"the command: {found}.\n".encode())
    os._exit(_CODE)
