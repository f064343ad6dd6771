"""What the statistics of blocks counted, added up: by the pipeline, and of flat areas.

A block in which something is flat is counted twice, with it and without: only when all blocks are counted it is known
whether it is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.counts import add_all_counts, packed_counts
from nd_synapse.detection.flat import REACH, REGION_COLUMNS, flat_pixels, regions_of, values_of
from nd_synapse.detection.padding import Found, learned_padding
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding, Summary

__all__ = ["Counted", "counts_of_block"]

_WITHOUT = "without-flat-"
_VALUES = "values-"
_TABLES = {"flat-regions": REGION_COLUMNS, "flat-runs": 4}
"""Tables of each channel, and their columns."""


def counts_of_block(workspace: Workspace, box: Box) -> dict[str, NDArray[Any]]:
    """Count one block, for `Counted.add`."""
    plan = workspace.plan
    arrays: dict[str, NDArray[Any]] = {}
    every = [_count_flat(workspace, channel, box, arrays) for channel in dict.fromkeys(plan.roles.values())]
    flat = [found for found in every if found is not None]
    voxels, place = workspace.role_arrays(box), workspace.place(box)
    arrays |= packed_counts(plan.pipeline.summarise(voxels, place))
    if flat and plan.pipeline.tissue_only:
        summary = plan.pipeline.summarise(voxels, replace(place, tissue=~np.logical_or.reduce(flat)))
        arrays |= {_WITHOUT: np.zeros(0), **packed_counts(summary, _WITHOUT)}
    return arrays


def _count_flat(
    workspace: Workspace, channel: str, box: Box, arrays: dict[str, NDArray[Any]]
) -> NDArray[np.bool_] | None:
    """Count the flat areas of a channel in a block, and return where they are, with the pipeline's halo."""
    plan = workspace.plan
    hz, hy, hx = plan.halo
    # of the pixels beside the block it has to be known whether they are flat
    my, mx = max(hy, 1), max(hx, 1)
    voxels = workspace.with_halo(channel, box, (hz, my + REACH, mx + REACH))
    flat = flat_pixels(voxels)
    # with the pixels beside the block
    z, y, x = (slice(hz, hz + box.shape[0]), slice(my - 1, my + box.shape[1] + 1), slice(mx - 1, mx + box.shape[2] + 1))
    beside = voxels[:, REACH:-REACH, REACH:-REACH][z, y, x]
    flat_beside = None if flat is None else flat[z, y, x]
    start = (box.y[0] - plan.box.y[0], box.x[0] - plan.box.x[0])
    arrays |= packed_counts({channel: values_of(beside, flat_beside, start)}, _VALUES)
    if flat is None or flat_beside is None:
        return None
    if flat_beside.any():
        regions = regions_of(beside, flat_beside, box, plan.box)
        tables = (regions.numbers, regions.table, regions.runs)
        arrays |= {f"{name} {channel}": found for name, found in zip(("flat-numbers", *_TABLES), tables, strict=True)}
    return flat[:, my - hy : flat.shape[1] - (my - hy), mx - hx : flat.shape[2] - (mx - hx)]


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
            regions, runs = (
                np.concatenate([np.zeros((0, width), np.int64), *rows])
                for rows, width in zip(tables, _TABLES.values(), strict=True)
            )
            found[channel] = Found(values, regions, runs)
        padding = learned_padding(workspace, found)
        summary = self.without_flat if padding and plan.pipeline.tissue_only else self.everything
        return {**plan.pipeline.learn(summary, plan.roles), **padding}
