"""The plan of a run on AWS Batch as values, JSON and text: containers, transfers, time and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from batch.estimates import ASSUMED, ASSUMED_OF_MASKS, BOSS_PULLS, Cost, Phase
from batch.machines import FREE_DISK_GIB
from batch.phases import PHASES, phases_of
from batch.phases import Phase as PhaseName
from batch.prices import PATH, Range
from batch.requests import Planned, Resources
from batch.retry import Compute
from batch.shards import MOST_CHILDREN
from nd_synapse.detection.speeds import Speeds
from nd_synapse.geometry import Box

__all__ = ["BatchPlan", "duration", "size"]

_MOST_REQUEST_BYTES = 545_259_520
"""Limit of BOSS for one response, uncompressed."""

_MACHINE_VCPUS = 16
"""The largest machines of the stack; their containers share a disk."""

_MUCH_BYTES = 100 * 2**30
"""From here on, a note asks the user to agree with the owner of BOSS."""

_LONG_S = 600.0
"""A child that may take longer is worth a note."""

_WIDTH = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a run will do, need and cost."""

    box: Box
    pipeline: str
    channels: int
    """Channels that are pulled."""
    compute: Compute
    block_size: tuple[int, int, int]
    halo: tuple[int, int, int]
    blocks: int
    shards: int
    child: Resources
    report: Resources
    child_disk_gib: int
    report_disk_gib: int
    """Scratch space; `report` is also the single job if there is one shard."""
    phases: tuple[Phase, ...]
    volume_bytes: int
    """Voxels of all channels, each once."""
    request_bytes: int
    """The largest response, uncompressed."""
    reads_boss: bool
    """Whether the volume is in BOSS, and not a file, in a bucket or on a web server."""
    cost: Cost
    speeds: Speeds

    @property
    def assumed(self) -> list[str]:
        """What the times are computed from."""
        return [f"voxels: {self.speeds}", *ASSUMED, *([ASSUMED_OF_MASKS] if self.reads_boss else [])]

    @property
    def children_at_once(self) -> int:
        """Children that BOSS can feed at the same time."""
        return self.phases[0].at_once

    @property
    def is_bound_by_boss(self) -> bool:
        """Whether more children at a time would only wait for BOSS."""
        return self.shards > self.children_at_once

    @property
    def source(self) -> str:
        """What the voxels come from, in words."""
        return "BOSS" if self.reads_boss else "the source"

    @property
    def pulled_bytes(self) -> int:
        """Bytes from the source, uncompressed."""
        return sum(phase.pulled_bytes for phase in self.phases)

    @property
    def boss_requests(self) -> int:
        """Requests to BOSS, with those of the push."""
        return sum(phase.boss_requests for phase in self.phases)

    @property
    def seconds(self) -> Range:
        """From start to end, without interruptions."""
        least, most = zip(*(phase.seconds for phase in self.phases), strict=True)
        return sum(least), sum(most)

    @property
    def times(self) -> dict[PhaseName, Planned]:
        """What each phase is to take; a single job is all of it and the report."""
        names = phases_of(self.shards, len(self.phases) == len(PHASES))
        return {name: Planned(phase.seconds, phase.machine_s) for name, phase in zip(names, self.phases, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        phases = [
            {**asdict(phase), "child_s": list(phase.child_s), "seconds": list(phase.seconds)} for phase in self.phases
        ]
        return {
            **asdict(self),
            "box": {axis: list(ends) for axis, ends in zip("zyx", self.box.ranges, strict=True)},
            "phases": phases,
            "children_at_once": self.children_at_once,
            "is_bound_by_boss": self.is_bound_by_boss,
            "pulled_bytes": self.pulled_bytes,
            "boss_requests": self.boss_requests,
            "seconds": list(self.seconds),
            "assumed": self.assumed,
        }

    def as_text(self) -> str:
        """Return the plan as text."""
        shown = [
            *_facts(self),
            *(("note", text) for text in _notes(self)),
            *(("assumed", text) for text in self.assumed),
        ]
        return "".join(f"{name:<{_WIDTH}} {text}\n" for name, text in shown)


def _facts(plan: BatchPlan) -> Iterator[tuple[str, str]]:
    """Yield the lines of the plan."""
    yield "box", f"{plan.box}, {plan.box.voxels:,} voxels in {plan.channels} channels, {size(plan.volume_bytes)}"
    extents, halo = (" x ".join(map(str, sizes)) for sizes in (plan.block_size, plan.halo))
    yield "blocks", f"{plan.blocks:,} of at most {extents} voxels (z, y, x), halo {halo}"
    if plan.shards == 1:
        yield "jobs", f"1 on {plan.compute}: one machine does the whole, no array"
    else:
        share = f"{plan.blocks / plan.shards:,.0f} blocks each"
        yield (
            "jobs",
            f"{len(plan.phases) - 2} arrays of {plan.shards:,} children on {plan.compute}, {share}; 2 single jobs",
        )
        yield "a child", _container(plan.child, plan.child_disk_gib)
    yield "a single" if plan.shards > 1 else "the job", _container(plan.report, plan.report_disk_gib)
    for phase in plan.phases:
        yield phase.name, _phase(phase, plan.source)
    requests = f" in {plan.boss_requests:,} requests" if plan.reads_boss else ""
    pulled = f"{size(plan.pulled_bytes)} from {plan.source}{requests}"
    times = f"{plan.pulled_bytes / plan.volume_bytes:.1f} times the volume"
    yield "in all", f"{_durations(plan.seconds)}; {pulled}, {times}"
    cost = plan.cost
    spot = f"; {_usd(cost.spot)} with the arrays on Spot, without interruptions" if plan.shards > 1 else ""
    yield "cost", f"{_usd(cost.on_demand)} on demand{spot}"
    kept = f", {cost.s3_day:,.2f} USD a day for voxels that are kept there" if cost.s3_day else ""
    yield "", f"and {cost.s3:,.2f} USD for requests to S3{kept} ({cost.prices}; check {PATH.name} before use)"


def _container(container: Resources, disk_gib: int) -> str:
    """Describe a container."""
    memory = f"{container.vcpus:g} vCPU, {container.memory_mib / 1024:,.1f} GiB of memory, {disk_gib:,} GiB of disk"
    return f"{memory}; {container.cpus} workers, {container.pulls} cutouts in flight"


def _phase(phase: Phase, source: str) -> str:
    """Describe a phase."""
    children = f", {phase.at_once:,} children at a time, {_durations(phase.child_s)} each" if phase.jobs > 1 else ""
    shared = f"{size(phase.shared_bytes)} from S3, " if phase.shared_bytes else ""
    moved = f"{size(phase.pulled_bytes)} from {source}, {shared}{phase.s3_puts:,} puts and {phase.s3_gets:,} gets at S3"
    return f"{_durations(phase.seconds)}{children}; {moved}"


def _notes(plan: BatchPlan) -> Iterator[str]:
    """Yield limits that apply, and settings that are needed."""
    if plan.is_bound_by_boss:
        vcpus = max(plan.children_at_once * plan.child.vcpus, plan.report.vcpus)
        yield (
            f"{plan.source} binds: it is assumed to feed {BOSS_PULLS} cutouts in flight, so {plan.children_at_once} "
            "children run at a time"
        )
        wide = max(phase.at_once for phase in plan.phases)
        others = f"; the times of the other arrays are for {wide * plan.child.vcpus:g}"
        yield (
            f"{vcpus:g} vCPUs suffice for statistics, in all environments of the queue together"
            f"{others if wide > plan.children_at_once else ''}; "
            f"where they have more than {vcpus:g}, submit gives each child fewer cutouts"
        )
    if plan.pulled_bytes >= _MUCH_BYTES and plan.reads_boss:
        yield (
            f"BOSS may count bytes by user and month, and refuses with 429 beyond, which retries do not help: "
            f"ask its owner for {size(plan.pulled_bytes)} (before packing)"
        )
    if plan.pulled_bytes >= _MUCH_BYTES:
        yield (
            f"through a NAT gateway the bytes from {plan.source} would cost {plan.cost.nat:,.0f} USD; public addresses "
            "need none, and S3 none where the route tables have a gateway endpoint for it"
        )
    if plan.reads_boss:
        yield f"the largest request is {size(plan.request_bytes)} of the {size(_MOST_REQUEST_BYTES)} that BOSS takes"
    yield from _disk_notes(plan)
    if plan.shards == MOST_CHILDREN:
        yield f"an array has {MOST_CHILDREN:,} children at most"
    longest_s = plan.phases[0].child_s[1]
    if plan.shards > 1 and longest_s > _LONG_S:
        yield f"a child may take {duration(longest_s)}; finished blocks are kept in any case"


def _disk_notes(plan: BatchPlan) -> Iterator[str]:
    """Yield the disks that are needed."""
    largest_gib = max(plan.child_disk_gib, plan.report_disk_gib)
    if plan.compute == "FARGATE":
        if largest_gib > FREE_DISK_GIB:
            yield f"the job definition has to ask for {largest_gib:,} GiB of disk; --cache bounds pulled voxels"
        return
    children = max(1, int(_MACHINE_VCPUS // plan.child.vcpus))
    shared_gib = children * plan.child_disk_gib if plan.shards > 1 else 0
    if max(largest_gib, shared_gib) > FREE_DISK_GIB:
        shared = f", {shared_gib:,} GiB for the {children} children that one of {_MACHINE_VCPUS} vCPU may hold"
        yield (
            f"a machine needs {max(largest_gib, shared_gib):,} GiB of disk{shared if shared_gib else ''}; "
            "--cache bounds pulled voxels"
        )


def size(count: float) -> str:
    """Format bytes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def duration(seconds: float) -> str:
    """Format a time."""
    for unit, factor, limit in (("s", 1.0, 120.0), ("min", 60.0, 120.0), ("h", 3600.0, 72.0)):
        if seconds / factor < limit:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"


def _durations(seconds: Range) -> str:
    """Format a range of times."""
    return f"{duration(seconds[0])} to {duration(seconds[1])}"


def _usd(amount: Range) -> str:
    """Format a range of amounts."""
    return f"{amount[0]:,.2f} to {amount[1]:,.2f} USD"
