"""The passes of a detection over the blocks of a box, and their order.

They know neither BOSS nor S3 nor any pipeline by name.

::

    pull        every channel that is needed, once, into scratch files
    statistics  pipeline.summarise(block) -> added -> pipeline.learn
    detect      pipeline.detect(block) -> labels on disk, parts of objects measured
    join        parts that touch across blocks become one object; pipeline.select chooses
    masks       the chosen objects, 0 and 255, on disk

No step holds a whole volume: workers map scratch files and touch the voxels of their block. Every number that goes
from one block to another is an integer, so that neither the blocks nor their order can show in the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from block_pool import BlockPool
from box import Box
from detection import objects, scratch
from detection.overview import Overview
from errors import NDSynapseError
from pipelines.contract import Finding, Pipeline, Summary
from source import Source

__all__ = ["DEFAULT_BLOCK_SIZE", "Detection", "Plan", "detect"]

_LOG = logging.getLogger(__name__)

DEFAULT_BLOCK_SIZE = (32, 512, 512)
"""Voxels along z, y, x; whole cuboids of BOSS (16 x 512 x 512), so that none is fetched twice."""

Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Called with the step, the blocks done and the blocks in all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one detection reads and where it works.

    Parameters
    ----------
    source : Source
        Where voxels come from.
    box : Box
        The requested volume.
    pipeline : Pipeline
        The detector, its parameters set.
    roles : mapping of str to str
        Role to channel.
    channels : tuple of str
        Channels to measure in the objects; with those of `roles` these are pulled.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    block_size : tuple of int
        Largest extent of a block along z, y, x.
    folder : Path
        Scratch folder; it exists.
    """

    source: Source
    box: Box
    pipeline: Pipeline
    roles: Mapping[str, str]
    channels: tuple[str, ...]
    voxel_size_nm: tuple[float, float, float]
    block_size: tuple[int, int, int]
    folder: Path

    def blocks(self) -> list[Box]:
        """Return the blocks, which tile the box, cut where BOSS cuts its cuboids if the block size allows."""
        return list(self.box.tiles(self.block_size, aligned=True))

    def pulled(self) -> list[str]:
        """Return the channels that are pulled."""
        return list(dict.fromkeys([*self.roles.values(), *self.channels]))

    def file(self, kind: str, name: str = "") -> Path:
        """Return a scratch file.

        Parameters
        ----------
        kind : str
            What it holds: ``channel``, ``labels``, ``mask``, ``part_ids``, ``chosen``.
        name : str
            Which channel or mask.

        Returns
        -------
        Path
            The file.
        """
        number = self.pulled().index(name) if kind == "channel" else name
        return self.folder / f"{kind}-{number}.npy"


@dataclass(frozen=True, slots=True)
class Detection:
    """What was detected.

    Parameters
    ----------
    masks : dict of str to ndarray
        Name to mask: uint8, 0 and 255, shape (z, y, x) of the box, mapped from disk, read-only. The first holds all.
    table : dict of str to ndarray
        One row for each object of the first mask; see `objects.table`. For each further mask a column ``in_<mask>``.
    overviews, mask_overviews : dict of str to ndarray
        Channel, or mask, to its maximum projection along z, at most 1024 pixels a side.
    finding : Finding
        What the pipeline learned.
    seconds : dict of str to float
        Time by step.
    blocks : int
        Number of blocks.
    candidates : int
        Objects before the pipeline chose.
    """

    masks: dict[str, NDArray[np.uint8]]
    table: dict[str, NDArray[Any]]
    overviews: dict[str, NDArray[Any]]
    mask_overviews: dict[str, NDArray[np.uint8]]
    finding: Finding
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: int = 0
    candidates: int = 0

    def rows(self, mask: str) -> dict[str, NDArray[Any]]:
        """Return the rows of the table whose objects a mask holds.

        Parameters
        ----------
        mask : str
            Name of a mask.

        Returns
        -------
        dict of str to ndarray
            The columns of `table`.
        """
        chosen = self.table.get(f"in_{mask}")
        return self.table if chosen is None else {name: values[chosen] for name, values in self.table.items()}


_PLAN: Plan | None = None


def _setup(plan: Plan) -> None:
    """Keep the plan in this worker; its source connects when first asked."""
    global _PLAN
    _PLAN = plan


def _plan() -> Plan:
    """Return this worker's plan."""
    if _PLAN is None:
        raise NDSynapseError("a block in a worker", "the worker has no plan", "Report this as a defect")
    return _PLAN


def _pull(box: Box) -> dict[str, Overview]:
    """Fetch the channels of one block into the scratch files; return their projections."""
    plan = _plan()
    projections = {}
    for channel in plan.pulled():
        voxels = plan.source.get_cutout(channel, *box.ranges)
        scratch.open_array(plan.file("channel", channel), write=True)[box.slices(plan.box.start)] = voxels
        projections[channel] = Overview.of_block(voxels, box, plan.box)
    return projections


def _role_arrays(plan: Plan, box: Box) -> dict[str, NDArray[Any]]:
    """Read the voxels of each role with the pipeline's halo."""
    inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, plan.box.start, strict=True)))
    return {
        role: scratch.mirrored(scratch.open_array(plan.file("channel", channel)), inside, plan.pipeline.halo)
        for role, channel in plan.roles.items()
    }


def _summarise(box: Box) -> Summary:
    """Count one block."""
    plan = _plan()
    return plan.pipeline.summarise(_role_arrays(plan, box))


def _detect(box: Box, finding: Finding) -> dict[str, NDArray[Any]]:
    """Label the candidates of one block on disk; return the measured parts."""
    plan = _plan()
    candidates = plan.pipeline.detect(_role_arrays(plan, box), finding)
    labels = objects.label(candidates, box, plan.box)
    here = box.slices(plan.box.start)
    scratch.open_array(plan.file("labels"), write=True)[here] = labels
    voxels = {channel: scratch.open_array(plan.file("channel", channel))[here] for channel in plan.channels}
    return objects.measure(labels, box, voxels)


def _touching(box: Box) -> list[NDArray[Any]]:
    """Find the ids that touch across the block's far faces, corners and edges included."""
    plan = _plan()
    labels = scratch.open_array(plan.file("labels"))
    pairs = []
    for axis, (stop, end) in enumerate(zip(box.stop, plan.box.stop, strict=True)):
        if stop == end:
            continue
        margin = [1, 1, 1]
        margin[axis] = 0
        window = list(box.grown(margin, plan.box).slices(plan.box.start))
        cut = stop - plan.box.start[axis]
        planes = []
        for place in (cut - 1, cut):
            window[axis] = slice(place, place + 1)
            planes.append(labels[tuple(window)].squeeze(axis))
        pairs.append(objects.neighbours_across(*planes))
    return pairs


def _write_masks(box: Box, names: tuple[str, ...]) -> dict[str, Overview]:
    """Write the masks of one block; return their projections."""
    plan = _plan()
    here = box.slices(plan.box.start)
    labels = np.array(scratch.open_array(plan.file("labels"))[here])
    foreground = labels != 0
    parts = np.searchsorted(scratch.open_array(plan.file("part_ids"))[:-1], labels[foreground])
    projections = {}
    for name in names:
        mask = np.zeros(labels.shape, np.uint8)
        mask[foreground] = scratch.open_array(plan.file("chosen", name))[parts]
        scratch.open_array(plan.file("mask", name), write=True)[here] = mask
        projections[name] = Overview.of_block(mask, box, plan.box)
    return projections


def _add(total: Summary, summary: Summary) -> Summary:
    """Add two summaries, the shorter counts padded with zeros."""
    merged: Summary = {}
    for name in total.keys() | summary.keys():
        a, b = total.get(name, np.zeros(0, np.int64)), summary.get(name, np.zeros(0, np.int64))
        long, short = (a, b) if len(a) >= len(b) else (b, a)
        merged[name] = long.copy()
        merged[name][: len(short)] += short
    return merged


def _save(path: Path, array: NDArray[Any]) -> None:
    """Hand a list to the workers through the scratch folder; an empty file cannot be mapped, so it ends with a zero."""
    scratch.create(path, (len(array) + 1,), array.dtype)
    scratch.open_array(path, write=True)[:-1] = array


class _Run:
    """The steps of one detection in one pool, timed and reported."""

    def __init__(self, plan: Plan, pool: BlockPool, progress: Progress) -> None:
        self.plan = plan
        self.blocks = plan.blocks()
        self.seconds: dict[str, float] = {}
        self._pool = pool
        self._progress = progress

    def each_block(self, step: str, function: Callable[[Box], Result]) -> Iterable[tuple[Box, Result]]:
        """Run a step on every block."""
        started = time.monotonic()
        self._progress(step, 0, len(self.blocks))
        for done, (box, result) in enumerate(self._pool.run(function, self.blocks), start=1):
            _LOG.debug("%s: block %s done", step, box)
            self._progress(step, done, len(self.blocks))
            yield box, result
        self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started

    def pull(self) -> dict[str, NDArray[Any]]:
        """Fetch all channels; return their projections."""
        for channel in self.plan.pulled():
            scratch.create(self.plan.file("channel", channel), self.plan.box.shape, self.plan.source.dtype(channel))
        return self._projections("pull", _pull)

    def learn(self) -> Finding:
        """Add the summaries of all blocks and let the pipeline draw from them."""
        total: Summary = {}
        for _, summary in self.each_block("statistics", _summarise):
            total = _add(total, summary)
        return self.plan.pipeline.learn(total, self.plan.roles)

    def label(self, finding: Finding) -> tuple[objects.Parts, NDArray[Any], NDArray[Any]]:
        """Label and measure all blocks and join what touches across them."""
        scratch.create(self.plan.file("labels"), self.plan.box.shape, objects.id_dtype(self.plan.box))
        parts = [part for _, part in self.each_block("detect", partial(_detect, finding=finding))]
        pairs = [pair for _, found in self.each_block("join", _touching) for pair in found]
        return objects.join(parts, pairs)

    def write_masks(
        self, chosen: Mapping[str, NDArray[np.bool_]], part_ids: NDArray[Any], rows: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Write every mask to disk; return their projections."""
        for name, is_in in chosen.items():
            scratch.create(self.plan.file("mask", name), self.plan.box.shape, np.uint8)
            _save(self.plan.file("chosen", name), is_in[rows] * np.uint8(255))
        _save(self.plan.file("part_ids"), part_ids)
        return self._projections("masks", partial(_write_masks, names=tuple(chosen)))

    def _projections(self, step: str, function: Callable[[Box], dict[str, Overview]]) -> dict[str, NDArray[Any]]:
        """Run a step that returns projections of its block, and put them together."""
        whole: dict[str, NDArray[Any]] = {}
        for _, parts in self.each_block(step, function):
            for name, part in parts.items():
                whole[name] = part.merged_into(whole.get(name))
        return whole


def _silent(step: str, done: int, blocks: int) -> None:
    """Report to nobody."""


def detect(plan: Plan, cpus: int, progress: Progress = _silent) -> Detection:
    """Run a pipeline over a box.

    Parameters
    ----------
    plan : Plan
        What to read, with which pipeline, and where to work.
    cpus : int
        Worker processes.
    progress : callable
        Told of every block: step, blocks done, blocks in all.

    Returns
    -------
    Detection
        Masks on disk in the plan's folder, the table of objects, projections, times.

    Raises
    ------
    DataError
        If the pipeline can detect nothing in such data, such as in a constant channel.
    StorageError
        If the scratch folder has no room.
    UnavailableError, PermissionDeniedError
        From the source.
    """
    with BlockPool(cpus, _setup, (plan,)) as pool:
        run = _Run(plan, pool, progress)
        overviews = run.pull()
        finding = run.learn()
        candidates, part_ids, rows = run.label(finding)
        every = objects.table(candidates, plan.box, plan.voxel_size_nm)
        chosen = plan.pipeline.select(every, finding)
        mask_overviews = run.write_masks(chosen, part_ids, rows)
    first, *others = chosen
    table = {name: values[chosen[first]] for name, values in every.items()}
    table["id"] = np.arange(1, len(table["id"]) + 1, dtype=np.int64)
    for name in others:
        table[f"in_{name}"] = chosen[name][chosen[first]]
    _LOG.info("%d objects, %d of them synapses (%s)", len(every["id"]), len(table["id"]), plan.pipeline.name)
    return Detection(
        masks={name: scratch.open_array(plan.file("mask", name)) for name in chosen},
        table=table,
        overviews=overviews,
        mask_overviews=mask_overviews,
        finding=finding,
        seconds=run.seconds,
        blocks=len(run.blocks),
        candidates=len(every["id"]),
    )
