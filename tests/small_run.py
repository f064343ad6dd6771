"""The content of the run.json of a small run that ended."""

from __future__ import annotations

from typing import Any

RUN: dict[str, Any] = {
    "schema": "nd-synapse/run/1",
    "asked": {
        "host": "http://127.0.0.1:8080",
        "collection": "c",
        "experiment": "e",
        "z_range": [0, 4],
        "y_range": [0, 24],
        "x_range": [0, 24],
        "pipeline": "nomads-unsupervised",
        "parameters": {"min_voxels": "1"},
        "bucket": None,
        "push": True,
        "out_collection": "o",
        "out_experiment": "p",
    },
    "source": {"voxel_size_nm_zyx": [70.0, 100.0, 100.0]},
    "roles": {"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"},
    "finding": {"threshold": 0.5},
    "channels": {"one": {"mean": 12.5, "sd": 3.0}},
    "masks": {"All": "nomads-unsupervised-predictions"},
    "voxels": {"All": 3},
    "counts": {"synapses": 1},
    "failed_blocks": [{"box": "z 0:1 y 0:2 x 0:2"}],
    "files": {"synapses.csv": {"bytes": 3, "sha256": "00"}},
    "in_boss": {"All": "o/p/q, 3 voxels"},
    "failures": [],
}
