"""The commands of `nd-synapse batch`: their command lines; `actions` does what they request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batch.arguments import COMMANDS, PLANNED, parser_of, requested_run
from nd_synapse import logs
from nd_synapse.cli.options import level_of
from nd_synapse.console import app
from nd_synapse.console.parser import Parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    return app.run(_command, argv, remedy="See with `status` what was submitted")


def _command(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run a command; return its exit code."""
    p = Parser(prog="nd-synapse batch", description="A run in parts, on AWS Batch or another cluster.")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    # the rest is parsed by the parser of the command
    command, words = p.parse_args(arguments[:1]).command, arguments[1:]
    if command in PLANNED:
        requested = requested_run(command, words, environ)
        from batch import actions  # a help appears sooner without boto3

        return {"plan": actions.plan, "script": actions.script, "submit": actions.submit}[command](requested)
    ours = parser_of(command).parse_args(words)
    logs.apply(logs.LogSettings(level_of(ours)))
    from batch import actions

    run = {"status": actions.status, "logs": actions.logs, "cancel": actions.cancel, "resume": actions.resume}
    return run[command](ours)
