"""A run, its jobs as AWS describes them, and what else several tests of batch/ need."""

from __future__ import annotations

from typing import Any

from batch.requests import Resources, Run
from nd_synapse.geometry import Box

CHILD = Resources(4, 16384, 7200, 4, 8)
REPORT = Resources(2, 8192, 3600, 2)


def a_run(**others: Any) -> Run:
    """Return a run of 32 blocks in 4 shards, or another."""
    values: dict[str, Any] = {
        "run_id": "20260102T030405Z-beef",
        "queue": "nd-ec2",
        "job_definition": "nd-ec2:3",
        "compute": "EC2",
        "options": ("--host", "api.bossdb.io", "--col", "lab", "--exp", "slice", "--no-push"),
        "box": Box((0, 32), (0, 256), (0, 512)),
        "block_size": (8, 128, 128),
        "blocks": 32,
        "shards": 4,
        "child": CHILD,
        "report": REPORT,
        "bucket": "a-bucket",
        "prefix": "runs/20260102T030405Z-beef",
    }
    return Run(**{**values, **others})


def keys_of(run: Run) -> list[str]:
    """Return the keys of all blocks, in their order."""
    return ["_".join(map(str, block.start)) for block in run.box.tiles(run.block_size, aligned=True)]
