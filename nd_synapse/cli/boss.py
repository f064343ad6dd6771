"""The commands of the local BOSS: serve a data folder, ingest stacks, write the synthetic sample, print the token."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nd_synapse import logs
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.local_boss import ingest, sample, tokens

__all__ = ["main"]

COMMANDS = {
    "serve": "answer HTTP requests as BOSS does",
    "ingest": "fill a channel from TIFF, Zarr or .npy files",
    "sample": "write a synthetic array-tomography experiment",
    "token": "print the token that may write",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return app.run(_command, argv, remedy="What was stored by then stays")


def _command(argv: list[str], _environ: Mapping[str, str]) -> int:
    parser = Parser(prog="nd-synapse boss", description="A BOSS on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    added = {"serve": _add_serve, "ingest": ingest.add_arguments, "sample": sample.add_arguments, "token": _add_token}
    for name, purpose in COMMANDS.items():
        added[name](commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."))
    args = parser.parse_args(argv)
    run = {"serve": _serve, "ingest": ingest.run, "sample": sample.run, "token": _token}
    return run[args.command](args)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data folder; made if it is missing")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; default: the loopback interface")
    parser.add_argument("--port", type=int, default=0, help="port to bind; default: any free one")
    parser.add_argument("--strict", action="store_true", help="fail as the real server does, see docs/local-boss.md")
    parser.add_argument("--verbose", action="store_true", help="log every request")


def _serve(args: argparse.Namespace) -> int:
    # the other commands start without a web framework
    from nd_synapse.local_boss.server import serve

    logs.apply(logs.LogSettings(logging.INFO if args.verbose else logging.WARNING))
    serve(args.data, args.host, args.port, args.strict, args.verbose)
    return 0


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data folder")


def _token(args: argparse.Namespace) -> int:
    # this command alone prints a token: that is its purpose
    sys.stdout.write(f"{tokens.writing_token(args.data)}\n")
    return app.write_stdout("")
