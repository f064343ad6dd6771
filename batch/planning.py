"""The planning of a run on AWS Batch: shards, containers, phases. BOSS is asked for names and sizes only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from batch.estimates import BOSS_PULLS, Load, Phase, array, cost_of, load_of, middle, report, single
from batch.machines import Size, check_disk, largest_memory_mib, size_for
from batch.plan import BatchPlan
from batch.prices import Prices, read_prices
from batch.requests import Resources
from batch.retry import Compute
from batch.shards import shards_for
from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE, DEFAULT_PULLS
from nd_synapse.detection.budget import Needs, check_memory, fitted, needs_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.job.forecast import candidates
from nd_synapse.job.job import Job
from nd_synapse.machine import in_gib, sufficient_bytes, usable_bytes
from nd_synapse.volumes import JobSource

__all__ = ["BatchPlan", "Wishes", "plan_of", "planned"]

ARRAYS = ("statistics", "detection")
CHILD_CPUS = 2
REPORT_CPUS = 4

QUEUE_VCPUS = 64
"""Virtual cores of the stack's queue, where BOSS does not bind: `MaxVcpus` of its template."""

SINGLE_S = 900.0
"""Below it, one machine does the run, without arrays."""

_COUNTS_BYTES = 16 * 2**10
"""The counts of a finished block; those of all blocks are on the disk of the report."""

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
    def report_cpus(self) -> int:
        """Workers of the report or the single job; as many as a child where the user limits the memory."""
        return self.cpus or (REPORT_CPUS if self.memory_bytes is None else CHILD_CPUS)

    @property
    def most_at_once(self) -> int:
        """Children that BOSS can feed at the same time."""
        return max(1, BOSS_PULLS // self.pulls)

    def at_once(self, phase: str, shards: int) -> int:
        """Return how many children of an array run at the same time."""
        from_s3 = self.shares_tiles and phase != "statistics"
        return min(shards, max(self.most_at_once, QUEUE_VCPUS // self.child_cpus) if from_s3 else self.most_at_once)


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
    at_once = min(shards, wishes.most_at_once)
    # the report has BOSS for itself; where the user limits the memory, more pulls would not fit
    pulls = wishes.pulls * (at_once if wishes.memory_bytes is None else 1)
    cpus = _report_cpus(plan, wishes, pulls)
    whole = replace(needs_of(plan, cpus, pulls), speeds=wishes.speeds)
    _check_memory(wishes, whole)
    if shards == 1:
        phases: tuple[Phase, ...] = (single(load, whole, cpus, pulls),)
    else:
        arrays = (
            array(name, load, near, shards, wishes.at_once(name, shards), wishes.child_cpus, wishes.pulls)
            for name in ARRAYS
        )
        phases = (*arrays, report(load, whole, cpus, pulls, shards))
    last = _container(wishes, whole, cpus, pulls, phases[-1:])
    child = last if shards == 1 else _container(wishes, near, wishes.child_cpus, wishes.pulls, phases[:-1])
    child_disk_gib, report_disk_gib = _disks_gib(plan, wishes, load, phases)
    volume_bytes = plan.box.voxels * load.voxel_bytes
    check_disk(wishes.compute, max(child_disk_gib, report_disk_gib))
    each = [(child, child_disk_gib)] * (len(phases) - 1) + [(last, report_disk_gib)]
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


def _with_blocks(plan: Plan, wishes: Wishes) -> Plan:
    """Return the plan with blocks that fit the memory of a child."""
    limit = wishes.memory_bytes or largest_memory_mib(wishes.compute, wishes.child_cpus) * 2**20
    near = _crop(plan, wishes.child_cpus)
    if wishes.keeps_blocks:
        check_memory(near, wishes.child_cpus, wishes.pulls, limit, plan.box)
        return plan
    return replace(plan, block_size=fitted(near, wishes.child_cpus, wishes.pulls, limit, plan.box).block_size)


def _check_memory(wishes: Wishes, whole: Needs) -> None:
    """Refuse memory that is too small to join objects: the report would fail at the very end."""
    if wishes.memory_bytes is not None and whole.memory_bytes > usable_bytes(wishes.memory_bytes):
        raise UsageError(
            f"a report in {wishes.memory_bytes / 2**30:,.2f} GiB of memory",
            f"joining the objects of the whole box needs {in_gib(sufficient_bytes(whole.memory_bytes))} GiB",
            "Give that as --memory or leave it out, or take a smaller box",
        )


def _crop(plan: Plan, cpus: int) -> Plan:
    """Return a plan of a few blocks for each worker: their needs do not depend on the number of blocks."""
    z, y, x = (2 * max(n, default) for n, default in zip(plan.block_size, DEFAULT_BLOCK_SIZE, strict=True))
    shape = [min(n, extent) for n, extent in zip((z, y, x * cpus), plan.box.shape, strict=True)]
    return replace(plan, box=Box.of_shape(shape, plan.box.start))


def _shards(plan: Plan, wishes: Wishes, load: Load, near: Needs) -> int:
    """Choose the number of shards."""
    whole = replace(needs_of(plan, wishes.report_cpus, wishes.pulls), speeds=wishes.speeds)
    alone = single(load, whole, wishes.report_cpus, wishes.pulls)
    if middle(alone.child_s) <= SINGLE_S:
        return 1

    @cache
    def child_s(shards: int) -> float:
        phases = (
            array(name, load, near, shards, wishes.at_once(name, shards), wishes.child_cpus, wishes.pulls)
            for name in ARRAYS
        )
        return max(middle(phase.child_s) for phase in phases)

    return shards_for(plan.box, plan.block_size, child_s)


def _report_cpus(plan: Plan, wishes: Wishes, pulls: int) -> int:
    """Return the workers of the report: a container that is large because of its memory has cores for more."""
    if wishes.cpus is not None or wishes.memory_bytes is not None:
        return wishes.report_cpus
    return _size(wishes, needs_of(plan, REPORT_CPUS, pulls), REPORT_CPUS).vcpus


def _size(wishes: Wishes, needs: Needs, cpus: int) -> Size:
    """Return the size of a container."""
    needed = max(sufficient_bytes(needs.memory_bytes), wishes.memory_bytes or 0)
    return size_for(wishes.compute, cpus, math.ceil(needed / 2**20))


def _container(wishes: Wishes, needs: Needs, cpus: int, pulls: int, phases: Sequence[Phase]) -> Resources:
    """Return the container for some phases."""
    size = _size(wishes, needs, cpus)
    shortest, longest = _TIMEOUTS_S
    worst_s = max(phase.child_s[1] for phase in phases)
    timeout_s = min(max(shortest, math.ceil(_PATIENCE * worst_s)), longest)
    return Resources(size.vcpus, size.memory_mib, timeout_s, cpus, pulls)


def _disks_gib(plan: Plan, wishes: Wishes, load: Load, phases: Sequence[Phase]) -> tuple[int, int]:
    """Return the disks of a child and of the report: pulled tiles that are kept, labels, masks, results."""
    first, last = phases[0], phases[-1]
    results = plan.box.voxels * (1 + 2 * len(plan.pipeline.masks)) + load.blocks * _COUNTS_BYTES
    own = (results if len(phases) == 1 else plan.box.voxels // first.jobs, results)
    tiles = (
        min((phase.pulled_bytes + phase.shared_bytes) // phase.jobs, wishes.cache_bytes or 2**62)
        for phase in (first, last)
    )
    for_child, for_report = (math.ceil((a + b) / 2**30) for a, b in zip(own, tiles, strict=True))
    return for_child, for_report
