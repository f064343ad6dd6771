"""The outcome of a job, from the detection on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nd_synapse.columns import counted
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.registration import Registration
from nd_synapse.errors import IncompleteError, NDSynapseError
from nd_synapse.job.job import Job
from nd_synapse.volumes import JobSource

__all__ = ["Outcome"]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of a job; filled step by step."""

    job: Job
    source: JobSource
    roles: dict[str, str]
    """Role to channel."""
    detection: Detection
    started: datetime
    in_boss: dict[str, str] = field(default_factory=dict)
    """Mask to its state in BOSS, in words; begins with "failed" where the push failed."""
    out: str = ""
    """What was written to `Job.out`, in words; begins with "failed" where that failed."""
    links: dict[str, str] = field(default_factory=dict)
    """Label to link; the masks' channels in BOSS, by mask, come first."""
    registration: Registration | None = None
    """None if it could not be measured."""
    report: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by step, those of the detection included."""
    failures: list[NDSynapseError] = field(default_factory=list)
    """Deliveries that failed."""

    def __post_init__(self) -> None:
        """Start with the times of the detection."""
        self.seconds = {**self.detection.seconds, **self.seconds}

    @property
    def errors(self) -> list[NDSynapseError]:
        """Deliveries that failed, then one error for all blocks that did."""
        failed_blocks = self.detection.failed_blocks
        if not failed_blocks:
            return self.failures
        first = failed_blocks[0]
        incomplete = IncompleteError(
            f"{self.job.pipeline.name} on {self.job.box}",
            f"{len(failed_blocks)} of {self.detection.blocks} blocks failed, the first at {first.box}: {first.reason}",
            "run.json lists them; the same command tries only them again",
        )
        return [*self.failures, incomplete]

    @property
    def classes(self) -> dict[str, int]:
        """Number of objects by class; empty where the pipeline has no classes."""
        if "class" not in self.detection.table:
            return {}
        return counted(self.detection.table["class"])

    @property
    def synapses(self) -> int:
        """Number of objects in the first mask."""
        return len(self.detection.table["id"])
