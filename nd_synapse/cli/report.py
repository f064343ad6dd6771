"""``nd-synapse report``: draws the report of a table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from nd_synapse.console import app
from nd_synapse.console.parser import Parser, add_value
from nd_synapse.errors import LOCAL, exit_codes
from nd_synapse.values import parse_path

__all__ = ["main"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse report") -> int:
    """Run the command and return its exit code."""
    parser = Parser(
        prog=prog,
        description="Write the PyMeda report of a table.",
        epilog=exit_codes(*LOCAL),
    )
    add_value(parser, "table", parse_path, "rows are observations; columns of numbers are used", metavar="TABLE.csv")
    add_value(parser, "--out", parse_path, "folder of the report, made when missing", metavar="DIR", required=True)
    parser.add_argument("--figures", action="store_true", help="figures as SVG beside the PNG files, for talks")
    parser.add_argument("--title", help="title of the page; default: the name of the table")

    def command(words: list[str], _environ: Mapping[str, str]) -> int:
        requested = parser.parse_args(words)
        # a help appears sooner without matplotlib
        from nd_synapse.report.facts import RunFacts
        from nd_synapse.report.report import write_report
        from nd_synapse.report.table_file import read_table_file

        table = read_table_file(requested.table)
        log.info("drawing the report of %s", requested.table)
        page = write_report(
            requested.out,
            title=requested.title or f"PyMeda of {requested.table.stem}",
            table=table.columns,
            facts=RunFacts(requested=_request(requested.table.name, table.how), notes=table.notes),
            overviews={},
            mask_overviews={},
            svg=requested.figures,
        )
        return app.write_stdout(f"{page}\n")

    return app.run(command, argv, remedy=app.STARTS_OVER)


def _request(name: str, how: str) -> dict[str, str]:
    """Return the table as the page names it, and how it was read where that is not usual."""
    return {"table": name, "read with": how} if how else {"table": name}
