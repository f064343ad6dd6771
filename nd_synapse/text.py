"""Texts from elsewhere, made fit for messages: one line, printable characters, bounded length.

Tokens are to be removed before a text is shortened.
"""

from __future__ import annotations

import errno
import traceback

__all__ = ["describe_error", "format_traceback", "one_line", "shortened", "system_reason"]

_REASON = 500
_TRACEBACK = 8000
_MARK = " ... ({:,} characters left out) ... "


def one_line(text: object, keep: str = "") -> str:
    r"""Return a text without line ends and control characters."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c in keep or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)


def shortened(text: str, most: int) -> str:
    """Return a text, without its middle if it is too long."""
    if len(text) <= most:
        return text
    tail = most // 3
    return text[: most - tail] + _MARK.format(len(text) - most) + text[-tail:]


def describe_error(error: BaseException) -> str:
    """Return an exception in one line, also if its class fails to print itself."""
    name = type(error).__name__
    try:
        text = shortened(str(error), _REASON)
    except BaseException as failure:  # noqa: BLE001 - a user's class may raise anything
        return f"{name}, which cannot be printed ({type(failure).__name__})"
    return one_line(f"{name}: {text}")


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an exception, of bounded length."""
    try:
        return shortened("".join(traceback.format_exception(error)), _TRACEBACK)
    except BaseException as failure:  # noqa: BLE001 - the same, of its notes and causes
        return f"{type(error).__name__}, whose traceback cannot be printed ({type(failure).__name__})\n"


def system_reason(cause: OSError) -> str:
    """Return the message of a system error, with its name."""
    return f"{cause.strerror or cause} ({errno.errorcode.get(cause.errno or 0, 'no error number')})"
