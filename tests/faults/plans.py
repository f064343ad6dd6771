"""Which faults are tried, alone and mixed; everything is drawn from seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.boss_plan import FAULTS, KINDS, OF_VOXELS, FaultPlan, Rule

SECONDS = {"slow": 0.7, "stall": 0.7, "429-retry-after": 1.0}
"""Longer than `BRISK.read_s`, so that the client gives the first attempt up."""

ERRORS = dict.fromkeys(FAULTS, 69) | {"forbidden": 77, "stale": 65}
"""Exit code of a run where a fault lasts."""

RETRIED = frozenset(FAULTS) - {"quota", "forbidden", "restart"}
"""Faults that do not show when they occur once. A restart may take longer than the attempts of these jobs."""


@dataclass(frozen=True)
class Case:
    """One fault, alone."""

    fault: str
    on: str
    lasting: bool
    done: bool = False

    def __str__(self) -> str:
        return f"{self.fault} {self.on} {'lasting' if self.lasting else 'once'}{', done' if self.done else ''}"

    def plan(self) -> FaultPlan:
        first = 1 if self.on == "cutout-post" or self.fault == "stale" else 3
        times = None if self.lasting else 1
        return FaultPlan(
            [Rule(self.fault, self.on, first, times, seconds=SECONDS.get(self.fault, 0.0), done=self.done)]
        )


def cases() -> list[Case]:
    """Return every fault on every kind of request that it can occur on, once and lasting."""
    found = []
    for fault in FAULTS:
        for on in ("cutout-get",) if fault in OF_VOXELS else KINDS:
            found += [Case(fault, on, lasting) for lasting in (False, True)]
            if fault in ("reset", "500", "504"):
                found.append(Case(fault, on, lasting=False, done=True))
    return found


def mixture(seed: int) -> tuple[FaultPlan, bool]:
    """Draw a plan of one to four rules, and whether the channel holds another mask before."""
    chance = random.Random(seed)
    rules = []
    for _ in range(chance.randint(1, 4)):
        fault = chance.choice(sorted(FAULTS))
        on = "cutout-get" if fault in OF_VOXELS else chance.choice([*KINDS, "any"])
        often = chance.random() < 0.5
        times = 1 if fault == "restart" else chance.choice([1, 1, 2, 3, 8, None])
        if fault in SECONDS:
            times = min(times or 2, 2)
        rules.append(
            Rule(
                fault,
                on,
                first=1 if often else chance.randint(1, 12),
                times=times,
                probability=chance.choice([0.1, 0.3, 0.6]) if often else 1.0,
                seconds=SECONDS.get(fault, 0.0),
                done=chance.random() < 0.5,
            )
        )
    return FaultPlan(rules, seed), chance.random() < 0.25
