"""The speeds of a run that ended, for the plan of another."""

from __future__ import annotations

import json
from pathlib import Path

from nd_synapse.detection.speeds import Measured, Speeds
from nd_synapse.errors import DataError
from nd_synapse.files.reading import reading
from nd_synapse.job.deliverables import MARKER

__all__ = ["read_speeds"]


def read_speeds(run: Path) -> Speeds:
    """Read the speeds in a run.json, or in that of a result folder; refuse one in which none were measured."""
    path = run / MARKER if run.is_dir() else run
    with reading(path):
        measured = Measured.of_json(json.loads(path.read_bytes())["speeds"])
    if measured.worker_voxels_s is None:
        found = "it did not count or search a block: an earlier run of the same folder had"
        raise DataError(str(path), found, "Name a run that began anew, or run one with --fresh")
    return measured.speeds(str(path))
