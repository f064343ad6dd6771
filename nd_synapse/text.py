"""Texts of others, made fit to be told: in one line, of characters that can be printed, of a bounded length.

It knows no token: who tells a text takes tokens out of it before it is cut.
"""

from __future__ import annotations

import errno
import traceback

__all__ = ["describe_error", "format_traceback", "one_line", "shortened", "system_reason"]

_REASON = 500
_TRACEBACK = 8000
_MARK = " ... ({:,} characters left out) ... "


def one_line(text: object, keep: str = "") -> str:
    r"""Return a text without line ends, and without characters that steer a terminal."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c in keep or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in told)


def shortened(text: str, most: int) -> str:
    """Return a text without its middle, where it is too long."""
    if len(text) <= most:
        return text
    tail = most // 3
    return text[: most - tail] + _MARK.format(len(text) - most) + text[-tail:]


def describe_error(error: BaseException) -> str:
    """Return an exception in a line, whatever its class does when it is asked for its text."""
    name = type(error).__name__
    try:
        text = shortened(str(error), _REASON)
    except BaseException as failure:  # noqa: BLE001 - the class is somebody's own, and may raise what it likes
        return f"{name}, which cannot be told ({type(failure).__name__})"
    return one_line(f"{name}: {text}")


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an exception, of bounded length."""
    try:
        return shortened("".join(traceback.format_exception(error)), _TRACEBACK)
    except BaseException as failure:  # noqa: BLE001 - the same; its notes and causes are asked for as well
        return f"{type(error).__name__}, whose traceback cannot be told ({type(failure).__name__})\n"


def system_reason(cause: OSError) -> str:
    """Return what the system says of a failure, with the name of the error."""
    return f"{cause.strerror or cause} ({errno.errorcode.get(cause.errno or 0, 'no error number')})"
