"""The planning of a run on AWS Batch: shards, containers, phases. BOSS is asked for names and sizes only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from batch.estimates import (
    BOSS_PULLS,
    Load,
    Phase,
    array,
    contacts,
    cost_of,
    join,
    load_of,
    middle,
    push,
    report,
    single,
)
from batch.machines import Size, check_disk, largest_memory_mib, size_for
from batch.phases import ARRAYS, LAST, children_of, phases_of
from batch.phases import Phase as PhaseName
from batch.plan import BatchPlan
from batch.prices import Prices, read_prices
from batch.requests import Resources
from batch.retry import Compute
from batch.shards import shards_for
from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE, DEFAULT_PULLS
from nd_synapse.detection.budget import Needs, check_memory, fitted, masks_bytes, needs_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.errors import UsageError
from nd_synapse.files.masks import MOST_VOXELS
from nd_synapse.geometry import Box
from nd_synapse.job.forecast import candidates
from nd_synapse.job.job import Job
from nd_synapse.machine import in_gib, sufficient_bytes, usable_bytes
from nd_synapse.volumes import JobSource

__all__ = ["BatchPlan", "Wishes", "phase_of", "plan_of", "planned"]

CHILD_CPUS = 2
SINGLE_CPUS = 4

QUEUE_VCPUS = 64
"""Virtual cores of the stack's queue, where BOSS does not bind: `MaxVcpus` of its template."""

SINGLE_S = 900.0
"""Below it, one machine does the run, without arrays."""

_KEPT_BYTES = 64 * 2**10
"""What is kept of a finished block beside its labels; that of all blocks is on the disk of the report."""

_PATIENCE = 4.0
_TIMEOUTS_S = (3600, 14 * 24 * 3600)
"""An attempt that takes several times its worst estimate hangs; the longest is the limit of Fargate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The user's settings of a run, besides the detection itself."""

    compute: Compute = "EC2"
    shards: int | None = None
    cpus: int | None = None
    """Workers of a container; None chooses, as in the other fields."""
    pulls: int = DEFAULT_PULLS
    """Cutouts in flight in a child."""
    memory_bytes: int | None = None
    """Memory that a container may use."""
    cache_bytes: int | None = None
    """Disk for pulled voxels; None is no limit."""
    keeps_blocks: bool = False
    """Whether the user gave the block size."""
    push: bool = True
    """Whether the masks go to BOSS."""
    shares_tiles: bool = True
    """Whether the children leave the voxels that they pull for each other in S3."""
    reads_boss: bool = True
    """Whether the volume is in BOSS."""
    speeds: Speeds = ASSUMED

    @property
    def child_cpus(self) -> int:
        """Workers of a child."""
        return self.cpus or CHILD_CPUS

    @property
    def single_cpus(self) -> int:
        """Workers of a single job; as many as a child where the user limits the memory."""
        return self.cpus or (SINGLE_CPUS if self.memory_bytes is None else CHILD_CPUS)

    @property
    def most_at_once(self) -> int:
        """Children that BOSS can feed at the same time."""
        return max(1, BOSS_PULLS // self.pulls)

    def at_once(self, phase: PhaseName, jobs: int) -> int:
        """Return how many children of an array run at the same time."""
        asks_source = phase == "statistics" or (phase != "contacts" and not self.shares_tiles)
        return min(jobs, self.most_at_once if asks_source else max(self.most_at_once, QUEUE_VCPUS // self.child_cpus))


def plan_of(
    job: Job,
    source: JobSource,
    compute: Compute = "EC2",
    shards: int | None = None,
    cpus: int | None = None,
    speeds: Speeds = ASSUMED,
) -> BatchPlan:
    """Plan the run of a job."""
    channels = candidates(source)
    plan = Plan(
        source=source,
        box=job.box,
        pipeline=job.pipeline,
        roles=job.pipeline.choose(channels, job.channels),
        channels=job.measured(channels),
        voxel_size_nm=source.frame.voxel_size_nm,
        block_size=job.block_size or DEFAULT_BLOCK_SIZE,
        folder=job.path,
    )
    wishes = Wishes(
        compute=compute,
        shards=shards,
        cpus=cpus,
        pulls=job.pulls,
        memory_bytes=job.memory_bytes,
        cache_bytes=job.cache_bytes,
        keeps_blocks=job.block_size is not None,
        push=bool(job.push),
        shares_tiles=source.is_service,
        reads_boss=job.source is None,
        speeds=speeds,
    )
    return planned(plan, wishes)


def planned(plan: Plan, wishes: Wishes, prices: Prices | None = None) -> BatchPlan:
    """Plan the run of a detection."""
    plan = _with_blocks(plan, wishes)
    load = load_of(plan, wishes.push, wishes.shares_tiles)
    near = needs_of(_crop(plan, wishes.child_cpus), wishes.child_cpus, wishes.pulls, plan.box)
    near = replace(near, speeds=wishes.speeds)
    shards = wishes.shards or _shards(plan, wishes, load, near)
    cpus = wishes.single_cpus if shards == 1 else wishes.child_cpus
    whole = replace(needs_of(plan, cpus, wishes.pulls), speeds=wishes.speeds)
    _check_memory(wishes, whole)
    if shards == 1:
        phases: tuple[Phase, ...] = (single(load, whole, cpus, wishes.pulls),)
    else:
        names = phases_of(shards, wishes.push)
        phases = tuple(phase_of(name, load, near, wishes, shards) for name in names)
    last = _container(wishes, whole, cpus, [phase for phase in phases if phase.jobs == 1])
    arrays = [phase for phase in phases if phase.jobs > 1]
    child = _container(wishes, near, cpus, arrays) if arrays else last
    child_disk_gib, report_disk_gib = _disks_gib(plan, wishes, load, phases)
    volume_bytes = plan.box.voxels * load.voxel_bytes
    check_disk(wishes.compute, max(child_disk_gib, report_disk_gib))
    each = [(child, child_disk_gib) if phase.jobs > 1 else (last, report_disk_gib) for phase in phases]
    return BatchPlan(
        box=plan.box,
        pipeline=plan.pipeline.name,
        channels=len(plan.pulled()),
        compute=wishes.compute,
        block_size=plan.block_size,
        halo=plan.counted_halo,
        blocks=load.blocks,
        shards=shards,
        child=child,
        report=last,
        child_disk_gib=child_disk_gib,
        report_disk_gib=report_disk_gib,
        phases=phases,
        volume_bytes=volume_bytes,
        request_bytes=load.request_bytes,
        reads_boss=wishes.reads_boss,
        cost=cost_of(
            prices or read_prices(), wishes.compute, phases, each, volume_bytes if load.shared_channels else 0
        ),
        speeds=wishes.speeds,
    )


def phase_of(name: PhaseName, load: Load, near: Needs, wishes: Wishes, shards: int) -> Phase:
    """Estimate a phase of a run in parts."""
    jobs = children_of(name, shards)
    at_once = wishes.at_once(name, jobs)
    if name == LAST:
        return report(load, shards, wishes.child_cpus)
    if name == "push":
        return push(load, jobs, min(jobs, wishes.most_at_once))
    if name == "join":
        return join(load, shards)
    if name == "contacts":
        return contacts(load, jobs, at_once, wishes.child_cpus)
    return array(name, load, near, jobs, at_once, wishes.child_cpus, wishes.pulls)


def _with_blocks(plan: Plan, wishes: Wishes) -> Plan:
    """Return the plan with blocks that fit the memory of a child."""
    limit = wishes.memory_bytes or largest_memory_mib(wishes.compute, wishes.child_cpus) * 2**20
    near = _crop(plan, wishes.child_cpus)
    if wishes.keeps_blocks:
        check_memory(near, wishes.child_cpus, wishes.pulls, limit, plan.box)
        return plan
    return replace(plan, block_size=fitted(near, wishes.child_cpus, wishes.pulls, limit, plan.box).block_size)


def _check_memory(wishes: Wishes, whole: Needs) -> None:
    """Refuse memory that is too small for the whole box: the report would fail at the very end."""
    if wishes.memory_bytes is not None and whole.memory_bytes > usable_bytes(wishes.memory_bytes):
        raise UsageError(
            f"a report in {wishes.memory_bytes / 2**30:,.2f} GiB of memory",
            f"the whole box needs {in_gib(sufficient_bytes(whole.memory_bytes))} GiB to join and to draw",
            "Give that as --memory or leave it out, or take a smaller box",
        )


def _crop(plan: Plan, cpus: int) -> Plan:
    """Return a plan of a few blocks for each worker: their needs do not depend on the number of blocks."""
    z, y, x = (2 * max(n, default) for n, default in zip(plan.block_size, DEFAULT_BLOCK_SIZE, strict=True))
    shape = [min(n, extent) for n, extent in zip((z, y, x * cpus), plan.box.shape, strict=True)]
    return replace(plan, box=Box.of_shape(shape, plan.box.start))


def _shards(plan: Plan, wishes: Wishes, load: Load, near: Needs) -> int:
    """Choose the number of shards."""
    whole = replace(needs_of(plan, wishes.single_cpus, wishes.pulls), speeds=wishes.speeds)
    alone = single(load, whole, wishes.single_cpus, wishes.pulls)
    if middle(alone.child_s) <= SINGLE_S:
        return 1

    @cache
    def child_s(shards: int) -> float:
        phases = (phase_of(name, load, near, wishes, shards) for name in ARRAYS if name != "push")
        return max(middle(phase.child_s) for phase in phases)

    return shards_for(plan.box, plan.block_size, child_s)


def _size(wishes: Wishes, needs: Needs, cpus: int) -> Size:
    """Return the size of a container."""
    needed = max(sufficient_bytes(needs.memory_bytes), wishes.memory_bytes or 0)
    return size_for(wishes.compute, cpus, math.ceil(needed / 2**20))


def _container(wishes: Wishes, needs: Needs, cpus: int, phases: Sequence[Phase]) -> Resources:
    """Return the container for some phases."""
    size = _size(wishes, needs, cpus)
    shortest, longest = _TIMEOUTS_S
    worst_s = max(phase.child_s[1] for phase in phases)
    timeout_s = min(max(shortest, math.ceil(_PATIENCE * worst_s)), longest)
    return Resources(size.vcpus, size.memory_mib, timeout_s, cpus, wishes.pulls)


def _disks_gib(plan: Plan, wishes: Wishes, load: Load, phases: Sequence[Phase]) -> tuple[int, int]:
    """Return the disks of a child and of the report: pulled tiles that are kept, labels, masks, results."""
    pickled = plan.box.voxels * len(plan.pipeline.masks) if plan.box.voxels <= MOST_VOXELS else 0
    results = plan.box.voxels + masks_bytes(plan) + pickled + load.blocks * _KEPT_BYTES
    limit = wishes.cache_bytes or 2**62
    for_report = results + min(phases[-1].pulled_bytes, limit)
    own = plan.box.voxels // phases[0].jobs
    for_child = max(own + min((phase.pulled_bytes + phase.shared_bytes) // phase.jobs, limit) for phase in phases)
    return math.ceil((for_report if len(phases) == 1 else for_child) / 2**30), math.ceil(for_report / 2**30)
