"""The phases of a run in their order; each begins when the one before has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ARRAYS", "LAST", "PHASES", "Phase", "Traits", "children_of", "phases_of"]

Phase = Literal["statistics", "detection", "contacts", "join", "objects", "push", "report"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What distinguishes a phase."""

    is_array: bool = True
    """Whether many children do it, each some of the blocks."""
    finishes: str = ""
    """First word of the kind of objects that says that a block is finished; empty where there is none."""
    pushes: bool = False
    """Whether only a run that pushes has it."""


PHASES: dict[Phase, Traits] = {
    "statistics": Traits(finishes="statistics"),
    "detection": Traits(finishes="parts"),
    "contacts": Traits(finishes="contacts"),
    "join": Traits(is_array=False, finishes="joined"),
    "objects": Traits(finishes="objects"),
    "push": Traits(pushes=True),
    "report": Traits(is_array=False),
}

ARRAYS: tuple[Phase, ...] = tuple(phase for phase, traits in PHASES.items() if traits.is_array)

LAST: Phase = "report"
"""It delivers, and does what is missing; the only one of a run without arrays."""


def phases_of(shards: int, pushes: bool) -> tuple[Phase, ...]:
    """Return the phases of a run in so many shards."""
    return (LAST,) if shards == 1 else tuple(phase for phase in PHASES if pushes or not PHASES[phase].pushes)


def children_of(phase: Phase, shards: int) -> int:
    """Return how many containers do a phase of a run in so many shards."""
    return shards if PHASES[phase].is_array else 1
