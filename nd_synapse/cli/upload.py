"""``nd-synapse upload``: sends a result folder to S3."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nd_synapse import logs
from nd_synapse.cli.options import add_verbosity, level_of
from nd_synapse.console import app
from nd_synapse.console.parser import Parser, add_value
from nd_synapse.errors import REMOTE, DataError, StoppedError, StorageError, UsageError, exit_codes, few
from nd_synapse.job.deliverables import MARKER, checksums, symlinks
from nd_synapse.job.folder import ResultFolder, locked
from nd_synapse.job.job import BUCKET_VARIABLE
from nd_synapse.values import parse_path

__all__ = ["ended_at_once", "main", "parser"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse upload") -> int:
    """Run the command and return its exit code."""
    return app.run(lambda words, environ: _upload(words, environ, prog), argv)


def parser(prog: str) -> Parser:
    """Return the parser."""
    p = Parser(
        prog=prog,
        description="Send a result folder to S3; what is there already is not sent again.",
        epilog=exit_codes(*REMOTE),
    )
    add_value(p, "folder", parse_path, "the result folder; its run.json has the key prefix")
    p.add_argument("--bucket", metavar="NAME", help=f"S3 bucket; default: {BUCKET_VARIABLE} in the environment")
    p.add_argument("--acl", metavar="NAME", help="canned ACL of the objects; default: none is sent")
    add_verbosity(p)
    return p


def _upload(argv: Sequence[str], environ: Mapping[str, str], prog: str) -> int:
    """Upload the folder that a command line names."""
    options = parser(prog).parse_args(argv)
    bucket = options.bucket or environ.get(BUCKET_VARIABLE)
    logs.apply(logs.LogSettings(level_of(options)))
    if not bucket:
        raise UsageError("an upload", f"no --bucket and no {BUCKET_VARIABLE}", "Name the bucket")
    if not options.folder.is_dir():
        raise UsageError(f"uploading {options.folder}", "there is no such folder", "Give a result folder")
    with locked(options.folder):
        key, is_all = _key_of(options.folder, bucket)
        from nd_synapse.job import upload  # boto3 is imported only where it is used

        log.info("sending %s to s3://%s/%s/, where it is not there yet", options.folder, bucket, key)
        with ended_at_once(app.GOES_ON):
            uploaded = upload.upload_folder(options.folder, bucket, key, acl=options.acl)
        log.info("%d files are in s3://%s/%s/", len(uploaded), bucket, key)
        if is_all:
            _clear_work(options.folder.resolve())
    return 0


def _clear_work(root: Path) -> None:
    """Remove the scratch folder, which a run keeps until it is uploaded; a failure is only logged."""
    try:
        ResultFolder.named(root.parent, root.name).clear_work()
    except (UsageError, StorageError) as error:
        log.warning("%s", error)


def _key_of(folder: Path, bucket: str) -> tuple[str, bool]:
    """Return the key prefix of a result folder, and whether this upload completes its run.

    Refuse a folder that was changed since its run.
    """
    linked = symlinks(folder)
    if linked:
        raise DataError(
            f"uploading {folder}",
            f"it has symbolic links: {few(linked)}",
            "Replace them by files, or remove them",
        )
    if (folder / MARKER).is_file():
        from nd_synapse.job.manifest import read_run_file  # `run` imports this module, too

        run = read_run_file(folder)
        differs = run.unlike(checksums(folder))
        if differs:
            remedy = "Restore the files of the run and remove others, or run the job again"
            raise DataError(f"uploading {folder}", f"it is not what its run.json says: {differs}", remedy)
        return run.key, run.bucket == bucket and not (run.failed_blocks or run.failures)
    if not (folder / "synapses.csv").is_file():
        raise UsageError(f"uploading {folder}", "it has neither run.json nor synapses.csv", "Give a result folder")
    log.warning("%s is incomplete, and so is its upload: it has no run.json, since its run did not end", folder)
    return folder.resolve().name, False


@contextmanager
def ended_at_once(remedy: str) -> Iterator[None]:
    """End the process at once on a signal: boto3 would first wait for transfers, for minutes if S3 hangs.

    Nothing is lost: no file is written any more, and an upload can be resumed.
    """

    def stop(number: int, _frame: object) -> None:
        reason = f"it was stopped by {signal.Signals(number).name}"
        code = app.log_error(StoppedError("the upload", reason, remedy))
        logging.shutdown()  # flush it
        os._exit(code)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
