"""Texts of others, made fit to be told: in one line, of characters that can be printed, of a bounded length.

It knows no token: who tells a text takes tokens out of it before it is cut.
"""

from __future__ import annotations

import errno
import traceback

__all__ = ["one_line", "reason_of", "shortened", "system_reason", "traceback_of"]

_REASON = 500
_TRACEBACK = 8000
_MARK = " ... ({:,} characters left out) ... "


def one_line(text: object, keep: str = "") -> str:
    r"""Return a text in which nothing can pass for the end of a line, move what stands beside it, or steer a terminal.

    Parameters
    ----------
    text : object
        Any text, or what is told as one.
    keep : str
        Control characters that may stay, such as tabs.

    Returns
    -------
    str
        The text, each character that cannot be printed as Python would write it, such as ``\n``.
    """
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c in keep or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in told)


def shortened(text: str, most: int) -> str:
    """Return a text without its middle, where it is too long.

    Parameters
    ----------
    text : str
        Any text.
    most : int
        How many characters of it are kept.

    Returns
    -------
    str
        The text, or its first two thirds and its end, and between them how much is missing.
    """
    if len(text) <= most:
        return text
    tail = most // 3
    return text[: most - tail] + _MARK.format(len(text) - most) + text[-tail:]


def reason_of(error: BaseException) -> str:
    """Return an exception in a line, whatever its class does when it is asked for its text.

    Parameters
    ----------
    error : BaseException
        An exception of anybody.

    Returns
    -------
    str
        Its type and its text, some hundred characters of it at most.
    """
    name = type(error).__name__
    try:
        text = shortened(str(error), _REASON)
    except BaseException as failure:  # noqa: BLE001 - the class is somebody's own, and may raise what it likes
        return f"{name}, which cannot be told ({type(failure).__name__})"
    return one_line(f"{name}: {text}")


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, of bounded length.

    Parameters
    ----------
    error : BaseException
        An exception of anybody.

    Returns
    -------
    str
        As Python prints it.
    """
    try:
        return shortened("".join(traceback.format_exception(error)), _TRACEBACK)
    except BaseException as failure:  # noqa: BLE001 - the same; its notes and causes are asked for as well
        return f"{type(error).__name__}, whose traceback cannot be told ({type(failure).__name__})\n"


def system_reason(cause: OSError) -> str:
    """Return what the system says of a failure, with the name of the error.

    Parameters
    ----------
    cause : OSError
        The failure.

    Returns
    -------
    str
        Such as ``No space left on device (ENOSPC)``.
    """
    return f"{cause.strerror or cause} ({errno.errorcode.get(cause.errno or 0, 'no error number')})"
