"""A run on Spot machines, simulated: what interruptions cost in time, money and work done twice.

It runs nothing and asks nobody: shards, containers and phases are those of the plan, retries follow the rules that are
submitted, prices are those of the file. ``python -m batch.simulation`` prints the plan of a teravoxel,
and a table of simulated runs.

What is drawn from a seed: when a machine is taken (at a constant rate), how long a start takes (evenly within the range
that the plan assumes), and how long each block takes (log-normal round the middle of the plan's estimate). A block that
is finished is kept; those at work when the machine is taken are lost, and the child goes on with them in its next
attempt, on another machine, behind those that wait. A child whose attempts are used up ends its array; then somebody
resumes the run: the array is submitted again, and children that have nothing to do end at once. The report runs on
demand.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch.estimates import Phase, middle
from batch.imagined import TERAVOXEL, plan_over
from batch.plan import BatchPlan, duration
from batch.planning import Wishes, planned
from batch.prices import read_prices
from batch.pulls import pulled_by
from batch.retry import ATTEMPTS, MOST_ATTEMPTS, Compute, decide, strategy
from batch.shards import MOST_CHILDREN, indices_of
from nd_synapse.console.parser import IntOption, Parser
from nd_synapse.errors import NDSynapseError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.values import parse_block_size

__all__ = ["Outcome", "main", "simulate"]

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
    """What a simulated run came to.

    Parameters
    ----------
    seconds : float
        From its beginning to its end.
    machine_s : float
        What the children of both arrays took together: what is paid for.
    lost_s : float
        How much of that went into blocks that were not finished, and into starts after the first.
    attempts : int
        Attempts of all children.
    interruptions : int
        How many of them lost their machine.
    begun_twice : int
        Blocks that were begun again.
    resumes : int
        How often somebody had to resume the run.
    usd : float
        What it cost, by the middle of prices.
    """

    seconds: float
    machine_s: float
    lost_s: float
    attempts: int
    interruptions: int
    begun_twice: int
    resumes: int
    usd: float


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
    """One array: its children, what they have left to do, and the machines that they run on.

    Parameters
    ----------
    plan : BatchPlan
        The plan.
    phase : Phase
        Which of its phases.
    rate : float
        Interruptions a machine and hour.
    attempts : int
        How often a child is begun at most.
    random : Generator
        What is drawn comes from it.
    tally : _Tally
        It is added to.
    """

    def __init__(
        self, plan: BatchPlan, phase: Phase, rate: float, attempts: int, random: np.random.Generator, tally: _Tally
    ) -> None:
        self._compute = plan.compute
        self._phase = phase
        self._workers = plan.child.cpus
        self._rate_s = rate / 3600
        self._strategy = strategy(plan.compute, attempts)
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


def _block_seconds(plan: BatchPlan, phase: Phase, random: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return, for each child, what each of its blocks takes a worker."""
    pulled = pulled_by(plan.box, plan.block_size, plan.shards, plan.halo).voxels
    # a child that pulls more than the others takes longer
    child_s = middle(phase.work_s) * pulled / pulled.mean()
    seconds = []
    for shard in range(plan.shards):
        start, stop = indices_of(plan.blocks, shard, plan.shards)
        mean_s = float(child_s[shard]) * min(plan.child.cpus, stop - start) / (stop - start)
        seconds.append(random.lognormal(np.log(mean_s) - _SPREAD**2 / 2, _SPREAD, stop - start))
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
    arrays_s = sum(_Array(plan, phase, rate, attempts, random, tally).run() for phase in plan.phases[:-1])
    report_s = middle(plan.phases[-1].child_s)
    prices = read_prices()
    spot, on_demand = (
        sum(prices.per_second(plan.compute, machine.vcpus, machine.memory_mib, is_spot, disk_gib)) / 2
        for machine, disk_gib, is_spot in (
            (plan.child, plan.child_disk_gib, True),
            (plan.report, plan.report_disk_gib, False),
        )
    )
    return Outcome(
        seconds=arrays_s + report_s,
        machine_s=tally.machine_s,
        lost_s=tally.lost_s,
        attempts=tally.attempts,
        interruptions=tally.interruptions,
        begun_twice=tally.begun_twice,
        resumes=tally.resumes,
        usd=tally.machine_s * spot + report_s * on_demand + plan.cost.s3,
    )


def _parser() -> Parser:
    """Return the parser of the command line."""
    p = Parser(
        prog="python -m batch.simulation",
        description="Simulate a run on Spot machines, with interruptions.",
    )
    shape = ",".join(map(str, TERAVOXEL.shape))
    p.add_argument("--shape", default=shape, metavar="Z,Y,X", help="voxels of the volume; default: %(default)s")
    p.add_argument(
        "--channels",
        action=IntOption,
        least=1,
        most=1000,
        default=4,
        metavar="N",
        help="channels to pull; default: %(default)s",
    )
    p.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8", help="their type; default: %(default)s")
    p.add_argument("--compute", choices=("ec2", "fargate"), default="ec2", help="machines; default: %(default)s")
    p.add_argument(
        "--shards",
        action=IntOption,
        least=1,
        most=MOST_CHILDREN,
        metavar="N",
        help="children of each array; default: as planned",
    )
    p.add_argument(
        "--attempts",
        action=IntOption,
        least=1,
        most=MOST_ATTEMPTS,
        default=ATTEMPTS,
        metavar="N",
        help="of a child; default: %(default)s",
    )
    p.add_argument("--rates", type=_rates, default=RATES, metavar="R,R,...", help="interruptions a machine and hour")
    p.add_argument(
        "--seed",
        action=IntOption,
        least=0,
        most=2**32 - 1,
        default=0,
        metavar="N",
        help="what is drawn depends on it; default: %(default)s",
    )
    return p


def _rates(text: str) -> tuple[float, ...]:
    """Read rates."""
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        rates = (-1.0,)
    if not all(0 <= rate < 3600 for rate in rates):
        raise argparse.ArgumentTypeError(f"{text} is not rates from 0 to one a second, joined by commas")
    return rates


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
            f"{outcome.begun_twice:,} of {2 * plan.blocks:,}",
            f"{outcome.lost_s / outcome.machine_s:.2%}",
            f"{outcome.resumes:,}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    try:
        options = _parser().parse_args(argv)
        shape = parse_block_size("--shape", options.shape)
        plan = planned(
            plan_over(Box.of_shape(shape), options.channels, options.dtype),
            Wishes(compute=options.compute.upper(), shards=options.shards),
        )
        outcomes = [(rate, simulate(plan, rate, options.seed, options.attempts)) for rate in options.rates]
    except NDSynapseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{plan.as_text()}\n{_lines(plan, outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
