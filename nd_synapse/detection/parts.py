"""A part of a detection that many machines do together, each some of its blocks.

What a part finishes it leaves in the shared block store; `detect` takes it from there, and does what remains. So parts
only save time: whichever of them are done, the result is that of one job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from nd_synapse.blocks.block_volume import BlockVolume, overlapping
from nd_synapse.blocks.grid import DEFAULT_PULLS, key_of
from nd_synapse.blocks.shared_store import Part, SharedStore
from nd_synapse.detection.counted import Counted
from nd_synapse.detection.joining import by_block, later_neighbours
from nd_synapse.detection.numbering import number
from nd_synapse.detection.on_disk import MEASURED, Means, PoolRunner, opened
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.detection.padding import seen_around
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.runner import STATISTICS, Step
from nd_synapse.detection.windows import Reach, surroundings
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding
from nd_synapse.progress import Progress, silent

__all__ = ["MasksOfPart", "detect_part", "masks_of_part"]

T = TypeVar("T")


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
        _WholeObjects(plan, part, passes, runner).do(mine)
        _leave_speeds(part, runner)
    return []


class MasksOfPart:
    """Masks of a run that are whole in some blocks."""

    def __init__(self, passes: Passes, runner: PoolRunner, whole: _WholeObjects, blocks: Sequence[Box]) -> None:
        self.exchange = runner.exchange
        self._passes, self._whole, self._blocks = passes, whole, blocks

    @property
    def identity(self) -> str:
        """See `Detection.identity`; one block more that fails while masks are made changes it."""
        return self._passes.kinds(self._whole.finding).tail

    def volumes(self, names: Sequence[str]) -> dict[str, BlockVolume]:
        """Make masks."""
        return self._whole.masks(self._blocks, names)


@contextmanager
def masks_of_part(plan: Plan, part: Part, boxes: Sequence[Box], means: Means) -> Iterator[MasksOfPart]:
    """Yield the masks of a run, whole in some boxes; they are there as long as the context lasts."""
    needed = sorted({block for box in boxes for block in overlapping(box, plan.box, plan.block_size)})
    with opened(plan, means) as (passes, runner):
        yield MasksOfPart(passes, runner, _WholeObjects(plan, part, passes, runner), needed)


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
        if finding is not None and _fetch_counted(plan, _counted(plan, mine, finding), runner):
            return _find_with(finding, plan, part, passes, runner)
    # a part of the counting is not done, or lost: what is missing is counted here, where all its surroundings are
    with opened(plan, means) as (passes, _):
        finding = passes.learn().finding
    with opened(near, means) as (passes, runner):
        return _find_with(finding, plan, part, passes, runner)


def _find_with(finding: Finding, plan: Plan, part: Part, passes: Passes, runner: PoolRunner) -> list[FailedBlock]:
    """Label and measure blocks of which all that they need is counted; return which of them failed."""
    mine = part.of(plan.blocks())
    passes.count(_counted(plan, mine, finding))
    passes.find(finding, passes.whole(mine), wanted=False)
    _leave_speeds(part, runner)
    return [failed_block for failed_block in runner.failed_blocks if failed_block.box in mine]


class _OneMoreFailedError(Exception):
    """A block that the phases before did not leave cannot be done."""


class _WholeObjects:
    """The phases after the detection; what is missing of those before is done where it is needed."""

    def __init__(self, plan: Plan, part: Part, passes: Passes, runner: PoolRunner) -> None:
        self._plan, self._part, self._passes, self._runner = plan, part, passes, runner
        found = _finding_of_sums(plan, part, runner, passes.workspace)
        self.finding: Finding = passes.learn().finding if found is None else found
        step = passes.finding(self.finding)
        runner.adopt_failures(Step(STATISTICS, (plan.statistics_kind(),)), plan.blocks())
        runner.adopt_failures(step, plan.blocks())

    def do(self, mine: Sequence[Box]) -> None:
        """Do the phase on some blocks."""
        self._settled(self._do, mine)

    def masks(self, mine: Sequence[Box], names: Sequence[str]) -> dict[str, BlockVolume]:
        """Return masks that are whole in some blocks."""
        return self._settled(partial(self._masks, names), mine)

    def _settled(self, work: Callable[[list[Box]], T], mine: Sequence[Box]) -> T:
        """Do work on blocks that did not fail; one that fails only here changes what the others are called."""
        while True:
            self._kinds = self._passes.kinds(self.finding)
            with suppress(_OneMoreFailedError):
                return work(self._passes.whole(mine))

    def _do(self, some: Sequence[Box]) -> None:
        """Do the phase on blocks that did not fail."""
        if self._part.phase == "contacts":
            self._touch(some, wanted=False)
        elif self._part.phase == "join":
            self._join(some)
        else:
            self._gather(some)
            self._measure(some)

    def _masks(self, names: Sequence[str], some: Sequence[Box]) -> dict[str, BlockVolume]:
        """Return masks that are whole in blocks that did not fail."""
        self._join(some)
        self._find(some)
        store = self._runner.exchange.store
        joined = (store.load(self._kinds.joined, key_of(block))["objects"] for block in some)
        owners = sorted({*some, *(owner for ids in joined for owner, _ in by_block(self._plan, ids))})
        self._gather(owners)
        kinds = replace(self._kinds, part=f"-{self._part.index}-of-{self._part.count}")
        number(store, kinds, owners, self._plan.box)
        return self._passes.write_masks(kinds, names, some).volumes

    def _find(self, some: Iterable[Box]) -> None:
        """Have parts and faces of blocks."""
        missing = self._runner.missing(self._passes.finding(self.finding), self._passes.whole(sorted(set(some))))
        if missing:
            self._passes.count(_counted(self._plan, missing, self.finding))
            self._passes.find(self.finding, missing)
            if self._passes.kinds(self.finding) != self._kinds:
                raise _OneMoreFailedError

    def _touch(self, some: Sequence[Box], wanted: bool = True) -> None:
        """Have what touches from blocks to those that come after them; without `wanted`, in the shared store."""
        missing = self._runner.missing(self._passes.touching(self._kinds, wanted), some)
        self._find(near for block in missing for near in (block, *self._beside(block)))
        self._passes.touch(self._kinds, self._passes.whole(missing))

    def _beside(self, block: Box) -> list[Box]:
        """Return the blocks beside one that come after it."""
        return [beside for _, beside in later_neighbours(self._plan, block)]

    def _join(self, some: Sequence[Box]) -> None:
        """Have what is joined in blocks."""
        if self._runner.missing(self._passes.joining(self._kinds), some):
            self._touch(self._passes.whole())
            self._passes.join(self._kinds)

    def _gather(self, some: Sequence[Box]) -> None:
        """Have the objects of blocks."""
        passes, kinds, store = self._passes, self._kinds, self._runner.exchange.store
        self._join(some)
        missing = self._runner.missing(passes.gathering(kinds), some)
        members = (store.load(kinds.joined, key_of(block))["members"] for block in missing)
        self._find([*missing, *(owner for ids in members for owner, _ in by_block(self._plan, ids))])
        passes.gather(kinds, self.finding, missing)

    def _measure(self, some: Sequence[Box]) -> None:
        """Have the features of the objects of blocks."""
        passes, kinds = self._passes, self._kinds
        # the rows are those of the whole run only when all blocks are known; the places are what is needed here
        numbered = number(self._runner.exchange.store, kinds, some, self._plan.box)
        # voxels are compared with what was counted, and padding is in what was counted around them
        reach = surroundings(self._plan.reach)
        regions = [box.grown(reach, self._plan.box) for boxes in numbered.centres.values() for box in boxes]
        passes.count(sorted({near for region in regions for near in self._around(region)}))
        passes.measure(kinds, self.finding, numbered, some)

    def _around(self, region: Box) -> list[Box]:
        """Return the blocks of which it has to be known what was counted, to measure in a region."""
        own = list(overlapping(region, self._plan.box, self._plan.block_size))
        return [*own, *_counted(self._plan, [region], self.finding)] if "padding" in self.finding else own


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


def _counted(plan: Plan, mine: Sequence[Box], finding: Finding) -> list[Box]:
    """Return some blocks, and where there is padding those whose padding may show in them."""
    if "padding" not in finding:
        return list(mine)
    return list(overlapping(Box.around(mine).grown(seen_around(plan.halo), plan.box), plan.box, plan.block_size))


def _near(plan: Plan, mine: Sequence[Box], halo: Reach) -> Plan:
    """Return a plan that pulls no more than some blocks and their halo."""
    return replace(plan, region=Box.around(mine).grown(halo, plan.box))
