"""``nd-synapse run``: one job, from a command line to its results."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

from nd_synapse import logs
from nd_synapse.cli.options import level_of, search_working_folder
from nd_synapse.cli.run_options import job_from, parser, speeds_from
from nd_synapse.cli.upload import ended_at_once
from nd_synapse.console import app
from nd_synapse.errors import StoppedError, UsageError
from nd_synapse.job.deliverables import GROWING
from nd_synapse.job.folder import ResultFolder
from nd_synapse.pipeline.listing import described, listed
from nd_synapse.progress import reporting

if TYPE_CHECKING:
    from nd_synapse.job.outcome import Outcome

__all__ = ["main"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse run") -> int:
    """Run the command and return its exit code."""
    return app.run(lambda words, environ: _job(words, environ, prog), argv)


def options_of(argv: Sequence[str], prog: str = "nd-synapse run") -> Namespace:
    """Parse a command line; a help beside ``--pipeline NAME`` describes that pipeline too."""
    p = parser(prog)
    helps = {"-h", "--help", "--help-all"}
    known, _ = p.parse_known_args([word for word in argv if word not in helps])
    search_working_folder(known.pipeline)
    if known.pipeline is not None and helps & set(argv):
        p.appendix = described(known.pipeline)
    return p.parse_args(argv)


def _job(argv: Sequence[str], environ: Mapping[str, str], prog: str) -> int:
    """Run the job of a command line; return the exit code."""
    options = options_of(argv, prog)
    if options.list_pipelines:
        return app.write_stdout(listed())
    from nd_synapse.job.steps import dry_run, opened, run, run_part  # a help appears sooner without the work

    job = job_from(options, environ)
    logs.apply(logs.LogSettings(level_of(options)))
    if options.dry_run:
        return app.write_stdout(dry_run(job, speeds_from(options)))
    if options.calibrate is not None:
        raise UsageError(
            "--calibrate without --dry-run", "only a plan has a use for it", "Give --dry-run, or leave it out"
        )
    with opened(job) as folder, logs.job_log(folder.root / GROWING, job.token):
        outcomes: list[Outcome] = []

        def whole_or_part() -> int:
            with reporting(not options.quiet) as progress:
                if job.part is not None:
                    run_part(job, job.part, folder, progress)
                else:
                    outcomes.append(run(job, folder, progress))
            return 0

        # here, so that job.log ends with the outcome of the job
        code = app.guarded(whole_or_part, StoppedError("the job", "it was stopped by a signal", app.GOES_ON))
        if not outcomes:
            return code
        (outcome,) = outcomes
        for failure in outcome.errors:
            app.log_error(failure)
        code = _uploaded(outcome, folder)
        if code:
            return code
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in outcome.seconds.items())
    classes = "".join(f", {count} {name}" for name, count in outcome.classes.items())
    log.info("%d synapses%s; %s; %s", outcome.synapses, classes, outcome.detection.density, steps)
    log.info("results in %s%s", folder.root, f", report {folder.root / outcome.report.name}" if outcome.report else "")
    return outcome.errors[0].exit_code if outcome.errors else 0


def _uploaded(outcome: Outcome, folder: ResultFolder) -> int:
    """Upload the results of a job and log what fails; return the exit code of a defect."""
    from nd_synapse.job.steps import finish

    before, job = len(outcome.failures), outcome.job
    remedy = app.GOES_ON
    if job.bucket is not None:
        from nd_synapse.job import upload  # boto3 is imported only where it is used

        remedy = f"{remedy}; the rest is uploaded by {upload.command_of(folder.root, job.bucket, job.acl)}"

    def to_the_end() -> int:
        finish(outcome, folder)
        for failure in outcome.failures[before:]:
            app.log_error(failure)
        return 0

    with _held_back(folder.root / GROWING), ended_at_once(remedy):
        return app.guarded(to_the_end, StoppedError("the upload", "it was stopped by a signal", remedy))


@contextmanager
def _held_back(file: Path) -> Iterator[None]:
    """Write nothing to job.log while it is uploaded; add the records of that time later if one is a warning or worse.

    So S3 has all of it, or its first lines if an upload failed.
    """
    root = logging.getLogger()
    files = [one for one in root.handlers if isinstance(one, logging.FileHandler)]
    (log_file,) = (one for one in files if Path(one.baseFilename).resolve() == file.resolve())
    held = MemoryHandler(sys.maxsize, sys.maxsize, log_file)
    root.removeHandler(log_file)
    root.addHandler(held)
    try:
        yield
    finally:
        root.removeHandler(held)
        root.addHandler(log_file)
        if all(record.levelno < logging.WARNING for record in held.buffer):
            held.buffer.clear()
        held.close()
