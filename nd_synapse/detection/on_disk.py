"""A detection on blocks in a scratch folder, pulled from a source, by a pool of processes; it goes on after a kill."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from nd_synapse.blocks.grid import DEFAULT_PULLS, key_of
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.blocks.shared_tiles import SharedTiles
from nd_synapse.blocks.tile_feed import TileFeed
from nd_synapse.blocks.tiles import Image
from nd_synapse.detection.budget import left_bytes
from nd_synapse.detection.confidence import MOST_BY_CHANCE
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.outcome import Detection, FailedBlock
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.resume import check_source, forget_other_runs, refuse_changed_tile
from nd_synapse.detection.runner import STATISTICS, Step
from nd_synapse.detection.speeds import Measured
from nd_synapse.detection.windows import Reach
from nd_synapse.detection.workspace import BlockFunction, Workspace, run_in_worker, set_up_worker
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.progress import Progress, silent
from nd_synapse.volumes import Cutouts

__all__ = ["MEASURED", "Means", "PoolRunner", "detect", "opened"]

log = logging.getLogger(__name__)

MEASURED = "speeds"
"""Kind of the notes in which parts leave how fast they were."""

_MORE_MEMORY = "give it more memory, or fewer --cpus"

_KEEP_BYTES = 2**62
"""What tiles may take on disk where nobody sets a limit."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a detection has to run with."""

    cpus: int
    progress: Progress = silent
    pulls: int = DEFAULT_PULLS
    """Tiles that are pulled at the same time."""
    keep_bytes: int = _KEEP_BYTES
    """What pulled tiles may take on disk."""
    shared_store: SharedStore | None = None
    """What the parts of a run share."""
    shares_tiles: bool = False
    """Whether they share what they pull, too."""

    def cutouts(self, plan: Plan) -> Cutouts:
        """Return what gives the voxels of a plan."""
        if self.shared_store is None or not self.shares_tiles:
            return plan.source
        return SharedTiles(plan.source, self.shared_store, replace(plan, region=None).tiles())


class PoolRunner:
    """Runs functions on blocks on disk, in a pool of processes, while the tiles they need are pulled.

    What is finished is committed to the store before it is reported, under a name with a fingerprint of all it depends
    on: a killed run goes on from there, and a run with other parameters does not find it.
    """

    def __init__(self, plan: Plan, pool: BlockPool, means: Means) -> None:
        self.failed_blocks: list[FailedBlock] = []
        self.seconds: dict[str, float] = {}
        self.measured = Measured()
        self.resumed: dict[str, int] = {}
        """Blocks by step that an earlier run, or another part of this one, had finished."""
        self.exchange = Exchange(plan.store(), means.shared_store, left_bytes(plan))
        self._plan = plan
        self._blocks = frozenset(plan.blocks())
        self._pool = pool
        self._means = means

    def run(self, step: Step, function: BlockFunction, blocks: Sequence[Box]) -> None:
        """Run a step on the blocks that nobody finished."""
        if step.name == STATISTICS:
            self.adopt_failures(step, blocks)
        failed_before = {failed_block.box for failed_block in self.failed_blocks}
        blocks = [block for block in blocks if block not in failed_before]
        missing = self.missing(step, blocks)
        if len(missing) < len(blocks) and not step.sampled and step.name not in self.seconds:
            self.resumed[step.name] = len(blocks) - len(missing)
        self._run_missing(step, function, missing, len(blocks))
        if step.fails_for_all:
            # all parts of a run have to do without the same blocks, or they would find different things
            for failed_block in self.failed_blocks[len(failed_before) :]:
                self.exchange.leave_failed_block(step.kinds[-1], failed_block)

    def missing(self, step: Step, blocks: Sequence[Box]) -> list[Box]:
        """Return the blocks that nobody finished; fetch what other parts finished, if it is wanted."""
        return self.exchange.unfinished(step.kinds, blocks, step.wanted, step.shared)

    def leave(self, step: Step, blocks: Sequence[Box]) -> None:
        """Leave what was made of blocks for the other parts of the run."""
        self.exchange.leave_all(step.kinds, [key_of(block) for block in blocks])

    def adopt_failures(self, step: Step, blocks: Sequence[Box]) -> None:
        """Leave out blocks that failed in other parts of the run."""
        known = {failed_block.box for failed_block in self.failed_blocks}
        failed = self.exchange.failed_blocks(step.kinds[-1], step.name, blocks)
        self.failed_blocks += [failed_block for failed_block in failed if failed_block.box not in known]

    def _run_missing(self, step: Step, function: BlockFunction, missing: Sequence[Box], total: int) -> None:
        """Run a step on blocks, pull what it needs, and report each."""
        started = time.monotonic()
        progress, name = self._means.progress, step.name
        done = total - len(missing)
        progress(name, done, total)
        tile_feed = None if step.halo is None else self._tile_feed(step, missing, step.halo)
        voxels = failed = 0
        try:
            for outcome in self._pool.run(partial(run_in_worker, function=function), tile_feed or Boxes(missing)):
                done += 1
                voxels += outcome.box.voxels
                failed += isinstance(outcome, Failed)
                self._report(step, outcome, tile_feed.pull_s.get(outcome.box, 0.0) if tile_feed else 0.0)
                speed = f"{voxels / (time.monotonic() - started) / 1e6:.1f} million voxels/s"
                progress(name, done, total, f"{speed}, {failed} failed" if failed else speed)
                if isinstance(outcome, Done) and step.shared:
                    self.exchange.leave(step.kinds, key_of(outcome.box))
        finally:
            if tile_feed is not None:
                tile_feed.close()
        if tile_feed is not None:
            self._add_seconds("pull", tile_feed.seconds)
            if name == STATISTICS:
                # what later passes lack they may find in the shared store, which says nothing of the source
                pulled = sum(map(self._plan.tiles().bytes_of, tile_feed.pull_s))
                self.measured.add_pulls(pulled, sum(tile_feed.pull_s.values()), tile_feed.seconds)
        self._add_seconds(name, time.monotonic() - started)

    def _add_seconds(self, name: str, seconds: float) -> None:
        """Add to the time of a step."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _tile_feed(self, step: Step, missing: Sequence[Box], halo: Reach) -> TileFeed:
        """Return the feed of blocks whose tiles are pulled as they are needed."""
        plan, means = self._plan, self._means
        check = None if step.name == STATISTICS else self._check_tile
        reads = {block: step.reads.get(block, (block,)) for block in missing}
        return TileFeed(plan.tiles(), means.cutouts(plan), reads, halo, means.pulls, means.keep_bytes, check)

    def _check_tile(self, tile: Box) -> None:
        """Refuse a tile that is not what was counted."""
        if tile in self._blocks:
            refuse_changed_tile(self._plan, self.exchange.store, tile)

    def _report(self, step: Step, outcome: Done | Failed, pull_s: float) -> None:
        """Log what came of a block; remember a failure."""
        if isinstance(outcome, Failed):
            level = logging.WARNING if step.sampled else logging.ERROR
            log.log(level, "%s: block %s failed: %s", step.name, outcome.box, outcome.reason)
            log.debug("%s", outcome.traceback)
            if step.vital:
                # a worker that died has no traceback: it had too little memory, or was ended
                remedy = "check the pipeline; job.log has the traceback" if outcome.traceback else _MORE_MEMORY
                raise DataError(
                    f"step {step.name}, block {outcome.box} and those around it",
                    outcome.reason.removesuffix("."),
                    f"The same command goes on where it was; {remedy}",
                )
            if not step.sampled:
                self.failed_blocks.append(FailedBlock(outcome.box, step.name, outcome.reason, outcome.traceback))
            return
        if not step.sampled:
            self.measured.add_block(step.name, outcome.box.voxels, outcome.seconds)
        write_s = outcome.result.write_s
        text = "%s: block %s pull_s=%.3f compute_s=%.3f write_s=%.3f peak_mib=%d"
        log.debug(text, step.name, outcome.box, pull_s, outcome.seconds - write_s, write_s, outcome.peak_bytes >> 20)


@contextmanager
def opened(plan: Plan, means: Means) -> Iterator[tuple[Passes, PoolRunner]]:
    """Start workers for a plan; yield its passes, and what runs them."""
    with BlockPool(means.cpus, set_up_worker, (plan.for_workers(),)) as pool:
        runner = PoolRunner(plan, pool, means)
        yield Passes(Workspace.on_disk(plan), runner, plan.pulled()), runner


def detect(
    plan: Plan,
    cpus: int,
    progress: Progress = silent,
    *,
    pulls: int = DEFAULT_PULLS,
    keep_bytes: int = _KEEP_BYTES,
    shared_store: SharedStore | None = None,
    shares_tiles: bool = False,
) -> Detection:
    """Run a pipeline over a box, or finish what an earlier run with the same plan, or parts of this one, began."""
    means = Means(cpus, progress, pulls, keep_bytes, shared_store, shares_tiles)
    with opened(plan, means) as (passes, runner):
        check_source(plan, runner.exchange)
        learned = passes.learn()
        forget_other_runs(plan, runner.exchange.store, learned.finding)
        detection = passes.detect(learned)
    for note in runner.exchange.notes(MEASURED):
        runner.measured.add(Measured.of_json(note))
    name, synapses = plan.pipeline.name, len(detection.table["id"])
    log.info("%d objects, %d of them synapses (%s)", detection.candidates, synapses, name)
    level = logging.WARNING if detection.chance.share >= MOST_BY_CHANCE else logging.INFO
    log.log(level, "%s", detection.chance.words(synapses))
    detection = replace(
        detection,
        images={channel: Image(plan.tiles(), means.cutouts(plan), channel) for channel in plan.pulled()},
        failed_blocks=sorted(runner.failed_blocks, key=lambda failed_block: failed_block.box),
        seconds=runner.seconds,
        resumed=runner.resumed,
        measured=runner.measured,
    )
    tissue, padded = detection.tissue, 100 * detection.padded
    log.info("searched %.4g um3 of tissue; %.3g %% of the box are padding", tissue.um3(plan.voxel_size_nm), padded)
    return detection
