"""Values as users give them, on command lines and in programs: read strictly, or refused in a sentence.

It knows no option of any command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nd_synapse.credentials import hide_likely
from nd_synapse.errors import UsageError
from nd_synapse.paths import refuse_special

__all__ = [
    "block_size_of",
    "gib_of",
    "names_of",
    "pairs_of",
    "parameters_of",
    "path_of",
    "range_of",
    "whole_of",
]

_PARAMETER_BYTES = 2**20
"""What the file of a parameter may have."""

# int() would take signs, blanks, underscores and the digits of other scripts, too
_WHOLE = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"(?=\.?[0-9])[0-9]{0,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?")
_LARGEST_INDEX = 999_999_999


def path_of(option: str, given: str | Path) -> Path:
    """Read the path of a file or folder, which need not exist.

    Parameters
    ----------
    option : str
        The option that has it, for messages.
    given : str or Path
        What the user wrote.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    UsageError
        If it is empty, which would be the working folder, or no file can have such a name.
    """
    if given == "":
        raise UsageError(f"{option} ''", "it is empty", "Name it; the working folder is .")
    try:
        path = Path(given)
        possible = b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        possible = False
    if not possible:
        raise UsageError(f"{option} {_shown(given)}", "no file or folder can have this name", "Give another one")
    return path


def _shown(given: object) -> str:
    """Return what was given as a message repeats it: whole unless it is long, and readable whatever is in it."""
    try:
        text = given if isinstance(given, str) and given.isprintable() and given else ascii(given)
    except ValueError:  # Python does not write whole numbers of very many digits
        text = "a number of very many digits"
    # it may be a token that was put in the wrong place
    return hide_likely(f"{text[:100]}{'...' if len(text) > 100 else ''}")


def whole_of(option: str, given: object, least: int, most: int) -> int:
    """Read a whole number: digits alone, or a number of a program.

    Parameters
    ----------
    option : str
        The option that has it, for messages.
    given : object
        What the user wrote, or passed.
    least, most : int
        The limits.

    Returns
    -------
    int
        The number.

    Raises
    ------
    UsageError
        If it is none, or beyond the limits.
    """
    number = None
    if isinstance(given, str) and _WHOLE.fullmatch(given):
        number = int(given)
    elif hasattr(given, "__index__") and not isinstance(given, bool):
        number = int(given.__index__())
    if number is None or not least <= number <= most:
        raise UsageError(
            f"{option} {_shown(given)}",
            f"it is not a whole number from {least:,} to {most:,}" if number is None else "it is not within the limits",
            f"Give a number from {least} to {most}, in digits alone",
        )
    return number


def range_of(asked: str, text: str, remedy: str) -> tuple[int, int]:
    """Read ``start,stop`` (or ``start:stop``).

    Parameters
    ----------
    asked : str
        What says it, for messages.
    text : str
        What the user wrote.
    remedy : str
        What helps where it is something else.

    Returns
    -------
    tuple of int
        Start and stop; that they make a range is `Box`'s to check.

    Raises
    ------
    UsageError
        If it is not two whole numbers from 0 upwards.
    """
    parts = text.replace(":", ",").split(",")
    if len(parts) != 2 or not all(_WHOLE.fullmatch(part) and int(part) <= _LARGEST_INDEX for part in parts):
        raise UsageError(asked, f"it is not two whole numbers from 0 to {_LARGEST_INDEX}", remedy)
    return int(parts[0]), int(parts[1])


def names_of(option: str, text: str | None) -> tuple[str, ...]:
    """Read ``NAME,NAME``.

    Parameters
    ----------
    option : str
        The option that has them, for messages.
    text : str or None
        What the user wrote, None where the option is not given.

    Returns
    -------
    tuple of str
        The names; none where the option is not given.

    Raises
    ------
    UsageError
        If one is empty, or there twice.
    """
    if text is None:
        return ()
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f"{option} {_shown(text)}", "a name is empty, or there twice", "Give it as NAME,NAME without spaces"
        )
    return names


def block_size_of(text: str) -> tuple[int, int, int]:
    """Read the value of ``--block-size``.

    Parameters
    ----------
    text : str
        ``Z,Y,X``, in voxels.

    Returns
    -------
    tuple of int
        z, y, x.

    Raises
    ------
    UsageError
        If it is not three whole numbers from 1 upwards.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(_WHOLE.fullmatch(part) and 0 < int(part) < 2**31 for part in parts):
        raise UsageError(
            f"--block-size {_shown(text)}",
            "it is not three whole numbers from 1 upwards",
            "Give it as Z,Y,X, such as 32,512,512",
        )
    z, y, x = (int(part) for part in parts)
    return z, y, x


def gib_of(option: str, text: str | None) -> int | None:
    """Read a size in GiB.

    Parameters
    ----------
    option : str
        The option that has it, for messages.
    text : str or None
        What the user wrote, None where the option is not given.

    Returns
    -------
    int or None
        Bytes.

    Raises
    ------
    UsageError
        If it is no number above 0.
    """
    if text is None:
        return None
    size = float(text) if _DECIMAL.fullmatch(text) else 0.0
    if not 2**-30 <= size < 2**20:
        found = f"it is no size in GiB above 0 and below {2**20}"
        raise UsageError(f"{option} {_shown(text)}", found, f"Give it such as {option} 1.5")
    return int(size * 2**30)


def pairs_of(option: str, texts: Sequence[str], empty: bool = False) -> dict[str, str]:
    """Read ``name=value`` texts.

    Parameters
    ----------
    option : str
        The option that has them, for messages.
    texts : sequence of str
        What the user wrote.
    empty : bool
        Whether a value may be empty.

    Returns
    -------
    dict of str to str
        Name to value.

    Raises
    ------
    UsageError
        If one is of another form, or a name comes twice.
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and (value or empty)):
            raise UsageError(f"{option} {text}", "it is not of the form name=value", "Write it so, without spaces")
        if name in pairs:
            raise UsageError(f"{option} {text}", f"{name} is given twice", "Give it once")
        pairs[name] = value
    return pairs


def parameters_of(texts: Sequence[str]) -> dict[str, str]:
    """Read the parameters of a pipeline; one that begins with ``@`` is the text of a file.

    Parameters
    ----------
    texts : sequence of str
        ``NAME=VALUE`` or ``NAME=@FILE``.

    Returns
    -------
    dict of str to str
        Name to value.

    Raises
    ------
    UsageError
        If one is of another form, or a file cannot be read, is no text, or too large.
    """
    values = pairs_of("--param", texts)
    return {name: _text_of(name, Path(value[1:])) if value.startswith("@") else value for name, value in values.items()}


def _text_of(name: str, path: Path) -> str:
    """Read the file of a parameter."""
    asked = f"--param {name}=@{path}"
    try:
        refuse_special(path)
        with path.open("rb") as file:
            body = file.read(_PARAMETER_BYTES + 1)
        text = body.decode("utf-8")
    except OSError as error:
        raise UsageError(asked, str(error.strerror).lower(), "Name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise UsageError(asked, "the file is not text in UTF-8", "Save it so") from error
    except ValueError as error:
        raise UsageError(asked, "no file can have this name", "Name a file that can be read") from error
    if len(body) > _PARAMETER_BYTES:
        raise UsageError(asked, f"the file has more than {_PARAMETER_BYTES:,} bytes", "Name the right file")
    return text
