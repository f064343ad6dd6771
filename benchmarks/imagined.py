"""Volumes that nobody has, to plan and to simulate runs of any size.

They hold no voxel, and no BOSS is asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.volumes import Source

__all__ = ["TERAVOXEL", "plan_over"]

TERAVOXEL = Box((0, 64), (0, 125_000), (0, 125_000))
"""10 ** 12 voxels in two layers of blocks: about the largest volumes of array tomography, which are wide and thin."""

_VOXEL_SIZE_NM = (70.0, 100.0, 100.0)


@dataclass(frozen=True, slots=True)
class _Imagined:
    """What a plan asks a source for."""

    dtypes: Mapping[str, np.dtype[Any]]
    identity: str = "imagined"

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels."""
        return self.dtypes[channel]


def plan_over(
    box: Box, channels: int = 4, dtype: str = "uint8", block_size: tuple[int, int, int] = DEFAULT_BLOCK_SIZE
) -> Plan:
    """Return the detection of the default pipeline over an imagined volume, with voxels of 70 x 100 x 100 nm."""
    pipeline = registry.build(registry.DEFAULT_PIPELINE, {})
    roles = {role.name: role.name for role in pipeline.roles}
    names = [*roles, *(f"measured-{number}" for number in range(len(roles), channels))]
    return Plan(
        source=cast("Source", _Imagined({name: np.dtype(dtype) for name in names})),
        box=box,
        pipeline=pipeline,
        roles=roles,
        channels=tuple(names),
        voxel_size_nm=_VOXEL_SIZE_NM,
        block_size=block_size,
        folder=Path("imagined"),
    )
