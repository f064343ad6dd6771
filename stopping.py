"""Signals that stop a command line: heard once, ended in time.

It ends nothing itself while there is hope that the program does.
"""

from __future__ import annotations

import os
import signal
import threading

from errors import StoppedError

__all__ = ["end_at_once", "hear", "ignore"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_LIMIT_S = 9


def end_at_once() -> None:
    """From now on, end the process on a signal: for the time in which nothing has begun, such as that of imports."""
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            signal.signal(number, lambda *_: os._exit(StoppedError.exit_code))


def hear() -> None:
    """From now on, turn the first signal into KeyboardInterrupt, and ignore those that follow.

    Batch, ``docker stop`` and ``kill`` send SIGTERM first, and mean what Ctrl-C means. Who sends a signal often, or two
    kinds, means the same as who sends one. In other threads than the main one nothing is done: signals are not theirs.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            signal.signal(number, _interrupt)


def ignore() -> None:
    """From now on, let signals pass unheard."""
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    """Interrupt the program, once."""
    ignore()
    # an interrupt is lost where Python cannot raise it, and what it ends may hang
    signal.signal(signal.SIGALRM, lambda *_: os._exit(StoppedError.exit_code))
    signal.alarm(_LIMIT_S)
    raise KeyboardInterrupt
