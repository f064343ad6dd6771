"""What a job would do and need, computed before it runs and without pulling a voxel."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace

from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE
from nd_synapse.detection.budget import check_memory, fits, fitted, needs_of
from nd_synapse.detection.plan import Plan, remembered_block_size
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.geometry import Box
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import Job
from nd_synapse.machine import available_bytes, available_cores, in_gib, sufficient_bytes, warn_of_workers
from nd_synapse.volumes import Source

__all__ = ["candidates", "forecast", "plan_of", "warn_of_excess"]

log = logging.getLogger(__name__)


def plan_of(job: Job, source: Source, roles: Mapping[str, str], folder: ResultFolder) -> Plan:
    """Plan the detection of a job, within its memory."""
    plan = Plan(
        source=source,
        box=job.box,
        pipeline=job.pipeline,
        roles=roles,
        channels=job.measured(candidates(source)),
        voxel_size_nm=source.frame.voxel_size_nm,
        block_size=job.block_size or DEFAULT_BLOCK_SIZE,
        folder=folder.work,
    )
    limit = available_bytes() if job.memory_bytes is None else job.memory_bytes
    if job.block_size is None:
        before = remembered_block_size(folder.work)
        # a run can be resumed only with the blocks that it was started with
        if before is not None and fits(same := replace(plan, block_size=before), job.cpus, job.pulls, limit):
            return same
        return fitted(plan, job.cpus, job.pulls, limit)
    mine = [] if job.part is None else job.part.of(plan.blocks())
    # a part joins no objects: it holds only its own blocks
    check_memory(replace(plan, box=Box.around(mine)) if mine else plan, job.cpus, job.pulls, limit, plan.box)
    return plan


def warn_of_excess(job: Job, plan: Plan) -> None:
    """Warn of what this machine does not have: cores, memory, room on the disk."""
    warn_of_workers(job.cpus)
    memory = available_bytes()
    if job.memory_bytes is not None and job.memory_bytes > memory:
        text = "%s GiB of memory: this machine has %.2f; what takes more is ended by the system"
        log.warning(text, in_gib(job.memory_bytes), memory / 2**30)
    place = next(folder for folder in (plan.folder, *plan.folder.parents) if folder.exists())
    needed, free = needs_of(plan, job.cpus, job.pulls).disk_bytes, shutil.disk_usage(place).free
    if job.part is None and job.cache_bytes is None and needed > free:
        text = "the scratch takes up to %.2f GiB, the disk of %s has %.2f free; take another folder, or hold less of it"
        log.warning(text, needed / 2**30, place, free / 2**30)


def candidates(source: Source) -> list[str]:
    """Return the image channels that the job may look at."""
    return [channel for channel in source.image_channels if channel in source.requested_channels]


def forecast(job: Job, plan: Plan, speeds: Speeds = ASSUMED) -> str:
    """Return what a job would do and need, as text."""
    needs = replace(needs_of(plan, job.cpus, job.pulls), speeds=speeds)
    workers, pulls = min(job.cpus, needs.blocks), min(job.pulls, needs.blocks * len(plan.pulled()))
    low, high = needs.seconds(min(workers, available_cores()), pulls)
    whole, disk = needs.pull_bytes, needs.disk_bytes
    pulled = f"{whole / 2**30:,.2f} GiB"
    if job.cache_bytes is not None and job.cache_bytes < whole:
        # statistics, detection and features each pull again what the cache dropped
        pulled += f" to {3 * whole / 2**30:,.2f} GiB, for --cache holds less,"
        disk += job.cache_bytes - whole
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    roles = ", ".join(f"{role} {channel}" for role, channel in plan.roles.items())
    scratch = f"{disk / 2**30:,.2f} GiB of scratch in {needs.files:,} files"
    lines = {
        "volume": f"{plan.source.identity}",
        "box": f"{job.box}, {job.box.voxels:,} voxels",
        "channels": f"{roles}; measured: {', '.join(plan.channels)}",
        "blocks": f"{needs.blocks:,} of at most {' x '.join(map(str, plan.block_size))} voxels (z, y, x)",
        "to pull": f"{pulled} before compression, {pulls} cutouts at a time",
        "memory": f"--memory {in_gib(sufficient_bytes(needs.memory_bytes))} (GiB) is enough for {crew}",
        "disk": f"{scratch}, and masks, labels and tables of the results",
        "time": f"{low / 60:,.1f} to {high / 60:,.1f} minutes before the figures, from {speeds}",
        "results": f"{plan.folder.parent}",
    }
    return "".join(f"{name:<9} {text}\n" for name, text in lines.items())
