"""A fault plan: which faults occur between a server and its clients, at which requests, and how often.

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
from dataclasses import dataclass

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

    def may_hit(self, kind: str, reread: bool) -> bool:
        """Return whether the rule applies to a request."""
        if self.on not in ("any", kind) or (self.fault in OF_VOXELS and kind != "cutout-get"):
            return False
        return reread or self.fault != "stale"


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
        plan = json.loads(text)
        return cls([Rule(**rule) for rule in plan["rules"]], plan.get("seed", 0))

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
