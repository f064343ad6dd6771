"""The PyMeda report: the historical module; the code is in `nd_synapse.report`.

python -m pymeda_driver TABLE.csv --out FOLDER
"""

from nd_synapse.console import startup

if __name__ == "__main__":
    startup.begin()

from collections.abc import Sequence

from nd_synapse.report.entry import Report, RunFacts, draw_report, pymeda_pipeline, write_report
from nd_synapse.report.table_file import read_table

__all__ = ["Report", "RunFacts", "draw_report", "main", "pymeda_pipeline", "read_table", "write_report"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    from nd_synapse.cli import report

    return report.main(argv, prog="pymeda_driver")


if __name__ == "__main__":
    from nd_synapse.console import app

    app.end(main())
