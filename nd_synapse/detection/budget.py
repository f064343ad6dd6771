"""What a detection will need, computed before it runs: memory, disk, bytes to pull.

The constants were measured with three channels, uint8 and uint16, on blocks of 1 to 17 million voxels
(`tests/test_memory.py` checks them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE, MAX_BLOCKS
from nd_synapse.detection.chance import sample_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.detection.windows import TOGETHER, surroundings
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.machine import in_gib, sufficient_bytes, usable_bytes

__all__ = [
    "Needs",
    "check_memory",
    "fits",
    "fitted",
    "left_bytes",
    "masks_bytes",
    "needs_of",
    "writer_bytes",
    "writers",
]

_PARENT_BYTES = 160 * 2**20
_WORKER_BYTES = 60 * 2**20
_VOXEL_BYTES = 12
"""What the engine holds for a voxel of a block: labels, their packed form, and mapped input."""

_LARGEST_BLOCK = 400_000_000
"""Voxels of a block: its labels are packed in one piece, which holds less than 2 GiB."""

_LARGEST_TILE_BYTES = 2_000_000_000
"""Of the block in one channel, which is packed so, too, where the parts of a run share it."""

_LEFT_BYTES = 32 * 2**20
"""What a pass leaves of the smallest block: counts, projections, the head of a table."""

_LEFT_VOXEL_BYTES = 48
"""What a pass leaves of a voxel at most: labels and sets, or rows of a table, were every eighth voxel an object."""

_LEFT_CHANNEL_BYTES = 8
"""What it leaves of a voxel for each channel: eight numbers an object."""

_SHARD_BYTES = 100 * 2**20
"""What writing a shard of the files of labels takes, beside a block: its ids, and blocks that were read last."""

_PLANE_BYTES = 24
"""What adding up windows holds for a voxel of a plane: a table of sums, and another while it is made."""

_PULL_COPIES = 3
"""An answer of BOSS is there packed, unpacked, and as the array that is saved."""

_REPORT_BYTES = 450 * 2**20
"""What the parent has when it draws, after the workers have ended."""

_FEW_ROWS, _MOST_ROWS = 10**5, 10**6
_ROW_BYTES = 400
"""What it has more for a row beyond few; of more than most it draws a sample."""

PAIR_BYTES = 340
"""What the parent holds for two parts that touch across blocks while it joins those of a layer of blocks; the workers'
blocks are gone by then."""

LINE_BYTES = 24
"""What it holds for a line of voxels along x of a layer while it gives the synapses their rows."""

_CROSSING = (0.5, 2.0, 2.0)
"""Of so many voxels in z, y, x, one an object is at a face of blocks there with the object on both sides (measured on a
real volume, sections of 70 nm and pixels of 100 nm)."""

_OBJECTS_UM3 = 2.0
"""Objects expected in a cubic micrometre: twice the synapses of a cortex."""

_BLOCK_BYTES, _NEIGHBOUR_BYTES = 1536, 20
"""What the parent holds for a block of the run, and for each block that it reads: where it lies, who waits for whom."""

_BLOCK_FILES = 5
"""Files of a block in the scratch folder, beside a tile of each channel and a part of each mask."""

_FILE_BYTES = 4096
"""What the smallest file takes on disk."""

_BLOCK_S = (0.02, 0.1)
"""What a block takes a worker in all passes, however small it is."""

_SIZES = (
    DEFAULT_BLOCK_SIZE,
    (16, 512, 512),
    (16, 256, 512),
    (16, 256, 256),
    (16, 128, 256),
    (16, 128, 128),
    (8, 128, 128),
    (8, 64, 64),
)
"""Block sizes to choose from: whole cuboids of BOSS as long as they fit, parts of them then."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a detection needs."""

    blocks: int
    pull_bytes: int
    """Voxels that are pulled, before compression, each once."""
    memory_bytes: int
    """Largest memory of all its processes together."""
    worker_bytes: int
    """Largest memory of one worker."""
    disk_bytes: int
    """Largest scratch space: pulled tiles, masks, labels."""
    voxels: int
    files: int
    """Files in the scratch folder."""

    speeds: Speeds = ASSUMED
    """What the time is computed from; only a run shows it."""

    def seconds(self, cpus: int, pulls: int) -> tuple[float, float]:
        """Return how long it may take, from what it takes at best to what it takes at worst."""
        quick, slow = (self.blocks * seconds / min(cpus, self.blocks) for seconds in _BLOCK_S)
        least, most = self.speeds.cutout_bytes_s
        slowly, quickly = (self.pull_bytes / min(pulls * speed, self.speeds.most_bytes_s) for speed in (least, most))
        least, most = self.speeds.worker_voxels_s
        best = max(quickly, self.voxels / (cpus * most), quick)
        worst = slowly + max(self.voxels / (cpus * least), slow)
        return best, worst


def needs_of(plan: Plan, cpus: int, pulls: int, run: Box | None = None) -> Needs:
    """Compute what a detection needs."""
    itemsizes = [plan.source.dtype(channel).itemsize for channel in plan.pulled()]
    block = [min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True)]
    with_halo = math.prod(n + 2 * halo for n, halo in zip(block, plan.halo, strict=True))
    voxels = math.prod(block)
    working = voxels * (_VOXEL_BYTES + max(itemsizes)) + with_halo * plan.pipeline.working_bytes
    worker = _WORKER_BYTES + max(working, _window_bytes(plan, block, itemsizes), _field_bytes(plan, itemsizes))
    blocks = plan.box.tile_count(plan.block_size, aligned=True)
    in_flight = min(pulls, blocks * len(itemsizes))
    parent = _PARENT_BYTES + in_flight * _PULL_COPIES * voxels * max(itemsizes)
    workers = min(cpus, blocks)
    files = blocks * (len(itemsizes) + len(plan.pipeline.masks) + _BLOCK_FILES)
    return Needs(
        blocks=blocks,
        pull_bytes=plan.box.voxels * sum(itemsizes),
        memory_bytes=max(parent + workers * worker, _joining_bytes(plan, workers), _drawing_bytes(plan))
        + _blocks_bytes(plan, block, run or plan.box),
        worker_bytes=worker,
        voxels=plan.box.voxels,
        # labels are nearly all background, and are packed; a voxel of a mask is a bit
        disk_bytes=plan.box.voxels * (sum(itemsizes) + 1) + masks_bytes(plan) + files * _FILE_BYTES,
        files=files,
    )


def writer_bytes(plan: Plan) -> int:
    """Return the largest memory of a process that writes files."""
    voxels = math.prod(min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True))
    return _WORKER_BYTES + _SHARD_BYTES + voxels * _VOXEL_BYTES


def writers(plan: Plan, cpus: int, pulls: int) -> int:
    """Return how many processes may write files, after the detection, in the memory that it was planned with."""
    block = [min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True)]
    room = needs_of(plan, cpus, pulls).memory_bytes - _PARENT_BYTES - _blocks_bytes(plan, block, plan.box)
    return max(1, min(cpus, room // writer_bytes(plan)))


def masks_bytes(plan: Plan) -> int:
    """Return what the masks of a plan take on disk, a bit a voxel."""
    return len(plan.pipeline.masks) * -(-plan.box.voxels // 8)


def _blocks_bytes(plan: Plan, block: Sequence[int], run: Box) -> int:
    """Return what the parent holds for all blocks, whatever is in them."""
    reach = (max(halo, around) for halo, around in zip(plan.counted_halo, surroundings(plan.reach), strict=True))
    read = math.prod(
        min(2 * -(-voxels // n) + 1, -(-extent // n)) for n, voxels, extent in zip(block, reach, run.shape, strict=True)
    )
    return run.tile_count(plan.block_size, aligned=True) * (_BLOCK_BYTES + read * _NEIGHBOUR_BYTES)


def _window_bytes(plan: Plan, block: Sequence[int], itemsizes: Sequence[int]) -> int:
    """Return what measuring windows takes: some channels of the block and around it, tables of a plane."""
    around = [n + 2 * reach for n, reach in zip(block, surroundings(plan.reach), strict=True)]
    _, y, x = (min(n, extent) for n, extent in zip(around, plan.box.shape, strict=True))
    return math.prod(around) * sum(sorted(itemsizes)[-TOGETHER:]) + y * x * _PLANE_BYTES


def _field_bytes(plan: Plan, itemsizes: Sequence[int]) -> int:
    """Return what a sample field takes, with what lies around it."""
    sample = sample_of(plan)
    extents = (field.grown(sample.reach, plan.box).shape for field in sample.fields)
    voxels = max((math.prod(n + 2 * h for n, h in zip(s, plan.halo, strict=True)) for s in extents), default=0)
    return voxels * (_VOXEL_BYTES + sum(itemsizes) + plan.pipeline.working_bytes)


def _objects(plan: Plan, voxels: int) -> float:
    """Return how many objects are expected in so many voxels."""
    return min(voxels * math.prod(plan.voxel_size_nm) / 1e9 * _OBJECTS_UM3, voxels / 8)


def _drawing_bytes(plan: Plan) -> int:
    """Return what drawing takes: half of the objects are expected to be rows."""
    rows = min(_objects(plan, plan.box.voxels) / 2, _MOST_ROWS)
    return _REPORT_BYTES + max(0, int(rows) - _FEW_ROWS) * _ROW_BYTES


def _joining_bytes(plan: Plan, workers: int) -> int:
    """Return what joining and numbering take: the parent's tables of a layer of blocks, and workers that are idle."""
    depth = min(plan.block_size[0], plan.box.shape[0])
    _, ny, nx = plan.box.shape
    crossing = sum(
        reach / n for reach, n, extent in zip(_CROSSING, plan.block_size, plan.box.shape, strict=True) if n < extent
    )
    pairs = int(_objects(plan, depth * ny * nx) * crossing)
    return _PARENT_BYTES + workers * _WORKER_BYTES + pairs * PAIR_BYTES + depth * ny * LINE_BYTES


def left_bytes(plan: Plan) -> int:
    """Return what one pass may leave of one block, unpacked; less is left of nearly all."""
    voxels = math.prod(min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True))
    return _LEFT_BYTES + voxels * (_LEFT_VOXEL_BYTES + _LEFT_CHANNEL_BYTES * len(plan.pulled()))


def fits(plan: Plan, cpus: int, pulls: int, limit_bytes: int, run: Box | None = None) -> bool:
    """Return whether a plan fits a limit."""
    return not _too_many(plan, run) and needs_of(plan, cpus, pulls, run).memory_bytes <= usable_bytes(limit_bytes)


def _too_many(plan: Plan, run: Box | None) -> bool:
    """Return whether a run would have more blocks than it may."""
    return (run or plan.box).tile_count(plan.block_size, aligned=True) > MAX_BLOCKS


def fitted(plan: Plan, cpus: int, pulls: int, limit_bytes: int, run: Box | None = None) -> Plan:
    """Return a plan with the largest blocks that fit a limit."""
    fitting = _fitting(plan, cpus, pulls, limit_bytes, run)
    if fitting is not None:
        return fitting
    candidates = [replace(plan, block_size=size) for size in _SIZES]
    needed = [needs_of(each, cpus, pulls, run).memory_bytes for each in candidates if not _too_many(each, run)]
    if not needed:
        box = run or plan.box
        raise UsageError(
            f"a run on {box}",
            f"it has {box.voxels:,} voxels, too many for {MAX_BLOCKS:,} blocks of {_words(DEFAULT_BLOCK_SIZE)}",
            "Take a smaller box, and the rest of it in further runs",
        )
    least = in_gib(sufficient_bytes(min(needed)))
    raise UsageError(
        f"{cpus} workers and {pulls} pulls in {limit_bytes / 2**30:,.2f} GiB of memory",
        f"they need {least} GiB, whatever the size of blocks",
        f"Give fewer --cpus or --pulls, or --memory {least}",
    )


def _fitting(plan: Plan, cpus: int, pulls: int, limit_bytes: int, run: Box | None) -> Plan | None:
    """Return a plan with the largest blocks that fit a limit; None if none do."""
    candidates = (replace(plan, block_size=size) for size in _SIZES)
    return next((each for each in candidates if fits(each, cpus, pulls, limit_bytes, run)), None)


def _words(size: Sequence[int]) -> str:
    """Return a block size as it is read."""
    return f"{' x '.join(map(str, size))} voxels (z, y, x)"


def check_memory(plan: Plan, cpus: int, pulls: int, limit_bytes: int, run: Box | None = None) -> None:
    """Refuse a plan that cannot fit a limit, or has more blocks than a run may have."""
    box = run or plan.box
    if _too_many(plan, run):
        fewer = fitted(plan, cpus, pulls, limit_bytes, run).block_size
        raise UsageError(
            f"blocks of {_words(plan.block_size)} in {box}",
            f"they are {box.tile_count(plan.block_size, aligned=True):,}, a run has {MAX_BLOCKS:,} at most",
            f"Give --block-size {','.join(map(str, fewer))}",
        )
    voxels = math.prod(min(n, extent) for n, extent in zip(plan.block_size, plan.box.shape, strict=True))
    largest = min(_LARGEST_BLOCK, _LARGEST_TILE_BYTES // max(plan.source.dtype(c).itemsize for c in plan.pulled()))
    if voxels > largest:
        raise UsageError(
            f"blocks of {plan.block_size} voxels",
            f"a block may have {largest:,} voxels, whatever the memory",
            "Give a smaller --block-size",
        )
    if not fits(plan, cpus, pulls, limit_bytes, run):
        needed = needs_of(plan, cpus, pulls, run).memory_bytes
        fitting = _fitting(plan, cpus, pulls, limit_bytes, run)
        other = (
            "fewer --cpus or --pulls" if fitting is None else f"--block-size {','.join(map(str, fitting.block_size))}"
        )
        raise UsageError(
            f"blocks of {plan.block_size} voxels with {cpus} workers and {pulls} pulls",
            f"they need --memory {in_gib(sufficient_bytes(needed))}, there are {limit_bytes / 2**30:,.2f} GiB",
            f"Give {other}",
        )
