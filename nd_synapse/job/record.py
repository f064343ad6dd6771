"""The record of a run: what it came to, as run.json keeps it and as the report tells it.

It writes no file; the token is in nothing that it returns.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nd_synapse import __version__
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.credentials import redact
from nd_synapse.detection import Detection
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.errors import IncompleteError, NDSynapseError
from nd_synapse.job.job import Job
from nd_synapse.job.names import mask_names
from nd_synapse.report.facts import RunFacts

__all__ = ["Outcome", "facts", "manifest", "versions"]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a job came to, from the detection on.

    Parameters
    ----------
    job : Job
        What was asked for.
    source : NeuroDataResource
        The volume.
    roles : dict of str to str
        Role to channel.
    detection : Detection
        What was detected.
    started : datetime
        When the job began.
    in_boss : dict of str to str
        Mask to what is known of it in BOSS, in words.
    links : dict of str to str
        What a link shows, and the link; the masks' channels in BOSS, by mask, come first.
    report : Path or None
        The report page; None where no plots were asked for.
    seconds : dict of str to float
        Time by step, the detection's included.
    failures : list of NDSynapseError
        Deliveries that failed; all else is done.
    """

    job: Job
    source: NeuroDataResource
    roles: dict[str, str]
    detection: Detection
    started: datetime
    in_boss: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    report: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[NDSynapseError] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the times of the detection, and with its holes as they may be told.

        What a function of the user's raises may say all that its process knew.
        """
        self.seconds = {**self.detection.seconds, **self.seconds}
        self.detection = replace(
            self.detection, failed_blocks=[self._told(failed_block) for failed_block in self.detection.failed_blocks]
        )

    def _told(self, failed_block: FailedBlock) -> FailedBlock:
        """Return a hole without the token."""
        token = self.job.token
        return replace(
            failed_block, reason=redact(failed_block.reason, token), traceback=redact(failed_block.traceback, token)
        )

    @property
    def errors(self) -> list[NDSynapseError]:
        """What to tell of the run: deliveries that failed, then blocks that did."""
        failed_blocks = self.detection.failed_blocks
        if not failed_blocks:
            return self.failures
        first = failed_blocks[0]
        return [
            *self.failures,
            IncompleteError(
                f"{self.job.pipeline.name} on {self.job.box}",
                f"{len(failed_blocks)} of {self.detection.blocks} blocks failed, "
                f"the first at {first.box}: {first.reason}",
                "run.json lists them; the same command tries them again, and only them",
            ),
        ]

    @property
    def classes(self) -> dict[str, int]:
        """Number of objects by class, of those that have none as well; empty where the pipeline tells no classes."""
        if "class" not in self.detection.table:
            return {}
        names, counts = np.unique(self.detection.table["class"], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def synapses(self) -> int:
        """Number of objects in the first mask."""
        return len(self.detection.table["id"])


def versions() -> dict[str, str]:
    """Return the versions of this program and of what it computes with."""
    packages = ("intern", "numpy", "scipy", "connected-components-3d", "matplotlib", "boto3", "tifffile")
    return {
        "nd-synapse": __version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def manifest(outcome: Outcome, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return what run.json holds: plain values, without the token."""
    job, detection = outcome.job, outcome.detection
    return {
        "asked": job.requested(),
        "source": outcome.source.describe(),
        "roles": outcome.roles,
        "files": dict(files),
        "masks": mask_names(job.pipeline.name, list(detection.masks)),
        "channels": {name: {"mean": b.mean, "sd": b.sd} for name, b in detection.brightness.items()},
        "finding": detection.finding,
        "counts": {
            "blocks": detection.blocks,
            "candidates": detection.candidates,
            "synapses": outcome.synapses,
            "by_mask": {name: len(detection.rows(name)["id"]) for name in detection.masks},
            "by_class": outcome.classes,
        },
        "voxels": dict(detection.mask_voxels),
        "holes": [
            {
                "box": str(failed_block.box),
                "step": failed_block.step,
                "reason": failed_block.reason,
                "traceback": failed_block.traceback,
            }
            for failed_block in detection.failed_blocks
        ],
        "resumed_blocks": detection.resumed,
        "in_boss": outcome.in_boss,
        "links": outcome.links,
        "failures": [str(failure) for failure in outcome.failures],
        "started": outcome.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {step: round(seconds, 3) for step, seconds in outcome.seconds.items()},
        "versions": versions(),
    }


def facts(outcome: Outcome) -> RunFacts:
    """Return what the report tells of a run."""
    job, source, detection = outcome.job, outcome.source, outcome.detection
    requested = {
        "BOSS": job.host,
        "Experiment": f"{job.collection}/{job.experiment}",
        "About the experiment": source.description,
        **{f"Channel, {role}": channel for role, channel in outcome.roles.items()},
        **{f"Mask {name} in BOSS": state for name, state in outcome.in_boss.items()},
        "Upload": f"s3://{job.bucket}/{job.results_key}/" if job.bucket else "not asked for",
    }
    return RunFacts(
        requested={label: text for label, text in requested.items() if text},
        box=job.box,
        voxel_size_nm=source.voxel_size,
        pipeline=job.pipeline.name,
        parameters={name: str(value) for name, value in {**job.pipeline.settings, **detection.finding}.items()},
        times_s=dict(outcome.seconds),
        counts={
            "blocks": detection.blocks,
            "blocks that failed": len(detection.failed_blocks),
            **{f"blocks resumed, {step}": n for step, n in detection.resumed.items()},
            "objects before the pipeline's size rule": detection.candidates,
        },
        versions=versions(),
        links=outcome.links,
        notes=[f"Not delivered: {failure}" for failure in outcome.failures]
        + [
            f"Hole in the masks at {failed_block.box}: {failed_block.reason}"
            for failed_block in detection.failed_blocks
        ],
        tracebacks={
            str(failed_block.box): failed_block.traceback
            for failed_block in detection.failed_blocks
            if failed_block.traceback
        },
        synthetic=source.is_synthetic,
    )
