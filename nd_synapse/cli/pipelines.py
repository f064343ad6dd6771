"""``nd-synapse pipelines``: lists the pipelines, or describes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nd_synapse.cli.options import search_working_folder
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.pipeline.listing import described, listed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser(prog="nd-synapse pipelines", description="List the pipelines, or describe one.")
    parser.add_argument("name", nargs="?", help="a pipeline, or package.module:function")

    def command(words: list[str], _environ: Mapping[str, str]) -> int:
        name = parser.parse_args(words).name
        search_working_folder(name)
        return app.write_stdout(listed() if name is None else described(name))

    return app.run(command, argv)
