"""The plan that a worker process was started with: whatever runs on a block asks for it here.

It computes nothing; `blocks` and `features` do.
"""

from __future__ import annotations

from nd_synapse.detection.plan import Plan
from nd_synapse.errors import NDSynapseError

__all__ = ["plan_here", "setup"]

_PLAN: Plan | None = None


def setup(plan: Plan) -> None:
    """Keep the plan in this worker."""
    global _PLAN
    _PLAN = plan


def plan_here() -> Plan:
    """Return this worker's plan."""
    if _PLAN is None:
        raise NDSynapseError("a block in a worker", "the worker has no plan", "Report this as a defect")
    return _PLAN
