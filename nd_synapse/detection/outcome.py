"""What a detection came to: masks and labels, the table of objects, what failed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.detection.confidence import Chance
from nd_synapse.detection.density import Density
from nd_synapse.detection.speeds import Measured
from nd_synapse.detection.tissue import Tissue
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding
from nd_synapse.volumes import Volume

__all__ = ["Brightness", "Detection", "FailedBlock"]


@dataclass(frozen=True, slots=True)
class Brightness:
    """Mean grey value of the voxels of a channel, and their standard deviation (n in the denominator)."""

    mean: float
    sd: float

    @classmethod
    def of_sums(cls, voxels: int, total: int, squares: int) -> Self:
        """Return what follows from the number of voxels, their sum, and the sum of their squares, all exact."""
        return cls(total / voxels, math.sqrt(voxels * squares - total * total) / voxels)


@dataclass(frozen=True, slots=True)
class FailedBlock:
    """A block that is missing in the masks."""

    box: Box
    step: str
    """The pass in which it failed."""
    reason: str
    traceback: str
    """The traceback of the pipeline; empty where its process died."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What was detected."""

    masks: dict[str, BlockVolume]
    """Name to mask: uint8, 0 and 255, shape (z, y, x) of the box, read from disk. The first holds all."""
    labels: BlockVolume
    """The `id` in the table of the object that a voxel belongs to, uint32 (uint64 where needed); 0 is background."""
    table: Mapping[str, NDArray[Any]]
    """One row for each object of the first mask; see `objects.table_of`."""
    brightness: dict[str, Brightness]
    """By channel, over the tissue of all blocks that did not fail."""
    overviews: dict[str, NDArray[Any]]
    """Channel to its maximum projection along z, at most 1024 pixels a side."""
    mask_overviews: dict[str, NDArray[np.uint8]]
    mask_voxels: dict[str, int]
    finding: Finding
    tissue: Tissue
    """The tissue that was searched."""
    density: Density
    """The synapses of the first mask by volume of tissue."""
    identity: str = ""
    """Differs wherever masks or labels may differ."""
    blocks: int = 0
    """Number of blocks."""
    candidates: int = 0
    """Objects before the pipeline chose."""
    chance: Chance = field(default_factory=Chance)
    """How many of the synapses are expected by chance."""
    images: Mapping[str, Volume] = field(default_factory=dict)
    """Channel to its voxels in the box, shape (z, y, x), read from the tiles that are kept and else from the source."""
    failed_blocks: list[FailedBlock] = field(default_factory=list)
    """In their order; the masks are 0 there."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by step."""
    resumed: dict[str, int] = field(default_factory=dict)
    """Blocks by step that an earlier run had finished."""
    measured: Measured = field(default_factory=Measured)
    """How fast workers and cutouts were, in all parts of the run."""

    @property
    def padded(self) -> float:
        """Part of the box that is padding or the rim around it, in blocks that did not fail."""
        box = self.labels.volume
        failed = sum(block.box.voxels for block in self.failed_blocks)
        return (box.voxels - failed - self.tissue.total) / box.voxels

    def objects(self, mask: str) -> int:
        """Return how many rows of the table a mask holds."""
        chosen = self.table.get(f"in_{mask}")
        return len(self.table["id"]) if chosen is None else int(np.count_nonzero(chosen))
