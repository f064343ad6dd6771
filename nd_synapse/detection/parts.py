"""A part of a detection that many machines do together, each some of its blocks.

What a part finishes it leaves on a shelf; `passes.detect` takes it from there, and does what remains. So parts only
save time: whatever of them is done, the result is that of one job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.blocks.pool import BlockPool
from nd_synapse.blocks.shared_store import Part, SharedStore
from nd_synapse.detection import blocks, worker
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.detection.passes import Passes
from nd_synapse.detection.plan import Plan
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding, Summary
from nd_synapse.progress import Progress, silent

__all__ = ["detect_part"]


@dataclass(frozen=True, slots=True)
class _Setting:
    """How a part is done."""

    shared_store: SharedStore
    cpus: int
    progress: Progress
    pulls: int
    keep_bytes: int

    @contextmanager
    def passes(self, plan: Plan) -> Iterator[Passes]:
        """Start workers for a plan."""
        with BlockPool(self.cpus, worker.setup, (plan.for_workers(),)) as pool:
            yield Passes(plan, pool, self.progress, self.pulls, self.keep_bytes, self.shared_store)


def detect_part(
    plan: Plan,
    part: Part,
    shared_store: SharedStore,
    cpus: int,
    progress: Progress = silent,
    *,
    pulls: int = DEFAULT_PULLS,
    keep_bytes: int = 2**62,
) -> list[FailedBlock]:
    """Do a part of one phase of a detection."""
    setting = _Setting(shared_store, cpus, progress, pulls, keep_bytes)
    mine = part.of(plan.blocks())
    if not mine:
        return []
    if part.phase == "statistics":
        return _count(plan, part, mine, setting)
    return _find(plan, part, mine, setting)


def _count(plan: Plan, part: Part, mine: Sequence[Box], setting: _Setting) -> list[FailedBlock]:
    """Count the blocks of a part, and leave their sum as well: nobody else needs each of them."""
    kind, key = _sums_kind(plan, part), str(part.index)
    with setting.passes(_near(plan, mine)) as passes:
        if passes.exchange.fetch_all(kind, [key]):
            return []
        passes.count(mine)
        passes.store.save(kind, key, blocks.packed_counts(passes.total(passes.among_whole(mine))))
        passes.exchange.leave((kind,), key)
        return passes.failed_blocks


def _find(plan: Plan, part: Part, mine: Sequence[Box], setting: _Setting) -> list[FailedBlock]:
    """Label and measure the blocks of a part."""
    near = _near(plan, mine)
    with setting.passes(near) as passes:
        finding = _finding_of_sums(plan, part, passes)
        if finding is not None:
            # they have the digests that what is pulled is compared with
            passes.count(mine)
            passes.find(finding, passes.among_whole(mine), wanted=False)
            return passes.failed_blocks
    # a part of the counting is not done: what is missing is counted here
    with setting.passes(plan) as passes:
        finding, _, _ = passes.learn()
    with setting.passes(near) as passes:
        passes.count(mine)
        passes.find(finding, passes.among_whole(mine), wanted=False)
        return passes.failed_blocks


def _finding_of_sums(plan: Plan, part: Part, passes: Passes) -> Finding | None:
    """Learn from the sums of all parts, as far as they are there."""
    kind = _sums_kind(plan, part)
    filled = [str(index) for index in range(part.count) if replace(part, index=index).of(passes.blocks)]
    if not passes.exchange.fetch_all(kind, filled):
        return None
    total: Summary = {}
    for key in filled:
        blocks.add_all_counts(total, passes.store.load(kind, key))
    # where every block failed there is nothing to learn from, which `Passes.learn` says
    return plan.pipeline.learn(total, plan.roles) if total else None


def _sums_kind(plan: Plan, part: Part) -> str:
    """Return what the sums of so many parts are called."""
    return f"sums-{plan.statistics_kind()}-{part.count}"


def _near(plan: Plan, mine: Sequence[Box]) -> Plan:
    """Return a plan that pulls no more than some blocks and their halo."""
    return replace(plan, region=Box.around(mine).grown(plan.halo, plan.box))
