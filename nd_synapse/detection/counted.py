"""What the statistics of blocks counted, added up: by the pipeline, and of flat areas.

A block in which something is flat is counted twice, with it and without: only when all blocks are counted it is known
whether it is padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection.choice import learn
from nd_synapse.detection.counts import add_all_counts, packed_counts
from nd_synapse.detection.flat import REACH, flat_pixels, values_of
from nd_synapse.detection.padding import Found, learned_padding
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.regions import REGION_COLUMNS, regions_of
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding, Summary

__all__ = ["Counted", "counts_of_block"]

_WITHOUT = "without-flat-"
_VALUES = "values-"
_TABLES = {"flat-regions": REGION_COLUMNS, "flat-runs": 4, "flat-inner": 2}
"""Tables of each channel, and their columns."""


def counts_of_block(workspace: Workspace, box: Box) -> dict[str, NDArray[Any]]:
    """Count one block, for `Counted.add`."""
    plan = workspace.plan
    arrays: dict[str, NDArray[Any]] = {}
    # read once: the pipeline gets the inner part
    channels = {name: workspace.with_halo(name, box, plan.counted_halo) for name in plan.roles.values()}
    z, halo = box.z[0] - plan.box.z[0], plan.halo[0]
    # sections beyond the volume mirror others, and are as flat: which sections there are, with the halo
    depth = Box((z, z + box.shape[0]), (0, 1), (0, 1))
    shown = mirrored(np.arange(plan.box.shape[0]).reshape(-1, 1, 1), depth, (halo, 0, 0)).ravel()
    before = z - int(shown.min())
    own = slice(halo - before, halo - before + int(np.ptp(shown)) + 1)
    there = {channel: voxels[own] for channel, voxels in channels.items()}
    every = [_count_flat(plan, voxels, (channel, box, before), arrays) for channel, voxels in there.items()]
    flat = [found for found in every if found is not None]
    inner = _cut(plan.counted_halo, plan.halo)
    by_role, place = {role: channels[name][inner] for role, name in plan.roles.items()}, workspace.place(box)
    arrays |= packed_counts(plan.pipeline.summarise(by_role, place))
    if flat and plan.pipeline.tissue_only:
        tissue = ~np.logical_or.reduce(flat)[shown - shown.min()]
        summary = plan.pipeline.summarise(by_role, replace(place, tissue=tissue))
        arrays |= {_WITHOUT: np.zeros(0), **packed_counts(summary, _WITHOUT)}
    return arrays


def _count_flat(
    plan: Plan, voxels: NDArray[Any], what: tuple[str, Box, int], arrays: dict[str, NDArray[Any]]
) -> NDArray[np.bool_] | None:
    """Count the flat areas of a channel in a block, and return where they are, with the pipeline's halo along y and x.

    The voxels have sections of the volume alone, so many `before` those of the block.
    """
    (channel, box, before), (_, y, x) = what, plan.counted_halo
    flat = flat_pixels(voxels)
    # with the pixels beside the block: of these it has to be known whether they are flat
    inner = slice(before, before + box.shape[0])
    beside = voxels[inner, y - 1 : 1 - y, x - 1 : 1 - x]
    flat_beside = None if flat is None else flat[(inner, *_cut((y - REACH, x - REACH), (1, 1)))]
    start = (box.y[0] - plan.box.y[0], box.x[0] - plan.box.x[0])
    arrays |= packed_counts({channel: values_of(beside, flat_beside, start)}, _VALUES)
    if flat is None or flat_beside is None:
        return None
    if flat_beside.any():
        whole = None if plan.padding is None else plan.padding.volume
        regions = regions_of(voxels[inner], flat[inner], box, plan.box, whole)
        tables = (regions.spans, regions.table, regions.runs, regions.inner)
        arrays |= {f"{name} {channel}": found for name, found in zip(("flat-spans", *_TABLES), tables, strict=True)}
    return flat[(slice(None), *_cut((y - REACH, x - REACH), plan.halo[1:]))]


def _cut(margin: Sequence[int], kept: Sequence[int]) -> tuple[slice, ...]:
    """Return the part of a block with a margin that has a smaller one."""
    return tuple(slice(m - n, n - m or None) for m, n in zip(margin, kept, strict=True))


class Counted:
    """The counts of some blocks, added up."""

    def __init__(self) -> None:
        self.everything: Summary = {}
        """With what is flat."""
        self.without_flat: Summary = {}
        self._values: Summary = {}
        self._tables: dict[str, list[NDArray[np.int64]]] = {}

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add the counts of a block, or those that `packed` returned."""
        add_all_counts(self.everything, arrays)
        add_all_counts(self.without_flat, arrays, _WITHOUT if _WITHOUT in arrays else "")
        add_all_counts(self._values, arrays, _VALUES)
        for name, rows in arrays.items():
            if name.partition(" ")[0] in _TABLES:
                self._tables.setdefault(name, []).append(rows)

    def packed(self) -> dict[str, NDArray[Any]]:
        """Return all of it for the store."""
        return {
            **packed_counts(self.everything),
            _WITHOUT: np.zeros(0),
            **packed_counts(self.without_flat, _WITHOUT),
            **packed_counts(self._values, _VALUES),
            **{name: np.concatenate(rows) for name, rows in self._tables.items()},
        }

    def learn(self, workspace: Workspace) -> Finding:
        """Decide what is padding, and let the pipeline learn from what is not."""
        plan = workspace.plan
        found = {}
        for channel, values in self._values.items():
            tables = [self._tables.get(f"{name} {channel}", []) for name in _TABLES]
            regions, runs, inner = (
                np.concatenate([np.zeros((0, width), np.int64), *rows])
                for rows, width in zip(tables, _TABLES.values(), strict=True)
            )
            found[channel] = Found(values, regions, runs, inner)
        padding = learned_padding(workspace, found)
        summary = self.without_flat if padding and plan.pipeline.tissue_only else self.everything
        return {**learn(plan.pipeline, summary, plan.roles), **padding}
