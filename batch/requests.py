"""A run on AWS Batch as a frozen value without any token, and the requests that submit it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from batch.phases import PHASES, Phase, children_of, phases_of
from batch.retry import ATTEMPTS, Compute, retry_strategy
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = [
    "Planned",
    "Resources",
    "Run",
    "check_place",
    "definition_with_secret",
    "request_of",
]

SECRET_VARIABLE = "BOSS_TOKEN"  # noqa: S105 - the name of the variable, not its value

RUN_TAG = "nd-synapse-run"

_OVERRIDES_BYTES = 8192
"""The limit of ECS for the overrides of a task, as JSON."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")


def check_place(run_id: str, prefix: str) -> None:
    """Refuse a name or a prefix of a run that Batch or S3 would refuse."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(f"run {run_id!r}", "it is not letters, digits and hyphens, 80 at most", "Choose another name")
    if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise UsageError(f"prefix {prefix!r}", "it is not names joined by slashes", "Choose another prefix")


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of a container."""

    vcpus: float
    """Fractions exist on Fargate only."""
    memory_mib: int
    timeout_s: int
    """An attempt is terminated after so long."""
    cpus: int
    """Worker processes."""
    pulls: int | None = None
    """Cutouts in flight; None leaves them to the job."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a phase was planned to take, least and most."""

    seconds: tuple[float, float]
    """From start to end."""
    container_s: tuple[float, float]
    """Of all containers together, which is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run, from which all of its requests follow."""

    run_id: str
    queue: str
    job_definition: str
    """Names or ARNs."""
    compute: Compute
    options: tuple[str, ...]
    """The user's own options of ``driver.py``; no token, and nothing of what the run itself decides."""
    box: Box
    block_size: tuple[int, int, int]
    """z, y, x; fixed here, so that all children cut the same blocks."""
    blocks: int
    shards: int
    child: Resources
    report: Resources
    """Of the phases that are no array."""
    bucket: str
    prefix: str
    """Where finished blocks, and the record of the run, are."""
    pushes: bool = False
    """Whether masks go to BOSS."""
    attempts: int = ATTEMPTS
    """Limit of the attempts of a job."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the jobs, and of the tasks that they become, for the bill."""
    planned: Mapping[Phase, Planned] = field(default_factory=dict, compare=False)

    @property
    def address(self) -> str:
        """``s3://bucket/prefix``: where finished blocks and the record are, and the name of the run for users."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Its jobs; each depends on the one before."""
        return phases_of(self.shards, self.pushes)

    def children(self, phase: Phase) -> int:
        """Return how many containers a phase has."""
        return children_of(phase, self.shards)

    def resources(self, phase: Phase) -> Resources:
        """Return the resources of a container of a phase."""
        return self.child if PHASES[phase].is_array else self.report

    def as_json(self) -> dict[str, Any]:
        """Return the run as plain values."""
        return {**asdict(self), "box": [list(ends) for ends in self.box.ranges], "tags": dict(self.tags)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """Make a run of what `as_json` returned, after a way through JSON."""
        z, y, x = ((int(start), int(stop)) for start, stop in values["box"])
        size_z, size_y, size_x = (int(extent) for extent in values["block_size"])
        made: dict[str, Any] = {
            "options": tuple(values["options"]),
            "box": Box(z, y, x),
            "block_size": (size_z, size_y, size_x),
            "child": Resources(**values["child"]),
            "report": Resources(**values["report"]),
            "planned": {phase: _planned(**times) for phase, times in values["planned"].items()},
        }
        return cls(**{**values, **made})


def _planned(seconds: Sequence[float], container_s: Sequence[float]) -> Planned:
    """Convert JSON values."""
    (least, most), (least_paid, most_paid) = seconds, container_s
    return Planned((float(least), float(most)), (float(least_paid), float(most_paid)))


def request_of(run: Run, phase: Phase, after: str | None = None) -> dict[str, Any]:
    """Return the request that submits a job of a run."""
    tags = {**run.tags, RUN_TAG: run.run_id}
    resources, children = run.resources(phase), run.children(phase)
    request: dict[str, Any] = {
        "jobName": f"nd-synapse-{run.run_id}-{phase}",
        "jobQueue": run.queue,
        "jobDefinition": run.job_definition,
        "containerOverrides": _overrides(run, phase, resources),
        "retryStrategy": retry_strategy(run.compute, run.attempts),
        "timeout": {"attemptDurationSeconds": resources.timeout_s},
        "tags": tags,
        "propagateTags": True,
    }
    if children > 1:
        request["arrayProperties"] = {"size": children}
    if after is not None:
        request["dependsOn"] = [{"jobId": after}]
    return request


def _overrides(run: Run, phase: Phase, resources: Resources) -> dict[str, Any]:
    """Return what a phase overrides of the job definition."""
    overrides = {
        "command": ["python3", "driver.py", *_words(run, phase, resources)],
        "resourceRequirements": [
            {"type": "VCPU", "value": f"{resources.vcpus:g}"},
            {"type": "MEMORY", "value": str(resources.memory_mib)},
        ],
    }
    size = len(json.dumps(overrides))
    if size > _OVERRIDES_BYTES:
        raise UsageError(
            "the command of the job",
            f"it has {size:,} characters with the resources, and Batch takes {_OVERRIDES_BYTES:,}",
            "Give shorter parameters",
        )
    return overrides


def _words(run: Run, phase: Phase, resources: Resources) -> Iterator[str]:
    """Yield the options of ``driver.py`` for a phase."""
    yield from run.options
    given = {word.partition("=")[0] for word in run.options}
    # a container does not see how many cores are its own
    if "--cpus" not in given:
        yield from ("--cpus", str(resources.cpus))
    if "--pulls" not in given and resources.pulls is not None:
        yield from ("--pulls", str(resources.pulls))
    yield from ("--block-size", ",".join(map(str, run.block_size)))
    yield from ("--phase", phase, "--shards", str(run.shards), "--shared", run.address)


def definition_with_secret(definition: Mapping[str, Any], secret_arn: str) -> dict[str, Any]:
    """Return the request that registers a job definition anew with another token."""
    kept = (
        *("jobDefinitionName", "type", "parameters", "retryStrategy", "timeout", "tags"),
        *("platformCapabilities", "propagateTags", "schedulingPriority"),
    )
    container = dict(definition["containerProperties"])
    others = [secret for secret in container.get("secrets", []) if secret["name"] != SECRET_VARIABLE]
    container["secrets"] = [*others, {"name": SECRET_VARIABLE, "valueFrom": secret_arn}]
    request = {key: definition[key] for key in kept if key in definition}
    return {**request, "containerProperties": container}
