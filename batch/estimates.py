"""Estimates of what the phases of a run transfer, how long they take and what they cost, as ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from batch.phases import LAST
from batch.prices import Prices, Range
from batch.requests import Resources
from batch.retry import Compute
from batch.shards import pulled_by
from nd_synapse.boss.cutouts import REQUEST_VOXELS, request_size
from nd_synapse.detection.budget import Needs
from nd_synapse.detection.exchange import NOTES_SAMPLED
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.windows import surroundings
from nd_synapse.files.masks import MOST_VOXELS
from nd_synapse.geometry import Box

__all__ = [
    "ASSUMED",
    "ASSUMED_OF_MASKS",
    "BOSS_PULLS",
    "Cost",
    "Load",
    "Phase",
    "added",
    "array",
    "contacts",
    "cost_of",
    "join",
    "load_of",
    "middle",
    "push",
    "report",
    "scaled",
    "single",
]

BOSS_PULLS = 100
"""Cutouts in flight that saturate BOSS at the assumed 200 MB/s, with 2 MB/s each."""

_START_S = (30.0, 180.0)
_FETCHES_A_S = (100.0, 1000.0)
_OBJECT_BYTES_S = (10e6, 50e6)
_MASK_BYTES_S = (20e6, 200e6)
_TOUCH_S = (0.01, 0.1)
_JOIN_S = (0.002, 0.02)
_WRITTEN_VOXELS_S = (25e6, 80e6)
_MASK_FILE_VOXELS_S = (50e6, 150e6)
_ROWS_S = (0.01, 0.05)

ASSUMED = (
    f"an attempt: {_START_S[0]:.0f} to {_START_S[1]:.0f} s until its first request (machine, image, Python)",
    f"S3: {_FETCHES_A_S[0]:.0f} to {_FETCHES_A_S[1]:,.0f} objects a second, fetched by a job 16 at a time",
    f"voxels in S3: {_OBJECT_BYTES_S[0] / 1e6:.0f} to {_OBJECT_BYTES_S[1] / 1e6:.0f} MB/s an object in flight",
    f"contacts: {_TOUCH_S[0]:g} to {_TOUCH_S[1]:g} s a block; join: {_JOIN_S[0]:g} to {_JOIN_S[1]:g} s a block",
    f"files: {_WRITTEN_VOXELS_S[0] / 1e6:.0f} to {_WRITTEN_VOXELS_S[1] / 1e6:.0f} million voxels/s a worker, masks and"
    f" labels; {_ROWS_S[0]:g} to {_ROWS_S[1]:g} s a block, table; pickle and TIFF of a mask"
    f" {_MASK_FILE_VOXELS_S[0] / 1e6:.0f} to {_MASK_FILE_VOXELS_S[1] / 1e6:.0f} million voxels/s",
)
"""The assumptions behind the times, besides the speeds, for the reader of a plan."""

ASSUMED_OF_MASKS = (
    f"masks: {_MASK_BYTES_S[0] / 1e6:.0f} to {_MASK_BYTES_S[1] / 1e6:.0f} MB/s a job to BOSS and back,"
    f" at most {_MASK_BYTES_S[1] / 1e6:.0f} MB/s in all, mostly zeros"
)
"""One more, of volumes in BOSS."""

_PAGE = 1000
"""Names in a page of S3."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a volume, however it is divided into shards."""

    box: Box
    block_size: tuple[int, int, int]
    """Largest extent of a block along z, y, x."""
    halo: tuple[int, int, int]
    around: tuple[int, int, int]
    """What is measured around the objects."""
    blocks: int
    voxel_bytes: int
    """Of a voxel in all channels that are pulled."""
    tile_requests: float
    """Requests to BOSS for a tile in all channels, on average."""
    request_bytes: int
    """The largest of these, uncompressed."""
    shared_channels: int
    """Channels whose tiles the parts share in S3, so that BOSS is asked once for each: all or none."""
    push_requests: int
    """Of the masks: each part is read, written and read back, at most."""
    push_bytes: int
    """Written and read back, uncompressed."""
    mask_files: int
    """Masks that get a pickle and a TIFF, which one process writes: none of a large volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a run."""

    name: str
    jobs: int
    """Containers that do it."""
    at_once: int
    """Containers that run at the same time."""
    pulled_bytes: int
    """From the source, uncompressed."""
    shared_bytes: int
    """Voxels from S3, where another job left them, uncompressed."""
    boss_requests: int
    """With those of the push."""
    s3_puts: int
    s3_gets: int
    """Requests to S3; lists are counted as puts, which cost the same."""
    fixed_s: Range
    """Of a container, before its first block."""
    work_s: Range
    """Of its blocks, on average."""

    @property
    def child_s(self) -> Range:
        """Time of a container."""
        return added(self.fixed_s, self.work_s)

    @property
    def machine_s(self) -> Range:
        """Time of all containers together, which is paid for."""
        return scaled(self.child_s, self.jobs)

    @property
    def seconds(self) -> Range:
        """From start to end: one wave of containers after another."""
        return scaled(self.child_s, self.jobs / self.at_once if self.jobs > self.at_once else 1.0)


def load_of(plan: Plan, push: bool, shares_tiles: bool = False) -> Load:
    """Return the load of a detection."""
    channels = plan.pulled()
    shape = [min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True)]
    sizes = [plan.source.dtype(channel).itemsize for channel in channels]
    masks = len(plan.pipeline.masks) if push else 0
    return Load(
        box=plan.box,
        block_size=plan.block_size,
        halo=plan.halo,
        around=surroundings(plan.reach),
        blocks=plan.box.tile_count(plan.block_size, aligned=True),
        voxel_bytes=sum(sizes),
        tile_requests=_requests(shape) * len(channels),
        request_bytes=min(math.prod(shape), REQUEST_VOXELS) * max(sizes),
        shared_channels=len(channels) if shares_tiles else 0,
        push_requests=3 * masks * plan.box.tile_count(request_size(plan.box.shape), aligned=True),
        push_bytes=2 * masks * plan.box.voxels,
        mask_files=len(plan.pipeline.masks) if plan.box.voxels <= MOST_VOXELS else 0,
    )


def _requests(shape: Sequence[int]) -> float:
    """Return the requests for a tile, on average; larger tiles are cut at multiples of the request size."""
    if math.prod(shape) <= REQUEST_VOXELS:
        return 1.0
    steps = request_size(shape)
    return math.prod(1 + (n - math.gcd(n, step)) / step for n, step in zip(shape, steps, strict=True))


def array(name: str, load: Load, needs: Needs, jobs: int, at_once: int, cpus: int, pulls: int) -> Phase:
    """Estimate an array whose children read voxels: statistics, detection or objects."""
    voxels, tiles = pulled_by(load.box, load.block_size, jobs, load.around if name == "objects" else load.halo)
    from_s3 = bool(load.shared_channels) and name != "statistics"
    if load.shared_channels:
        voxels = load.box.voxels * tiles // load.blocks if from_s3 else load.box.voxels
    total = voxels * load.voxel_bytes
    every = replace(needs, pull_bytes=total, voxels=load.box.voxels, blocks=load.blocks)
    all_s = (_of_s3(every) if from_s3 else every).seconds(at_once * cpus, at_once * pulls)
    sums, blocks = _pages(jobs), _pages(load.blocks)
    asked = round(tiles * load.shared_channels)
    if name == "statistics":
        # besides blocks, sums and its speeds, each child lists sums, blocks and failed blocks; it leaves its tiles
        left = load.blocks * load.shared_channels
        puts, fetched = load.blocks + 2 * jobs + jobs * (sums + blocks + 1) + left, 0
    elif name == "detection":
        # besides blocks and its speeds, each child lists sums, failed blocks, and blocks three times
        puts, fetched = load.blocks + jobs * (1 + sums + 3 * blocks + 1), jobs**2 + load.blocks
    else:
        # objects and features; of the blocks around its own a child fetches what was counted, found and joined
        puts, fetched = 2 * load.blocks + jobs * (1 + sums + 7 * blocks + 1), jobs**2 + 3 * tiles
    return Phase(
        name=name,
        jobs=jobs,
        at_once=at_once,
        pulled_bytes=0 if from_s3 else total,
        shared_bytes=total if from_s3 else 0,
        boss_requests=0 if from_s3 else round((load.blocks if load.shared_channels else tiles) * load.tile_requests),
        s3_puts=puts,
        s3_gets=fetched + asked,
        fixed_s=added(_START_S, _fetching(fetched // jobs)),
        work_s=scaled(all_s, at_once / jobs),
    )


def contacts(load: Load, jobs: int, at_once: int, cpus: int) -> Phase:
    """Estimate the array that finds which parts touch across blocks: a child reads its blocks and those around.

    What all children read for the sample fields, 64 at most, is not counted.
    """
    _, tiles = pulled_by(load.box, load.block_size, jobs, (1, 1, 1))
    return _without_voxels(
        name="contacts",
        jobs=jobs,
        at_once=at_once,
        s3_puts=load.blocks + jobs * (_pages(jobs) + 5 * _pages(load.blocks) + 1),
        s3_gets=jobs**2 + tiles,
        work_s=scaled(_TOUCH_S, load.blocks / jobs / cpus),
    )


def join(load: Load, shards: int) -> Phase:
    """Estimate the job that joins what touches: it fetches something small of each block, and leaves as much."""
    work_s = added(scaled(_JOIN_S, load.blocks), _fetching(load.blocks))
    puts, gets = load.blocks + 4 * _pages(load.blocks) + _pages(shards), load.blocks + shards
    return _without_voxels(name="join", jobs=1, at_once=1, s3_puts=puts, s3_gets=gets, work_s=work_s)


def push(load: Load, jobs: int, at_once: int) -> Phase:
    """Estimate the array that pushes the masks: a child finds which voxels of its blocks are in them."""
    fetched = jobs**2 + 3 * load.blocks
    return _without_voxels(
        name="push",
        jobs=jobs,
        at_once=at_once,
        boss_requests=load.push_requests,
        s3_puts=jobs * (_pages(jobs) + 6 * _pages(load.blocks) + 1),
        s3_gets=fetched,
        work_s=scaled(_pushing(load, at_once), at_once / jobs),
    )


def report(load: Load, shards: int, cpus: int) -> Phase:
    """Estimate the job that writes the masks, the labels and the table, draws and delivers."""
    # it reads how fast some of the children were; of each block what was counted, found, joined, chosen and measured
    gets = 5 * load.blocks + min(2 * shards, NOTES_SAMPLED)
    return _without_voxels(
        name=LAST,
        jobs=1,
        at_once=1,
        s3_puts=6 * _pages(load.blocks) + _pages(2 * shards),
        s3_gets=gets,
        work_s=_writing(load, cpus),
    )


def _without_voxels(*, jobs: int, s3_gets: int, boss_requests: int = 0, **others: Any) -> Phase:
    """Return a phase that reads what other jobs left, and no image."""
    return Phase(
        jobs=jobs,
        s3_gets=s3_gets,
        boss_requests=boss_requests,
        pulled_bytes=0,
        shared_bytes=0,
        fixed_s=added(_START_S, _fetching(s3_gets // jobs)),
        **others,
    )


def _of_s3(needs: Needs) -> Needs:
    """Return needs whose voxels come from S3, which is as wide as what reads it."""
    return replace(needs, speeds=replace(needs.speeds, cutout_bytes_s=_OBJECT_BYTES_S, most_bytes_s=math.inf))


def single(load: Load, needs: Needs, cpus: int, pulls: int) -> Phase:
    """Estimate a run in one job, which writes its blocks to S3, too, for it may be interrupted."""
    left = load.blocks * load.shared_channels
    return Phase(
        name="single",
        jobs=1,
        at_once=1,
        pulled_bytes=load.box.voxels * load.voxel_bytes,
        shared_bytes=0,
        boss_requests=round(load.blocks * load.tile_requests) + load.push_requests,
        s3_puts=6 * load.blocks + 9 * _pages(load.blocks) + left,
        s3_gets=left,
        fixed_s=_START_S,
        work_s=added(added(needs.seconds(cpus, pulls), _writing(load, cpus)), _pushing(load)),
    )


def _pages(names: int) -> int:
    """Return the requests for listing so many names."""
    return -(-names // _PAGE)


def _fetching(blocks: int) -> Range:
    """Return the time to fetch finished blocks."""
    slow, fast = _FETCHES_A_S
    return blocks / fast, blocks / slow


def _writing(load: Load, cpus: int) -> Range:
    """Return the time to write masks and labels, by workers, then the files of masks and the table, by one process."""
    slow, fast = (load.box.voxels / speed for speed in _WRITTEN_VOXELS_S)
    slow_files, fast_files = (load.mask_files * load.box.voxels / speed for speed in _MASK_FILE_VOXELS_S)
    return added(added((fast / cpus, slow / cpus), (fast_files, slow_files)), scaled(_ROWS_S, load.blocks))


def _pushing(load: Load, at_once: int = 1) -> Range:
    """Return the time of the push by so many jobs at a time."""
    slow, fast = _MASK_BYTES_S
    return load.push_bytes / fast, load.push_bytes / min(at_once * slow, fast)


def added(one: Range, other: Range) -> Range:
    """Add two ranges."""
    return one[0] + other[0], one[1] + other[1]


def scaled(one: Range, factor: float) -> Range:
    """Multiply a range."""
    return one[0] * factor, one[1] * factor


def middle(one: Range) -> float:
    """Return the geometric middle of a range, or the arithmetic one from 0."""
    return float(np.sqrt(one[0] * one[1])) if one[0] > 0 else math.fsum(one) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run costs, in USD, least and most."""

    on_demand: Range
    spot: Range
    """Containers with the arrays on Spot, without interruptions."""
    s3: float
    """Requests."""
    s3_day: float
    """For a day of what is kept of the voxels, as if it were not compressed."""
    nat: float
    """For the pulled bytes, if they pass a NAT gateway; public addresses need none."""
    prices: str


def cost_of(
    prices: Prices,
    compute: Compute,
    phases: Sequence[Phase],
    containers: Sequence[tuple[Resources, int]],
    kept_bytes: int,
) -> Cost:
    """Add up the cost of the phases of a run, which leaves voxels in S3."""
    on_demand: Range = (0.0, 0.0)
    spot: Range = (0.0, 0.0)
    for phase, (container, disk_gib) in zip(phases, containers, strict=True):
        for is_spot in (False, True):
            rate = prices.per_second(
                compute, container.vcpus, container.memory_mib, is_spot and phase.jobs > 1, float(disk_gib)
            )
            usd = (phase.machine_s[0] * rate[0], phase.machine_s[1] * rate[1])
            if is_spot:
                spot = added(spot, usd)
            else:
                on_demand = added(on_demand, usd)
    gib = sum(phase.pulled_bytes for phase in phases) / 2**30
    return Cost(
        on_demand=on_demand,
        spot=spot,
        s3=sum(phase.s3_puts * prices.s3_put + phase.s3_gets * prices.s3_get for phase in phases),
        s3_day=kept_bytes / 2**30 * prices.s3_gib_month / 30,
        nat=gib * prices.nat_gib,
        prices=f"{prices.region}, {prices.as_of}",
    )
