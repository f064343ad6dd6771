"""Faces of blocks that failed: the data end there for the blocks beside them, as at a face of the box (see `brick`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.distinct import distinct
from nd_synapse.detection.joining import neighbour
from nd_synapse.detection.padding import outside_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.tissue import lost_to_padding
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding

__all__ = ["FAILED", "Face", "faces_at", "ids_at", "lost_beside"]

Face = tuple[int, int]
"""A face of a block: axis, and 0 for its low side or 1."""

FAILED = 2
"""What a failed block adds to `RIMS`."""


def faces_at(failed: Collection[Box], plan: Plan) -> dict[Box, list[Face]]:
    """Return the blocks that lie beside some that failed, with their faces there."""
    faces: dict[Box, list[Face]] = {}
    for block in sorted(failed):
        for axis in range(3):
            for side, direction in enumerate((1, -1)):
                beside = neighbour(plan, block, [direction * (along == axis) for along in range(3)])
                if beside is not None and beside not in failed:
                    faces.setdefault(beside, []).append((axis, side))
    return faces


def ids_at(planes: Mapping[str, NDArray[Any]], face: Face) -> NDArray[Any]:
    """Return the ids of the parts that touch a face of a block, given its outermost planes."""
    axis, side = face
    numbers = distinct(planes[f"{axis} {('low', 'high')[side]}"])
    found: NDArray[Any] = planes["ids"][numbers[numbers != 0] - 1]
    return found


def lost_beside(workspace: Workspace, block: Box, faces: Sequence[Face], finding: Finding) -> NDArray[np.int64]:
    """Return what a block lacks of the counts of tissue for its padding and for its faces: see `lost_to_padding`."""
    outside = outside_of(workspace, block, finding)
    if outside is None:
        marked, *rims = (np.zeros(block.shape, np.bool_) for _ in range(3))
    else:
        marked, rims = outside.around((0, 0, 0)), list(outside.rims().values())
    for axis, side in faces:
        np.moveaxis(rims[side], axis, 0)[-side] = True
    return lost_to_padding(marked, rims, block, workspace.plan.box)
