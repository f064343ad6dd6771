"""The parser of every command line: errors in one sentence, a short help, and a whole one by ``--help-all``.

Its errors repeat names of options, and no values: one of them may be a token.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn

from nd_synapse.console import app
from nd_synapse.errors import UsageError
from nd_synapse.values import parse_int

__all__ = ["Parser", "add_number", "add_value"]

_OPTION = re.compile(r"--?[A-Za-z][A-Za-z-]*")
_HELP_COLUMN = 30


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError` in place of printing a page of usage.

    Options may not be shortened: a short form may become ambiguous in another version.
    """

    def __init__(self, *, rare: Iterable[str] = (), **options: Any) -> None:
        """Build a parser whose ``--help`` leaves out the `rare` options; ``--help-all`` shows every option."""
        formatter = partial(argparse.HelpFormatter, max_help_position=_HELP_COLUMN)
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **options})
        self.rare = frozenset(rare)
        if self.rare:
            self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show the help of all options, and exit")
        self.others: tuple[str, ...] = ()
        """Options that another parser of the same command line reads, to suggest in place of misspelt ones."""
        self.appendix = ""
        """Text at the end of the help, printed as it is."""

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(name for action in self._actions for name in action.option_strings)

    def format_help(self, short: bool = True) -> str:
        """Return the help."""
        hidden = [action for action in self._actions if short and self.rare.intersection(action.option_strings)]
        texts = [action.help for action in hidden]
        try:
            for action in hidden:
                action.help = argparse.SUPPRESS
            return super().format_help() + (f"\n{self.appendix}" if self.appendix else "")
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a help; argparse would ignore that it cannot be written."""
        del file
        app.write_stdout(message)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        found = self._without_values(message.rstrip("."))
        raise UsageError("the command line", found, f"{self.prog} --help lists the options")

    def _without_values(self, message: str) -> str:
        """Return a message of argparse without the values in it, and with the option that was meant."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            names = {word.partition("=")[0] for word in unknown.split()}
            options = sorted(name for name in names if _OPTION.fullmatch(name))
            if not options:
                lone = "--source" in self.option_names and not self._get_positional_actions()
                return f"it has a word that belongs to no option{'; a volume is given by --source URI' if lone else ''}"
            return f"unrecognized {'options' if options[1:] else 'option'} {' '.join(options)}{self._meant(options[0])}"
        lacking = re.fullmatch(r"argument (.*): expected (?:at least )?one argument", message)
        if lacking:
            option = lacking[1].split("/")[-1]
            if option.endswith(("-range", "-size")):
                return f"{option} needs a value without negative numbers"
            return f"{option} needs a value; one that begins with - is written {option}=VALUE"
        if message == "the following arguments are required: COMMAND":
            return "a command is missing"
        message = re.sub(
            r"argument COMMAND: invalid choice: .* \(choose from (.*)\)$",
            lambda match: f"there is no such command; there are {match[1].replace(chr(39), '')}",
            message,
            flags=re.DOTALL,
        )
        message = re.sub(r"(invalid choice): .* \(choose from (.*)\)$", r"\1; choose from \2", message, flags=re.DOTALL)
        message = re.sub(r"(invalid \w+ value): .*", r"\1", message, flags=re.DOTALL)
        return re.sub(r"ignored explicit argument .*", "it takes no value", message, flags=re.DOTALL)

    def _meant(self, option: str) -> str:
        """Return the question whether another option was meant."""
        meant = get_close_matches(option, [*self.option_names, *self.others], 1)
        return f"; the closest is {meant[0]}" if meant else ""


class _HelpAll(argparse.Action):
    """Prints the help of all options and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it."""
        assert isinstance(parser, Parser)
        app.write_stdout(parser.format_help(short=False))
        parser.exit()


class _Value(argparse.Action):
    """An option, or a word, that is read by a parser of `nd_synapse.values`: ``parse(option, text)``."""

    def __init__(self, *args: Any, parse: Callable[[str, str], object], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parse = parse

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any) -> None:
        """Read the text."""
        del parser
        text, option = given
        setattr(namespace, self.dest, self.parse(option or str(self.metavar or self.dest), text))


def add_value(
    p: argparse._ActionsContainer, name: str, parse: Callable[[str, str], object], text: str, **more: Any
) -> None:
    """Add an option, or a word, that a parser of `nd_synapse.values` reads; `text` is its help."""
    p.add_argument(name, action=_Value, parse=parse, help=text, **more)


def add_number(p: argparse._ActionsContainer, name: str, least: int, most: int, text: str, **more: Any) -> None:
    """Add an option whose value is a whole number within limits."""
    add_value(p, name, partial(parse_int, least=least, most=most), text, **{"metavar": "N", **more})
