"""The passes of a detection over the blocks of a box, and their order.

They know neither BOSS nor S3 nor any pipeline by name.

::

    statistics  pipeline.summarise(block) -> added -> pipeline.learn      while tiles are pulled
    detect      pipeline.detect(block) -> labels on disk, parts of objects measured
    join        parts that touch across blocks become one object; pipeline.select chooses
    masks       the chosen objects, 0 and 255, on disk

No step holds a whole volume: a worker reads its block. Every number that goes from one block to another is an integer,
so that neither the blocks nor their order can show in the result. What a block yields is committed to the store before
it is reported, under a name that holds a fingerprint of all it depends on: a killed run goes on where it was, and a
run with other parameters finds nothing of it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from block_pool import BlockPool, Boxes, Done, Failed, Feed
from box import Box
from detection import objects
from detection.border import mirrored
from detection.overview import Overview
from detection.plan import DEFAULT_PULLS, Plan
from detection.store import BlockVolume, key_of
from detection.tiles import TileFeed
from errors import DataError, NDSynapseError
from pipelines.contract import Finding, Summary
from progress import Progress, on_terminal, silent

__all__ = ["Detection", "Hole", "detect"]

log = logging.getLogger(__name__)

FOUND = np.uint8(255)

_KEEP_BYTES = 2**62
"""What tiles may take on disk where nobody sets a limit."""


@dataclass(frozen=True, slots=True)
class Hole:
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
    table : dict of str to ndarray
        One row for each object of the first mask; see `objects.table`. For each further mask a column ``in_<mask>``.
    overviews, mask_overviews : dict of str to ndarray
        Channel, or mask, to its maximum projection along z, at most 1024 pixels a side.
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
    table: dict[str, NDArray[Any]]
    overviews: dict[str, NDArray[Any]]
    mask_overviews: dict[str, NDArray[np.uint8]]
    finding: Finding
    holes: list[Hole] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: int = 0
    resumed: dict[str, int] = field(default_factory=dict)
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
    """Keep the plan in this worker."""
    global _PLAN
    _PLAN = plan


def _plan() -> Plan:
    """Return this worker's plan."""
    if _PLAN is None:
        raise NDSynapseError("a block in a worker", "the worker has no plan", "Report this as a defect")
    return _PLAN


def _digest(*arrays: NDArray[Any]) -> str:
    """Return a fingerprint of some arrays."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _role_arrays(plan: Plan, box: Box) -> dict[str, NDArray[Any]]:
    """Read the voxels of each role with the pipeline's halo."""
    tiles = plan.tiles()
    inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, plan.box.start, strict=True)))
    return {role: mirrored(tiles.channel(channel), inside, plan.pipeline.halo) for role, channel in plan.roles.items()}


def _summarise(box: Box) -> float:
    """Count one block, and project its channels; return the seconds that writing took, as all of these do."""
    plan = _plan()
    tiles = plan.tiles()
    arrays: dict[str, NDArray[Any]] = {}
    for name, counts in plan.pipeline.summarise(_role_arrays(plan, box)).items():
        places = np.flatnonzero(counts)
        arrays[f"places {name}"], arrays[f"counts {name}"] = places, counts[places]
    for channel in plan.pulled():
        voxels = tiles.channel(channel).part(box)
        arrays[f"overview {channel}"] = Overview.of_block(voxels, box, plan.box).pixels
        arrays[f"digest {channel}"] = np.array([_digest(voxels)])
    store = plan.store()
    store.save(plan.statistics_kind(), key_of(box), arrays)
    return store.write_s


def _detect(box: Box, finding: Finding) -> float:
    """Label the candidates of one block, and measure their parts."""
    plan = _plan()
    tiles = plan.tiles()
    candidates = plan.pipeline.detect(_role_arrays(plan, box), finding)
    if candidates.shape != box.shape or candidates.dtype != np.bool_:
        raise ValueError(f"{candidates.dtype} of the shape {candidates.shape} was detected in a block of {box.shape}")
    labels = objects.label(candidates, box, plan.box)
    del candidates
    parts = objects.measure(labels, box, ((channel, tiles.channel(channel).part(box)) for channel in plan.channels))
    store, kind = plan.store(), plan.parts_kind(finding)
    store.save(f"labels-{kind}", key_of(box), {"labels": labels})
    # the parts are saved last: with them the block is finished
    store.save(kind, key_of(box), {**parts, **_faces(labels)})
    return store.write_s


_SIDES = {"low": 0, "high": -1}


def _faces(labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the six outermost planes of a block, which is all that joining needs."""
    return {f"face {axis} {side}": labels.take(place, axis) for axis in range(3) for side, place in _SIDES.items()}


def _touching(box: Box, kind: str) -> NDArray[Any]:
    """Find the ids that touch across the borders to the blocks that come after this one, edges and corners included."""
    plan = _plan()
    store = plan.store()
    here = store.load(kind, key_of(box))
    pairs = [np.empty((0, 2), objects.id_dtype(plan.box))]
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):
            continue
        neighbour = _neighbour(plan, box, step)
        if neighbour is None or not store.has(kind, key_of(neighbour)):
            continue
        there = store.load(kind, key_of(neighbour))
        pairs.append(objects.neighbours_across(_border(here, step), _border(there, tuple(-s for s in step))))
    return np.unique(np.concatenate(pairs), axis=0)


def _neighbour(plan: Plan, box: Box, step: tuple[int, ...]) -> Box | None:
    """Return the block next to one in a direction."""
    ranges = []
    for (start, stop), (first, end), size, direction in zip(
        box.ranges, plan.box.ranges, plan.block_size, step, strict=True
    ):
        if direction > 0:
            start, stop = stop, min(end, (stop // size + 1) * size)
        elif direction < 0:
            start, stop = max(first, (start - 1) // size * size), start
        if stop <= start:
            return None
        ranges.append((start, stop))
    return Box(*ranges)


def _border(faces: dict[str, NDArray[Any]], step: Sequence[int]) -> NDArray[Any]:
    """Return the labels of a block that touch its neighbour in a direction: a face, an edge or a corner, as a plane."""
    axis = next(axis for axis, direction in enumerate(step) if direction)
    plane = faces[f"face {axis} {'high' if step[axis] > 0 else 'low'}"]
    for place, other in enumerate(other for other in range(3) if other != axis):
        if step[other]:
            edge = plane.shape[place] - 1 if step[other] > 0 else 0
            plane = plane[edge : edge + 1] if place == 0 else plane[:, edge : edge + 1]
    return plane


def _write_masks(box: Box, names: tuple[str, ...], parts_kind: str, masks_kind: str) -> float:
    """Write the masks of one block, and project them."""
    plan = _plan()
    store = plan.store()
    labels = store.load(f"labels-{parts_kind}", key_of(box))["labels"]
    foreground = labels != 0
    rows = np.searchsorted(store.open_plain(masks_kind, "part_ids"), labels[foreground])
    overviews = {}
    for name in names:
        mask = np.zeros(labels.shape, np.uint8)
        mask[foreground] = store.open_plain(masks_kind, f"chosen_{name}")[rows]
        store.save_plain(f"{masks_kind}-{name}", key_of(box), mask)
        overviews[name] = Overview.of_block(mask, box, plan.box).pixels
    store.save(f"overviews-{masks_kind}", key_of(box), overviews)
    return store.write_s


def _add(total: Summary, name: str, places: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Add counts to a summary, which grows as it must."""
    length = int(places[-1]) + 1 if len(places) else 0
    have = total.get(name, np.zeros(0, np.int64))
    if len(have) < length:
        have = np.concatenate([have, np.zeros(length - len(have), np.int64)])
    have[places] += counts
    total[name] = have


class _Run:
    """The steps of one detection in one pool, timed and reported."""

    def __init__(self, plan: Plan, pool: BlockPool, progress: Progress, pulls: int, keep_bytes: int) -> None:
        self.plan = plan
        self.store = plan.store()
        self.blocks = plan.blocks()
        self.seconds: dict[str, float] = {}
        self.resumed: dict[str, int] = {}
        self.holes: list[Hole] = []
        self._pool = pool
        self._progress = progress
        self._pulls = pulls
        self._keep_bytes = keep_bytes

    def whole(self) -> list[Box]:
        """Return the blocks that did not fail."""
        failed = {hole.box for hole in self.holes}
        return [block for block in self.blocks if block not in failed]

    def some_whole(self) -> list[Box]:
        """Return the blocks that did not fail; refuse to go on with none."""
        whole = self.whole()
        if not whole:
            raise DataError(
                f"{self.plan.pipeline.name} on {self.plan.box}",
                f"it failed on every block, on the first with {self.holes[0].reason}",
                "Check the pipeline; job.log has the traceback",
            )
        return whole

    def each_block(
        self, step: str, kind: str, function: Callable[[Box], Any], pulls_tiles: bool = False
    ) -> Iterator[Done]:
        """Run a step on every block that an earlier run did not finish."""
        started = time.monotonic()
        blocks = self.whole()
        missing = [block for block in blocks if not self.store.has(kind, key_of(block))]
        done = len(blocks) - len(missing)
        if done:
            self.resumed[step] = done
        self._progress(step, done, len(blocks))
        tile_feed = self._tile_feed(missing) if pulls_tiles else None
        feed: Feed = tile_feed or Boxes(missing)
        voxels = failed = 0
        try:
            for outcome in self._pool.run(function, feed):
                done += 1
                voxels += outcome.box.voxels
                failed += isinstance(outcome, Failed)
                self._report(step, outcome, 0.0 if tile_feed is None else tile_feed.pull_s.get(outcome.box, 0.0))
                speed = f"{voxels / (time.monotonic() - started) / 1e6:.1f} million voxels/s"
                self._progress(step, done, len(blocks), f"{speed}, {failed} failed" if failed else speed)
                if isinstance(outcome, Done):
                    yield outcome
        finally:
            if tile_feed is not None:
                tile_feed.close()
        if tile_feed is not None:
            self.seconds["pull"] = self.seconds.get("pull", 0.0) + tile_feed.seconds
        self.seconds[step] = time.monotonic() - started

    def _tile_feed(self, blocks: list[Box]) -> TileFeed:
        """Return the feed of blocks whose tiles are pulled as they are needed."""
        plan = self.plan
        return TileFeed(plan.tiles(), plan.source, blocks, plan.pipeline.halo, self._pulls, self._keep_bytes)

    def _report(self, step: str, outcome: Done | Failed, pull_s: float) -> None:
        """Log what came of a block; remember a failure."""
        if isinstance(outcome, Failed):
            log.error("%s: block %s failed: %s", step, outcome.box, outcome.reason)
            log.debug("%s", outcome.traceback)
            self.holes.append(Hole(outcome.box, step, outcome.reason, outcome.traceback))
        else:
            text = "%s: block %s pull_s=%.3f compute_s=%.3f write_s=%.3f peak_mib=%d"
            write_s = outcome.result
            compute_s = outcome.seconds - write_s
            # where a bar tells how it goes, a line a block is for the file
            level = logging.DEBUG if on_terminal() else logging.INFO
            log.log(level, text, step, outcome.box, pull_s, compute_s, write_s, outcome.peak_bytes >> 20)

    def check_source(self) -> None:
        """Start over if the volume is not what an earlier run pulled: two blocks are pulled again and compared."""
        tiles, kind = self.plan.tiles(), self.plan.statistics_kind()
        counted = [block for block in self.blocks if self.store.has(kind, key_of(block))]
        for block in {counted[0], counted[-1]} if counted else ():
            known = self.store.load(kind, key_of(block))
            for channel in tiles.channels:
                voxels = self.plan.source.get_cutout(channel, *block.ranges)
                if _digest(voxels) != str(known[f"digest {channel}"][0]):
                    log.warning("channel %s changed since an earlier run pulled %s: starting over", channel, block)
                    self.store.keep_only(set())
                    return
        if not counted:
            # tiles that nothing was computed from yet are pulled again: they cannot be compared with anything
            self.store.drop(tiles.kind)

    def forget_others(self, finding: Finding) -> None:
        """Remove what runs with other parameters left in the store."""
        parts = self.plan.parts_kind(finding)
        masks = [kind for kind in self.store.kinds("") if "masks-" in kind and parts in kind]
        self.store.keep_only({self.plan.tiles().kind, self.plan.statistics_kind(), parts, f"labels-{parts}", *masks})

    def learn(self) -> tuple[Finding, dict[str, NDArray[Any]]]:
        """Pull and count all blocks, and let the pipeline draw from the sums; return the projections, too."""
        kind = self.plan.statistics_kind()
        for _ in self.each_block("statistics", kind, _summarise, pulls_tiles=True):
            pass
        total: Summary = {}
        overviews: dict[str, NDArray[Any]] = {}
        whole = self.some_whole()
        for block in whole:
            arrays = self.store.load(kind, key_of(block))
            for name in [name.removeprefix("counts ") for name in arrays if name.startswith("counts ")]:
                _add(total, name, arrays[f"places {name}"], arrays[f"counts {name}"])
            self._merge(overviews, block, arrays, "overview ")
        return self.plan.pipeline.learn(total, self.plan.roles), overviews

    def _merge(
        self, overviews: dict[str, NDArray[Any]], block: Box, arrays: dict[str, NDArray[Any]], prefix: str
    ) -> None:
        """Put the projections of a block in their place."""
        for name, pixels in arrays.items():
            if name.startswith(prefix):
                key = name.removeprefix(prefix)
                overviews[key] = Overview.at(pixels, block, self.plan.box).merged_into(overviews.get(key))

    def label(self, finding: Finding) -> tuple[objects.Parts, NDArray[Any], NDArray[Any]]:
        """Label and measure all blocks and join what touches across them."""
        kind = self.plan.parts_kind(finding)
        for _ in self.each_block("detect", kind, partial(_detect, finding=finding), pulls_tiles=True):
            pass
        started = time.monotonic()
        whole = self.some_whole()
        feed = Boxes(whole if len(self.blocks) > 1 else [])
        pairs = []
        for outcome in self._pool.run(partial(_touching, kind=kind), feed):
            if isinstance(outcome, Failed):
                raise NDSynapseError(f"joining block {outcome.box}", outcome.reason, "Report this as a defect")
            pairs.append(outcome.result)
        parts = [
            {name: values for name, values in self.store.load(kind, key_of(block)).items() if "face" not in name}
            for block in whole
        ]
        joined = objects.join(parts, pairs)
        self.seconds["join"] = time.monotonic() - started
        return joined

    def write_masks(
        self, chosen: dict[str, NDArray[np.bool_]], part_ids: NDArray[Any], rows: NDArray[np.int64], finding: Finding
    ) -> tuple[dict[str, BlockVolume], dict[str, NDArray[Any]]]:
        """Write every mask to disk; return them with their projections."""
        parts_kind = self.plan.parts_kind(finding)
        lists = {"part_ids": part_ids} | {f"chosen_{name}": is_in[rows] * FOUND for name, is_in in chosen.items()}
        # a block that failed once may change what is chosen in the blocks around it
        kind = f"masks-{parts_kind}-{_digest(*lists.values())}"
        for name, values in lists.items():
            # an array of no elements cannot be mapped
            self.store.save_plain(kind, name, values if len(values) else np.zeros(1, values.dtype))
        function = partial(_write_masks, names=tuple(chosen), parts_kind=parts_kind, masks_kind=kind)
        overviews: dict[str, NDArray[Any]] = {}
        for _ in self.each_block("masks", f"overviews-{kind}", function):
            pass
        for block in self.whole():
            self._merge(overviews, block, self.store.load(f"overviews-{kind}", key_of(block)), "")
        masks = {name: self._volume(f"{kind}-{name}") for name in chosen}
        return masks, overviews

    def _volume(self, kind: str) -> BlockVolume:
        """Return the blocks of a mask as one volume."""

        def read(block: Box) -> NDArray[Any] | None:
            return self.store.open_plain(kind, key_of(block)) if self.store.has(kind, key_of(block), "npy") else None

        return BlockVolume(read, self.plan.box, self.plan.block_size, np.uint8)

    def labels(self, finding: Finding, part_ids: NDArray[Any], numbers: NDArray[np.int64]) -> BlockVolume:
        """Return the labels as one volume, numbered as in the table."""
        kind = f"labels-{self.plan.parts_kind(finding)}"

        def read(block: Box) -> NDArray[Any] | None:
            if not self.store.has(kind, key_of(block)):
                return None
            labels = self.store.load(kind, key_of(block))["labels"]
            numbered = np.zeros(labels.shape, np.int64)
            foreground = labels != 0
            numbered[foreground] = numbers[np.searchsorted(part_ids, labels[foreground])]
            return numbered

        return BlockVolume(read, self.plan.box, self.plan.block_size, np.int64)


def detect(
    plan: Plan,
    cpus: int,
    progress: Progress = silent,
    *,
    pulls: int = DEFAULT_PULLS,
    keep_bytes: int = _KEEP_BYTES,
) -> Detection:
    """Run a pipeline over a box, or finish what an earlier run with the same plan began.

    Parameters
    ----------
    plan : Plan
        What to read, with which pipeline, and where to work.
    cpus : int
        Worker processes.
    progress : callable
        Told of every block.
    pulls : int
        Tiles that are pulled at the same time.
    keep_bytes : int
        What pulled tiles may take on disk; what does not fit is pulled again for the second pass.

    Returns
    -------
    Detection
        Masks on disk in the plan's folder, the table of objects, projections, times, and the blocks that failed.

    Raises
    ------
    DataError
        If the pipeline can detect nothing in such data, such as in a constant channel, or fails on every block.
    StorageError
        If the scratch folder has no room.
    UnavailableError, PermissionDeniedError
        From the source.
    """
    with BlockPool(cpus, _setup, (plan.for_workers(),)) as pool:
        run = _Run(plan, pool, progress, pulls, keep_bytes)
        run.check_source()
        finding, overviews = run.learn()
        run.forget_others(finding)
        candidates, part_ids, rows = run.label(finding)
        every = objects.table(candidates, plan.box, plan.voxel_size_nm)
        chosen = plan.pipeline.select(every, finding)
        masks, mask_overviews = run.write_masks(chosen, part_ids, rows, finding)
    first, *others = chosen
    table = {name: values[chosen[first]] for name, values in every.items()}
    table["id"] = np.arange(1, len(table["id"]) + 1, dtype=np.int64)
    for name in others:
        table[f"in_{name}"] = chosen[name][chosen[first]]
    numbers = np.where(chosen[first], np.cumsum(chosen[first]), 0)[rows]
    log.info("%d objects, %d of them synapses (%s)", len(every["id"]), len(table["id"]), plan.pipeline.name)
    return Detection(
        masks=masks,
        labels=run.labels(finding, part_ids, numbers),
        table=table,
        overviews=overviews,
        mask_overviews=mask_overviews,
        finding=finding,
        holes=sorted(run.holes, key=lambda hole: hole.box),
        seconds=run.seconds,
        blocks=len(run.blocks),
        resumed=run.resumed,
        candidates=len(every["id"]),
    )
