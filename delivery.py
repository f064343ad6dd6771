"""What is made of a detection: files, plots and a page in the result folder, masks in BOSS, objects in S3.

It decides no order, `driver` does; and it opens neither service itself, `nd_boss` and `s3` are their doors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import nd_boss
import record
from errors import NDSynapseError
from job import BUCKET_VARIABLE
from record import Outcome
from results import ResultFolder, mask_names

if TYPE_CHECKING:
    from pymeda_driver import Report

__all__ = ["draw", "push", "timed", "upload", "write_files", "write_page"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


class timed:  # noqa: N801 (used as a statement)
    """Add the time that a step takes to an outcome."""

    def __init__(self, outcome: Outcome, step: str) -> None:
        self._outcome, self._step = outcome, step
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._outcome.seconds[self._step] = time.monotonic() - self._started


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
            description=f"Synapse mask {name}: {about}. {outcome.source.description}",
        )
    folder.write_table("synapses.csv", outcome.detection.table)


def draw(outcome: Outcome) -> Report:
    """Draw the plots."""
    # worker processes import this module anew, and draw nothing: matplotlib alone takes longer than all else
    from pymeda_driver import draw_report

    return draw_report(
        title=f"Synapses in {outcome.job.collection}/{outcome.job.experiment}",
        table=outcome.detection.table,
        facts=record.facts(outcome),
        overviews=outcome.detection.overviews,
        mask_overviews=outcome.detection.mask_overviews,
    )


def write_page(report: Report | None, outcome: Outcome, folder: ResultFolder) -> None:
    """Write the page with what is known of the run by now."""
    if report is not None:
        outcome.report = report.write(folder.root, record.facts(outcome))


def push(outcome: Outcome, destinations: Mapping[str, nd_boss.Destination], progress: Progress) -> None:
    """Push every mask, as far as BOSS takes them."""
    source = outcome.source
    images = [(source.collection, source.experiment, channel) for channel in outcome.roles.values()]
    views = {}
    for name, mask in outcome.detection.masks.items():
        try:
            pushed = nd_boss.push_mask(
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
        views[f"{name} neuroglancer"] = nd_boss.neuroglancer_link(
            source.remote, images, destinations[name], source.box, source.voxel_size
        )
    outcome.links.update(views)


def upload(outcome: Outcome, folder: ResultFolder) -> None:
    """Upload the result folder, if there is a bucket for it.

    Parameters
    ----------
    outcome : Outcome
        What was asked for; a failure is added to it.
    folder : ResultFolder
        What is uploaded; nothing is written to it any more.
    """
    job = outcome.job
    import s3  # only who uploads waits for boto3

    if job.bucket is None:
        log.info("nothing uploaded: no --bucket and no %s", BUCKET_VARIABLE)
        return
    with timed(outcome, "upload"):
        try:
            uploaded = s3.upload_folder(folder.root, job.bucket, job.results_key, acl=job.acl)
        except NDSynapseError as error:
            outcome.failures.append(error)
            return
    log.info("uploaded %d files to s3://%s/%s/", len(uploaded), job.bucket, job.results_key)
