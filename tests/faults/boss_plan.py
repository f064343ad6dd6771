"""A fault plan: what shall go wrong between a server and its clients, at which requests, and how often.

It decides only; `boss_faults` carries it out.

A plan is a JSON object with a list of rules and, for their chances, a seed::

    {"seed": 7, "rules": [
        {"fault": "503", "on": "cutout-get", "first": 3, "times": 2},
        {"fault": "reset", "on": "any", "probability": 0.05, "times": null, "done": true},
        {"fault": "stall", "on": "metadata", "seconds": 2.5}]}
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nd_synapse.errors import UsageError

__all__ = ["FAULTS", "KINDS", "FaultPlan", "Rule"]

KINDS = ("cutout-get", "cutout-post", "metadata")
"""Kinds of requests: reading voxels; writing or erasing them; everything else."""

FAULTS = {
    "429": "429, a page of HTML",
    "429-retry-after": "429, a page of HTML, with Retry-After",
    "quota": "429 in JSON: the monthly quota of BOSS, code 3004",
    "500": "500, a page of HTML",
    "502": "502, a page of HTML",
    "503": "503, a page of HTML",
    "504": "504, a page of HTML",
    "forbidden": "403 in JSON: the right was withdrawn, code 3001",
    "slow": "the first byte of the reply comes late",
    "stall": "half of the reply, silence, then the rest",
    "reset": "the connection is reset instead of a reply",
    "truncated": "half of the reply, then the connection ends",
    "wrong-length": "well-formed voxels, half as many",
    "wrong-dtype": "well-formed voxels, each twice as wide",
    "corrupted": "packed voxels with damaged bytes",
    "stale": "a cutout as it was before the last write to its channel",
    "restart": "the server is killed; the test starts it again",
}
"""What can go wrong."""

OF_VOXELS = frozenset({"wrong-length", "wrong-dtype", "corrupted", "stale"})
"""What can go wrong with voxels that are read, and with nothing else."""

_TIMED = frozenset({"slow", "stall", "429-retry-after"})
_LONGEST_S = 3600.0
_REMEDY = "See tests/faults/boss_plan.py for the form of a plan"


@dataclass(frozen=True, slots=True)
class Rule:
    """When one fault occurs."""

    fault: str
    """One of `FAULTS`."""
    on: str = "any"
    """One of `KINDS`, or ``any``."""
    first: int = 1
    """First request of that kind that may be hit, from 1. For ``stale``, only reads of channels written to count."""
    times: int | None = 1
    """How often it occurs at most; None for no limit."""
    probability: float = 1.0
    seconds: float = 0.0
    """Delay, silence, or the value of Retry-After."""
    done: bool = False
    """Whether the request is carried out, so that only its answer is lost."""

    def __post_init__(self) -> None:
        """Refuse an invalid rule."""
        problem = self._problem()
        if problem:
            raise UsageError(f"a rule of the fault plan, fault {self.fault[:40]!r}", problem, _REMEDY)

    def _problem(self) -> str:
        """Return what is wrong with the rule, or an empty text."""
        if self.fault not in FAULTS:
            return f"there are {', '.join(FAULTS)}"
        if self.on not in (*KINDS, "any"):
            return f"on is {self.on[:40]!r}; there are {', '.join(KINDS)} and any"
        if self.fault in OF_VOXELS and self.on not in ("cutout-get", "any"):
            return f"on is {self.on[:40]!r}, and it can only occur on cutout-get"
        if not _is_count(self.first) or not (self.times is None or _is_count(self.times)):
            return "first and times are whole numbers from 1 upwards, times may be null"
        if not _is_within(self.probability, 1.0):
            return "probability is a number from 0 to 1"
        if not _is_within(self.seconds, _LONGEST_S):
            return f"seconds is a number from 0 to {_LONGEST_S:.0f}"
        if self.fault in _TIMED and not self.seconds:
            return "it needs seconds, a number above 0"
        return "" if isinstance(self.done, bool) else "done is true or false"

    def may_hit(self, kind: str, reread: bool) -> bool:
        """Return whether the rule applies to a request."""
        if self.on not in ("any", kind) or (self.fault in OF_VOXELS and kind != "cutout-get"):
            return False
        return reread or self.fault != "stale"


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _is_within(number: object, most: float) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= most


class FaultPlan:
    """Rules and their counts; the first rule that hits a request decides. Used by one server, in one thread."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        self.rules = tuple(rules)
        self.hits: Counter[str] = Counter()
        """How often each fault occurred."""
        self._random = random.Random(seed)
        self._seen = [0] * len(self.rules)
        self._struck = [0] * len(self.rules)

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Read a plan."""
        try:
            plan = json.loads(text)
        except ValueError as error:
            raise UsageError("a fault plan", f"it is no JSON: {error}", _REMEDY) from error
        entries = plan.get("rules") if isinstance(plan, Mapping) else None
        if not isinstance(plan, Mapping) or not isinstance(entries, list) or set(plan) - {"seed", "rules"}:
            raise UsageError("a fault plan", "it is no object with rules (a list) and perhaps a seed", _REMEDY)
        seed = plan.get("seed", 0)
        if not isinstance(seed, int):
            raise UsageError("a fault plan", "its seed is no whole number", _REMEDY)
        return cls([_rule(entry) for entry in entries], seed)

    @property
    def has_stale(self) -> bool:
        """Whether earlier replies must be remembered."""
        return any(rule.fault == "stale" for rule in self.rules)

    def draw(self, kind: str, reread: bool) -> Rule | None:
        """Return the rule that hits the next request, if any."""
        chosen = None
        for number, rule in enumerate(self.rules):
            if not rule.may_hit(kind, reread):
                continue
            self._seen[number] += 1
            spent = rule.times is not None and self._struck[number] >= rule.times
            # the chance is drawn whatever came before, so that one rule does not shift the chances of another
            struck = self._random.random() < rule.probability
            if chosen is None and struck and not spent and self._seen[number] >= rule.first:
                chosen = rule
                self._struck[number] += 1
                self.hits[rule.fault] += 1
        return chosen


def _rule(entry: Any) -> Rule:
    """Read one rule."""
    known = {field.name for field in fields(Rule)}
    if not isinstance(entry, Mapping) or "fault" not in entry or set(entry) - known:
        raise UsageError("a rule of the fault plan", f"it is no object with fault and of {sorted(known)}", _REMEDY)
    if not all(isinstance(entry.get(name, ""), str) for name in ("fault", "on")):
        raise UsageError("a rule of the fault plan", "fault and on are texts", _REMEDY)
    return Rule(**entry)
