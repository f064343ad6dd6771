"""Simulate a run on Spot machines, with interruptions: ``python -m benchmarks.spot`` prints a plan and a table.

Shards, containers and phases are those of the plan, retries follow the submitted rules, prices are those of the file.
Drawn from a seed: when a machine is taken (at a constant rate), how long a start takes (evenly within the range of the
plan), and how long each block takes (log-normal around the middle of the plan's estimate). A finished block is kept;
blocks in work when the machine is taken are lost, and the child starts again behind those that wait. A child whose
attempts are used up fails its array; then the run is resumed: the array is submitted again, and children that have
nothing to do end at once. What is no array runs on demand.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.estimates import Phase, middle
from batch.plan import BatchPlan, duration
from batch.planning import Wishes, planned
from batch.prices import read_prices
from batch.retry import ATTEMPTS, COMPUTE, TIMED_OUT, Compute, retry_strategy
from benchmarks.imagined import TERAVOXEL, plan_over
from nd_synapse.blocks.shared_store import Part
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["Outcome", "arrays_of", "main", "simulate"]

RATES = (0.0, 0.01, 0.05, 0.2, 1.0, 3.0, 5.0)
"""Interruptions a machine and hour; 20 in a hundred a *month*, which is much, are 0.0003."""

_SPREAD = 0.3
"""Standard deviation of the logarithm of a block's time."""

_RESUME_S = 3600.0
"""How long it takes somebody to see that an array failed."""

_MOST_ROUNDS = 100

_TAKEN: dict[Compute, str] = {
    "EC2": "Host EC2 (instance i-0123456789abcdef0) terminated.",
    "FARGATE": "Your Spot Task was interrupted.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a simulated run came to."""

    seconds: float
    """From its beginning to its end."""
    machine_s: float
    """What the children of all arrays took together: what is paid for."""
    lost_s: float
    """How much of that went into blocks that were not finished, and into starts after the first."""
    attempts: int
    """Attempts of all children."""
    interruptions: int
    """How many of them lost their machine."""
    begun_twice: int
    """Blocks that were begun again."""
    resumes: int
    """How often somebody had to resume the run."""
    usd: float
    """What it cost, by the middle of prices."""


@dataclass(slots=True)
class _Tally:
    """What adds up while a run is simulated."""

    machine_s: float = 0.0
    lost_s: float = 0.0
    attempts: int = 0
    interruptions: int = 0
    begun_twice: int = 0
    resumes: int = 0


class _Array:
    """One array: its children, what they have left to do, and the machines that they run on."""

    def __init__(
        self, plan: BatchPlan, phase: Phase, rate: float, attempts: int, random: np.random.Generator, tally: _Tally
    ) -> None:
        self._compute = plan.compute
        self._phase = phase
        self._workers = plan.child.cpus
        self._rate_s = rate / 3600
        self._strategy = retry_strategy(plan.compute, attempts)
        self._random = random
        self._tally = tally
        self._left = _block_seconds(plan, phase, random)
        self._begun: set[int] = set()

    def run(self) -> float:
        """Run until all blocks are done; return how long that took, resumes included."""
        now = 0.0
        for _ in range(_MOST_ROUNDS):
            now, failed = self._round(now)
            if not failed:
                return now
            self._tally.resumes += 1
            now += _RESUME_S
        raise UsageError(
            f"{self._rate_s * 3600:g} interruptions a machine and hour",
            f"the run was resumed {_MOST_ROUNDS} times and is not done",
            "Give a lower rate, or more shards",
        )

    def _round(self, now: float) -> tuple[float, int]:
        """Run the array once; return when its last child ended, and how many failed."""
        waiting = deque((child, 1) for child in range(len(self._left)))
        running: list[tuple[float, int, int, bool]] = []
        failed = 0
        while waiting or running:
            while waiting and len(running) < self._phase.at_once:
                child, attempt = waiting.popleft()
                had_s, is_taken = self._attempt(child)
                heapq.heappush(running, (now + had_s, child, attempt, is_taken))
            now, child, attempt, is_taken = heapq.heappop(running)
            if not is_taken:
                continue
            if decide(self._strategy, None, None, _TAKEN[self._compute], attempt) == "RETRY":
                waiting.append((child, attempt + 1))
            else:
                failed += 1
        return now, failed

    def _attempt(self, child: int) -> tuple[float, bool]:
        """Begin a child; keep what it finishes; return how long it has its machine, and whether that is taken then."""
        blocks = self._left[child]
        start_s = self._random.uniform(*self._phase.fixed_s)
        ends = start_s + _ends(blocks, self._workers)
        whole_s = float(ends.max(initial=start_s))
        taken_s = self._random.exponential(1 / self._rate_s) if self._rate_s else np.inf
        had_s = min(whole_s, taken_s)
        is_lost = ends > taken_s
        at_work = is_lost & (ends - blocks < taken_s)
        self._left[child] = blocks[is_lost]
        tally = self._tally
        tally.attempts += 1
        tally.interruptions += taken_s < whole_s
        tally.machine_s += had_s
        tally.begun_twice += int(at_work.sum())
        tally.lost_s += float((taken_s - (ends - blocks))[at_work].sum()) / self._workers
        if child in self._begun:
            tally.lost_s += min(start_s, had_s)
        self._begun.add(child)
        return had_s, taken_s < whole_s


def arrays_of(plan: BatchPlan) -> list[Phase]:
    """Return the phases that are arrays."""
    return [phase for phase in plan.phases if phase.jobs > 1]


def _block_seconds(plan: BatchPlan, phase: Phase, random: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return, for each child, what each of its blocks takes a worker."""
    seconds = []
    for shard in range(phase.jobs):
        blocks = len(Part("detection", shard, phase.jobs).of(range(plan.blocks)))
        mean_s = middle(phase.work_s) * min(plan.child.cpus, blocks) / blocks
        seconds.append(random.lognormal(np.log(mean_s) - _SPREAD**2 / 2, _SPREAD, blocks))
    return seconds


def _ends(blocks: NDArray[np.float64], workers: int) -> NDArray[np.float64]:
    """Return when each block ends, blocks being dealt out to the workers in turn."""
    ends = np.empty_like(blocks)
    for worker in range(workers):
        ends[worker::workers] = np.cumsum(blocks[worker::workers])
    return ends


def simulate(plan: BatchPlan, rate: float, seed: int = 0, attempts: int = ATTEMPTS) -> Outcome:
    """Simulate a run."""
    if plan.shards == 1:
        raise UsageError("a simulation of a single job", "it runs on demand", "Give a larger volume, or more shards")
    random = np.random.default_rng(seed)
    tally = _Tally()
    arrays_s = sum(_Array(plan, phase, rate, attempts, random, tally).run() for phase in arrays_of(plan))
    single_s = sum(middle(phase.child_s) for phase in plan.phases if phase.jobs == 1)
    prices = read_prices()
    spot, on_demand = (
        sum(prices.per_second(plan.compute, machine.vcpus, machine.memory_mib, is_spot, disk_gib)) / 2
        for machine, disk_gib, is_spot in (
            (plan.child, plan.child_disk_gib, True),
            (plan.report, plan.report_disk_gib, False),
        )
    )
    return Outcome(
        seconds=arrays_s + single_s,
        machine_s=tally.machine_s,
        lost_s=tally.lost_s,
        attempts=tally.attempts,
        interruptions=tally.interruptions,
        begun_twice=tally.begun_twice,
        resumes=tally.resumes,
        usd=tally.machine_s * spot + single_s * on_demand + plan.cost.s3,
    )


def _lines(plan: BatchPlan, outcomes: Sequence[tuple[float, Outcome]]) -> str:
    """Return the table."""
    rows = ["| machine-hour | time | USD | attempts | interrupted | begun twice | time lost | resumed |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for rate, outcome in outcomes:
        cells = (
            f"{rate:g}",
            duration(outcome.seconds),
            f"{outcome.usd:,.2f}",
            f"{outcome.attempts:,}",
            f"{outcome.interruptions:,}",
            f"{outcome.begun_twice:,} of {len(arrays_of(plan)) * plan.blocks:,}",
            f"{outcome.lost_s / outcome.machine_s:.2%}",
            f"{outcome.resumes:,}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def decide(
    strategy: Mapping[str, Any], exit_code: int | None, reason: str | None, status_reason: str | None, attempt: int
) -> str:
    """Return what Batch does after a failed attempt, RETRY or EXIT, by its documented rules."""
    if attempt >= strategy["attempts"] or status_reason == TIMED_OUT:
        return "EXIT"
    end = {"onExitCode": exit_code, "onReason": reason, "onStatusReason": status_reason}
    for rule in strategy["evaluateOnExit"]:
        if all(_matches(pattern, end[name]) for name, pattern in rule.items() if name != "action"):
            return str(rule["action"])
    return "RETRY"


def _matches(pattern: str, found: str | int | None) -> bool:
    """Apply a pattern; a lone ``*`` matches a reason that is missing, too."""
    text = "" if found is None else str(found)
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.spot", description="Simulate a run on Spot machines.")
    p.add_argument("--shape", type=int, nargs=3, default=TERAVOXEL.shape, metavar=("Z", "Y", "X"), help="voxels")
    p.add_argument("--compute", choices=COMPUTE, default="EC2", help="default: %(default)s")
    p.add_argument("--shards", type=int, help="children of each array; default: as planned")
    p.add_argument("--attempts", type=int, default=ATTEMPTS, help="of a child; default: %(default)s")
    p.add_argument("--rates", type=float, nargs="+", default=RATES, help="interruptions a machine and hour")
    p.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = p.parse_args(argv)
    wishes = Wishes(compute=options.compute, shards=options.shards)
    plan = planned(plan_over(Box.of_shape(options.shape)), wishes)
    outcomes = [(rate, simulate(plan, rate, options.seed, options.attempts)) for rate in options.rates]
    sys.stdout.write(f"{plan.as_text()}\n{_lines(plan, outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
