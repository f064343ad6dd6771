"""The PyMeda report: the historical module; the code is in `nd_synapse.report`.

python -m pymeda_driver TABLE.csv --out FOLDER
"""

from nd_synapse.console import startup

if __name__ == "__main__":
    startup.begin()

from nd_synapse.report.entry import Report, RunFacts, draw_report, pymeda_pipeline, read_table, write_report

__all__ = ["Report", "RunFacts", "draw_report", "pymeda_pipeline", "read_table", "write_report"]

if __name__ == "__main__":
    from nd_synapse.cli import report
    from nd_synapse.console import app

    app.end(report.main(prog="pymeda_driver"))
