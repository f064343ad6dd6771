"""A part of a detection that many machines do together, each some of its blocks.

What a part finishes it leaves in the shared block store; `detect` takes it from there, and does what remains. So parts
only save time: whichever of them are done, the result is that of one job. Counting blocks and finding parts of objects
are here; what comes after them is in `whole_objects`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nd_synapse.blocks.block_volume import BlockVolume, overlapping
from nd_synapse.blocks.grid import DEFAULT_PULLS, key_of
from nd_synapse.blocks.shared_store import Part, SharedStore
from nd_synapse.detection.counted import Counted
from nd_synapse.detection.on_disk import MEASURED, Means, PoolRunner, opened
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.detection.padding import counted_around
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.runner import STATISTICS
from nd_synapse.detection.whole_objects import WholeObjects
from nd_synapse.detection.windows import Reach
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding
from nd_synapse.progress import Progress, silent

__all__ = ["MasksOfPart", "detect_part", "masks_of_part"]


def detect_part(
    plan: Plan,
    part: Part,
    shared_store: SharedStore,
    cpus: int,
    progress: Progress = silent,
    *,
    pulls: int = DEFAULT_PULLS,
    keep_bytes: int = 2**62,
    shares_tiles: bool = False,
) -> list[FailedBlock]:
    """Do a part of one phase of a detection."""
    mine = part.of(plan.blocks())
    if not mine:
        return []
    means = Means(cpus, progress, pulls, keep_bytes, shared_store, shares_tiles)
    if part.phase == "statistics":
        return _count(plan, part, mine, means)
    if part.phase == "detection":
        return _find(plan, part, mine, means)
    with opened(plan, means) as (passes, runner):
        _whole_objects(plan, part, passes, runner).do(mine)
        _leave_speeds(part, runner)
    return []


class MasksOfPart:
    """Masks of a run that are whole in some blocks."""

    def __init__(self, passes: Passes, runner: PoolRunner, whole: WholeObjects, blocks: Sequence[Box]) -> None:
        self.exchange = runner.exchange
        self._passes, self._whole, self._blocks = passes, whole, blocks

    def identity(self) -> str:
        """Return `Detection.identity`; one block more that fails while masks are made changes it."""
        return self._whole.identity()

    def volumes(self, names: Sequence[str]) -> dict[str, BlockVolume]:
        """Make masks."""
        return self._whole.masks(self._blocks, names)


@contextmanager
def masks_of_part(plan: Plan, part: Part, boxes: Sequence[Box], means: Means) -> Iterator[MasksOfPart]:
    """Yield the masks of a run, whole in some boxes; they are there as long as the context lasts."""
    needed = sorted({block for box in boxes for block in overlapping(box, plan.box, plan.block_size)})
    with opened(plan, means) as (passes, runner):
        yield MasksOfPart(passes, runner, _whole_objects(plan, part, passes, runner), needed)


def _count(plan: Plan, part: Part, mine: Sequence[Box], means: Means) -> list[FailedBlock]:
    """Count the blocks of a part, and leave their sum as well: nobody else needs each of them."""
    kind, key = _sums_kind(plan, part), str(part.index)
    with opened(_near(plan, mine, plan.counted_halo), means) as (passes, runner):
        if runner.exchange.fetch_all(kind, [key]):
            return []
        passes.count(mine)
        runner.exchange.store.save(kind, key, passes.total(passes.whole(mine)).packed())
        runner.exchange.leave((kind,), key)
        _leave_speeds(part, runner)
        return runner.failed_blocks


def _find(plan: Plan, part: Part, mine: Sequence[Box], means: Means) -> list[FailedBlock]:
    """Label and measure the blocks of a part."""
    near = _near(plan, mine, plan.halo)
    with opened(near, means) as (passes, runner):
        finding = _finding_of_sums(plan, part, runner, passes.workspace)
        # what is pulled is compared with their digests, and padding is in what was counted around them
        if finding is not None and _fetch_counted(plan, counted_around(plan, mine, finding), runner):
            return _find_with(finding, plan, part, passes, runner)
    # a part of the counting is not done, or lost: what is missing is counted here, where all its surroundings are
    with opened(plan, means) as (passes, _):
        finding = passes.learn().finding
    with opened(near, means) as (passes, runner):
        return _find_with(finding, plan, part, passes, runner)


def _find_with(finding: Finding, plan: Plan, part: Part, passes: Passes, runner: PoolRunner) -> list[FailedBlock]:
    """Label and measure blocks of which all that they need is counted; return which of them failed."""
    mine = part.of(plan.blocks())
    passes.count(counted_around(plan, mine, finding))
    passes.find(finding, passes.whole(mine), wanted=False)
    _leave_speeds(part, runner)
    return [failed_block for failed_block in runner.failed_blocks if failed_block.box in mine]


def _whole_objects(plan: Plan, part: Part, passes: Passes, runner: PoolRunner) -> WholeObjects:
    """Return what does the phases after the detection, with what was learned of all blocks."""
    found = _finding_of_sums(plan, part, runner, passes.workspace)
    return WholeObjects(plan, part, passes, runner, passes.learn().finding if found is None else found)


def _leave_speeds(part: Part, runner: PoolRunner) -> None:
    """Leave how fast a part was, unless it did nothing."""
    if runner.measured.passes:
        key = f"{part.phase}-{part.index}-of-{part.count}"
        runner.exchange.leave_note(MEASURED, key, runner.measured.as_json())


def _fetch_counted(plan: Plan, some: Sequence[Box], runner: PoolRunner) -> bool:
    """Fetch what was counted in some blocks, but those that failed; return False if one is missing."""
    kind = plan.statistics_kind()
    failed = {failed_block.box for failed_block in runner.exchange.failed_blocks(kind, STATISTICS, some)}
    return runner.exchange.fetch_all(kind, [key_of(block) for block in some if block not in failed])


def _finding_of_sums(plan: Plan, part: Part, runner: PoolRunner, workspace: Workspace) -> Finding | None:
    """Learn from the sums of all parts, as far as they are there."""
    kind = _sums_kind(plan, part)
    filled = [str(index) for index in range(part.count) if replace(part, index=index).of(plan.blocks())]
    if not runner.exchange.fetch_all(kind, filled):
        return None
    total = Counted()
    for key in filled:
        total.add(runner.exchange.store.load(kind, key))
    # where every block failed there is nothing to learn from, which `Passes.learn` reports
    return total.learn(workspace) if total.everything else None


def _sums_kind(plan: Plan, part: Part) -> str:
    """Return the name of the sums of the parts."""
    return f"sums-{plan.statistics_kind()}-{part.count}"


def _near(plan: Plan, mine: Sequence[Box], halo: Reach) -> Plan:
    """Return a plan that pulls no more than some blocks and their halo."""
    return replace(plan, region=Box.around(mine).grown(halo, plan.box))
