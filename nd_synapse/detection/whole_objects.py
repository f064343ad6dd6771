"""Objects that are whole in the blocks of one part of a run: joined, chosen, measured, and in masks.

Labels and parts of objects are found before, in `parts`; a block that lacks them is labelled here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from nd_synapse.blocks.block_volume import BlockVolume, overlapping
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection.joining import by_block, later_neighbours
from nd_synapse.detection.numbering import number
from nd_synapse.detection.on_disk import PoolRunner
from nd_synapse.detection.padding import counted_around
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.runner import STATISTICS, Step
from nd_synapse.detection.windows import surroundings
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding

__all__ = ["WholeObjects"]

T = TypeVar("T")


class _OneMoreFailedError(Exception):
    """A block that the phases before did not leave cannot be done."""


class WholeObjects:
    """The phases after the detection; what is missing of those before is done where it is needed."""

    def __init__(self, plan: Plan, part: Part, passes: Passes, runner: PoolRunner, finding: Finding) -> None:
        self._plan, self._part, self._passes, self._runner = plan, part, passes, runner
        self.finding = finding
        step = passes.finding(finding)
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

    def identity(self) -> str:
        """Return `Detection.identity`, as far as it is known which blocks failed."""
        return self._passes.kinds(self.finding).identity

    def _do(self, some: Sequence[Box]) -> None:
        """Do the phase on blocks that did not fail."""
        if self._part.phase == "contacts":
            self._touch(some, wanted=False)
            self._sample(self._part.of(self._passes.fields()))
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
            self._passes.count(counted_around(self._plan, missing, self.finding))
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
        passes, store = self._passes, self._runner.exchange.store
        self._join(some)
        finding, kinds = self._raised(), self._kinds
        missing = self._runner.missing(passes.gathering(kinds), some)
        members = (store.load(kinds.joined, key_of(block))["members"] for block in missing)
        self._find([*missing, *(owner for ids in members for owner, _ in by_block(self._plan, ids))])
        passes.gather(kinds, finding, missing)

    def _measure(self, some: Sequence[Box]) -> None:
        """Have the features of the objects of blocks."""
        passes, kinds = self._passes, self._kinds
        # the rows are those of the whole run only when all blocks are known; the places are what is needed here
        numbered = number(self._runner.exchange.store, kinds, some, self._plan.box)
        # voxels are compared with what was counted, and padding is in what was counted around them
        reach = surroundings(self._plan.reach)
        regions = [box.grown(reach, self._plan.box) for boxes in numbered.centres.values() for box in boxes]
        self._count_around(regions)
        passes.measure(kinds, self.finding, numbered, some)

    def _raised(self) -> Finding:
        """Return the finding with the strictness that depends on what chance makes in all fields."""
        if not self._plan.pipeline.raises_strictness:
            return self.finding
        self._sample(self._passes.fields())
        return self._passes.chance(self.finding).raised(self.finding)

    def _sample(self, fields: Sequence[Box]) -> None:
        """Have what chance makes in some fields."""
        step = self._passes.sampling(self.finding)
        missing = self._runner.missing(step, fields)
        if missing:
            self._count_around([field.grown(step.halo or (0, 0, 0), self._plan.box) for field in missing])
            self._passes.detect_in(self.finding, missing)

    def _count_around(self, regions: Iterable[Box]) -> None:
        """Have what was counted in the blocks of some regions, and in those that decide what is padding there."""
        self._passes.count(sorted({near for region in regions for near in self._around(region)}))

    def _around(self, region: Box) -> list[Box]:
        """Return the blocks of which it has to be known what was counted, to measure in a region."""
        own = list(overlapping(region, self._plan.box, self._plan.block_size))
        return [*own, *counted_around(self._plan, [region], self.finding)] if "padding" in self.finding else own
