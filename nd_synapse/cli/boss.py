"""The commands of the local BOSS: serve a data folder, ingest stacks, write the synthetic sample.

It parses and reports; the work is done by the module of each command.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from nd_synapse import logs
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.credentials import HIDDEN, hide_likely
from nd_synapse.errors import NDSynapseError, UsageError
from nd_synapse.local_boss import ingest, sample
from nd_synapse.paths import refuse_special

__all__ = ["main"]

COMMANDS = {
    "serve": "answer HTTP requests as BOSS does",
    "ingest": "fill a channel from TIFF, Zarr or .npy files",
    "sample": "write a synthetic array-tomography experiment",
}


_MODULES = {"ingest": ingest, "sample": sample}

_PLAN_CHARACTERS = 2**20
"""Longest fault plan; what follows is not read, and so no JSON any more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return app.run(_command, argv, remedy="What was stored by then stays")


def _command(argv: list[str], _environ: Mapping[str, str]) -> int:
    """Run a command; return its exit code."""
    try:
        args = _parsed(argv)
        return _serve(args) if args.command == "serve" else _run(args)
    except NDSynapseError as error:
        requested, found, remedy = (
            _without_tokens(part, argv) for part in (error.requested, error.found, error.remedy)
        )
        raise type(error)(requested, found, remedy) from None


def _without_tokens(text: str, argv: Sequence[str]) -> str:
    """Take out of a message the words of the command line that look like a token: one may be in the place of a value.

    Only whole words: those of 20 characters in the name of a file are most likely what they seem.
    """
    for word in argv:
        value = word.rpartition("=")[2].removeprefix("@")
        if hide_likely(value) == HIDDEN:
            text = text.replace(value, HIDDEN)
    return text


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nd-synapse boss", description="A BOSS on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    meant = next((word for word in argv if not word.startswith("-")), None)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name == "serve":
            _add_serve_arguments(command)
        elif name == meant:
            _MODULES[name].add_arguments(command)
    return parser.parse_args(argv)


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data folder; made if it is missing")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: the loopback interface)")
    parser.add_argument("--port", type=int, default=0, help="port to bind (default: any free one)")
    parser.add_argument(
        "--delay-ms", type=float, default=0.0, metavar="N", help="let every reply wait (default: no wait)"
    )
    parser.add_argument(
        "--rate-mb-s", type=float, default=math.inf, metavar="R", help="pace each body (default: no limit)"
    )
    parser.add_argument(
        "--faults", metavar="PLAN", help="let requests go wrong, for tests of clients: a fault plan in JSON, or @FILE"
    )
    parser.add_argument("--strict", action="store_true", help="fail as the real server does, see docs/local-boss.md")
    parser.add_argument("--verbose", action="store_true", help="log every request")


def _serve(args: argparse.Namespace) -> int:
    from nd_synapse.local_boss.faults import FaultPlan
    from nd_synapse.local_boss.log_filter import Sparing
    from nd_synapse.local_boss.server import serve
    from nd_synapse.local_boss.throttle import Link

    logs.apply(logs.LogSettings(logging.INFO if args.verbose else logging.WARNING))
    for handler in logging.getLogger().handlers:
        # the first, for it tells kinds of lines by what is still to be filled in
        handler.filters.insert(0, Sparing())
    link = Link(args.delay_ms, args.rate_mb_s)
    plan = None if args.faults is None else FaultPlan.from_json(_text_of(args.faults))
    serve(args.data, args.host, args.port, args.strict, args.verbose, link, plan)
    return 0


def _text_of(argument: str) -> str:
    """Return a text that is given as it is, or as the name of its file after an @."""
    if not argument.startswith("@"):
        return argument
    try:
        refuse_special(argument[1:])
        with Path(argument[1:]).open(encoding="utf-8") as file:
            return file.read(_PLAN_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--faults {argument}", f"the file cannot be read: {error}", "Check its name") from error


def _run(args: argparse.Namespace) -> int:
    return int(_MODULES[args.command].run(args))
