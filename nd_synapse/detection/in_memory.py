"""A detection on arrays that are in memory, by threads: for a notebook, for measurements, for the judging of pipelines.

It pulls nothing and keeps nothing on disk. What it finds is, bit for bit, what the passes over blocks find.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import blocks_of, mirrored
from nd_synapse.detection import features, objects
from nd_synapse.detection.blocks import FOUND, add_counts, candidates_of, measured_columns
from nd_synapse.detection.windows import WINDOW_NM, surroundings, window, window_sums
from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.pipeline.contract import Chosen, Finding, Pipeline, Place, Summary

__all__ = ["Found", "detect_arrays"]

_BLOCK_SIZE = (32, 256, 2048)
"""Large enough for halos to be a small part; pipelines cut blocks into what fits the caches."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in some arrays.

    Parameters
    ----------
    masks : dict of str to ndarray of uint8, shape (z, y, x)
        Name to mask, 0 and 255; the first holds every synapse.
    labels : BlockVolume of int64, shape (z, y, x)
        The number of the object that a voxel belongs to, as in the table's `id`; 0 is background. ``np.asarray`` makes
        an array of it.
    table : dict of str to ndarray
        One row for each object of the first mask; see `objects.table_of`.
    finding : Finding
        What the pipeline learned.
    scores : dict of str to ndarray of float32, shape (z, y, x)
        What the pipeline grades every voxel with, by mask; empty unless asked for.
    """

    masks: dict[str, NDArray[np.uint8]]
    labels: BlockVolume
    table: dict[str, NDArray[Any]]
    finding: Finding
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def detect_arrays(
    pipeline: Pipeline,
    channels: Mapping[str, NDArray[Any]],
    voxel_size_nm: tuple[float, float, float],
    *,
    chosen: Mapping[str, str] | None = None,
    threads: int = 2,
    scores: bool = False,
    block_size: tuple[int, int, int] = _BLOCK_SIZE,
) -> Found:
    """Run a pipeline on arrays.

    Parameters
    ----------
    pipeline : Pipeline
        The detector, its parameters set.
    channels : mapping of str to ndarray
        Channel to voxels (z, y, x), uint8 or uint16, all of one shape; they are not changed.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    chosen : mapping of str to str, optional
        Role to channel, where the names do not tell.
    threads : int
        Blocks that are computed at the same time.
    scores : bool
        Whether to grade every voxel, too.
    block_size : tuple of int
        Largest extent of a block along z, y, x; it does not show in the result.

    Returns
    -------
    Found
        Masks, labels and table.

    Raises
    ------
    DataError
        If the arrays are not three-dimensional, of one shape and of whole numbers, or nothing can be detected in them.
    UsageError
        If no channel fits a role.
    """
    if threads < 1 or not are_voxel_sizes(voxel_size_nm):
        what = f"voxels of {voxel_size_nm} nm, {threads} threads"
        raise UsageError("a detection in arrays", what, f"Give {VOXEL_SIZES} along z, y, x, and at least one thread")
    channels = {name: v.astype(v.dtype.newbyteorder("="), copy=False) for name, v in channels.items()}
    run = _Run(pipeline, channels, voxel_size_nm, dict(chosen or {}), block_size)
    with ThreadPoolExecutor(threads) as pool:
        summary: Summary = {}
        for counts in pool.map(run.summarise, run.blocks):
            for name, values in counts.items():
                add_counts(summary, name, np.arange(len(values)), values)
        finding = pipeline.learn(summary, run.roles)
        parts = dict(zip(run.blocks, pool.map(partial(run.detect, finding=finding), run.blocks), strict=True))
        found, joint = objects.join([part.columns for part in parts.values()], run.touching(parts))
        every = dict(objects.table(found, run.box, voxel_size_nm))
        picked = pipeline.select(every, finding)
        rows = np.flatnonzero(next(iter(picked.masks.values())))
        sums = run.window_sums(pool, features.centres(found, rows))
        masks = {name: np.zeros(run.box.shape, np.uint8) for name in picked.masks}
        list(pool.map(partial(run.paint, masks=masks, parts=parts, joint=joint, chosen=picked), run.blocks))
        graded = run.grade(pool, finding) if scores else {}
    first = next(iter(picked.masks.values()))
    numbers = np.where(first, np.cumsum(first), 0)

    def read(block: Box) -> NDArray[Any]:
        part = parts[block]
        value = np.zeros(len(part.labelled.ids) + 1, np.int64)
        value[1:] = numbers[objects.rows_of_objects(joint, part.labelled.ids)]
        labels: NDArray[Any] = value[part.labelled.numbers]
        return labels

    labels = BlockVolume(read, run.box, block_size, np.int64)
    measured = features.columns(found, rows, sums, run.box, voxel_size_nm, run.reach)
    return Found(masks, labels, dict(objects.table_of(every, picked, measured)), finding, graded)


@dataclass(frozen=True, slots=True)
class _Part:
    """What was found in a block: its components, their columns, and the sets where there are several."""

    labelled: objects.Labelled
    columns: dict[str, NDArray[Any]]
    sets: Mapping[str, NDArray[np.bool_]]


class _Run:
    """The steps on one block each; they change nothing but what they are given to fill."""

    def __init__(
        self,
        pipeline: Pipeline,
        channels: Mapping[str, NDArray[Any]],
        voxel_size_nm: tuple[float, float, float],
        chosen: Mapping[str, str],
        block_size: tuple[int, int, int],
    ) -> None:
        _check(channels)
        self.pipeline = pipeline
        self.channels = channels
        self.roles = pipeline.choose(list(channels), chosen)
        self.box = Box.of_shape(next(iter(channels.values())).shape)
        self.blocks = blocks_of(self.box, block_size)
        self.reach = window(WINDOW_NM, voxel_size_nm)
        self._block_size = block_size
        self._voxel_size_nm = voxel_size_nm
        self._halo = pipeline.halo(voxel_size_nm)

    def _arrays(self, block: Box) -> dict[str, NDArray[Any]]:
        """Return the voxels of each role with the pipeline's halo."""
        return {role: mirrored(self.channels[channel], block, self._halo) for role, channel in self.roles.items()}

    def _place(self, block: Box) -> Place:
        """Tell the pipeline where a block lies."""
        return Place(block.start, block.shape, self.box.shape, self._voxel_size_nm)

    def summarise(self, block: Box) -> Summary:
        """Count a block."""
        return self.pipeline.summarise(self._arrays(block), self._place(block))

    def detect(self, block: Box, finding: Finding) -> _Part:
        """Label and measure a block."""
        detected = self.pipeline.detect(self._arrays(block), finding, self._place(block))
        labelled = objects.label(candidates_of(detected, block.shape), block, self.box)
        images = [(f"intensity:{name}", voxels[block.slices()]) for name, voxels in self.channels.items()]
        columns = objects.measure(labelled, block, measured_columns(detected) + images)
        return _Part(labelled, columns, detected.sets if len(detected.sets) > 1 else {})

    def window_sums(self, pool: Executor, points: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Add up the windows round some voxels, shape (3, n), in every channel."""
        owners = features.block_numbers(points, self.box, self._block_size)
        reaches = (self.reach, surroundings(self.reach))
        sums = {
            name: np.zeros(len(owners), np.int64) for channel in self.channels for name in features.sums_of(channel)
        }

        def add_up(number: int, channel: str) -> None:
            here = owners == number
            region = self.blocks[number].grown(reaches[1], self.box)
            found = window_sums(self.channels[channel][region.slices()], region, points[:, here], reaches)
            for name, values in zip(features.sums_of(channel), found, strict=True):
                sums[name][here] = values

        list(pool.map(add_up, *zip(*product(np.unique(owners).tolist(), self.channels), strict=True)))
        return sums

    def touching(self, parts: Mapping[Box, _Part]) -> list[NDArray[Any]]:
        """Find the ids that touch across the planes between blocks."""
        pairs = []
        for axis in range(3):
            for cut in sorted({block.stop[axis] for block in self.blocks} - {self.box.stop[axis]}):
                low, high = (self._plane(parts, axis, cut, side) for side in (-1, 0))
                pairs.append(objects.neighbours_across(low, high))
        return pairs

    def _plane(self, parts: Mapping[Box, _Part], axis: int, cut: int, side: int) -> NDArray[Any]:
        """Return the ids in the whole plane before (-1) or after (0) a cut."""
        extents = [n for other, n in enumerate(self.box.shape) if other != axis]
        plane = np.zeros(extents, objects.id_dtype(self.box))
        for block, part in parts.items():
            if (block.stop if side else block.start)[axis] == cut:
                window = tuple(window for other, window in enumerate(block.slices()) if other != axis)
                plane[window] = part.labelled.ids_of(part.labelled.numbers.take(side, axis))
        return plane

    def paint(
        self,
        block: Box,
        masks: Mapping[str, NDArray[np.uint8]],
        parts: Mapping[Box, _Part],
        joint: objects.Joint,
        chosen: Chosen,
    ) -> None:
        """Put the objects of each mask into it."""
        part = parts[block]
        rows = objects.rows_of_objects(joint, part.labelled.ids)
        for name, is_in in chosen.masks.items():
            painted = np.zeros(block.voxels, np.uint8)
            # few voxels belong to objects: they are set one by one
            painted[part.labelled.places] = np.repeat(is_in[rows] * FOUND, part.labelled.voxels)
            whole = painted.reshape(block.shape)
            if name in part.sets:
                whole *= part.sets[name]
            masks[name][block.slices()] = whole

    def grade(self, pool: Executor, finding: Finding) -> dict[str, NDArray[np.float32]]:
        """Grade every voxel."""
        graded: dict[str, NDArray[np.float32]] = {}
        scores = pool.map(
            lambda block: self.pipeline.scores(self._arrays(block), finding, self._place(block)), self.blocks
        )
        for block, by_mask in zip(self.blocks, scores, strict=True):
            for name, values in by_mask.items():
                graded.setdefault(name, np.zeros(self.box.shape, np.float32))[block.slices()] = values
        return graded


def _check(channels: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that no pipeline takes."""
    shapes = {name: voxels.shape for name, voxels in channels.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 3 or 0 in shape for shape in shapes.values()):
        raise DataError("a detection in arrays", f"their shapes are {shapes}", "Give arrays of one shape z, y, x")
    other = {name: str(voxels.dtype) for name, voxels in channels.items() if voxels.dtype not in (np.uint8, np.uint16)}
    if other:
        raise DataError("a detection in arrays", f"the types are {other}", "Give uint8 or uint16")
