"""How the join of objects across blocks grows: seconds, memory and parts a second, for 1 to 100 million parts.

Nothing is detected. One block of objects, cut as if it were repeated without end, goes through
`nd_synapse.detection.blocks.detect`; what that leaves is moved to the place of every block. Then contacts, join,
objects and numbering run on it with two workers, and the objects are counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import Cost, cost_of
from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE, key_of
from nd_synapse.blocks.store import MemoryStore
from nd_synapse.detection import blocks
from nd_synapse.detection.numbering import number
from nd_synapse.detection.on_disk import Means, opened
from nd_synapse.detection.plan import Facts, Plan
from nd_synapse.detection.runner import Step
from nd_synapse.detection.shape import PRODUCT_SUMS, moved
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Detected, Finding, Place
from nd_synapse.volumes import Source
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.conftest import REPOSITORY

Result = TypeVar("Result")

MILLIONS = (1, 3, 10, 30, 100)
CHANNELS = ("pre", "post", "third", "fourth")
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
CELLS = (4, 52, 52)
"""Objects of a block along z, y, x, one in each cell: two in a cubic micrometre."""
OBJECT = (3, 5, 5)
"""Voxels of an object along z, y, x."""
PLACES = (5, 4, 4)
"""Places that an object may have in its cell along each axis, so that it touches no other."""
BEFORE = (1, 2, 2)
"""How far the first cells lie before the block: some of their objects are cut."""
WORKERS = 2

LARGEST_MIB = 2048
LONGEST_S = 600.0
LARGEST_GROWTH = 1.5
"""Of the processor seconds a part, against those of the fewest parts."""


@dataclass(frozen=True, slots=True)
class Given(NomadsUnsupervised):
    """Detects what is not 0 in a channel, which is also the evidence; it chooses as its parent."""

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return none."""
        del voxel_size_nm
        return (0, 0, 0)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Return the objects."""
        del finding, place
        return Detected({"All": arrays["presynaptic"] > 0}, {"evidence": arrays["presynaptic"]})


def first_voxels() -> NDArray[np.int64]:
    """Return where the objects of a block begin, (3, n); some begin before it."""
    rng = np.random.default_rng(1)
    cells = np.stack(np.meshgrid(*map(np.arange, CELLS), indexing="ij")).reshape(3, -1)
    starts = [axis * size // count for axis, size, count in zip(cells, DEFAULT_BLOCK_SIZE, CELLS, strict=True)]
    shifts = [rng.integers(0, n, cells.shape[1]) - before for n, before in zip(PLACES, BEFORE, strict=True)]
    return np.stack(starts) + np.stack(shifts)


def image_of_block() -> NDArray[np.uint16]:
    """Return a block of objects, each of one value, and 0 around them; what begins before it is also at its end."""
    begins = first_voxels()
    image = np.zeros(DEFAULT_BLOCK_SIZE, np.uint16)
    # some are too weak to be chosen
    values = np.random.default_rng(2).integers(0x3F80, 0x4040, begins.shape[1]).astype(np.uint16)
    sizes = np.array([DEFAULT_BLOCK_SIZE]).T
    for offset in np.ndindex(OBJECT):
        z, y, x = (begins + np.array([offset]).T) % sizes
        image[z, y, x] = values
    return image


def objects_in(grid: tuple[int, ...]) -> int:
    """Return how many objects there are in so many blocks along z, y, x."""
    begins = first_voxels()
    # an object that is cut is in one block more than there are
    times = [count + (along < 0) for count, along in zip(grid, begins, strict=True)]
    return int(np.prod(times, axis=0).sum())


def grid_of(parts: int) -> tuple[int, int, int]:
    """Return the blocks along z, y, x, about a cube of them, that have about so many parts."""
    first = first_voxels()
    of_block = int(np.prod([1 + (along < 0) for along in first], axis=0).sum())
    side = max(1, round((parts / of_block) ** (1 / 3)))
    return max(1, round(parts / of_block / side**2)), side, side


def plan_of(folder: Path, grid: tuple[int, ...]) -> Plan:
    """Return the plan of so many blocks along z, y, x."""
    box = Box.of_shape([n * size for n, size in zip(grid, DEFAULT_BLOCK_SIZE, strict=True)])
    source = cast("Source", Facts("synthetic", dict.fromkeys(CHANNELS, np.dtype(np.uint16))))
    roles = {"presynaptic": "pre", "postsynaptic": "post"}
    return Plan(source, box, Given(), roles, CHANNELS, VOXEL_SIZE_NM, DEFAULT_BLOCK_SIZE, folder)


def first_block(plan: Plan) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what a detection leaves of the first block: parts, and what else is needed to join them, by kind."""
    box, store, image = plan.blocks()[0], MemoryStore(), image_of_block()
    blocks.detect(Workspace(plan, store, dict.fromkeys(CHANNELS, image), box), box, {})
    kind = plan.parts_kind({})
    return {name: store.load(name, key_of(box)) for name in (f"faces-{kind}", kind)}


def write(workspace: Workspace, box: Box, first: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Save what a detection would leave of a block, which is that of the first one in another place."""
    _, ny, nx = workspace.plan.box.shape
    z, y, x = box.start
    for kind, arrays in first.items():
        saved = dict(arrays)
        if "voxels" in saved:
            _move(saved, box.start)
        for name in saved.keys() & {"id", "ids"}:
            saved[name] = saved[name] + saved[name].dtype.type((z * ny + y) * nx + x)
        workspace.store.save(kind, key_of(box), saved)


def _move(parts: dict[str, NDArray[Any]], by: tuple[int, ...]) -> None:
    """Move parts, in place; see `objects.measure`."""
    voxels, sums = parts["voxels"], [parts[f"sum_{axis}"] for axis in "zyx"]
    for name, (a, b) in PRODUCT_SUMS.items():
        parts[name] = moved(parts[name], (sums[a], sums[b]), voxels, (by[a], by[b]))
    for axis, shift in zip("zyx", by, strict=True):
        parts[f"sum_{axis}"] = parts[f"sum_{axis}"] + shift * voxels
        for name in (f"start_{axis}", f"stop_{axis}"):
            parts[name] = parts[name] + shift


def write_all(folder: Path, grid: tuple[int, ...]) -> None:
    """Save what a detection would leave of all blocks."""
    plan = plan_of(folder, grid)
    first = first_block(plan)
    with opened(plan, Means(WORKERS)) as (_, runner):
        runner.run(Step("write", tuple(first)), partial(write, first=first), plan.blocks())


def join_all(folder: Path, grid: tuple[int, ...]) -> None:
    """Join what was written, count the objects, and leave beside them the seconds of each pass."""
    plan, seconds = plan_of(folder, grid), {}

    def timed(name: str, work: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - began
        return result

    with opened(plan, Means(WORKERS)) as (passes, _):
        kinds, every = passes.kinds({}), plan.blocks()
        timed("contacts", lambda: passes.touch(kinds, every))
        timed("join", lambda: passes.join(kinds))
        timed("objects", lambda: passes.gather(kinds, {}, every))
        found = timed("numbering", lambda: number(passes.store, kinds, every, plan.box)).candidates
    expected = objects_in(grid)
    if found != expected:
        raise SystemExit(f"{found:,} objects, not {expected:,}")
    (folder / "seconds.json").write_text(json.dumps(seconds))


def child() -> None:
    """Write or join in a process of its own, whose memory and processors are measured."""
    name, folder, *grid = sys.argv[1:]
    {"write": write_all, "join": join_all}[name](Path(folder), tuple(map(int, grid)))


def _cost(name: str, folder: str, grid: tuple[int, ...]) -> Cost:
    command = [sys.executable, "-c", "from benchmarks.join import child; child()", name, folder]
    return cost_of([*command, *map(str, grid)])


def measure(millions: int) -> tuple[int, Cost]:
    """Join about so many million parts; print what it took, and return the number of parts and the cost."""
    grid = grid_of(millions * 10**6)
    parts = sum(len(arrays.get("voxels", ())) for arrays in first_block(plan_of(Path(), grid)).values())
    parts *= int(np.prod(grid))
    with tempfile.TemporaryDirectory() as folder:
        _cost("write", folder, grid)
        cost = _cost("join", folder, grid)
        seconds = json.loads(Path(folder, "seconds.json").read_text())
    passes = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    print(
        f"{parts:12,d} parts in {'x'.join(map(str, grid))} blocks: {cost.wall_s:6.1f} s ({passes}),"
        f" {cost.processor_s:6.1f} s of processors, {1e6 * cost.processor_s / parts:.2f} us a part,"
        f" {parts / cost.wall_s:,.0f} parts a second, {cost.peak_mib:.0f} MiB",
        flush=True,
    )
    return parts, cost


def main(most: int = MILLIONS[-1]) -> int:
    """Measure up to so many million parts, print the figures, and return 1 if an aim is missed."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {WORKERS} workers")
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    found = [measure(millions) for millions in MILLIONS if millions <= most]
    a_part = [cost.processor_s / parts for parts, cost in found]
    missed = any(cost.peak_mib > LARGEST_MIB or cost.wall_s > LONGEST_S for _, cost in found)
    return int(missed or max(a_part) > LARGEST_GROWTH * a_part[0])
