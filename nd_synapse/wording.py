"""What a message calls an option: ``--block-size 8,512,512`` in a command, ``block_size=(8, 512, 512)`` in a program.

Messages are written with options. They reach the users of a command as they are; for programs, `errors.called` makes
arguments of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Names", "as_arguments", "command", "in_command"]

Names = Mapping[str, "str | Callable[[str], str]"]
"""Option, without its hyphens, to the name of the argument; or to what makes of its value all that is said."""

_OPTION = re.compile(
    r"(?<![\w-])--(?P<name>[a-z]+(?:-[a-z]+)*)"
    r"(?: (?P<value>\d(?:[\d.,]*\d)?(?![\w.])|[A-Z]+(?:,[A-Z]+)*\b|\w+=\w+(?:,\w+=\w+)*))?"
)


def _memory(value: str) -> str:
    number = value.replace(".", "", 1).isdigit()
    return f"memory_bytes={math.ceil(float(value) * 2**30)}" if number else "memory_bytes"


_NAMES: Names = {
    "col": "collection",
    "exp": "experiment",
    "out-col": "out_collection",
    "out-exp": "out_experiment",
    "token-file": "token",
    "param": "parameters",
    "memory": _memory,
    "cache": "cache_bytes",
    "fresh": "fresh=True",
    "overwrite": "overwrite=True",
}

_commands = 0
"""Commands that this process is running: in its threads as well."""


@contextmanager
def command() -> Iterator[None]:
    """Let messages name options while a command runs."""
    global _commands
    _commands += 1
    try:
        yield
    finally:
        _commands -= 1


def in_command() -> bool:
    """Return whether this process runs a command."""
    return _commands > 0


def as_arguments(text: str, names: Names, *, others: bool = True) -> str:
    """Return a text with arguments in the place of options, but for commands in backquotes; `others` not in `names`."""

    def named(option: re.Match[str]) -> str:
        name, value = option["name"], option["value"] or ""
        if name not in names and not others:
            return option[0]
        argument = names.get(name) or _NAMES.get(name) or name.replace("-", "_")
        if not isinstance(argument, str):
            return argument(value)
        return argument + _literal(value)

    # every other part is in backquotes
    return "`".join(part if i % 2 else _OPTION.sub(named, part) for i, part in enumerate(text.split("`")))


def _literal(value: str) -> str:
    """Return the value of an option as a program writes it, after its ``=``; empty for a placeholder such as NAME."""
    if "=" in value:
        pairs = (pair.split("=") for pair in value.split(","))
        return "={" + ", ".join(f'"{key}": "{named}"' for key, named in pairs) + "}"
    if "," in value:
        return f"=({', '.join(value.lower().split(','))})"
    return f"={value}" if value[:1].isdigit() else ""
