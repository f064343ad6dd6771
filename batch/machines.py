"""Machines: the sizes that a container can have, and what the compute environments of a queue can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from batch.estimates import BOSS_PULLS
from batch.requests import Resources, Run
from batch.retry import Compute
from nd_synapse.errors import UsageError

__all__ = [
    "FREE_DISK_GIB",
    "Environment",
    "Queue",
    "Size",
    "bounded",
    "check_disk",
    "largest_memory_mib",
    "machine",
    "size_for",
]

_FARGATE: dict[int, tuple[int, int, int]] = {
    1: (2, 8, 1),
    2: (4, 16, 1),
    4: (8, 30, 1),
    8: (16, 60, 4),
    16: (32, 120, 8),
}
"""Virtual cores: least and most memory and the step between sizes, in GiB."""

FREE_DISK_GIB = 20
"""The disk of a container on Fargate by default."""

FARGATE_DISK_GIB = 200
"""The largest disk of a container on Fargate."""

_EC2_GIB_A_CORE = 8
"""Of machines with much memory."""

_EC2_STEP_MIB = 256


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a container."""

    vcpus: int
    """Virtual cores."""
    memory_mib: int
    """Memory in MiB."""


def largest_memory_mib(compute: Compute, vcpus: int) -> int:
    """Return the most memory of a container with so many cores."""
    if compute == "EC2":
        return vcpus * _EC2_GIB_A_CORE * 1024
    return _FARGATE[_fargate_cores(vcpus)][1] * 1024


def size_for(compute: Compute, vcpus: int, memory_mib: int) -> Size:
    """Return the smallest size that is large enough."""
    if compute == "EC2":
        cores = max(vcpus, math.ceil(memory_mib / 1024 / _EC2_GIB_A_CORE))
        return Size(cores, -(-memory_mib // _EC2_STEP_MIB) * _EC2_STEP_MIB)
    for cores, (least, most, step) in _FARGATE.items():
        if cores >= _fargate_cores(vcpus) and memory_mib <= most * 1024:
            steps = max(0, math.ceil((memory_mib / 1024 - least) / step))
            return Size(cores, (least + steps * step) * 1024)
    raise UsageError(
        f"a container with {memory_mib / 1024:,.0f} GiB of memory on Fargate",
        f"its largest has {max(most for _, most, _ in _FARGATE.values())} GiB",
        "Use EC2, or a smaller box",
    )


def _fargate_cores(vcpus: int) -> int:
    """Return the cores of the smallest size of Fargate with so many."""
    for cores in _FARGATE:
        if cores >= vcpus:
            return cores
    raise UsageError(
        f"a container with {vcpus} vCPU on Fargate", f"its largest has {max(_FARGATE)}", "Use EC2, or fewer --cpus"
    )


def check_disk(compute: Compute, disk_gib: int) -> None:
    """Refuse a disk that is too large for Fargate."""
    if compute == "FARGATE" and disk_gib > FARGATE_DISK_GIB:
        raise UsageError(
            f"{disk_gib:,} GiB of scratch in a container on Fargate",
            f"it has {FARGATE_DISK_GIB} GiB at most",
            "Use EC2, limit the pulled voxels on disk by --cache, or take a smaller box",
        )


_GIB_A_CORE = {"c": 2, "m": 4, "r": 8}
"""Memory of a machine per core, by the first letter of its type."""

_CONTAINERS = 0.95
"""The share of a machine's memory for containers; system and agent take the rest."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A compute environment."""

    vcpus: float
    """At most; infinite where it is not set."""
    machines: tuple[Size, ...]
    """Empty where there are none, or their sizes are unknown."""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Environment:
        """Parse Batch's description of a compute environment."""
        resources = description.get("computeResources") or {}
        sizes = [machine(name) for name in resources.get("instanceTypes") or ()]
        known = tuple(size for size in sizes if size is not None)
        return cls(float(resources.get("maxvCpus", math.inf)), known if len(known) == len(sizes) else ())

    def holds(self, container: Resources) -> bool:
        """Return whether a container fits."""
        return container.vcpus <= self.vcpus and (
            not self.machines
            or any(
                container.vcpus <= size.vcpus and container.memory_mib <= size.memory_mib * _CONTAINERS
                for size in self.machines
            )
        )

    def __str__(self) -> str:
        """Describe it."""
        words = f"{self.vcpus:g} vCPU at most"
        if not self.machines:
            return words
        largest = max(self.machines, key=lambda size: (size.vcpus, size.memory_mib))
        return f"{words}, on machines of up to {largest.vcpus} vCPU and {largest.memory_mib / 1024:g} GiB"


@dataclass(frozen=True, slots=True)
class Queue:
    """A job queue."""

    name: str
    environments: tuple[Environment, ...]
    """Only enabled ones."""

    @classmethod
    def of(cls, name: str, descriptions: Iterable[Mapping[str, Any]]) -> Queue:
        """Parse Batch's description of a queue's compute environments."""
        return cls(name, tuple(Environment.of(one) for one in descriptions if one.get("state") != "DISABLED"))

    def at_once(self, container: Resources) -> float:
        """Return how many containers can run at a time, in all environments together."""
        fitting = (one.vcpus / container.vcpus for one in self.environments if one.holds(container))
        return sum(math.floor(many) if math.isfinite(many) else many for many in fitting)

    def check(self, what: str, container: Resources) -> None:
        """Refuse a container that fits nowhere: its job would stay RUNNABLE for ever."""
        if any(one.holds(container) for one in self.environments):
            return
        has = "; ".join(dict.fromkeys(map(str, self.environments))) or "none that is enabled"
        raise UsageError(
            f"{what} of {container.vcpus:g} vCPU and {container.memory_mib / 1024:,.1f} GiB of memory in the queue "
            f"{self.name}",
            f"it fits none of its compute environments ({has}), and would wait for ever",
            "Deploy the stack with a larger MaxVcpus or larger InstanceTypes, or take a smaller box",
        )


def bounded(run: Run, queue: Queue) -> Run:
    """Return a run whose children do not overload BOSS, however many of them the queue runs at a time."""
    queue.check("a report" if run.shards > 1 else "a job", run.report)
    if run.shards == 1:
        return run
    queue.check("a child", run.child)
    at_once = int(min(run.shards, queue.at_once(run.child)))
    most = BOSS_PULLS // at_once
    requested = f"{at_once:,} children at a time in the queue {queue.name}"
    if not most:
        raise UsageError(
            requested,
            f"BOSS is assumed to feed {BOSS_PULLS} cutouts in flight, less than one for each",
            f"Let all compute environments of the queue together have at most {BOSS_PULLS * run.child.vcpus:g} vCPUs "
            f"(MaxVcpus of the stack counts for each of them), or give --shards {BOSS_PULLS} or fewer",
        )
    if run.child.pulls is None or run.child.pulls <= most:
        return run
    if "--pulls" in run.options:
        raise UsageError(
            f"{requested}, each with --pulls {run.child.pulls}",
            f"BOSS is assumed to feed {BOSS_PULLS} cutouts in flight",
            f"Leave --pulls out or give {most}, or let the compute environments of the queue have fewer vCPUs",
        )
    return replace(run, child=replace(run.child, pulls=most))


def machine(name: str) -> Size | None:
    """Return the size of a machine type; None if it is unknown."""
    form = re.fullmatch(r"([cmr])\d[a-z]*\.(\d*)(x?)large", name)
    if form is None or (form[2] and not form[3]):
        return None
    vcpus = 4 * int(form[2] or 1) if form[3] else 2
    return Size(vcpus, vcpus * _GIB_A_CORE[form[1]] * 1024)
