"""What is made of a detection: files, plots and a page in the result folder, masks in BOSS, objects in S3.

It decides no order, `steps` does; and it opens neither service itself, `nd_boss` and `s3` are their doors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nd_synapse.boss import push as boss_push
from nd_synapse.console import app
from nd_synapse.errors import NDSynapseError
from nd_synapse.job import record
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import BUCKET_VARIABLE, Job
from nd_synapse.job.names import mask_names
from nd_synapse.job.record import Outcome
from nd_synapse.progress import Progress
from nd_synapse.text import describe_error

if TYPE_CHECKING:
    from nd_synapse.report.entry import Report

__all__ = ["check_upload", "draw", "push", "step", "upload", "write_files", "write_page"]

log = logging.getLogger(__name__)

_ANY_BUCKET = "bucket"
"""Stands for the one that is not given, where an ACL is: who misspelt that learns it now."""

MANY_SYNAPSES = 100_000
"""Beyond it programs that read text are slow, and the table is there as Parquet, too."""


@contextmanager
def step(outcome: Outcome, name: str, collect: bool = True) -> Iterator[None]:
    """Time a step; let its failure cost no other."""
    started = time.monotonic()
    try:
        yield
    except NDSynapseError as error:
        if not collect:
            raise
        outcome.failures.append(error)
    except Exception as error:
        if not collect:
            raise
        # a defect, or what only the surroundings explain: what was computed is delivered all the same
        log.debug("the step %s", name, exc_info=error)
        defect = NDSynapseError(f"the step {name}", describe_error(error), "Please report this defect, with job.log")
        outcome.failures.append(app.translated(error) or defect)
    finally:
        outcome.seconds[name] = time.monotonic() - started


def check_upload(job: Job) -> None:
    """Refuse, before any work is done, a bucket or an ACL that S3 would refuse by their names."""
    if job.bucket is not None or job.acl is not None:
        from nd_synapse.aws import upload  # only who uploads waits for boto3

        upload.check_bucket(_ANY_BUCKET if job.bucket is None else job.bucket, job.acl)


def write_files(outcome: Outcome, folder: ResultFolder) -> None:
    """Write masks and table."""
    job, masks = outcome.job, outcome.detection.masks
    files = mask_names(job.pipeline.name, list(masks))
    about = f"{job.pipeline.name} on {job.collection}/{job.experiment}, {job.box}"
    for name, mask in masks.items():
        folder.write_mask(
            files[name],
            mask,
            voxel_size_nm=outcome.source.voxel_size,
            box=job.box,
            description=f"Synapse mask {name}: {about}. {outcome.source.description}{_holes(outcome)}",
        )
    folder.write_table("synapses.csv", outcome.detection.table)
    if outcome.synapses > MANY_SYNAPSES:
        folder.write_table("synapses.parquet", outcome.detection.table)


def _holes(outcome: Outcome) -> str:
    """Return what the mask's metadata say of blocks that failed."""
    places = "; ".join(str(failed_block.box) for failed_block in outcome.detection.failed_blocks)
    return f" Not computed, and 0 here, because blocks failed: {places}." if places else ""


def draw(outcome: Outcome) -> Report:
    """Draw the plots."""
    # worker processes import this module anew, and draw nothing: matplotlib alone takes longer than all else
    from nd_synapse.report.entry import draw_report

    return draw_report(
        title=f"Synapses in {outcome.job.collection}/{outcome.job.experiment}",
        table=outcome.detection.table,
        facts=record.facts(outcome),
        overviews=outcome.detection.overviews,
        mask_overviews=outcome.detection.mask_overviews,
        images=outcome.detection.images,
        mask_volumes=outcome.detection.masks,
    )


def write_page(report: Report | None, outcome: Outcome, folder: ResultFolder) -> None:
    """Write the page with what is known of the run by now."""
    if report is not None:
        outcome.report = report.write(folder.root, record.facts(outcome))


def push(outcome: Outcome, destinations: Mapping[str, boss_push.Destination], progress: Progress) -> None:
    """Push every mask, as far as BOSS takes them."""
    source = outcome.source
    images = [(source.collection, source.experiment, channel) for channel in outcome.roles.values()]
    views = {}
    for name, mask in outcome.detection.masks.items():
        try:
            pushed = boss_push.push_mask(
                source.remote,
                destinations[name],
                source.box,
                mask,
                source.frame,
                progress=lambda done, total: progress("push", done, total),
            )
        except NDSynapseError as error:
            outcome.failures.append(error)
            outcome.in_boss[name] = f"failed: {error}"
            continue
        outcome.in_boss[name] = f"{destinations[name]}, {pushed.voxels_found:,} voxels, read back and equal"
        outcome.links[name] = pushed.link
        views[f"{name} neuroglancer"] = boss_push.neuroglancer_link(
            source.remote, images, destinations[name], source.box, source.voxel_size
        )
    outcome.links.update(views)


def upload(outcome: Outcome, folder: ResultFolder) -> None:
    """Upload the result folder, if there is a bucket for it."""
    job = outcome.job
    if job.bucket is None:
        log.info("nothing uploaded: no bucket was given, by --bucket or %s, or --no-upload was", BUCKET_VARIABLE)
        return
    from nd_synapse.aws import upload  # only who uploads waits for boto3

    with step(outcome, "upload"):
        uploaded = upload.upload_folder(folder.root, job.bucket, job.results_key, acl=job.acl)
        log.info("uploaded %d files to s3://%s/%s/", len(uploaded), job.bucket, job.results_key)
