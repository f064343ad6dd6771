"""How our command lines are read: a parser that answers in a sentence, and the forms of values.

It knows no option of any of them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import shell
from credentials import hide_likely
from errors import UsageError

__all__ = ["Parser", "block_size_of", "gib_of", "pairs_of", "parameters_of"]

_PARAMETER_BYTES = 2**20
"""What the file of a parameter may have."""

_SIZE = re.compile(r"[0-9]{1,10}")
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z-]*")


class Parser(argparse.ArgumentParser):
    """A parser that answers a wrong command line with an error of ours: one sentence, no page of usage.

    Options may not be shortened: what is short for one today is short for another tomorrow.

    Parameters
    ----------
    **options
        As those of `argparse.ArgumentParser`.
    """

    appendix = ""
    """What its help ends with, as it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def format_help(self) -> str:
        """Return the help.

        Returns
        -------
        str
            The options, and the appendix.
        """
        return super().format_help() + (f"\n{self.appendix}" if self.appendix else "")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a help; argparse would pass over one that cannot be written."""
        del file
        shell.say(message)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line.

        Parameters
        ----------
        message : str
            What is wrong with it. Of words that it does not know, only options are repeated, without their values:
            one of the others may be a token that was put in the wrong place.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(
            "the command line", _without_values(message.rstrip(".")), f"{self.prog} --help lists the options"
        )


def _without_values(message: str) -> str:
    """Take out of a message of argparse what may be secret."""
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown != message:
        names = [word.partition("=")[0] for word in unknown.split()]
        options = sorted({name for name in names if _OPTION.fullmatch(name)})
        return f"unrecognized options: {' '.join(options)}" if options else "a word in it belongs to no option"
    ambiguous, could_match, options_ = message.rpartition(" could match ")
    if could_match:
        return ambiguous.partition("=")[0] + could_match + options_
    return hide_likely(re.sub(r"ignored explicit argument .*", "it takes no value", message, flags=re.DOTALL))


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
    if len(parts) != 3 or not all(_SIZE.fullmatch(part) and 0 < int(part) < 2**31 for part in parts):
        raise UsageError(
            f"--block-size {text[:100]}",
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
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 2**20:
        raise UsageError(f"{option} {text}", "it is no size in GiB above 0", f"Give it such as {option} 1.5")
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
