"""The features of every synapse, measured block by block.

A synapse's window lies round its centroid, so the block that holds the centroid's voxel measures it, and reads what the
window needs of the blocks around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import block_numbers, key_of
from nd_synapse.blocks.packing import digest
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection.joining import ColumnFiles
from nd_synapse.detection.padding import outside_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.shape import elongation
from nd_synapse.detection.windows import surroundings, voxels_round, window_sums
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box, nearest_voxel
from nd_synapse.pipeline.contract import Finding

__all__ = ["COUNTS", "OF_CHANNEL", "Assigned", "assign", "centres", "columns", "gather", "measure", "sums_of"]

Integers = NDArray[np.int64]

OF_CHANNEL = ("mean_", "sum_", "window_mean_", "window_sum_", "contrast_")
"""What the names of a channel's columns begin with, in their order."""


def centres(objects: Mapping[str, NDArray[Any]], rows: Integers) -> Integers:
    """Return the voxels (z, y, x) of the centroids of objects, int64 (3, n)."""
    voxels = objects["voxels"][rows]
    return np.stack([nearest_voxel(objects[f"sum_{axis}"][rows], voxels) for axis in "zyx"])


COUNTS = ("voxels in windows", "voxels around")
"""The names of the numbers of voxels in windows, and in windows with their shells."""


def sums_of(channel: str) -> tuple[str, str]:
    """Return the names of the sums of a channel: of windows, and of windows with their shells."""
    return f"window {channel}", f"around {channel}"


def columns(
    plan: Plan, objects: Mapping[str, NDArray[Any]], rows: Integers, sums: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Turn sums (by `COUNTS` and `sums_of`) into the features of synapses, some rows of the objects, column by column.

    `equivalent_diameter_um` (of the ball with the same volume), `elongation` (see `shape`), `window_fraction` (part of
    the window inside of the volume); for each channel ``mean_<channel>`` and ``sum_<channel>`` (in the synapse),
    ``window_mean_<channel>`` and ``window_sum_<channel>`` (in the window), ``contrast_<channel>`` (mean in the synapse
    less mean in the shell round the window; NaN where the shell has no tissue).
    """
    voxel_size_nm, reach = plan.voxel_size_nm, plan.reach
    voxels = objects["voxels"][rows]
    yield "equivalent_diameter_um", _diameters_um(voxels, math.prod(size / 1000 for size in voxel_size_nm))
    yield "elongation", elongation(objects, rows, voxel_size_nm)
    inside, around = (sums[name] for name in COUNTS)
    shell = around - inside
    yield "window_fraction", inside / float(np.prod([2 * n + 1 for n in reach]))
    for name in objects:
        kind, _, channel = name.partition(":")
        if kind == "intensity":
            total = objects[name][rows]
            within, around = (sums[key] for key in sums_of(channel))
            mean = total / voxels
            yield f"mean_{channel}", mean
            yield f"sum_{channel}", total
            yield f"window_mean_{channel}", _mean(within, inside)
            yield f"window_sum_{channel}", np.asarray(within)
            yield f"contrast_{channel}", mean - _mean(around - within, shell)


def _mean(total: Integers, voxels: Integers) -> NDArray[np.float64]:
    """Divide by the number of voxels; NaN where there is none."""
    mean: NDArray[np.float64] = np.divide(total, voxels, out=np.full(len(total), np.nan), where=voxels > 0)
    return mean


def _diameters_um(voxels: Integers, voxel_um3: float) -> NDArray[np.float64]:
    """Return the diameters of balls of so many voxels."""
    # the system's cube root, once for each number: that of NumPy differs in its last bits between processors
    numbers, which = np.unique(voxels, return_inverse=True)
    roots = [math.cbrt(number * (6 / math.pi * voxel_um3)) for number in numbers.tolist()]
    return np.array(roots, np.float64)[which]


def measure(workspace: Workspace, box: Box, kind: str, finding: Finding) -> None:
    """Measure the windows round the synapses of one block; what is not tissue is in none."""
    plan, store = workspace.plan, workspace.store
    (number,) = _numbers_of([box], plan)
    first, stop = np.searchsorted(store.open_plain(kind, "owners"), [number, number + 1])
    points = np.stack([store.open_plain(kind, axis)[first:stop] for axis in "zyx"])
    reaches = (plan.reach, surroundings(plan.reach))
    region = box.grown(reaches[1], plan.box)
    outside = outside_of(workspace, region, finding)
    tissue = None if outside is None else ~outside.around((0, 0, 0))
    if tissue is None:
        counts = [voxels_round(points, reach, plan.box) for reach in reaches]
    else:
        counts = window_sums(tissue.view(np.uint8), region, points, reaches)
    sums: dict[str, NDArray[Any]] = dict(zip(COUNTS, counts, strict=True))
    for channel in plan.channels:
        voxels = workspace.voxels(channel, region)
        found = window_sums(voxels if tissue is None else voxels * tissue, region, points, reaches)
        sums |= dict(zip(sums_of(channel), found, strict=True))
    store.save(kind, key_of(box), sums)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Which block measures which synapse."""

    kind: str
    """What the measures are called in the store."""
    rows: Integers
    """The synapses, as rows of the objects, block by block and ascending in each."""
    owners: Integers
    """The number of the block that measures each."""

    def is_of(self, blocks: Sequence[Box], plan: Plan) -> NDArray[np.bool_]:
        """Return for each synapse whether one of some blocks measures it."""
        return np.isin(self.owners, _numbers_of(blocks, plan))

    def among(self, blocks: Sequence[Box], plan: Plan) -> list[Box]:
        """Return those of some blocks that have something to measure."""
        busy = np.isin(_numbers_of(blocks, plan), self.owners)
        return [block for block, has_rows in zip(blocks, busy, strict=True) if has_rows]


def _numbers_of(blocks: Sequence[Box], plan: Plan) -> Integers:
    """Return the numbers of blocks."""
    starts = np.array([block.start for block in blocks], np.int64).reshape(-1, 3).T
    return block_numbers(starts, plan.box, plan.block_size)


def assign(
    plan: Plan,
    store: Store | MemoryStore,
    finding: Finding,
    objects: Mapping[str, NDArray[Any]],
    is_in: NDArray[np.bool_],
) -> Assigned:
    """Decide which block measures which synapse, and save it for the workers; `is_in` says which objects are synapses.

    The name in the store differs for other synapses, and for another window.
    """
    rows = np.flatnonzero(is_in)
    points = centres(objects, rows)
    owners = block_numbers(points, plan.box, plan.block_size)
    order = np.argsort(owners, kind="stable")
    rows, owners, points = rows[order], owners[order], points[:, order]
    kind = f"features-{plan.parts_kind(finding)}-{digest(np.array(plan.reach), owners, points)}"
    if len(rows):  # an array of no elements cannot be mapped, and nobody would read it
        for name, values in {"owners": owners, **dict(zip("zyx", points, strict=True))}.items():
            store.save_plain(kind, name, values)
    return Assigned(kind, rows, owners)


def gather(
    plan: Plan, store: Store | MemoryStore, assigned: Assigned, blocks: Sequence[Box]
) -> tuple[Integers, ColumnFiles]:
    """Return the synapses that blocks have measured, ascending, and their sums."""
    rows = assigned.rows[assigned.is_of(blocks, plan)]
    order = np.argsort(rows)
    names = [*COUNTS, *(name for channel in plan.channels for name in sums_of(channel))]
    raw = f"raw-{assigned.kind}"
    store.drop(raw)
    for block in assigned.among(blocks, plan):
        for number, values in enumerate(store.load(assigned.kind, key_of(block)).values()):
            store.append(raw, str(number), values)

    def in_order() -> Iterator[tuple[str, NDArray[Any]]]:
        for number, name in enumerate(names):
            yield name, store.appended(raw, str(number), np.int64)[order] if len(rows) else rows

    sums = ColumnFiles(store, f"sums-{assigned.kind}", in_order())
    store.drop(raw)
    return rows[order], sums
