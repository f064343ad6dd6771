"""How our command lines are read: by a parser that answers in a sentence.

It knows no option of any of them.
"""

from __future__ import annotations

import argparse
import logging
import re
from typing import Any, NoReturn

from nd_synapse.console import app
from nd_synapse.credentials import hide_likely
from nd_synapse.errors import UsageError
from nd_synapse.values import parse_int, parse_path

__all__ = ["IntOption", "Parser", "PathOption", "add_verbosity", "level_of"]

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
        """Return the help."""
        return super().format_help() + (f"\n{self.appendix}" if self.appendix else "")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a help; argparse would pass over one that cannot be written."""
        del file
        app.write_stdout(message)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
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
    lacking = re.fullmatch(r"argument (.*): expected one argument", message)
    if lacking:
        option = lacking[1].split("/")[-1]
        return f"{option} has no value; one that begins with - is written {option}=VALUE{_unsigned(option)}"
    return hide_likely(re.sub(r"ignored explicit argument .*", "it takes no value", message, flags=re.DOTALL))


def _unsigned(option: str) -> str:
    """Say of an option that is no option of negative numbers that it is none."""
    return ", and no number in it is negative" if option.endswith(("-range", "-size")) else ""


class IntOption(argparse.Action):
    """An option whose value is a whole number within limits.

    Parameters
    ----------
    *args : Any
        As for `argparse.Action`.
    least, most : int
        The limits.
    **kwargs : Any
        As for `argparse.Action`.
    """

    def __init__(self, *args: Any, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.least, self.most = least, most

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any) -> None:
        """Read what the user wrote."""
        del parser
        text, option = given
        setattr(namespace, self.dest, parse_int(option, text, self.least, self.most))


class PathOption(argparse.Action):
    """An option, or a word, that is a path."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any) -> None:
        """Read what the user wrote."""
        del parser
        text, option = given
        setattr(namespace, self.dest, parse_path(option or str(self.metavar or self.dest), text))


def add_verbosity(p: argparse.ArgumentParser) -> None:
    """Add ``--verbose`` and ``--quiet`` to a parser."""
    loud = p.add_argument_group("messages").add_mutually_exclusive_group()
    loud.add_argument("--verbose", action="store_true", help="a line for each block too")
    loud.add_argument("--quiet", action="store_true", help="warnings and errors only")


def level_of(options: argparse.Namespace) -> int:
    """Read what `add_verbosity` added."""
    return logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO
