"""The commands of ``nd-synapse``: entry points of a group, to which other packages can add."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from nd_synapse.console import app
from nd_synapse.errors import StorageError, UnknownNameError, UsageError, closest
from nd_synapse.installed import own_entry_points
from nd_synapse.redaction import describe_error
from nd_synapse.version import __version__

__all__ = ["ENTRY_POINTS", "run"]

ENTRY_POINTS = "nd_synapse.commands"
"""Group of entry points to functions that take the words after the command and return an exit code."""

_PURPOSES = {
    "run": "find synapses in a box of an experiment",
    "sources": "say what is in a volume in files or in a bucket",
    "view": "show the synapses of a run on its images",
    "verify": "check a result folder",
    "upload": "send a result folder to S3",
    "evaluate": "compare a pipeline, or a table, with truth",
    "report": "draw the report of a table",
    "multicore": "run a function of your own on every block",
    "pipelines": "list the pipelines, or describe one",
    "batch": "plan, submit and follow a run on AWS Batch",
    "boss": "serve a BOSS on this machine, and fill it",
    "demo": "run a job on a synthetic sample",
    "doctor": "say what this machine has, for a report of a problem",
}


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names, and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    found = own_entry_points(ENTRY_POINTS)
    if not words or words[0] not in found:
        found = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)} | found
    if words and words[0] in found:
        point = found[words[0]]
        try:
            command = point.load()
        except ImportError as error:
            return app.run(_refuse_broken(point, error), words)
        return int(command(words[1:]))
    return app.run(lambda arguments, _environ: _without_command(arguments, found), words)


def _refuse_broken(point: metadata.EntryPoint, error: ImportError) -> app.Command:
    """Return a command that fails since this one cannot be imported."""

    def command(_arguments: list[str], _environ: Mapping[str, str]) -> int:
        raise StorageError(
            f"the command {point.name}", f"importing {point.value} failed: {describe_error(error)}", "Install it again"
        ) from error

    return command


def _without_command(words: list[str], found: Mapping[str, metadata.EntryPoint]) -> int:
    """Print the help or the version; refuse a command that does not exist."""
    if not found:
        raise StorageError(
            "nd-synapse", "its entry points are not installed", "Install the package: pip install -e . in a clone"
        )
    if words[:1] in ([], ["-h"], ["--help"]):
        return app.write_stdout(_help(found))
    if words == ["--version"]:
        return app.write_stdout(f"nd-synapse {__version__}\n")
    if words[0].startswith("-"):
        raise UsageError("the command line", "it begins with an option", "Name a command first: nd-synapse --help")
    names = [*(name for name in _PURPOSES if name in found), *(name for name in found if name not in _PURPOSES)]
    raise UnknownNameError(
        "the command line",
        f"there is no such command; the closest is {closest(words[0], names)[0]}",
        "nd-synapse --help lists all commands",
    )


def _help(found: Mapping[str, metadata.EntryPoint]) -> str:
    """Return a line a command, ours first."""
    ours = [(name, purpose) for name, purpose in _PURPOSES.items() if name in found]
    others = [(name, f"from {point.value}") for name, point in sorted(found.items()) if name not in _PURPOSES]
    lines = "".join(f"  {name:<12}{purpose}\n" for name, purpose in ours + others)
    return f"usage: nd-synapse COMMAND ...\n\n{lines}\nnd-synapse COMMAND --help describes a command.\n"
