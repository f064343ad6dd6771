"""What a detection came to: masks and labels on disk, the table of objects, what failed.

It computes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding
from nd_synapse.volumes import Volume

__all__ = ["Brightness", "Detection", "FailedBlock"]


@dataclass(frozen=True, slots=True)
class Brightness:
    """How bright the voxels of a channel are.

    Parameters
    ----------
    mean : float
        Mean grey value.
    sd : float
        Standard deviation of all voxels (n in the denominator).
    """

    mean: float
    sd: float

    @classmethod
    def of_sums(cls, voxels: int, total: int, squares: int) -> Self:
        """Return what follows from the number of voxels, their sum, and the sum of their squares, all exact."""
        return cls(total / voxels, math.sqrt(voxels * squares - total * total) / voxels)


@dataclass(frozen=True, slots=True)
class FailedBlock:
    """A block that is missing in the masks.

    Parameters
    ----------
    box : Box
        The block.
    step : str
        Where it failed.
    reason : str
        What happened, in a line.
    traceback : str
        The traceback of the pipeline; empty where its process died.
    """

    box: Box
    step: str
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Detection:
    """What was detected.

    Parameters
    ----------
    masks : dict of str to BlockVolume
        Name to mask: uint8, 0 and 255, shape (z, y, x) of the box, read from disk. The first holds all.
    labels : BlockVolume
        The number of the object that a voxel belongs to, as in the table's `id`; 0 is background.
    table : mapping of str to ndarray
        One row for each object of the first mask; see `objects.table_of`.
    images : mapping of str to Volume
        Channel to its voxels in the box, shape (z, y, x), read from the tiles that are kept and else from the source.
    brightness : dict of str to Brightness
        Channel to the mean of its voxels and how they spread, over all blocks that did not fail.
    overviews, mask_overviews : dict of str to ndarray
        Channel, or mask, to its maximum projection along z, at most 1024 pixels a side.
    mask_voxels : dict of str to int
        Mask to its voxels.
    finding : Finding
        What the pipeline learned.
    holes : list of Hole
        Blocks that failed, in their order; the masks are 0 there.
    seconds : dict of str to float
        Time by step.
    blocks : int
        Number of blocks.
    resumed : dict of str to int
        Blocks by step that an earlier run had finished.
    candidates : int
        Objects before the pipeline chose.
    """

    masks: dict[str, BlockVolume]
    labels: BlockVolume
    table: Mapping[str, NDArray[Any]]
    images: Mapping[str, Volume]
    brightness: dict[str, Brightness]
    overviews: dict[str, NDArray[Any]]
    mask_overviews: dict[str, NDArray[np.uint8]]
    mask_voxels: dict[str, int]
    finding: Finding
    failed_blocks: list[FailedBlock] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: int = 0
    resumed: dict[str, int] = field(default_factory=dict)
    candidates: int = 0

    def rows(self, mask: str) -> Mapping[str, NDArray[Any]]:
        """Return the rows of the table whose objects a mask holds."""
        chosen = self.table.get(f"in_{mask}")
        return self.table if chosen is None else {name: values[chosen] for name, values in self.table.items()}
