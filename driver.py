"""The command line of a job, and the historical functions.

It knows no step of a job; `steps` does.

    python3 driver.py --host H --token T --col C --exp E --z-range 0,8 --y-range 0,1024 --x-range 0,1344
"""

from __future__ import annotations

import beginning

if __name__ == "__main__":
    beginning.begin()

import logging
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import logs
import shell
from box import Box, Range
from command_line import Parser, PathOption, add_verbosity, level_of
from credentials import Token
from deliverables import GROWING, MARKER, links, sums
from detection import Detection
from errors import (
    DataError,
    PermissionDeniedError,
    StoppedError,
    StorageError,
    UnavailableError,
    UsageError,
    exit_codes,
    few,
)
from job import BUCKET_VARIABLE, Job
from job_options import job_from, parser
from NeuroDataResource import NeuroDataResource
from option_values import path_of
from pipelines.listing import described, listed
from progress import silent, told
from record import Outcome
from results import ResultFolder, locked
from run_file import read_run_file
from steps import check_folder, finish, foretell, run, run_part

__all__ = ["driver", "get_data", "main", "run", "upload_results"]

log = logging.getLogger(__name__)


def driver(
    host: str,
    token: Token | str,
    col: str,
    exp: str,
    z_range: Range,
    y_range: Range,
    x_range: Range,
    path: str | Path = "./results/",
    **options: Any,
) -> tuple[dict[str, Any], NDArray[np.uint8] | dict[str, NDArray[np.uint8]], dict[str, str]]:
    """Do one job, as the historical function did.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token or str
        The token; it is in nothing that is returned.
    col, exp : str
        Collection and experiment.
    z_range, y_range, x_range : tuple of int
        Half-open ranges.
    path : str or Path
        Folder that holds the result folders.
    **options
        Further fields of `job.Job`, such as ``pipeline``, ``channels``, ``bucket``, ``push``, ``cpus``.

    Returns
    -------
    info : dict
        What was asked for, with ``results_key`` and ``folder``.
    results : ndarray of uint8, shape (z, y, x), or dict of such
        The mask, 0 and 255; a dictionary by name where the pipeline has several.
    boss_links : dict of str to str
        Mask to the link of its channel in BOSS; empty without a push.

    Raises
    ------
    NDSynapseError
        Whatever went wrong; what was done by then is in the result folder.
    """
    job = Job(
        host=host,
        token=Token.of(token),
        collection=col,
        experiment=exp,
        box=Box(z_range, y_range, x_range),
        path=path_of("path", path),
        **options,
    )
    masks: dict[str, NDArray[np.uint8]] = {}

    def keep(detection: Detection) -> None:
        masks.update({name: np.asarray(mask) for name, mask in detection.masks.items()})

    with _opened(job) as folder:
        with logs.job_log(folder.root / GROWING, job.token):
            outcome = run(job, folder, silent, keep)
        finish(outcome, folder)
    if outcome.errors:
        raise outcome.errors[0]
    info = {**job.asked(), "results_key": job.results_key, "folder": str(folder.root)}
    results = next(iter(masks.values())) if len(masks) == 1 else masks
    return info, results, {name: link for name, link in outcome.links.items() if name in masks}


@contextmanager
def _opened(job: Job) -> Iterator[ResultFolder]:
    """Keep the folder of a job to it while the context lasts, without what it is not to go on from."""
    folder = ResultFolder(job.path, job.results_key)
    with folder.locked():
        check_folder(job, folder)
        if job.fresh:
            folder.clear_work()
            folder = ResultFolder(job.path, job.results_key)
        yield folder


def get_data(
    host: str, token: Token | str, col: str, exp: str, z_range: Range, y_range: Range, x_range: Range
) -> tuple[dict[str, NDArray[Any]], tuple[float, float, float]]:
    """Pull all channels of a box that can be read into memory.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token or str
        The token.
    col, exp : str
        Collection and experiment.
    z_range, y_range, x_range : tuple of int
        Half-open ranges.

    Returns
    -------
    data_dict : dict of str to ndarray
        Channel to voxels, shape (z, y, x), in the channel's type.
    voxel_size : tuple of float
        Size of a voxel along z, y, x in nanometres.

    Raises
    ------
    NDSynapseError
        If the data cannot be had.
    """
    source = NeuroDataResource(host, token, col, exp, [], x_range, y_range, z_range)
    channels = source.readable_channels
    return {name: source.get_cutout(name, *source.box.ranges) for name in channels}, source.voxel_size


def upload_results(path: str | Path, results_key: str) -> None:
    """Upload every file under a folder to ``s3://$RESULTS_BUCKET/<results_key>/...``.

    Parameters
    ----------
    path : str or Path
        The folder.
    results_key : str
        Prefix of the objects' keys.

    Raises
    ------
    UsageError
        If RESULTS_BUCKET is not set.
    NDSynapseError
        If S3 refuses or does not answer; the same call goes on where it stopped.
    """
    import s3

    bucket = os.environ.get(BUCKET_VARIABLE)
    if not bucket:
        raise UsageError(
            f"uploading {path}", f"{BUCKET_VARIABLE} is not set", f"Set {BUCKET_VARIABLE} to a bucket's name"
        )
    if not isinstance(results_key, str):
        raise UsageError(
            f"uploading {path} under {results_key!r:.100}", "a results key is text", "Give the folder's name"
        )
    folder = path_of("path", path)
    with locked(folder):
        s3.upload_folder(folder, bucket, results_key)


def _upload(argv: Sequence[str]) -> int:
    """Run ``driver.py upload FOLDER --bucket NAME``."""
    import s3

    p = Parser(
        prog="driver.py upload",
        description="Send a result folder to S3; what is there already is not sent again.",
        epilog=exit_codes(UsageError, DataError, UnavailableError, StorageError, PermissionDeniedError),
    )
    p.add_argument("folder", action=PathOption, help="the result folder; its run.json tells the key prefix")
    p.add_argument("--bucket", default=os.environ.get(BUCKET_VARIABLE), help=f"default: {BUCKET_VARIABLE}")
    p.add_argument("--acl", help="canned ACL of the objects; default: none is sent")
    add_verbosity(p)
    options = p.parse_args(argv)
    logs.apply(logs.LogSettings(level_of(options)))
    if not options.bucket:
        raise UsageError("an upload", f"no --bucket and no {BUCKET_VARIABLE}", "Name the bucket")
    if not options.folder.is_dir():
        raise UsageError(f"uploading {options.folder}", "there is no such folder", "Give a result folder")
    with locked(options.folder):
        key, is_all = _key_of(options.folder, options.bucket)
        with _ended_at_once(shell.GOES_ON):
            uploaded = s3.upload_folder(options.folder, options.bucket, key, acl=options.acl)
        log.info("%d files are in s3://%s/%s/", len(uploaded), options.bucket, key)
        if is_all:
            _clear_work(options.folder.resolve())
    return 0


def _clear_work(root: Path) -> None:
    """Remove the scratch folder that an upload was waited for with; one that stays is no reason for an error."""
    try:
        ResultFolder.named(root.parent, root.name).clear_work()
    except (UsageError, StorageError) as error:
        log.warning("%s", error)


def _key_of(folder: Path, bucket: str) -> tuple[str, bool]:
    """Return the key prefix of a result folder, and whether an upload to a bucket is all that its run lacks.

    One that is not what its run left is refused.
    """
    linked = links(folder)
    if linked:
        raise DataError(
            f"uploading {folder}",
            f"it has symbolic links: {few(linked)}",
            "Put files in their place, or take them away",
        )
    if (folder / MARKER).is_file():
        run = read_run_file(folder)
        differs = run.unlike({name: (one["bytes"], one["sha256"]) for name, one in sums(folder).items()})
        if differs:
            remedy = "Put back what the run left, and take away what it did not, or run the job again"
            raise DataError(f"uploading {folder}", f"it is not what its run.json says: {differs}", remedy)
        return run.key, run.bucket == bucket and not (run.holes or run.failures)
    if not (folder / "synapses.csv").is_file():
        raise UsageError(f"uploading {folder}", "it has neither run.json nor synapses.csv", "Give a result folder")
    log.warning("%s is incomplete, and so is its upload: it has no run.json, for its run did not end", folder)
    return folder.resolve().name, False


def _options(argv: Sequence[str]) -> Namespace:
    """Parse a command line; the help of one that names a pipeline tells what that takes."""
    p = parser()
    known, _ = p.parse_known_args([word for word in argv if word not in ("-h", "--help")])
    if ":" in known.pipeline:
        # a function of the user's own is looked for where the user is; what we import, never
        sys.path.append(str(Path.cwd()))
    if {"-h", "--help"} & set(argv) and any(word.startswith("--pipeline") for word in argv):
        p.appendix = described(known.pipeline)
    return p.parse_args(argv)


def _job(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the job of a command line; return the exit code."""
    options = _options(argv)
    if options.list_pipelines:
        return shell.say(listed())
    job = job_from(options, environ)
    logs.apply(logs.LogSettings(level_of(options), (job.token,)))
    if options.dry_run:
        return shell.say(foretell(job))
    with _opened(job) as folder, logs.job_log(folder.root / GROWING, job.token):
        outcomes: list[Outcome] = []

        def whole_or_part() -> int:
            with told(not options.quiet) as progress:
                if job.part is not None:
                    run_part(job, job.part, folder, progress)
                else:
                    outcomes.append(run(job, folder, progress))
            return 0

        # here, for job.log ends with how the job did
        code = shell.guarded(whole_or_part, StoppedError("the job", "it was stopped by a signal", shell.GOES_ON))
        if not outcomes:
            return code
        (outcome,) = outcomes
        for failure in outcome.errors:
            shell.tell(failure)
        code = _uploaded(outcome, folder)
        if code:
            return code
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in outcome.seconds.items())
    classes = "".join(f", {count} {name}" for name, count in outcome.classes.items())
    log.info("%d synapses%s; %s", outcome.synapses, classes, steps)
    log.info("results in %s%s", folder.root, f", report {outcome.report.name}" if outcome.report else "")
    return outcome.errors[0].exit_code if outcome.errors else 0


def _uploaded(outcome: Outcome, folder: ResultFolder) -> int:
    """Upload what a job left, and tell what fails; return the exit code of a defect."""
    before, job = len(outcome.failures), outcome.job
    remedy = shell.GOES_ON
    if job.bucket is not None:
        import s3  # only who uploads waits for boto3

        remedy = f"{remedy}; all that is missing is sent by {s3.command_of(folder.root, job.bucket, job.acl)}"

    def to_the_end() -> int:
        finish(outcome, folder)
        for failure in outcome.failures[before:]:
            shell.tell(failure)
        return 0

    with _held_back(folder.root / GROWING), _ended_at_once(remedy):
        return shell.guarded(to_the_end, StoppedError("the upload", "it was stopped by a signal", remedy))


@contextmanager
def _held_back(file: Path) -> Iterator[None]:
    """Let job.log be while it is uploaded; what is said meanwhile is added to it if there is a warning in it, or worse.

    So what S3 has of it is the whole of it, or its beginning where an upload failed.
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


@contextmanager
def _ended_at_once(remedy: str) -> Iterator[None]:
    """End the process at once on a signal: boto3 would first wait for what it has on the way, for minutes if S3 hangs.

    Nothing is lost by that: no file is written any more, and an upload goes on where it was.
    """

    def stop(number: int, _frame: object) -> None:
        reason = f"it was stopped by {signal.Signals(number).name}"
        code = shell.tell(StoppedError("the upload", reason, remedy))
        logging.shutdown()  # what was held back
        os._exit(code)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's alone
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process where None.

    Returns
    -------
    int
        The exit code: 0 done, otherwise that of the error, see `errors`; 1 for a defect of ours.
    """
    return shell.run(_command, argv)


def _command(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run a command; return its exit code."""
    if arguments[:1] == ["upload"]:
        return _upload(arguments[1:])
    if arguments[:1] == ["verify"]:
        import verification

        return verification.main(arguments[1:], environ)
    return _job(arguments, environ)


if __name__ == "__main__":
    shell.end(main())
