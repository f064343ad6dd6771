"""A detection on arrays in memory, by threads: for a notebook, for measurements, for evaluating pipelines.

Same passes, same bytes as on blocks on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.store import MemoryStore
from nd_synapse.detection.choice import scores as scores_of
from nd_synapse.detection.confidence import Chance
from nd_synapse.detection.density import Density
from nd_synapse.detection.padding import outside_of, place_of
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Facts, KnownPadding, Plan
from nd_synapse.detection.runner import ThreadRunner
from nd_synapse.detection.tissue import Tissue
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.pipeline.contract import Finding, Pipeline
from nd_synapse.user_code import array_of
from nd_synapse.volumes import Source

__all__ = ["Found", "detect_arrays"]

_BLOCK_SIZE = (32, 256, 2048)
"""Large enough for halos to be a small part; pipelines cut blocks into what fits the caches."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in some arrays."""

    masks: dict[str, NDArray[np.uint8]]
    """Name to mask, 0 and 255, shape (z, y, x); the first holds every synapse."""
    labels: BlockVolume
    """The `id` in the table of the object that a voxel belongs to, uint32 (uint64 where needed); 0 is background."""
    table: dict[str, NDArray[Any]]
    """One row for each object of the first mask; see `objects.table_of`."""
    finding: Finding
    tissue: Tissue
    density: Density
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """What the pipeline grades every voxel with, by mask, shape (z, y, x); empty unless requested."""
    chance: Chance = field(default_factory=Chance)
    """How many detections are expected by chance, if fields were sampled."""


def detect_arrays(
    pipeline: Pipeline,
    channels: Mapping[str, NDArray[Any]],
    voxel_size_nm: tuple[float, float, float],
    *,
    chosen: Mapping[str, str] | None = None,
    threads: int = 2,
    scores: bool = False,
    sampled: bool = False,
    block_size: tuple[int, int, int] = _BLOCK_SIZE,
    padding: KnownPadding | None = None,
) -> Found:
    """Run a pipeline on arrays (z, y, x) of uint8 or uint16, by channel; `chosen` is role to channel.

    With `sampled` fields it is measured what chance makes, as in a run, and the table has the column `confidence`.
    `padding` is what is known of it where the arrays are a window of a volume.
    """
    if threads < 1 or not are_voxel_sizes(voxel_size_nm):
        what = f"voxels of {voxel_size_nm} nm, {threads} threads"
        raise UsageError("a detection in arrays", what, f"Give {VOXEL_SIZES} along z, y, x, and at least one thread")
    channels = {name: array_of(f"channel {name!r}", voxels) for name, voxels in channels.items()}
    channels = {name: v.astype(v.dtype.newbyteorder("="), copy=False) for name, v in channels.items()}
    _check(channels)
    box = Box.of_shape(next(iter(channels.values())).shape)
    facts = Facts("arrays in memory", {name: voxels.dtype for name, voxels in channels.items()})
    roles = pipeline.choose(list(channels), dict(chosen or {}))
    # nothing outlives the call, so neither a folder nor a fingerprint of the code is needed
    plan = Plan(
        source=cast("Source", facts),
        box=box,
        pipeline=pipeline,
        roles=roles,
        channels=tuple(channels),
        voxel_size_nm=voxel_size_nm,
        block_size=block_size,
        folder=Path(),
        padding=padding,
        code="none",
    )
    store = MemoryStore()
    workspace = Workspace(plan, store, channels, box)
    with ThreadPoolExecutor(threads) as pool:
        passes = Passes(workspace, ThreadRunner(workspace, pool))
        found = passes.detect(passes.learn(), sampled)
        graded = _grade(workspace, pool, found.finding) if scores else {}
    masks = {name: np.asarray(mask) for name, mask in found.masks.items()}
    # the labels are read later; all else would be held as long as they are
    store.keep_only({*store.kinds("labels-"), *store.kinds("numbers-")})
    return Found(
        masks, found.labels, dict(found.table), found.finding, found.tissue, found.density, graded, found.chance
    )


def _grade(workspace: Workspace, pool: Executor, finding: Finding) -> dict[str, NDArray[np.float32]]:
    """Return the scores of every voxel, by mask, shape (z, y, x)."""
    graded: dict[str, NDArray[np.float32]] = {}
    blocks = workspace.plan.blocks()
    for block, by_mask in zip(blocks, pool.map(partial(_scores, workspace, finding), blocks), strict=True):
        for name, values in by_mask.items():
            graded.setdefault(name, np.zeros(workspace.plan.box.shape, np.float32))[block.slices()] = values
    return graded


def _scores(workspace: Workspace, finding: Finding, block: Box) -> Mapping[str, NDArray[np.float32]]:
    """Return the scores of a block."""
    place = place_of(workspace, block, outside_of(workspace, block, finding))
    return scores_of(workspace.plan.pipeline, workspace.role_arrays(block), finding, place)


def _check(channels: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that no pipeline takes."""
    shapes = {name: voxels.shape for name, voxels in channels.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 3 or 0 in shape for shape in shapes.values()):
        raise DataError("a detection in arrays", f"their shapes are {shapes}", "Give arrays of one shape z, y, x")
    other = {name: str(voxels.dtype) for name, voxels in channels.items() if voxels.dtype not in (np.uint8, np.uint16)}
    if other:
        raise DataError("a detection in arrays", f"the types are {other}", "Give uint8 or uint16")
