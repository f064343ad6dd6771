"""Plans of detections without a BOSS, for what plans runs.

They hold no voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

import pipelines
from box import Box
from detection.plan import DEFAULT_BLOCK_SIZE, Plan
from source import Source

TERAVOXEL = Box((0, 64), (0, 125_000), (0, 125_000))
"""10 ** 12 voxels: two layers of blocks."""


@dataclass(frozen=True, slots=True)
class Described:
    """A source of which nothing but names and types is known."""

    dtypes: Mapping[str, np.dtype[Any]]
    identity: str = "described"

    def dtype(self, channel: str) -> np.dtype[Any]:
        return self.dtypes[channel]


def plan_over(
    box: Box, channels: int = 4, dtype: str = "uint8", block_size: tuple[int, int, int] = DEFAULT_BLOCK_SIZE
) -> Plan:
    """Plan the default pipeline over a box; its own markers come first."""
    pipeline = pipelines.build(pipelines.DEFAULT_PIPELINE, {})
    roles = {role.name: role.name for role in pipeline.roles}
    names = [*roles, *(f"channel{n}" for n in range(channels - len(roles)))][: max(channels, len(roles))]
    return Plan(
        source=cast("Source", Described({name: np.dtype(dtype) for name in names})),
        box=box,
        pipeline=pipeline,
        roles=roles,
        channels=tuple(names),
        voxel_size_nm=(70.0, 100.0, 100.0),
        block_size=block_size,
        folder=Path("unused"),
    )
