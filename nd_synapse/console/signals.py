"""Signals that stop a command line: heard once, ended in time.

It ends nothing itself while there is hope that the program does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["end_at_once", "hear", "ignore"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_CODE = os.EX_TEMPFAIL
"""That of `errors.StoppedError`, which takes longer to import than it takes to press Ctrl-C."""

_LIMIT_S = 9


def end_at_once() -> None:
    """From now on, end the process on a signal: for the time in which nothing has begun, such as that of imports."""
    _handle(lambda *_: _end("it was stopped by a signal before it began. The same command begins it"))


def hear() -> None:
    """From now on, turn the first signal into KeyboardInterrupt, and ignore those that follow.

    Batch, ``docker stop`` and ``kill`` send SIGTERM first, and mean what Ctrl-C means. Who sends a signal often, or two
    kinds, means the same as who sends one. In other threads than the main one nothing is done: signals are not theirs.
    """
    _handle(_interrupt)


def ignore() -> None:
    """From now on, let signals pass unheard."""
    _handle(signal.SIG_IGN)


def _handle(handler: Callable[..., Any] | signal.Handlers) -> None:
    """Have the signals handled so, if this is the main thread."""
    with suppress(ValueError):  # it is another one
        for number in _NUMBERS:
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    """Interrupt the program, once."""
    ignore()
    # an interrupt is lost where Python cannot raise it, and what it ends may hang
    late = f"it was stopped by a signal, and had not ended {_LIMIT_S} s later. The same command goes on where it was"
    signal.signal(signal.SIGALRM, lambda *_: _end(late))
    signal.alarm(_LIMIT_S)
    raise KeyboardInterrupt


def _end(found: str) -> None:
    """End the process, and say so."""
    with suppress(OSError):
        os.write(2, f"the command: {found}.\n".encode())
    os._exit(_CODE)
