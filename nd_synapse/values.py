"""Values as users give them, on command lines and in programs: read strictly, or refused.

Messages name the option; they repeat a value that consists of numbers alone, because another may be a misplaced token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nd_synapse.errors import UsageError
from nd_synapse.paths import refuse_special

__all__ = [
    "parse_assignments",
    "parse_block_size",
    "parse_gib",
    "parse_int",
    "parse_lengths",
    "parse_names",
    "parse_number",
    "parse_pairs",
    "parse_path",
    "parse_range",
]

_PARAMETER_BYTES = 2**20
"""Largest file of a parameter."""

# int() and float() would take blanks, underscores and the digits of other scripts, too
_WHOLE = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"(?=\.?[0-9])[0-9]{0,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?")
_HARMLESS = re.compile(r"[-+0-9.,: ]{1,40}")
_LARGEST_INDEX = 999_999_999
_LARGEST_NM = 1e12


def _shown(given: object) -> str:
    """Return a value that cannot be a token, "it" in place of all others."""
    # Python does not write whole numbers of very many digits
    text = given if isinstance(given, str) else str(given) if isinstance(given, int) and abs(given) < 10**40 else ""
    return (text.strip() if _HARMLESS.fullmatch(text) else "") or "it"


def parse_path(option: str, given: str | Path) -> Path:
    """Read the path of a file or folder, which need not exist."""
    if given == "":
        raise UsageError(option, "it is empty", "Name a file or folder; the working folder is .")
    try:
        path = Path(given)
        possible = b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        possible = False
    if not possible:
        raise UsageError(option, "no file or folder can have this name", "Give another one")
    return path


def parse_int(option: str, given: object, least: int, most: int) -> int:
    """Read a whole number: digits only, or a number of a program."""
    number = None
    if isinstance(given, str) and _WHOLE.fullmatch(given):
        number = int(given)
    elif hasattr(given, "__index__") and not isinstance(given, bool):
        number = int(given.__index__())
    if number is None or not least <= number <= most:
        found = f"{_shown(given)} is not a whole number from {least:,} to {most:,}"
        raise UsageError(option, found, f"Give a number from {least} to {most}, in digits only")
    return number


def parse_number(option: str, text: str, most: float) -> float:
    """Read a number from 0 upwards."""
    number = float(text) if _DECIMAL.fullmatch(text) else -1.0
    if not 0 <= number <= most:
        raise UsageError(
            option,
            f"{_shown(text)} is not a number from 0 to {most:g}",
            f"Give a number such as {min(1.5, most / 2):g}",
        )
    return number


def parse_lengths(option: str, text: str) -> tuple[float, float, float]:
    """Read ``Z,Y,X`` in nanometres."""
    parts = text.split(",")
    if len(parts) != 3 or not all(_DECIMAL.fullmatch(part) and float(part) <= _LARGEST_NM for part in parts):
        raise UsageError(
            option, f"{_shown(text)} is not Z,Y,X in nanometres", "Give three without spaces, such as 70,100,100"
        )
    z, y, x = map(float, parts)
    return z, y, x


def parse_range(option: str, text: str) -> tuple[int, int]:
    """Read ``start,stop`` or ``start:stop``; that it holds a voxel is `Box`'s to check."""
    parts = text.replace(":", ",").split(",")
    if len(parts) != 2 or not all(_WHOLE.fullmatch(part) and int(part) <= _LARGEST_INDEX for part in parts):
        found = f"{_shown(text)} is not two whole numbers from 0 to {_LARGEST_INDEX}"
        raise UsageError(option, found, "Give start,stop or start:stop without spaces, such as 0,16")
    return int(parts[0]), int(parts[1])


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """Read ``NAME,NAME``."""
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(option, "a name is empty, or given twice", "Give NAME,NAME without spaces")
    return names


def parse_block_size(option: str, text: str) -> tuple[int, int, int]:
    """Read ``Z,Y,X`` in voxels."""
    parts = text.split(",")
    if len(parts) != 3 or not all(_WHOLE.fullmatch(part) and 0 < int(part) < 2**31 for part in parts):
        raise UsageError(
            option, f"{_shown(text)} is not three whole numbers from 1 upwards", "Give Z,Y,X, such as 32,512,512"
        )
    z, y, x = map(int, parts)
    return z, y, x


def parse_gib(option: str, text: str) -> int:
    """Read a size in GiB; return it in bytes."""
    size = float(text) if _DECIMAL.fullmatch(text) else 0.0
    if not 2**-30 <= size < 2**20:
        raise UsageError(
            option, f"{_shown(text)} is no size in GiB above 0 and below {2**20}", f"Give it such as {option} 1.5"
        )
    return int(size * 2**30)


def parse_pairs(option: str, texts: Sequence[str], empty: bool = False, form: str = "NAME=VALUE") -> dict[str, str]:
    """Read ``NAME=VALUE`` texts, which messages call `form`; `empty` allows a value of no characters."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and (value or empty)):
            raise UsageError(option, f"it is not of the form {form}", f"Give {form} without spaces")
        if name in pairs:
            raise UsageError(option, "a name is given twice", "Give each name once")
        pairs[name] = value
    return pairs


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Read the parameters of a pipeline; ``NAME=@FILE`` is the text of a file."""
    values = parse_pairs("--param", texts)
    return {name: _text_of(Path(value[1:])) if value.startswith("@") else value for name, value in values.items()}


def _text_of(path: Path) -> str:
    """Read the file of a parameter."""
    requested = "the file of --param NAME=@FILE"
    try:
        refuse_special(path)
        with path.open("rb") as file:
            body = file.read(_PARAMETER_BYTES + 1)
        text = body.decode("utf-8")
    except OSError as error:
        raise UsageError(requested, str(error.strerror).lower(), "Name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise UsageError(requested, "it is not text in UTF-8", "Save it as UTF-8") from error
    except ValueError as error:
        raise UsageError(requested, "no file can have this name", "Name a file that can be read") from error
    if len(body) > _PARAMETER_BYTES:
        raise UsageError(requested, f"it has more than {_PARAMETER_BYTES:,} bytes", "Name the right file")
    return text
