"""The passes of a detection over the blocks of a box, and their order.

They know neither BOSS nor S3 nor any pipeline by name.

::

    statistics  pipeline.summarise(block) -> added -> pipeline.learn      while tiles are pulled
    detect      pipeline.detect(block) -> labels on disk, parts of objects measured
    join        parts that touch across blocks become one object; pipeline.select chooses
    features    the windows round the chosen objects, each measured by the block that holds its centroid
    masks       the chosen objects, 0 and 255, on disk

No step holds a whole volume: a worker reads its block. Every number that goes from one block to another is an integer,
so that neither the blocks nor their order can show in the result. What a block yields is committed to the store before
it is reported, under a name that holds a fingerprint of all it depends on: a killed run goes on where it was, and a
run with other parameters finds nothing of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.digests import digest
from nd_synapse.blocks.grid import DEFAULT_PULLS, key_of
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed, Feed
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.blocks.tiles import TileFeed
from nd_synapse.detection import blocks, features, joining, objects, worker
from nd_synapse.detection.budget import left_bytes
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.images import Image
from nd_synapse.detection.outcome import Brightness, Detection, FailedBlock
from nd_synapse.detection.overview import Overview
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.windows import Reach, surroundings
from nd_synapse.errors import DataError, NDSynapseError, StorageError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Chosen, Finding, Summary
from nd_synapse.progress import Progress, on_terminal, silent

__all__ = ["Passes", "detect"]

log = logging.getLogger(__name__)

_COMPARED = 8
"""Blocks of an earlier run that are pulled again and compared, spread over the volume."""

_SHARED = ("statistics", "detect", "features")
"""Passes whose blocks are left on the shelf; masks are made anew from them in less time than they are carried."""

_KEEP_BYTES = 2**62
"""What tiles may take on disk where nobody sets a limit."""


class Passes:
    """The passes of one detection in one pool, timed and reported.

    Parameters
    ----------
    plan : Plan
        What to read, with which pipeline, and where to work.
    pool : BlockPool
        The workers; they have the same plan.
    progress : callable
        Told of every block.
    pulls : int
        Tiles that are pulled at the same time.
    keep_bytes : int
        What pulled tiles may take on disk.
    shelf : Shelf or None
        What the parts of a run share, where it has any.
    """

    def __init__(
        self,
        plan: Plan,
        pool: BlockPool,
        progress: Progress,
        pulls: int,
        keep_bytes: int,
        shared_store: SharedStore | None,
    ) -> None:
        self.plan = plan
        self.store = plan.store()
        self.blocks = plan.blocks()
        self._blocks = frozenset(self.blocks)
        self.seconds: dict[str, float] = {}
        self.resumed: dict[str, int] = {}
        self.failed_blocks: list[FailedBlock] = []
        self._pool = pool
        self._progress = progress
        self._pulls = pulls
        self._keep_bytes = keep_bytes
        self.exchange = Exchange(self.store, shared_store, left_bytes(plan))

    def whole(self) -> list[Box]:
        """Return the blocks that did not fail."""
        return self.among_whole(self.blocks)

    def among_whole(self, some: Sequence[Box]) -> list[Box]:
        """Return those of some blocks that did not fail."""
        failed = {failed_block.box for failed_block in self.failed_blocks}
        return [block for block in some if block not in failed]

    def some_whole(self) -> list[Box]:
        """Return the blocks that did not fail; refuse to go on with none."""
        whole = self.whole()
        if not whole:
            raise DataError(
                f"{self.plan.pipeline.name} on {self.plan.box}",
                f"it failed on every block, on the first with {self.failed_blocks[0].reason}",
                "Check the pipeline; job.log has the traceback",
            )
        return whole

    def each_block(
        self,
        step: str,
        kinds: Sequence[str],
        function: Callable[[Box], Any],
        among: Sequence[Box],
        halo: Reach | None = None,
        wanted: bool = True,
    ) -> Iterator[Done]:
        """Run a step on every block that nobody finished; with a halo, on the tiles that it needs.

        What other parts of the run finished is fetched, unless it is not wanted.
        """
        started = time.monotonic()
        whole = list(among)
        missing = self.exchange.unfinished(kinds, whole, wanted)
        done = len(whole) - len(missing)
        if done and step not in self.seconds:
            self.resumed[step] = done
        self._progress(step, done, len(whole))
        tile_feed = None if halo is None else self._tile_feed(missing, halo, compared=step != "statistics")
        feed: Feed = tile_feed or Boxes(missing)
        voxels = failed = 0
        try:
            for outcome in self._pool.run(function, feed):
                done += 1
                voxels += outcome.box.voxels
                failed += isinstance(outcome, Failed)
                self._report(step, outcome, 0.0 if tile_feed is None else tile_feed.pull_s.get(outcome.box, 0.0))
                speed = f"{voxels / (time.monotonic() - started) / 1e6:.1f} million voxels/s"
                self._progress(step, done, len(whole), f"{speed}, {failed} failed" if failed else speed)
                if isinstance(outcome, Done):
                    if step in _SHARED:
                        self.exchange.leave(kinds, key_of(outcome.box))
                    yield outcome
        finally:
            if tile_feed is not None:
                tile_feed.close()
        if tile_feed is not None:
            self.seconds["pull"] = self.seconds.get("pull", 0.0) + tile_feed.seconds
        self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started

    def _tile_feed(self, missing: list[Box], halo: Reach, compared: bool) -> TileFeed:
        """Return the feed of blocks whose tiles are pulled as they are needed."""
        plan = self.plan
        pulled = self._compare if compared else None
        return TileFeed(plan.tiles(), plan.source, missing, halo, self._pulls, self._keep_bytes, pulled)

    def _compare(self, tile: Box) -> None:
        """Refuse a tile that was pulled again and is not what was counted."""
        tiles, kind = self.plan.tiles(), self.plan.statistics_kind()
        if tile not in self._blocks or not self.store.has(kind, key_of(tile)):
            # counting it failed: it is a hole, and nothing was learned from it; or another part has it to compare
            return
        channel = self._changed_channel(tile)
        if channel is not None:
            # what is wrong must not be found again as if it had been pulled for the first time
            tiles.drop(tile)
            raise DataError(
                f"channel {channel} in {tile}, pulled again for a later pass",
                "its voxels changed while the job was running",
                "Wait until nobody writes to the channel, then start over with --fresh, or under another --shared",
            )

    def _report(self, step: str, outcome: Done | Failed, pull_s: float) -> None:
        """Log what came of a block; remember a failure."""
        if isinstance(outcome, Failed):
            log.error("%s: block %s failed: %s", step, outcome.box, outcome.reason)
            log.debug("%s", outcome.traceback)
            self.failed_blocks.append(FailedBlock(outcome.box, step, outcome.reason, outcome.traceback))
        else:
            text = "%s: block %s pull_s=%.3f compute_s=%.3f write_s=%.3f peak_mib=%d"
            write_s = outcome.result
            compute_s = outcome.seconds - write_s
            # where a bar tells how it goes, a line a block is for the file
            level = logging.DEBUG if on_terminal() else logging.INFO
            log.log(level, text, step, outcome.box, pull_s, compute_s, write_s, outcome.peak_bytes >> 20)

    def check_source(self) -> None:
        """Start over if the volume is not what an earlier run pulled: some blocks are pulled again and compared.

        BOSS has no version of a channel to ask for. Comparing all would cost what resuming saves. A part of a run has
        nothing of an earlier one, and compares all that it pulls for the later passes. Tiles of an earlier run that
        are not what was counted from them are pulled again.
        """
        tiles, kind = self.plan.tiles(), self.plan.statistics_kind()
        self.exchange.unfinished((kind,), self.blocks, wanted=True)
        counted = [block for block in self.blocks if self.store.has(kind, key_of(block))]
        for block in counted[:: max(1, len(counted) // _COMPARED)][:_COMPARED] + counted[-1:]:
            known = self.store.load(kind, key_of(block))
            for channel in tiles.channels:
                voxels = self.plan.source.get_cutout(channel, *block.ranges)
                if digest(voxels) != str(known[f"digest {channel}"][0]):
                    self._start_over(channel, block)
                    return
        if counted:
            self._check_tiles(frozenset(counted))
        else:
            # tiles that nothing was computed from yet cannot be compared with anything
            self.store.drop(tiles.kind)

    def _check_tiles(self, counted: Collection[Box]) -> None:
        """Let go of tiles that an earlier run left and that are not, or cannot be told to be, what it counted."""
        tiles = self.plan.tiles()
        for tile in tiles.volume.tiles(tiles.size, aligned=True):
            if not (tile in counted and tiles.has(tile) and self._changed_channel(tile) is None):
                tiles.drop(tile)

    def _changed_channel(self, tile: Box) -> str | None:
        """Return a channel whose tile is not what was counted, or cannot be read; None if there is none."""
        tiles = self.plan.tiles()
        known = self.store.load(self.plan.statistics_kind(), key_of(tile))
        for channel in tiles.channels:
            try:
                if digest(tiles.channel(channel).part(tile)) != str(known[f"digest {channel}"][0]):
                    return channel
            except StorageError as error:
                log.warning("%s", error)
                return channel
        return None

    def _start_over(self, channel: str, block: Box) -> None:
        """Remove what was computed from other voxels; what is on a shelf stays, and cannot be used."""
        if self.exchange.shared_store is not None:
            raise DataError(
                f"channel {channel} in {block}, pulled by a part of this run",
                "its voxels are others now",
                "Wait until nobody writes to the channel, then begin a run under another --shared",
            )
        log.warning("channel %s changed since an earlier run pulled %s: starting over", channel, block)
        self.store.keep_only(set())

    def forget_others(self, finding: Finding) -> None:
        """Remove what runs with other parameters left in the store."""
        parts = self.plan.parts_kind(finding)
        later = [kind for prefix in ("features-", "masks-", "overviews-") for kind in self.store.kinds(prefix)]
        kept = [kind for kind in later if parts in kind]
        whole = {parts, f"faces-{parts}", f"labels-{parts}"}
        self.store.keep_only({self.plan.tiles().kind, self.plan.statistics_kind(), *whole, *kept})

    def count(self, among: Sequence[Box], wanted: bool = True) -> None:
        """Pull and count blocks, but for those that failed in another part."""
        kind, step = self.plan.statistics_kind(), "statistics"
        known = self.exchange.failed_blocks(kind, step, among)
        self.failed_blocks += [failed_block for failed_block in known if failed_block not in self.failed_blocks]
        failed, before = {failed_block.box for failed_block in self.failed_blocks}, len(self.failed_blocks)
        missing = [block for block in among if block not in failed]
        for _ in self.each_block(step, (kind,), blocks.summarise, missing, self.plan.halo, wanted):
            pass
        for failed_block in self.failed_blocks[before:]:
            self.exchange.leave_failed_block(kind, failed_block)

    def total(self, among: Sequence[Box]) -> Summary:
        """Add up what was counted in some blocks."""
        total: Summary = {}
        for block in among:
            blocks.add_all_counts(total, self.store.load(self.plan.statistics_kind(), key_of(block)))
        return total

    def learn(self) -> tuple[Finding, dict[str, NDArray[Any]], dict[str, Brightness]]:
        """Pull and count all blocks, and let the pipeline draw from the sums; return what else was counted, too."""
        kind = self.plan.statistics_kind()
        self.count(self.blocks)
        total: Summary = {}
        overviews: dict[str, NDArray[Any]] = {}
        whole = self.some_whole()
        voxels = sum(block.voxels for block in whole)
        sums = {channel: [0, 0] for channel in self.plan.pulled()}
        for block in whole:
            arrays = self.store.load(kind, key_of(block))
            blocks.add_all_counts(total, arrays)
            self._merge(overviews, block, arrays, "overview ")
            for channel, moments in sums.items():
                # Python's integers are exact whatever the size of the box
                moments[:] = (a + b for a, b in zip(moments, arrays[f"moments {channel}"].tolist(), strict=True))
        brightness = {channel: Brightness.of_sums(voxels, *moments) for channel, moments in sums.items()}
        return self.plan.pipeline.learn(total, self.plan.roles), overviews, brightness

    def _merge(
        self, overviews: dict[str, NDArray[Any]], block: Box, arrays: dict[str, NDArray[Any]], prefix: str
    ) -> None:
        """Put the projections of a block in their place."""
        for name, pixels in arrays.items():
            if name.startswith(prefix):
                key = name.removeprefix(prefix)
                overviews[key] = Overview.at(pixels, block, self.plan.box).merged_into(overviews.get(key))

    def find(self, finding: Finding, among: Sequence[Box], wanted: bool = True) -> None:
        """Label and measure blocks."""
        kind = self.plan.parts_kind(finding)
        # in the order in which they are saved: with the parts a block is finished
        kinds = (f"labels-{kind}", f"faces-{kind}", kind)
        for _ in self.each_block(
            "detect", kinds, partial(blocks.detect, finding=finding), among, self.plan.halo, wanted
        ):
            pass

    def join(self, finding: Finding) -> tuple[joining.ColumnFiles, objects.Joint]:
        """Join what touches across blocks."""
        kind = self.plan.parts_kind(finding)
        started = time.monotonic()
        whole = self.some_whole()
        feed = Boxes(whole if len(self.blocks) > 1 else [])
        pairs = []
        for outcome in self._pool.run(partial(blocks.touching, kind=kind), feed):
            if isinstance(outcome, Failed):
                raise DataError(
                    f"joining the objects of block {outcome.box} with those around it",
                    outcome.reason,
                    "The same command goes on where it was; give it more memory, or fewer --cpus",
                )
            pairs.append(outcome.result)
        joined = joining.join_blocks(self.store, kind, whole, pairs)
        self.seconds["join"] = self.seconds.get("join", 0.0) + time.monotonic() - started
        return joined

    def features(
        self, finding: Finding, joined: Mapping[str, NDArray[Any]], chosen: Chosen
    ) -> tuple[Chosen, Iterable[tuple[str, NDArray[Any]]]]:
        """Measure the synapses; return those that could be, with their features.

        One whose centroid lies in a block that failed has no features, and no place in masks and table.
        """
        plan = self.plan
        first = next(iter(chosen.masks.values()))
        assigned = features.assign(plan, finding, joined, first)
        busy = assigned.among(self.whole(), plan)
        function = partial(features.measure, kind=assigned.kind)
        for _ in self.each_block("features", (assigned.kind,), function, busy, surroundings(plan.reach)):
            pass
        rows, sums = features.gather(plan, self.store, assigned, self.whole())
        is_measured = np.zeros(len(first), np.bool_)
        is_measured[rows] = True
        masks = {name: is_in & is_measured for name, is_in in chosen.masks.items()}
        columns = features.columns(joined, rows, sums, plan.box, plan.voxel_size_nm, plan.reach)
        return Chosen(masks, chosen.columns), columns

    def columns(self, finding: Finding, name: str, columns: Iterable[tuple[str, NDArray[Any]]]) -> joining.ColumnFiles:
        """Keep a table on disk."""
        return joining.ColumnFiles(self.store, f"{name}-{self.plan.parts_kind(finding)}", columns)

    def write_masks(
        self, chosen: Mapping[str, NDArray[np.bool_]], joint: objects.Joint, finding: Finding
    ) -> tuple[dict[str, BlockVolume], dict[str, NDArray[Any]], dict[str, int]]:
        """Write every mask to disk; return them with their projections and their voxels."""
        parts_kind = self.plan.parts_kind(finding)
        lists = {"part_ids": joint.part_ids}
        lists |= {f"chosen_{name}": is_in[joint.object_rows] * blocks.FOUND for name, is_in in chosen.items()}
        # a block that failed once may change what is chosen in the blocks around it
        kind = f"masks-{parts_kind}-{digest(*lists.values())}"
        for name, values in lists.items():
            # an array of no elements cannot be mapped
            self.store.save_plain(kind, name, values if len(values) else np.zeros(1, values.dtype))
        function = partial(blocks.write_masks, names=tuple(chosen), parts_kind=parts_kind, masks_kind=kind)
        overviews: dict[str, NDArray[Any]] = {}
        voxels = dict.fromkeys(chosen, 0)
        self._check_masks(kind, chosen)
        for _ in self.each_block("masks", (f"overviews-{kind}",), function, self.whole()):
            pass
        for block in self.whole():
            told = self.store.load(f"overviews-{kind}", key_of(block))
            self._merge(overviews, block, told, "overview ")
            for name in chosen:
                voxels[name] += int(told[f"voxels {name}"][0])
        masks = {name: self._volume(f"{kind}-{name}") for name in chosen}
        return masks, overviews, voxels

    def _check_masks(self, kind: str, names: Iterable[str]) -> None:
        """Let masks that an earlier run left be written again where they are missing or damaged."""
        volumes = {name: self._volume(f"{kind}-{name}") for name in names}
        for block in self.whole():
            if not self.store.has(f"overviews-{kind}", key_of(block)):
                continue
            told = self.store.load(f"overviews-{kind}", key_of(block))
            try:
                sound = all(
                    digest(volume.part(block)) == str(told[f"digest {name}"][0]) for name, volume in volumes.items()
                )
            except StorageError as error:
                log.warning("%s", error)
                sound = False
            if not sound:
                self.store.remove(f"overviews-{kind}", key_of(block), "npz")

    def _volume(self, kind: str) -> BlockVolume:
        """Return the blocks of a mask as one volume; a block that is missing is a hole, or an error."""
        whole = frozenset(self.whole())

        def read(block: Box) -> NDArray[Any] | None:
            return self.store.open_plain(kind, key_of(block)) if block in whole else None

        return BlockVolume(read, self.plan.box, self.plan.block_size, np.uint8)

    def labels(self, finding: Finding, joint: objects.Joint, numbers: NDArray[np.int64]) -> BlockVolume:
        """Return the labels as one volume, numbered as in the table."""
        kind = f"labels-{self.plan.parts_kind(finding)}"
        whole = frozenset(self.whole())

        def read(block: Box) -> NDArray[Any] | None:
            if block not in whole:
                return None
            saved = self.store.load(kind, key_of(block))
            value = np.zeros(len(saved["ids"]) + 1, np.int64)
            value[1:] = numbers[objects.rows_of_objects(joint, saved["ids"])]
            numbered: NDArray[Any] = value[saved["numbers"]]
            return numbered

        return BlockVolume(read, self.plan.box, self.plan.block_size, np.int64)


def detect(
    plan: Plan,
    cpus: int,
    progress: Progress = silent,
    *,
    pulls: int = DEFAULT_PULLS,
    keep_bytes: int = _KEEP_BYTES,
    shared_store: SharedStore | None = None,
) -> Detection:
    """Run a pipeline over a box, or finish what an earlier run with the same plan, or parts of this one, began."""
    with BlockPool(cpus, worker.setup, (plan.for_workers(),)) as pool:
        run = Passes(plan, pool, progress, pulls, keep_bytes, shared_store)
        run.check_source()
        finding, overviews, brightness = run.learn()
        run.forget_others(finding)
        run.find(finding, run.whole())
        failed_blocks = -1
        while failed_blocks < len(run.failed_blocks):
            # a block that failed has no part in what is joined, so that the table has what the masks have
            failed_blocks = len(run.failed_blocks)
            joined, joint = run.join(finding)
            every = run.columns(finding, "every", objects.table(joined, plan.box, plan.voxel_size_nm))
            chosen, measured = run.features(finding, joined, plan.pipeline.select(every, finding))
            if failed_blocks == len(run.failed_blocks):
                masks, mask_overviews, mask_voxels = run.write_masks(chosen.masks, joint, finding)
    first = next(iter(chosen.masks.values()))
    table = run.columns(finding, "table", objects.table_of(every, chosen, measured))
    numbers = np.where(first, np.cumsum(first), 0)
    _refuse_contradiction(plan, table, mask_voxels)
    log.info("%d objects, %d of them synapses (%s)", len(first), len(table["id"]), plan.pipeline.name)
    return Detection(
        masks=masks,
        labels=run.labels(finding, joint, numbers),
        table=table,
        images={channel: Image(plan.tiles(), plan.source, channel) for channel in plan.pulled()},
        brightness=brightness,
        overviews=overviews,
        mask_overviews=mask_overviews,
        mask_voxels=mask_voxels,
        finding=finding,
        failed_blocks=sorted(run.failed_blocks, key=lambda failed_block: failed_block.box),
        seconds=run.seconds,
        blocks=len(run.blocks),
        resumed=run.resumed,
        candidates=len(first),
    )


def _refuse_contradiction(plan: Plan, table: Mapping[str, NDArray[Any]], mask_voxels: Mapping[str, int]) -> None:
    """Refuse masks that do not hold the voxels of the table's objects: whatever made them so, they are wrong."""
    for name, voxels in mask_voxels.items():
        column = table.get(f"voxels_{name}", table["voxels"])
        counted = int(column[table[f"in_{name}"]].sum() if f"in_{name}" in table else column.sum())
        if counted != voxels:
            raise NDSynapseError(
                f"mask {name} of {plan.pipeline.name} on {plan.box}",
                f"it has {voxels:,} voxels, the objects of the table have {counted:,}",
                "Start over with --fresh, and please report it with job.log",
            )
