"""What the phases of a run move and how long they may take, as ranges.

It chooses nothing, `planning` does; and it measures nothing: what it assumes stands in `ASSUMED`, for the reader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from batch.prices import Range
from batch.pulls import pulled_by
from batch.shards import count, edges_of
from nd_synapse.boss.cutouts import REQUEST_VOXELS, request_size
from nd_synapse.detection.budget import Needs
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box

__all__ = [
    "ASSUMED",
    "BOSS_PULLS",
    "Load",
    "Phase",
    "added",
    "array",
    "load_of",
    "middle",
    "report",
    "scaled",
    "single",
]

BOSS_PULLS = 100
"""Cutouts in flight with which BOSS gives all that is assumed of it, 200 MB/s, even if each comes at 2 MB/s."""

_START_S = (30.0, 180.0)
_FETCHES_A_S = (100.0, 1000.0)
_MASK_BYTES_S = (20e6, 200e6)

ASSUMED = (
    f"voxels: {Needs.assumed}",
    f"an attempt: {_START_S[0]:.0f} to {_START_S[1]:.0f} s until its first request (machine, image, Python)",
    f"S3: {_FETCHES_A_S[0]:.0f} to {_FETCHES_A_S[1]:,.0f} objects a second that a job fetches, 16 at a time",
    f"masks: {_MASK_BYTES_S[0] / 1e6:.0f} to {_MASK_BYTES_S[1] / 1e6:.0f} MB/s to BOSS and back, mostly zeros",
)
"""What times are computed from."""

_PAGE = 1000
"""Names in an answer of S3."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a volume asks for, whatever it is shared out to.

    Parameters
    ----------
    box : Box
        The volume.
    block_size : tuple of int
        Largest extent of a block along z, y, x.
    halo : tuple of int
        Voxels along z, y, x that a block reads around itself.
    blocks : int
        Number of blocks.
    voxel_bytes : int
        Bytes of a voxel in all channels that are pulled.
    tile_requests : float
        Requests to BOSS for a whole tile in all channels, on average.
    request_bytes : int
        The largest of these, before packing.
    push_requests : int
        Requests to BOSS for pushing the masks: each part is read, written and read back, at most.
    push_bytes : int
        What is written and read back then, before packing.
    """

    box: Box
    block_size: tuple[int, int, int]
    halo: tuple[int, int, int]
    blocks: int
    voxel_bytes: int
    tile_requests: float
    request_bytes: int
    push_requests: int
    push_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a run.

    Parameters
    ----------
    name : str
        ``statistics``, ``detection``, ``report``; or ``single``, which is all of them.
    jobs : int
        Containers that do it.
    at_once : int
        How many of them run at the same time.
    pulled_bytes : int
        What BOSS gives, before packing.
    boss_requests : int
        In how many requests, and those of the push.
    s3_puts, s3_gets : int
        Requests to S3; lists are among the puts, which cost the same.
    fixed_s : tuple of float
        What a container does before its first block.
    work_s : tuple of float
        What its blocks take it, on average.
    """

    name: str
    jobs: int
    at_once: int
    pulled_bytes: int
    boss_requests: int
    s3_puts: int
    s3_gets: int
    fixed_s: Range
    work_s: Range

    @property
    def child_s(self) -> Range:
        """What a container takes."""
        return added(self.fixed_s, self.work_s)

    @property
    def machine_s(self) -> Range:
        """What all containers take together: what is paid for."""
        return scaled(self.child_s, self.jobs)

    @property
    def seconds(self) -> Range:
        """From its beginning to its end: one wave of containers after another."""
        return scaled(self.child_s, self.jobs / self.at_once if self.jobs > self.at_once else 1.0)


def load_of(plan: Plan, push: bool) -> Load:
    """Return what a detection asks for."""
    channels = plan.pulled()
    shape = [min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True)]
    sizes = [plan.source.dtype(channel).itemsize for channel in channels]
    masks = len(plan.pipeline.masks) if push else 0
    return Load(
        box=plan.box,
        block_size=plan.block_size,
        halo=plan.halo,
        blocks=count(plan.box, plan.block_size),
        voxel_bytes=sum(sizes),
        tile_requests=_requests(plan.box, plan.block_size, shape) * len(channels),
        request_bytes=min(math.prod(shape), REQUEST_VOXELS) * max(sizes),
        push_requests=3 * masks * count(plan.box, request_size(plan.box.shape)),
        push_bytes=2 * masks * plan.box.voxels,
    )


def _requests(box: Box, block_size: Sequence[int], shape: Sequence[int]) -> float:
    """Return the requests for a tile, on average.

    One is enough for what it can hold; others end at multiples of their own size, wherever the tile lies.
    """
    if math.prod(shape) <= REQUEST_VOXELS:
        return 1.0
    pieces = 1
    for edges, step in zip(edges_of(box, block_size), request_size(shape), strict=True):
        pieces *= sum(-(-stop // step) - start // step for start, stop in pairwise(edges))
    return pieces / count(box, block_size)


def array(name: str, load: Load, needs: Needs, shards: int, at_once: int, cpus: int, pulls: int) -> Phase:
    """Estimate a phase that is an array."""
    pulled = pulled_by(load.box, load.block_size, shards, load.halo)
    total = int(pulled.voxels.sum()) * load.voxel_bytes
    every = replace(needs, pull_bytes=total, voxels=load.box.voxels, blocks=load.blocks)
    all_s = every.seconds(at_once * cpus, at_once * pulls)
    sums, blocks = _pages(shards), _pages(load.blocks)
    if name == "statistics":
        # besides blocks and sums, each asks which sums, blocks and failed blocks there are
        puts, gets, fetched = load.blocks + shards + shards * (sums + blocks + 1), 0, 0
    else:
        puts, gets = load.blocks + shards * (sums + 2 * blocks + 1), shards**2 + load.blocks
        fetched = gets // shards
    return Phase(
        name=name,
        jobs=shards,
        at_once=at_once,
        pulled_bytes=total,
        boss_requests=round(int(pulled.tiles.sum()) * load.tile_requests),
        s3_puts=puts,
        s3_gets=gets,
        fixed_s=added(_START_S, _fetching(fetched)),
        work_s=scaled(all_s, at_once / shards),
    )


def report(load: Load, needs: Needs, cpus: int, pulls: int) -> Phase:
    """Estimate the job that joins what the arrays left, measures, draws and delivers."""
    return Phase(
        name="report",
        jobs=1,
        at_once=1,
        pulled_bytes=load.box.voxels * load.voxel_bytes,
        boss_requests=round(load.blocks * load.tile_requests) + load.push_requests,
        s3_puts=load.blocks + 4 * _pages(load.blocks),
        s3_gets=2 * load.blocks,
        fixed_s=added(_START_S, _fetching(2 * load.blocks)),
        work_s=added(needs.seconds(cpus, pulls), _pushing(load)),
    )


def single(load: Load, needs: Needs, cpus: int, pulls: int) -> Phase:
    """Estimate a run in one job, which commits its blocks to S3, too: it may be interrupted."""
    return Phase(
        name="single",
        jobs=1,
        at_once=1,
        pulled_bytes=load.box.voxels * load.voxel_bytes,
        boss_requests=round(load.blocks * load.tile_requests) + load.push_requests,
        s3_puts=3 * load.blocks + 4 * _pages(load.blocks),
        s3_gets=0,
        fixed_s=_START_S,
        work_s=added(needs.seconds(cpus, pulls), _pushing(load)),
    )


def _pages(names: int) -> int:
    """Return the requests that listing so many names takes."""
    return -(-names // _PAGE)


def _fetching(blocks: int) -> Range:
    """Return how long fetching finished blocks takes."""
    slow, fast = _FETCHES_A_S
    return blocks / fast, blocks / slow


def _pushing(load: Load) -> Range:
    """Return how long the push takes."""
    slow, fast = _MASK_BYTES_S
    return load.push_bytes / fast, load.push_bytes / slow


def added(one: Range, other: Range) -> Range:
    """Return two ranges, one after the other."""
    return one[0] + other[0], one[1] + other[1]


def scaled(one: Range, factor: float) -> Range:
    """Return a range, so many times."""
    return one[0] * factor, one[1] * factor


def middle(one: Range) -> float:
    """Return the middle of a range, as far from either end by a factor."""
    return float(np.sqrt(one[0] * one[1])) if one[0] > 0 else math.fsum(one) / 2
