"""The features of every synapse, measured block by block.

The block in which a synapse begins measures it, and reads what its window needs of the blocks around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.detection.gathering import Synapses
from nd_synapse.detection.joining import of_blocks
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.objects import centres
from nd_synapse.detection.padding import outside_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.shape import elongation
from nd_synapse.detection.windows import surroundings, voxels_round, window_sums
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding

__all__ = ["COUNTS", "OF_CHANNEL", "columns", "measure", "sums_of"]

Integers = NDArray[np.int64]

OF_CHANNEL = ("mean_", "sum_", "window_mean_", "window_sum_", "contrast_")
"""What the names of a channel's columns begin with, in their order."""


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


def measure(workspace: Workspace, box: Box, kinds: Kinds, finding: Finding) -> None:
    """Measure the synapses that begin in one block, and save their features."""
    plan, store = workspace.plan, workspace.store
    sums = Synapses.of(store.load(kinds.objects, key_of(box))).sums
    rows = np.arange(len(sums["id"]))
    store.save(
        kinds.features, key_of(box), dict(columns(plan, sums, rows, _windows(workspace, centres(sums, rows), finding)))
    )


def _windows(workspace: Workspace, points: Integers, finding: Finding) -> dict[str, Integers]:
    """Return the sums of windows round points (3, n), by `COUNTS` and `sums_of`."""
    plan = workspace.plan
    names = [*COUNTS, *(name for channel in plan.channels for name in sums_of(channel))]
    sums = {name: np.zeros(points.shape[1], np.int64) for name in names}
    # the points of a block at a time: an object may be large, and its centroid far from where it begins
    for _, places in of_blocks(plan, points):
        for name, values in zip(names, _sums(workspace, points[:, places], finding), strict=True):
            sums[name][places] = values
    return sums


def _sums(workspace: Workspace, points: Integers, finding: Finding) -> Iterator[Integers]:
    """Yield the sums of windows round points in one block; what is not tissue is in none."""
    plan = workspace.plan
    reaches = (plan.reach, surroundings(plan.reach))
    region = Box(*zip(points.min(axis=1).tolist(), (points.max(axis=1) + 1).tolist(), strict=True))
    region = region.grown(reaches[1], plan.box)
    outside = outside_of(workspace, region, finding)
    absent = None if outside is None else outside.around((0, 0, 0))
    images: Iterator[NDArray[Any]] = (workspace.voxels(channel, region) for channel in plan.channels)
    if absent is None:
        yield from (voxels_round(points, reach, plan.box) for reach in reaches)
    else:
        images = chain([~absent], images)
    yield from chain.from_iterable(window_sums(images, region, points, reaches, absent))
