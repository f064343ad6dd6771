"""The command line, and the story of one job: pull, detect, plot, push, upload.

It computes nothing and talks to no service itself; each step is one call of the module that can.

    python3 driver.py --host H --token T --col C --exp E --z-range 0,8 --y-range 0,1024 --x-range 0,1344
"""

from __future__ import annotations

import stopping

if __name__ == "__main__":
    # what follows takes a while to import; a signal that comes meanwhile ends as one that comes later does
    stopping.end_at_once()

import logging
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import delivery
import logs
import nd_boss
import record
from box import Box, Range
from command_line import Parser
from credentials import Token
from detection import Detection, detect
from detection.parts import detect_part
from detection.shelf import Part
from errors import DataError, NDSynapseError, PermissionDeniedError, StoppedError, StorageError, UsageError
from forecast import candidates, forecast, plan_of
from job import BUCKET_VARIABLE, Job, add_verbosity, job_from, level_of, parser
from NeuroDataResource import NeuroDataResource
from pipelines.listing import described, listed
from progress import Progress, silent, told
from record import Outcome
from results import ResultFolder, sums
from s3_shelf import S3Shelf

__all__ = ["Outcome", "driver", "get_data", "main", "run", "upload_results"]

log = logging.getLogger(__name__)


def run(
    job: Job, folder: ResultFolder, progress: Progress, on_masks: Callable[[Detection], None] | None = None
) -> Outcome:
    """Do a job: everything that can be delivered is, and what could not be is told.

    A mask that BOSS refuses is still plotted and uploaded, for a container takes its folder with it when it ends.

    Parameters
    ----------
    job : Job
        What was asked for.
    folder : ResultFolder
        Where its files go.
    progress : callable
        Told of every block of every step.
    on_masks : callable, optional
        Given the detection while its masks are on disk; they are gone when this function returns.

    Returns
    -------
    Outcome
        What it came to; `failures` is empty where everything was delivered.

    Raises
    ------
    NDSynapseError
        If there is nothing to deliver: bad names or ranges, data that cannot be had or used, no room on the disk.
    """
    started = datetime.now(UTC)
    delivery.check_upload(job)
    source = _open(job)
    log.info("%s of %s: %s", job.pipeline.name, source.identity, job.box)
    roles = _roles(job, source)
    log.info("%s", ", ".join(f"{role} {channel}" for role, channel in roles.items()))
    destinations = _destinations(job, source, roles)
    plan = plan_of(job, source, roles, folder)
    plan.remember()
    # from here on the folder is this run's; run.json comes last, and says by its presence that the run is complete
    folder.clear_results()
    shelf = None if job.shared is None else S3Shelf(job.shared)
    detection = detect(plan, job.cpus, progress, shelf=shelf, **_pulling(job))
    outcome = Outcome(job=job, source=source, roles=roles, detection=detection, started=started)
    if on_masks is not None:
        on_masks(detection)
    with delivery.step(outcome, "files", collect=False):
        delivery.write_files(outcome, folder)
    state = "not confirmed when this was written" if job.push else "not asked for"
    outcome.in_boss = dict.fromkeys(detection.masks, state)
    report = None
    if job.plots:
        with delivery.step(outcome, "plots"):
            report = delivery.draw(outcome)
            delivery.write_page(report, outcome, folder)
    if job.push:
        with delivery.step(outcome, "push"):
            delivery.push(outcome, destinations, progress)
            folder.write_links(outcome.links)
            delivery.write_page(report, outcome, folder)
    with delivery.step(outcome, "record"):
        folder.write_json("run.json", record.manifest(outcome, sums(folder.root)))
    if outcome.errors:
        log.info("kept %s: the same command goes on from it", folder.work)
    else:
        _clear(folder)
    return outcome


def run_part(job: Job, part: Part, folder: ResultFolder, progress: Progress) -> None:
    """Do one part of a job; what it finishes is on the shelf of ``job.shared``, and the folder is empty again.

    Blocks that fail are told and end nothing: the job that does what remains tries them again, and names them.

    Parameters
    ----------
    job : Job
        What was asked for.
    part : Part
        The part.
    folder : ResultFolder
        Where it may work.
    progress : callable
        Told of every block.

    Raises
    ------
    NDSynapseError
        If nothing can be done: bad names or ranges, data that cannot be had or used, a shelf that cannot be reached.
    """
    shelf = S3Shelf(job.shared or "")
    source = _open(job)
    roles = _roles(job, source)
    # what the job that does what remains would be refused is refused now
    _destinations(job, source, roles)
    plan = plan_of(job, source, roles, folder)
    log.info("part %d of %d (%s) of %s: %s", part.index, part.count, part.phase, source.identity, job.box)
    holes = detect_part(plan, part, shelf, job.cpus, progress, **_pulling(job))
    log.info("part %d of %d is done, %d of its blocks failed", part.index, part.count, len(holes))
    _clear(folder)


def _pulling(job: Job) -> dict[str, int]:
    """Return how tiles are to be pulled and kept, as far as the job says it."""
    return {"pulls": job.pulls} | ({} if job.cache_bytes is None else {"keep_bytes": job.cache_bytes})


def _clear(folder: ResultFolder) -> None:
    """Remove the scratch folder; one that stays is no reason to lose a result, or an error."""
    try:
        folder.clear_work()
    except StorageError as error:
        log.warning("%s", error)


def _open(job: Job) -> NeuroDataResource:
    """Open the volume; names, ranges and token are checked by that."""
    z, y, x = job.box.ranges
    return NeuroDataResource(job.host, job.token, job.collection, job.experiment, list(job.only_channels), x, y, z)


def _roles(job: Job, source: NeuroDataResource) -> dict[str, str]:
    """Find the channel of each role; one that may not be read is another matter than one that is not there."""
    try:
        return job.pipeline.choose(candidates(source), job.channels)
    except (UsageError, DataError) as error:
        if not source.forbidden_channels:
            raise
        raise PermissionDeniedError(
            error.asked,
            f"{error.found}; and the token may not read {', '.join(source.forbidden_channels)}",
            f"Ask for the right to read, or: {error.remedy}",
        ) from error


def _destinations(job: Job, source: NeuroDataResource, roles: Mapping[str, str]) -> dict[str, nd_boss.Destination]:
    """Name the channel of each mask and refuse now what BOSS would refuse after the work."""
    if not job.push:
        return {}
    destinations = {
        name: nd_boss.Destination(
            job.out_collection, job.out_experiment, f"{job.results_key}_{name}", job.maker(roles), job.overwrite
        )
        for name in job.pipeline.masks
    }
    for destination in destinations.values():
        nd_boss.check_destination(source.remote, destination, job.box, source.frame)
    return destinations


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
        path=Path(path),
        **options,
    )
    masks: dict[str, NDArray[np.uint8]] = {}

    def keep(detection: Detection) -> None:
        masks.update({name: np.asarray(mask) for name, mask in detection.masks.items()})

    folder = ResultFolder(job.path, job.results_key)
    with folder.locked():
        with logs.job_log(folder.root / "job.log", job.token):
            outcome = run(job, folder, silent, keep)
        delivery.upload(outcome, folder)
    if outcome.errors:
        raise outcome.errors[0]
    info = {**job.asked(), "results_key": job.results_key, "folder": str(folder.root)}
    results = next(iter(masks.values())) if len(masks) == 1 else masks
    return info, results, {name: link for name, link in outcome.links.items() if name in masks}


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
    s3.upload_folder(Path(path), bucket, results_key)


def _upload(argv: Sequence[str]) -> None:
    """Run ``driver.py upload FOLDER --bucket NAME``."""
    import s3

    p = Parser(
        prog="driver.py upload", description="Send a result folder to S3; what is there already is not sent again."
    )
    p.add_argument("folder", type=Path, help="the result folder; its name is the key prefix")
    p.add_argument("--bucket", default=os.environ.get(BUCKET_VARIABLE), help=f"default: {BUCKET_VARIABLE}")
    p.add_argument("--acl", help="canned ACL of the objects; default: none is sent")
    add_verbosity(p)
    options = p.parse_args(argv)
    logs.apply(logs.LogSettings(level_of(options)))
    if not options.bucket:
        raise UsageError("an upload", f"no --bucket and no {BUCKET_VARIABLE}", "Name the bucket")
    if not any((options.folder / name).is_file() for name in ("run.json", "synapses.csv")):
        raise UsageError(
            f"uploading {options.folder}", "it has neither run.json nor synapses.csv", "Give a result folder"
        )
    with _ended_at_once():
        uploaded = s3.upload_folder(options.folder, options.bucket, options.folder.resolve().name, acl=options.acl)
    log.info("%d files are in s3://%s/%s/", len(uploaded), options.bucket, options.folder.resolve().name)


def _options(argv: Sequence[str]) -> Namespace:
    """Parse a command line; the help of one that names a pipeline tells what that takes."""
    p = parser()
    known, _ = p.parse_known_args([word for word in argv if word not in ("-h", "--help")])
    if ":" in known.pipeline:
        # a function of the user's own is looked for where the user is, as python -m does it
        sys.path.insert(0, str(Path.cwd()))
    if {"-h", "--help"} & set(argv) and any(word.startswith("--pipeline") for word in argv):
        p.appendix = described(known.pipeline)
    return p.parse_args(argv)


def _job(argv: Sequence[str]) -> int:
    """Run the job of a command line; return the exit code."""
    options = _options(argv)
    if options.list_pipelines:
        sys.stdout.write(listed())
        return 0
    job = job_from(options, os.environ)
    logs.apply(logs.LogSettings(level_of(options), (job.token,)))
    if options.dry_run:
        return _dry_run(job)
    folder = ResultFolder(job.path, job.results_key)
    with folder.locked():
        if job.fresh:
            folder.clear_work()
            folder = ResultFolder(job.path, job.results_key)
        with logs.job_log(folder.root / "job.log", job.token), told(not options.quiet) as progress:
            try:
                if job.part is not None:
                    run_part(job, job.part, folder, progress)
                    return 0
                outcome = run(job, folder, progress)
            except NDSynapseError as error:
                return _tell(error)
            except KeyboardInterrupt:
                return _tell(
                    StoppedError("the job", "it was stopped by a signal", "The same command goes on where it was")
                )
            except Exception as error:  # noqa: BLE001 - a defect meets the user here: a sentence, not a page
                return _tell_defect(error)
            for failure in outcome.errors:
                _tell(failure)
        before = len(outcome.failures)
        with _ended_at_once():
            delivery.upload(outcome, folder)
        for failure in outcome.failures[before:]:
            _tell(failure)
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in outcome.seconds.items())
    classes = "".join(f", {count} {name}" for name, count in outcome.classes.items())
    log.info("%d synapses%s; %s", outcome.synapses, classes, steps)
    log.info("results in %s%s", folder.root, f", report {outcome.report.name}" if outcome.report else "")
    return outcome.errors[0].exit_code if outcome.errors else 0


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """End the process at once on a signal: boto3 would first wait for what it has on the way, for minutes if S3 hangs.

    Nothing is lost by that: no file is written any more, and an upload goes on where it was.
    """

    def stop(number: int, _frame: object) -> None:
        reason = f"it was stopped by {signal.Signals(number).name}"
        os._exit(_tell(StoppedError("the upload", reason, "The same command goes on where it was")))

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's alone
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dry_run(job: Job) -> int:
    """Tell what a job would do and need."""
    source = _open(job)
    roles = _roles(job, source)
    _destinations(job, source, roles)
    sys.stdout.write(forecast(job, plan_of(job, source, roles, ResultFolder.named(job.path, job.results_key))))
    return 0


def _tell(error: NDSynapseError) -> int:
    """Log a failure in one line, its causes to the file alone; return its exit code."""
    log.error("%s", error)
    log.debug("caused by", exc_info=error)
    return error.exit_code


def _tell_defect(error: Exception) -> int:
    """Log a defect of ours in one line, its traceback to the file alone; return its exit code."""
    log.critical("a defect of nd-synapse, please report it with job.log: %s: %s", type(error).__name__, error)
    log.debug("traceback", exc_info=error)
    return 1


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
    arguments = list(sys.argv[1:] if argv is None else argv)
    stopping.hear()
    try:
        if arguments[:1] == ["upload"]:
            _upload(arguments[1:])
            return 0
        if arguments[:1] == ["verify"]:
            import verification

            return verification.main(arguments[1:])
        return _job(arguments)
    except NDSynapseError as error:
        if logs.current() is None:
            logs.apply(logs.LogSettings())
        return _tell(error)
    except KeyboardInterrupt:
        return _tell(StoppedError("the command", "it was stopped by a signal", "The same command goes on where it was"))
    except Exception as error:  # noqa: BLE001 - a defect meets the user here: a sentence, not a page
        return _tell_defect(error)


if __name__ == "__main__":
    code = main()
    # what is done is told; a signal that comes while Python ends would change the exit code
    stopping.ignore()
    sys.exit(code)
