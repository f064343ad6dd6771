"""The steps of a job and their order; each step is one call of the module that does it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from nd_synapse.blocks.shared_store import Part, SharedStore
from nd_synapse.detection.budget import writers
from nd_synapse.detection.joining import ColumnFiles
from nd_synapse.detection.on_disk import Means, detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.errors import DataError, NDSynapseError, PermissionDeniedError, StorageError, UsageError
from nd_synapse.files.shared_folder import SharedFolder
from nd_synapse.job import delivery, out
from nd_synapse.job.deliverables import checksums
from nd_synapse.job.digits import round_columns
from nd_synapse.job.folder import ResultFolder, locked
from nd_synapse.job.forecast import candidates, forecast, plan_of, warn_of_excess
from nd_synapse.job.job import Job, labels_channel, mask_names
from nd_synapse.job.leftovers import clear_results, refuse_foreign, refuse_inside, refuse_other_volume
from nd_synapse.job.manifest import run_json, write_run_json
from nd_synapse.job.outcome import Outcome
from nd_synapse.job.results import write_links
from nd_synapse.progress import Progress
from nd_synapse.volumes import JobSource

if TYPE_CHECKING:
    from nd_synapse.aws.shared_store import S3SharedStore
    from nd_synapse.boss.push import Destination

__all__ = ["dry_run", "finish", "open_shared_store", "opened", "run", "run_part"]

log = logging.getLogger(__name__)


@contextmanager
def opened(job: Job) -> Iterator[ResultFolder]:
    """Lock the folder of a job while the context lasts, checked, and without the scratch of earlier runs if fresh."""
    folder = ResultFolder(job.path, job.results_key)
    with locked(folder.root):
        _check_folder(job, folder)
        if job.fresh:
            folder.clear_work()
            ResultFolder(job.path, job.results_key)  # makes .work anew
        yield folder


def run(
    job: Job, folder: ResultFolder, progress: Progress, on_masks: Callable[[Detection], None] | None = None
) -> Outcome:
    """Do a job up to run.json; a delivery that fails is noted in the outcome, and the others are made."""
    started = datetime.now(UTC)
    with _discarding(folder):
        delivery.check_upload(job)
        shared_store = None if job.shared is None else open_shared_store(job.shared)
        ready = _prepared(job, folder)
    out.claim(job, folder.work)
    ready.plan.remember()
    # from here on the folder is this run's; run.json comes last, and marks the run as complete
    clear_results(folder.root, _mask_files(job))
    found = detect(
        ready.plan, job.cpus, progress, shared_store=shared_store, shares_tiles=ready.source.is_service, **_pulling(job)
    )
    types = {name: values.dtype for name, values in found.table.items()}
    table = ColumnFiles.blank(ready.plan.store(), "rounded", len(found.table["id"]), types)
    round_columns(found.table, table)
    detection = replace(found, table=table)
    outcome = Outcome(job=job, source=ready.source, roles=ready.roles, detection=detection, started=started)
    delivery.check_channels(outcome)
    if on_masks is not None:
        on_masks(detection)
    with delivery.step(outcome, "files", collect=False):
        delivery.write_files(outcome, folder, writers(ready.plan, job.cpus, job.pulls), progress)
    with delivery.step(outcome, "registration"):
        delivery.check_registration(outcome)
    state = "not confirmed when this was written" if job.push else "not requested"
    outcome.in_boss = dict.fromkeys(detection.masks, state)
    report = None
    if job.plots:
        with delivery.step(outcome, "plots"):
            report = delivery.draw(outcome)
            delivery.write_page(report, outcome, folder.root)
    if job.push:
        with delivery.step(outcome, "push"):
            delivery.push(outcome, ready.destinations, folder.root, progress, _proven(ready, shared_store, detection))
            write_links(folder.root, outcome.links)
            delivery.write_page(report, outcome, folder.root)
    if job.out is not None:
        with delivery.step(outcome, "out"):
            delivery.write_out(outcome, folder)
    with delivery.step(outcome, "record"):
        write_run_json(folder.root, run_json(outcome, checksums(folder.root)))
    if job.bucket is None:
        _settle(outcome, folder)
    return outcome


def _proven(ready: _Prepared, shared_store: SharedStore | None, detection: Detection) -> dict[str, int]:
    """Return the masks that parts of the run pushed and read back, with the number of these parts."""
    if shared_store is None:
        return {}
    from nd_synapse.boss.resource import NeuroDataResource  # intern is imported only where it is used
    from nd_synapse.job.pushed import proven

    source, destinations = ready.source, ready.destinations
    assert isinstance(source, NeuroDataResource), "a job pushes only into the BOSS that it reads"
    parts = {
        name: proven(ready.plan, shared_store, detection, name, source, destinations[name]) for name in detection.masks
    }
    return {name: count for name, count in parts.items() if count is not None}


def finish(outcome: Outcome, folder: ResultFolder) -> None:
    """Upload the folder if the job has a bucket, with the log of all other steps; then remove the scratch folder.

    The scratch folder stays until then: a kill during the upload must not cost what was computed.
    """
    delivery.upload(outcome, folder.root)
    if outcome.job.bucket is not None:
        _settle(outcome, folder)


def run_part(job: Job, part: Part, folder: ResultFolder, progress: Progress) -> None:
    """Do one part of a job, leave its blocks in the shared store, and clear the folder.

    Blocks that fail end nothing: the job that does what remains tries them again, and names them.
    """
    with _discarding(folder):
        shared_store = open_shared_store(job.shared or "")
        ready = _prepared(job, folder)
        if part.phase == "push" and not ready.destinations:
            remedy = "Leave the phase out; --phase report ends the run"
            raise UsageError("--phase push", "this job writes no masks to BOSS", remedy)
    log.info("part %d of %d (%s)", part.index, part.count, part.phase)
    is_service = ready.source.is_service
    if part.phase == "push":
        means = Means(job.cpus, progress, shared_store=shared_store, shares_tiles=is_service, **_pulling(job))
        _push_part(ready, part, means)
        failed = []
    else:
        failed = detect_part(
            ready.plan, part, shared_store, job.cpus, progress, shares_tiles=is_service, **_pulling(job)
        )
    log.info("part %d of %d is done, %d of its blocks failed", part.index, part.count, len(failed))
    _clear(folder)


def _push_part(ready: _Prepared, part: Part, means: Means) -> None:
    """Push what a part has of the masks."""
    from nd_synapse.boss.resource import NeuroDataResource  # intern is imported only where it is used
    from nd_synapse.job.pushed import push_part

    assert isinstance(ready.source, NeuroDataResource), "a job pushes only into the BOSS that it reads"
    push_part(ready.plan, part, ready.source, ready.destinations, means)


def dry_run(job: Job, speeds: Speeds = ASSUMED) -> str:
    """Return what a job would do and need; nothing is pulled and nothing written."""
    delivery.check_upload(job)
    folder = ResultFolder.named(job.path, job.results_key)
    folder.check_place()
    if folder.root.exists():
        _check_folder(job, folder)
    return forecast(job, _prepared(job, folder).plan, speeds)


@contextmanager
def _discarding(folder: ResultFolder) -> Iterator[None]:
    """Discard the folder of a job that is refused; what is wrong in the program leaves its job.log."""
    try:
        yield
    except NDSynapseError:
        folder.discard()
        raise


class _Prepared(NamedTuple):
    """A job whose volume is open and whose every name is checked."""

    source: JobSource
    roles: dict[str, str]
    destinations: dict[str, Destination]
    plan: Plan


def _prepared(job: Job, folder: ResultFolder) -> _Prepared:
    """Open the volume, choose channels, check where masks go, and plan: all that can be refused before the work."""
    out.check_out(job, folder.root)
    source = job.open_source()
    log.info("%s of %s: %s", job.pipeline.name, source.identity, job.box)
    z, y, x = source.frame.voxel_size_nm
    if y != x:
        log.warning("voxels have %g x %g x %g nm (z, y, x): pixels that are not square are rare", z, y, x)
    roles = _roles(job, source)
    log.info("%s", ", ".join(f"{role} {channel}" for role, channel in roles.items()))
    made = job.pipeline.masks_of(roles)
    if len(made) < len(job.pipeline.masks):
        missing = ", ".join(name for name in job.pipeline.masks if name not in made)
        log.info("masks %s; not %s, whose markers are missing", ", ".join(made), missing)
    plan = plan_of(job, source, roles, folder)
    warn_of_excess(job, plan)
    return _Prepared(source, roles, _destinations(job, source, roles), plan)


def _check_folder(job: Job, folder: ResultFolder) -> None:
    """Refuse a folder with files that a run may neither remove nor keep."""
    refuse_inside(folder.root)
    refuse_other_volume(folder.root, job.volume)
    refuse_foreign(folder.root, _mask_files(job))


def _mask_files(job: Job) -> list[str]:
    """Return the names of the mask files, without suffixes."""
    return list(mask_names(job.pipeline.name, job.pipeline.masks).values())


def _settle(outcome: Outcome, folder: ResultFolder) -> None:
    """Remove the scratch folder, unless the same command can resume from it."""
    if outcome.errors:
        log.info("kept %s: the same command resumes from it", folder.work)
    else:
        _clear(folder)


def open_shared_store(url: str) -> SharedFolder | S3SharedStore:
    """Open the store where parts of a run share finished blocks."""
    if not url.startswith("s3:"):
        return SharedFolder(url)
    from nd_synapse.aws.shared_store import S3SharedStore  # boto3 is imported only where it is used

    return S3SharedStore(url)


def _pulling(job: Job) -> dict[str, int]:
    """Return how tiles are pulled and kept."""
    return {"pulls": job.pulls} | ({} if job.cache_bytes is None else {"keep_bytes": job.cache_bytes})


def _clear(folder: ResultFolder) -> None:
    """Remove the scratch folder; a failure to do so must not hide a result or another error."""
    try:
        folder.clear_work()
    except StorageError as error:
        log.warning("%s", error)


def _roles(job: Job, source: JobSource) -> dict[str, str]:
    """Choose the channel of each role; a channel that the token may not read is not silently replaced by another."""
    readable = candidates(source)
    forbidden = [channel for channel in source.forbidden_channels if channel in source.requested_channels]
    if not forbidden:
        return job.pipeline.choose(readable, job.channels)
    every = [channel for channel in source.channels if channel in (*readable, *forbidden)]
    found, wanted = (_chosen(job, channels) for channels in (readable, every))
    if isinstance(found, dict) and found == wanted:
        return found
    problem = "other channels would be chosen" if isinstance(found, dict) else found.found
    raise PermissionDeniedError(
        f"channels for {job.pipeline.name}",
        f"{problem}; the token may not read {', '.join(forbidden)}",
        "Ask for the right to read, or name a channel for each role with --channels, or all in neurodata.cfg",
    )


def _chosen(job: Job, channels: Sequence[str]) -> dict[str, str] | UsageError | DataError:
    """Return the channel of each role, or why there is none."""
    try:
        return job.pipeline.choose(channels, job.channels)
    except (UsageError, DataError) as error:
        return error


def _destinations(job: Job, source: JobSource, roles: Mapping[str, str]) -> dict[str, Destination]:
    """Return the channel of each mask; what BOSS would refuse after the work is refused now."""
    if not job.push:
        return {}
    from nd_synapse.boss import push  # intern is imported only where it is used
    from nd_synapse.boss.resource import NeuroDataResource

    if not isinstance(source, NeuroDataResource):
        return {}
    destinations = {
        name: push.Destination(
            job.out_collection, job.out_experiment, f"{job.results_key}_{name}", job.maker(roles), job.overwrite
        )
        for name in job.pipeline.masks_of(roles)
    }
    if job.push_labels:
        first = next(iter(destinations))
        labels = replace(destinations[first], channel=f"{job.results_key}_{labels_channel([first])}", datatype="uint64")
        destinations[labels_channel([first])] = labels
    for destination in destinations.values():
        push.check_destination(source.remote, destination, job.box, source.frame)
    return destinations
