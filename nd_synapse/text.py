"""Texts from elsewhere, made fit for messages: one line, printable characters, bounded length.

Secrets are to be removed before a text is shortened: of a part of one, nobody would know it.
"""

from __future__ import annotations

import errno

__all__ = ["levels_there", "one_line", "shortened", "system_reason", "written"]

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


def system_reason(cause: OSError) -> str:
    """Return the message of a system error, with its name."""
    return f"{cause.strerror or cause} ({errno.errorcode.get(cause.errno or 0, 'no error number')})"


def levels_there(count: int) -> str:
    """Return which levels a volume has, as what was found."""
    return f"it has the levels 0 to {count - 1}" if count > 1 else "it has the level 0 alone"


def written(number: float) -> str:
    """Return a number as people write it, whole ones without a point: parameters of whole numbers refuse 80.0."""
    return str(int(number)) if float(number).is_integer() else str(number)
