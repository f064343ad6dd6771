"""Everything that takes input, each as one function of a case, by what is fuzzed."""

from __future__ import annotations

from tests.fuzz.judge import Target
from tests.fuzz.targets import (
    batch_runs,
    blocks,
    bombs,
    detectors,
    evaluation,
    jobs,
    local_requests,
    local_server,
    object_store,
    replies,
    results_of_runs,
    stacks,
    tables,
    values,
)

__all__ = ["TARGETS"]

TARGETS: list[Target] = [
    *jobs.TARGETS,
    *values.TARGETS,
    *detectors.TARGETS,
    *stacks.TARGETS,
    *bombs.TARGETS,
    *replies.TARGETS,
    *local_server.TARGETS,
    *local_requests.TARGETS,
    *batch_runs.TARGETS,
    *object_store.TARGETS,
    *results_of_runs.TARGETS,
    *blocks.TARGETS,
    *tables.TARGETS,
    *evaluation.TARGETS,
]
