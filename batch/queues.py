"""What a queue can hold: the cores of its compute environments, and which containers fit one of them.

It asks nobody: descriptions are given to it. What a run needs is `planning`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from batch.estimates import BOSS_PULLS
from batch.requests import Resources, Run
from batch.sizes import Size
from nd_synapse.errors import UsageError

__all__ = ["Environment", "Queue", "bounded", "machine"]

_GIB_A_CORE = {"c": 2, "m": 4, "r": 8}
"""Memory of a machine for each of its cores, by the first letter of its type."""

_CONTAINERS = 0.95
"""The share of a machine's memory that containers can have: the rest is the system's and the agent's."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A compute environment.

    Parameters
    ----------
    vcpus : float
        Virtual cores at most; infinite where it does not say.
    machines : tuple of Size
        Its types of machines; empty where it has none, or does not say how large they are.
    """

    vcpus: float
    machines: tuple[Size, ...]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Environment:
        """Read what Batch says of a compute environment."""
        resources = description.get("computeResources") or {}
        sizes = [machine(name) for name in resources.get("instanceTypes") or ()]
        known = tuple(size for size in sizes if size is not None)
        return cls(float(resources.get("maxvCpus", math.inf)), known if len(known) == len(sizes) else ())

    def holds(self, container: Resources) -> bool:
        """Tell whether a container fits."""
        return container.vcpus <= self.vcpus and (
            not self.machines
            or any(
                container.vcpus <= size.vcpus and container.memory_mib <= size.memory_mib * _CONTAINERS
                for size in self.machines
            )
        )

    def __str__(self) -> str:
        """Return it in words."""
        words = f"{self.vcpus:g} vCPU at most"
        if not self.machines:
            return words
        largest = max(self.machines, key=lambda size: (size.vcpus, size.memory_mib))
        return f"{words}, on machines of up to {largest.vcpus} vCPU and {largest.memory_mib / 1024:g} GiB"


@dataclass(frozen=True, slots=True)
class Queue:
    """A job queue.

    Parameters
    ----------
    name : str
        Its name or ARN.
    environments : tuple of Environment
        Those that are enabled.
    """

    name: str
    environments: tuple[Environment, ...]

    @classmethod
    def of(cls, name: str, descriptions: Iterable[Mapping[str, Any]]) -> Queue:
        """Read what Batch says of a queue's compute environments."""
        return cls(name, tuple(Environment.of(one) for one in descriptions if one.get("state") != "DISABLED"))

    def at_once(self, container: Resources) -> float:
        """Return how many containers can run at the same time, in all environments together."""
        fitting = (one.vcpus / container.vcpus for one in self.environments if one.holds(container))
        return sum(math.floor(many) if math.isfinite(many) else many for many in fitting)

    def check(self, what: str, container: Resources) -> None:
        """Refuse a container that fits nowhere: its job would wait for ever, as RUNNABLE."""
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
    """Return a run whose children ask BOSS for no more than it bears, however many of them the queue runs at once."""
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
    """Return the size of a type of machine."""
    form = re.fullmatch(r"([cmr])\d[a-z]*\.(\d*)(x?)large", name)
    if form is None or (form[2] and not form[3]):
        return None
    vcpus = 4 * int(form[2] or 1) if form[3] else 2
    return Size(vcpus, vcpus * _GIB_A_CORE[form[1]] * 1024)
