"""The record of a run: what it came to, as run.json keeps it and as the report tells it.

It writes no file; the token is in nothing that it returns.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from detection import Detection
from errors import NDSynapseError
from job import Job
from NeuroDataResource import NeuroDataResource
from pymeda.facts import RunFacts

__all__ = ["VERSION", "Outcome", "facts", "manifest", "versions"]

VERSION = "0.1.0"


@dataclass(slots=True)
class Outcome:
    """What a job came to.

    Parameters
    ----------
    folder : Path
        The result folder.
    links : dict of str to str
        What a link shows, and the link; the masks' channels in BOSS, by mask, come first.
    report : Path or None
        The report page; None where no plots were asked for.
    synapses : int
        Objects in the first mask.
    seconds : dict of str to float
        Time by step.
    failures : list of NDSynapseError
        Deliveries that failed; all else is done.
    """

    folder: Path
    links: dict[str, str] = field(default_factory=dict)
    report: Path | None = None
    synapses: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[NDSynapseError] = field(default_factory=list)


def versions() -> dict[str, str]:
    """Return the versions of this program and of what it computes with."""
    packages = ("intern", "numpy", "scipy", "connected-components-3d", "matplotlib", "boto3", "tifffile")
    return {
        "nd-synapse": VERSION,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def manifest(
    job: Job,
    source: NeuroDataResource,
    roles: Mapping[str, str],
    detection: Detection,
    outcome: Outcome,
    started: datetime,
) -> dict[str, Any]:
    """Return the record of a run as plain values, without the token."""
    return {
        "asked": job.asked(),
        "source": source.describe(),
        "roles": dict(roles),
        "finding": detection.finding,
        "counts": {"blocks": detection.blocks, "candidates": detection.candidates, "synapses": outcome.synapses},
        "voxels": {name: int(detection.rows(name)["voxels"].sum()) for name in detection.masks},
        "links": outcome.links,
        "failures": [str(failure) for failure in outcome.failures],
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {step: round(seconds, 3) for step, seconds in outcome.seconds.items()},
        "versions": versions(),
    }


def facts(
    job: Job,
    source: NeuroDataResource,
    roles: Mapping[str, str],
    detection: Detection,
    outcome: Outcome,
) -> RunFacts:
    """Return what the report tells of a run."""
    asked = {
        "BOSS": job.host,
        "Experiment": f"{job.collection}/{job.experiment}",
        "About the experiment": source.description,
        **{f"Channel, {role}": channel for role, channel in roles.items()},
    }
    return RunFacts(
        asked={label: text for label, text in asked.items() if text},
        box=job.box,
        voxel_size_nm=source.voxel_size,
        pipeline=job.pipeline.name,
        parameters={name: str(value) for name, value in {**job.pipeline.settings, **detection.finding}.items()},
        times_s=dict(outcome.seconds),
        counts={"blocks": detection.blocks, "objects before the size rule": detection.candidates},
        versions=versions(),
        links={label: link for label, link in outcome.links.items() if link},
        notes=[f"Not in BOSS: {failure}" for failure in outcome.failures],
        synthetic=source.is_synthetic,
    )
