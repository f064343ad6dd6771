"""Delivering what a job found: files, report and page in the result folder, masks in BOSS, objects in S3."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nd_synapse.console import app
from nd_synapse.detection.registration import BEYOND, PUNCTUM_NM, measure_registration
from nd_synapse.errors import NDSynapseError
from nd_synapse.files import masks as mask_files
from nd_synapse.job import label_files, out, results
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import BUCKET_VARIABLE, Job, label_names, labels_channel, mask_names
from nd_synapse.job.manifest import versions
from nd_synapse.job.outcome import Outcome
from nd_synapse.progress import Progress
from nd_synapse.redaction import describe_error, redacted
from nd_synapse.report.facts import RunFacts
from nd_synapse.text import shortened
from nd_synapse.volumes import Volume

if TYPE_CHECKING:
    from nd_synapse.boss.push import Destination
    from nd_synapse.report.entry import Report

__all__ = [
    "check_registration",
    "check_upload",
    "draw",
    "push",
    "step",
    "upload",
    "write_files",
    "write_out",
    "write_page",
]

log = logging.getLogger(__name__)

_ANY_BUCKET = "bucket"
"""Stands in where only an ACL is given, so that a misspelt one is refused before the work."""

_LONGEST_VALUE = 300
_LEARNED = {
    "punctum_nm": "width of a punctum (nm)",
    "unit": "unit of contrast",
    "levels": "levels of contrast",
    "padding": "grey values of padding",
}
"""Characters of a parameter on the page; what is longer is shortened."""

_BEGINNING = {
    "files": "writing masks, labels and table",
    "registration": "measuring the shifts between sections and between channels",
    "plots": "drawing the report",
    "push": "writing the masks to BOSS",
    "out": "writing labels, mask and points to --out",
    "record": "computing checksums",
    "upload": "sending the result folder to S3",
}
"""What the log says when a step begins: each may take minutes."""


@contextmanager
def step(outcome: Outcome, name: str, collect: bool = True) -> Iterator[None]:
    """Time a step; with `collect`, its failure is noted in the outcome and does not stop the steps after it."""
    started = time.monotonic()
    log.info("%s", _BEGINNING[name])
    try:
        yield
    except NDSynapseError as error:
        if not collect:
            raise
        outcome.failures.append(error)
    except Exception as error:
        if not collect:
            raise
        log.debug("the step %s", name, exc_info=error)
        defect = NDSynapseError(f"the step {name}", describe_error(error), "Please report this defect, with job.log")
        outcome.failures.append(app.translated(error) or defect)
    finally:
        outcome.seconds[name] = time.monotonic() - started


def check_upload(job: Job) -> None:
    """Refuse, before the work, a bucket or an ACL that S3 would refuse by its name."""
    if job.bucket is not None or job.acl is not None:
        from nd_synapse.aws.bucket import check_bucket  # imports boto3, which takes a while

        check_bucket(_ANY_BUCKET if job.bucket is None else job.bucket, job.acl)


def write_files(outcome: Outcome, folder: ResultFolder, workers: int, progress: Progress) -> None:
    """Write masks, labels, table and points; `workers` processes share what they can."""
    from nd_synapse.files.multiscale import Labelled, Pyramid  # numcodecs is imported only where it is used

    root = folder.root
    job, detection = outcome.job, outcome.detection
    files = mask_names(job.pipeline.name, list(detection.masks))
    about = f"{job.pipeline.name} on {job.title}, {job.box}. {outcome.source.description}"
    boxes = "; ".join(str(block.box) for block in detection.failed_blocks)
    if boxes:
        about += f" Not computed, and 0 here, because blocks failed: {boxes}."
    for name, mask in detection.masks.items() if _has_mask_files(job) else ():
        results.write_mask(
            root,
            files[name],
            mask,
            voxel_size_nm=outcome.source.frame.voxel_size_nm,
            box=job.box,
            description=redacted(f"Synapse mask {name}: {about}"),
        )
    labelled = label_names(list(detection.masks))
    masks = {labelled[name]: mask for name, mask in detection.masks.items()}
    pyramid = Pyramid(job.box, outcome.source.frame.voxel_size_nm)
    name = next(iter(files.values()))
    image = Labelled(folder.work / label_files.LABELS, tuple(masks), detection.labels.dtype, pyramid)
    label_files.write_labels(root, image, name, masks, detection.labels, workers, progress)
    results.write_tables(root, detection.table)
    results.write_points(root, detection.table, job.box, outcome.source.frame.voxel_size_nm)


def _has_mask_files(job: Job) -> bool:
    """Return whether masks have files beside the OME-Zarr."""
    return job.box.voxels <= mask_files.MOST_VOXELS


def check_channels(outcome: Outcome) -> None:
    """Warn of two searched channels that look like one image, which agrees with itself everywhere."""
    brightness = outcome.detection.brightness
    for one, other in combinations(dict.fromkeys(outcome.roles.values()), 2):
        if brightness[one] == brightness[other]:
            text = "channels %s and %s have the same mean and standard deviation: are they one image under two names?"
            log.warning(text, one, other)


def check_registration(outcome: Outcome) -> None:
    """Measure the shifts between sections and between channels."""
    detection = outcome.detection
    widths = [width for name, width in detection.finding.items() if name.startswith("punctum_nm:")]
    measured = measure_registration(
        detection.images,
        list(outcome.roles.values()),
        outcome.job.box,
        outcome.source.frame.voxel_size_nm,
        limit_nm=max(widths, default=PUNCTUM_NM),
    )
    outcome.registration = measured
    for channels, outcomes in measured.outcomes().items():
        level = logging.WARNING if outcomes[BEYOND] else logging.INFO
        named = ", ".join(f"{number} {kind}" for kind, number in outcomes.items())
        log.log(level, "registration of %s, limit %g nm: %s", channels, measured.limit_nm, named)


def draw(outcome: Outcome) -> Report:
    """Draw the figures of the report."""
    # worker processes import this module, too, and draw nothing: matplotlib takes longer than all else
    from nd_synapse.report.entry import draw_report

    return draw_report(
        title=f"Synapses in {outcome.job.title}",
        table=outcome.detection.table,
        facts=_facts(outcome),
        overviews=outcome.detection.overviews,
        mask_overviews=outcome.detection.mask_overviews,
        images=outcome.detection.images,
        mask_volumes=outcome.detection.masks,
    )


def write_page(report: Report | None, outcome: Outcome, root: Path) -> None:
    """Write the report page with what is known of the run so far."""
    if report is not None:
        outcome.report = report.write(root, _facts(outcome))


def _facts(outcome: Outcome) -> RunFacts:
    """Return what the report says of a run."""
    job, source, detection = outcome.job, outcome.source, outcome.detection
    requested = {
        "BOSS": job.host,
        **({"Experiment": job.title} if job.source is None else {"Source": job.source.uri}),
        "About the experiment": source.description,
        **{f"Channel, {role}": channel for role, channel in outcome.roles.items()},
        **{f"Mask {name} in BOSS": state for name, state in outcome.in_boss.items()},
        "Labels, mask and points": outcome.out,
        "Upload": f"s3://{job.bucket}/{job.results_key}/" if job.bucket else "not requested",
    }
    failed = detection.failed_blocks
    return RunFacts(
        requested={label: text for label, text in requested.items() if text},
        box=job.box,
        voxel_size_nm=source.frame.voxel_size_nm,
        tissue=detection.tissue,
        density=detection.density,
        pipeline=job.pipeline.name,
        roles=dict(outcome.roles),
        table_file=results.TABLE if outcome.synapses <= results.MOST_IN_CSV else results.LONG_TABLE,
        mask_files=[
            f"{name}.ome.tiff" if _has_mask_files(job) else label_files.LABELS
            for name in mask_names(job.pipeline.name, list(detection.masks)).values()
        ],
        parameters=_texts(job.pipeline.settings),
        finding=_learned(detection.finding),
        times_s=dict(outcome.seconds),
        counts={
            "blocks": detection.blocks,
            "blocks that failed": len(failed),
            **{f"blocks resumed, {step}": n for step, n in detection.resumed.items()},
            "objects before the pipeline's size rule": detection.candidates,
        },
        chance=detection.chance,
        versions=versions(),
        links=outcome.links,
        notes=[f"Not delivered: {failure}" for failure in outcome.failures]
        + [f"Failed block, 0 in the masks, at {block.box}: {block.reason}" for block in failed],
        tracebacks={str(block.box): block.traceback for block in failed if block.traceback},
        registration=outcome.registration,
        synthetic=source.is_synthetic,
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as the page shows them."""
    return {
        name: shortened(
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value), _LONGEST_VALUE
        )
        for name, value in values.items()
    }


def _learned(finding: Mapping[str, Any]) -> dict[str, str]:
    """Return what was learned in words; run.json has the digest, and what is too long to read."""
    found = {}
    for name, value in finding.items():
        what, _, role = name.partition(":")
        label = f"{_LEARNED.get(what, what.replace('_', ' '))}{', ' if role else ''}{role}"
        if what != "padded_regions":
            text = _texts({label: value})[label].replace("[", "").replace("]", "")
            found[label] = text if len(text) < _LONGEST_VALUE else "too long for a page; in run.json"
    return found


def push(
    outcome: Outcome,
    destinations: Mapping[str, Destination],
    root: Path,
    progress: Progress,
    proven: Mapping[str, int],
) -> None:
    """Push every mask, and the labels if they have a destination; one that BOSS refuses does not stop the others.

    Masks that are `proven` were pushed and read back by so many parts of the run.
    """
    from nd_synapse.boss import push as boss_push  # intern is imported only where it is used
    from nd_synapse.boss.resource import NeuroDataResource

    source = outcome.source
    assert isinstance(source, NeuroDataResource), "a job pushes only into the BOSS that it reads"
    images = [(source.collection, source.experiment, channel) for channel in outcome.roles.values()]
    views = {}
    for name, volume in _pushed(outcome, destinations, root).items():
        try:
            pushed = boss_push.push_mask(
                source.remote,
                destinations[name],
                source.box,
                volume,
                source.frame,
                progress=lambda done, total: progress("push", done, total),
                only=() if name in proven else None,
            )
        except NDSynapseError as error:
            outcome.failures.append(error)
            outcome.in_boss[name] = f"failed: {error}"
            continue
        found = outcome.detection.mask_voxels[name] if name in proven else pushed.voxels_found
        by_parts = f"; parts that did it: {proven[name]}" if name in proven else ""
        outcome.in_boss[name] = f"{destinations[name]}, {found:,} voxels, read back and equal{by_parts}"
        outcome.links[name] = pushed.link
        views[f"{name} neuroglancer"] = boss_push.neuroglancer_link(
            source.remote, images, destinations[name], source.box, source.frame.voxel_size_nm
        )
    outcome.links.update(views)


def _pushed(outcome: Outcome, destinations: Mapping[str, Destination], root: Path) -> dict[str, Volume]:
    """Return what is pushed, by the end of its channel's name."""
    volumes: dict[str, Volume] = dict(outcome.detection.masks)
    masks = list(volumes)
    if labels_channel(masks) in destinations:
        from nd_synapse.files.multiscale import open_level  # zarr is imported only where it is used

        labels: Any = open_level(root / label_files.LABELS, 0, label_names(masks)[masks[0]])
        volumes[labels_channel(masks)] = labels
    return volumes


def write_out(outcome: Outcome, folder: ResultFolder) -> None:
    """Write what `Job.out` is to hold."""
    outcome.out = "failed"
    size_nm = outcome.source.frame.voxel_size_nm
    outcome.out = out.deliver(outcome.job, folder.root, folder.work, list(outcome.detection.masks), size_nm)
    log.info("%s", outcome.out)


def upload(outcome: Outcome, root: Path) -> None:
    """Upload the result folder, if there is a bucket for it."""
    job = outcome.job
    if job.bucket is None:
        log.info("nothing is uploaded to S3: no --bucket and no %s, or --no-upload", BUCKET_VARIABLE)
        return
    from nd_synapse.job import upload  # boto3 is imported only where it is used

    with step(outcome, "upload"):
        uploaded = upload.upload_folder(root, job.bucket, job.results_key, acl=job.acl)
        log.info("uploaded %d files to s3://%s/%s/", len(uploaded), job.bucket, job.results_key)
