"""The steps of one job, in their order: open, detect, files, plots, push, record; and then the upload.

It computes nothing and talks to no service itself; each step is one call of the module that can. The upload stands
alone, for it carries the log of all the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.blocks.shared_store import Part
from nd_synapse.boss import push
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.detection import Detection, detect
from nd_synapse.detection.parts import detect_part
from nd_synapse.errors import DataError, PermissionDeniedError, StorageError, UsageError
from nd_synapse.job import delivery, record
from nd_synapse.job.deliverables import sums
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.forecast import candidates, forecast, plan_of
from nd_synapse.job.job import Job
from nd_synapse.job.names import mask_names
from nd_synapse.job.record import Outcome
from nd_synapse.progress import Progress

__all__ = ["check_folder", "dry_run", "finish", "run", "run_part"]

log = logging.getLogger(__name__)


def run(
    job: Job, folder: ResultFolder, progress: Progress, on_masks: Callable[[Detection], None] | None = None
) -> Outcome:
    """Do a job: everything that can be delivered is, and what could not be is told.

    A mask that BOSS refuses is still plotted and uploaded, for a container takes its folder with it when it ends.
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
    folder.clear_results(mask_names(job.pipeline.name, job.pipeline.masks).values())
    shared_store = None if job.shared is None else S3SharedStore(job.shared)
    detection = detect(plan, job.cpus, progress, shared_store=shared_store, **_pulling(job))
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
    if job.bucket is None:
        _settle(outcome, folder)
    return outcome


def finish(outcome: Outcome, folder: ResultFolder) -> None:
    """Upload what a job left, if there is a bucket for it; then remove what the same command would go on from.

    That stays until here: a kill in the middle of an upload is not to cost what was computed.
    """
    delivery.upload(outcome, folder)
    if outcome.job.bucket is not None:
        _settle(outcome, folder)


def _settle(outcome: Outcome, folder: ResultFolder) -> None:
    """Remove the scratch folder, unless the same command has a use for it."""
    if outcome.errors:
        log.info("kept %s: the same command goes on from it", folder.work)
    else:
        _clear(folder)


def run_part(job: Job, part: Part, folder: ResultFolder, progress: Progress) -> None:
    """Do one part of a job; what it finishes is on the shelf of ``job.shared``, and the folder is empty again.

    Blocks that fail are told and end nothing: the job that does what remains tries them again, and names them.
    """
    shared_store = S3SharedStore(job.shared or "")
    source = _open(job)
    roles = _roles(job, source)
    # what the job that does what remains would be refused is refused now
    _destinations(job, source, roles)
    plan = plan_of(job, source, roles, folder)
    log.info("part %d of %d (%s) of %s: %s", part.index, part.count, part.phase, source.identity, job.box)
    failed_blocks = detect_part(plan, part, shared_store, job.cpus, progress, **_pulling(job))
    log.info("part %d of %d is done, %d of its blocks failed", part.index, part.count, len(failed_blocks))
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
    """Find the channel of each role; another one than if all could be read is not taken in silence."""
    readable = candidates(source)
    forbidden = [channel for channel in source.forbidden_channels if channel in source.requested_channels]
    if not forbidden:
        return job.pipeline.choose(readable, job.channels)
    every = [channel for channel in source.channels if channel in (*readable, *forbidden)]
    found, wished = (_chosen(job, channels) for channels in (readable, every))
    if isinstance(found, dict) and found == wished:
        return found
    lacking = "the roles would be others" if isinstance(found, dict) else found.found
    raise PermissionDeniedError(
        f"channels for {job.pipeline.name}",
        f"{lacking}; the token may not read {', '.join(forbidden)}",
        "Ask for the right to read, or name a channel for each role with --channels, or all in neurodata.cfg",
    )


def _chosen(job: Job, channels: Sequence[str]) -> dict[str, str] | UsageError | DataError:
    """Return the channel of each role, or why there is none."""
    try:
        return job.pipeline.choose(channels, job.channels)
    except (UsageError, DataError) as error:
        return error


def _destinations(job: Job, source: NeuroDataResource, roles: Mapping[str, str]) -> dict[str, push.Destination]:
    """Name the channel of each mask and refuse now what BOSS would refuse after the work."""
    if not job.push:
        return {}
    destinations = {
        name: push.Destination(
            job.out_collection, job.out_experiment, f"{job.results_key}_{name}", job.maker(roles), job.overwrite
        )
        for name in job.pipeline.masks
    }
    for destination in destinations.values():
        push.check_destination(source.remote, destination, job.box, source.frame)
    return destinations


def check_folder(job: Job, folder: ResultFolder) -> None:
    """Refuse a folder that has what a run may neither remove nor keep."""
    folder.refuse_other(job.collection, job.experiment)
    folder.refuse_foreign(mask_names(job.pipeline.name, job.pipeline.masks).values())


def dry_run(job: Job) -> str:
    """Tell what a job would do and need; nothing is pulled and nothing written."""
    delivery.check_upload(job)
    folder = ResultFolder.named(job.path, job.results_key)
    folder.check_place()
    if folder.root.exists():
        check_folder(job, folder)
    source = _open(job)
    roles = _roles(job, source)
    _destinations(job, source, roles)
    return forecast(job, plan_of(job, source, roles, folder))
