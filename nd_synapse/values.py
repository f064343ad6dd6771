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
    "parse_assignments",
    "parse_block_size",
    "parse_gib",
    "parse_int",
    "parse_names",
    "parse_pairs",
    "parse_path",
    "parse_range",
]

_PARAMETER_BYTES = 2**20
"""What the file of a parameter may have."""

# int() would take signs, blanks, underscores and the digits of other scripts, too
_WHOLE = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"(?=\.?[0-9])[0-9]{0,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?")
_LARGEST_INDEX = 999_999_999


def parse_path(option: str, given: str | Path) -> Path:
    """Read the path of a file or folder, which need not exist."""
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


def parse_int(option: str, given: object, least: int, most: int) -> int:
    """Read a whole number: digits alone, or a number of a program."""
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


def parse_range(requested: str, text: str, remedy: str) -> tuple[int, int]:
    """Read ``start,stop`` (or ``start:stop``)."""
    parts = text.replace(":", ",").split(",")
    if len(parts) != 2 or not all(_WHOLE.fullmatch(part) and int(part) <= _LARGEST_INDEX for part in parts):
        raise UsageError(requested, f"it is not two whole numbers from 0 to {_LARGEST_INDEX}", remedy)
    return int(parts[0]), int(parts[1])


def parse_names(option: str, text: str | None) -> tuple[str, ...]:
    """Read ``NAME,NAME``."""
    if text is None:
        return ()
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f"{option} {_shown(text)}", "a name is empty, or there twice", "Give it as NAME,NAME without spaces"
        )
    return names


def parse_block_size(text: str) -> tuple[int, int, int]:
    """Read the value of ``--block-size``."""
    parts = text.split(",")
    if len(parts) != 3 or not all(_WHOLE.fullmatch(part) and 0 < int(part) < 2**31 for part in parts):
        raise UsageError(
            f"--block-size {_shown(text)}",
            "it is not three whole numbers from 1 upwards",
            "Give it as Z,Y,X, such as 32,512,512",
        )
    z, y, x = (int(part) for part in parts)
    return z, y, x


def parse_gib(option: str, text: str | None) -> int | None:
    """Read a size in GiB."""
    if text is None:
        return None
    size = float(text) if _DECIMAL.fullmatch(text) else 0.0
    if not 2**-30 <= size < 2**20:
        found = f"it is no size in GiB above 0 and below {2**20}"
        raise UsageError(f"{option} {_shown(text)}", found, f"Give it such as {option} 1.5")
    return int(size * 2**30)


def parse_pairs(option: str, texts: Sequence[str], empty: bool = False) -> dict[str, str]:
    """Read ``name=value`` texts."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and (value or empty)):
            raise UsageError(f"{option} {text}", "it is not of the form name=value", "Write it so, without spaces")
        if name in pairs:
            raise UsageError(f"{option} {text}", f"{name} is given twice", "Give it once")
        pairs[name] = value
    return pairs


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Read the parameters of a pipeline; one that begins with ``@`` is the text of a file."""
    values = parse_pairs("--param", texts)
    return {name: _text_of(name, Path(value[1:])) if value.startswith("@") else value for name, value in values.items()}


def _text_of(name: str, path: Path) -> str:
    """Read the file of a parameter."""
    requested = f"--param {name}=@{path}"
    try:
        refuse_special(path)
        with path.open("rb") as file:
            body = file.read(_PARAMETER_BYTES + 1)
        text = body.decode("utf-8")
    except OSError as error:
        raise UsageError(requested, str(error.strerror).lower(), "Name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise UsageError(requested, "the file is not text in UTF-8", "Save it so") from error
    except ValueError as error:
        raise UsageError(requested, "no file can have this name", "Name a file that can be read") from error
    if len(body) > _PARAMETER_BYTES:
        raise UsageError(requested, f"the file has more than {_PARAMETER_BYTES:,} bytes", "Name the right file")
    return text
