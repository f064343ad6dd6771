"""run.json: the request and the results of a run, written last and read again by verify and upload."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nd_synapse.detection.outcome import Brightness
from nd_synapse.errors import DataError, UsageError, few
from nd_synapse.files.reading import reading
from nd_synapse.geometry import Box
from nd_synapse.job.deliverables import MARKER
from nd_synapse.job.job import in_boss, mask_names, results_key
from nd_synapse.job.outcome import Outcome
from nd_synapse.job.results import write_file
from nd_synapse.redaction import redacted_values
from nd_synapse.sources.location import Location
from nd_synapse.version import __version__

__all__ = [
    "MOST_BYTES",
    "Outline",
    "RunFile",
    "outline_in",
    "outline_of",
    "read_run_file",
    "run_json",
    "versions",
    "write_run_json",
]

_SCHEMA = "nd-synapse/run/1"
MOST_BYTES = 2**28
"""Largest run.json: one with 100,000 failed blocks, each with its traceback, has 118 MiB."""

_LIBRARIES = ("intern", "numpy", "scipy", "connected-components-3d", "matplotlib", "boto3", "tifffile")

_PROBLEMS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What Python raises where JSON is damaged, lacks a field, or has one of another type."""


def versions() -> dict[str, str]:
    """Return the versions of this program and of the libraries that it computes with."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"nd-synapse": __version__, "python": platform.python_version(), **libraries}


def run_json(outcome: Outcome, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json, without the token."""
    job, detection = outcome.job, outcome.detection
    return {
        "asked": job.requested(),
        "source": outcome.source.describe(),
        "roles": outcome.roles,
        "files": dict(files),
        "masks": mask_names(job.pipeline.name, list(detection.masks)),
        "channels": {name: {"mean": b.mean, "sd": b.sd} for name, b in detection.brightness.items()},
        "finding": detection.finding,
        "tissue": {
            "um3": detection.tissue.um3(outcome.source.frame.voxel_size_nm),
            "voxels": detection.tissue.total,
            "fraction_of_box": detection.tissue.fraction,
            "padding_of_box": detection.padded,
        },
        "density": detection.density.as_json(),
        "counts": {
            "blocks": detection.blocks,
            "candidates": detection.candidates,
            "synapses": outcome.synapses,
            "by_mask": {name: detection.objects(name) for name in detection.masks},
            "by_class": outcome.classes,
        },
        "registration": None if outcome.registration is None else outcome.registration.as_json(),
        "chance": detection.chance.record(outcome.synapses),
        "voxels": dict(detection.mask_voxels),
        "failed_blocks": [
            {"box": str(block.box), "step": block.step, "reason": block.reason, "traceback": block.traceback}
            for block in detection.failed_blocks
        ],
        "resumed_blocks": detection.resumed,
        "in_boss": outcome.in_boss,
        "out": outcome.out or None,
        "links": outcome.links,
        "failures": [str(failure) for failure in outcome.failures],
        "started": outcome.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {step: round(seconds, 3) for step, seconds in outcome.seconds.items()},
        "speeds": detection.measured.as_json(),
        "versions": versions(),
    }


def write_run_json(root: Path, content: Mapping[str, Any]) -> None:
    """Write run.json, sorted and indented, with its schema and without secrets."""
    try:
        text = json.dumps(
            redacted_values({**content, "schema": _SCHEMA}),
            indent=2,
            sort_keys=True,
            allow_nan=False,
            default=_plain_value,
        )
    except (TypeError, ValueError) as cause:
        raise DataError(f"writing {MARKER}", str(cause), "Give numbers, strings, lists and mappings") from cause
    with write_file(root, MARKER) as file:
        file.write(f"{text}\n".encode())


def _plain_value(value: object) -> object:
    """Return what JSON holds for a NumPy scalar."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@dataclass(frozen=True, slots=True)
class Outline:
    """Volume, as `Job.volume`, and paths of the files that a run.json lists."""

    volume: tuple[str, ...]
    files: frozenset[str]


def outline_of(body: bytes) -> Outline | None:
    """Read whose files lie beside a run.json; None if it is not one of ours."""
    try:
        content = json.loads(body)
        if content["schema"] != _SCHEMA:
            return None
        requested = content["asked"]
        source = requested.get("source")
        volume = _in_boss(requested) if source is None else [source["uri"]]
        return Outline(tuple(map(_text, volume)), frozenset(filter(_leads_down, content["files"])))
    except _PROBLEMS:
        return None


def _in_boss(requested: Mapping[str, Any]) -> Sequence[str]:
    return in_boss(requested["collection"], requested["experiment"], int(requested.get("resolution", 0)))


def outline_in(root: Path) -> Outline | None:
    """Read the outline of a folder's run.json; None if it has none of ours."""
    path = root / MARKER
    if not path.is_file():
        return None
    with reading(path):
        return outline_of(path.read_bytes())


def _leads_down(path: str) -> bool:
    """Return whether a path is of a file below a folder, none of them hidden: objects in S3 are removed by it."""
    plain = path.isprintable() and "\\" not in path
    return plain and not any(part == "" or part.startswith(".") for part in path.split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A run that ended, as its run.json describes it."""

    key: str
    """The results key."""
    host: str
    collection: str
    experiment: str
    resolution: int
    """Level of a volume in BOSS."""
    source: Location | None
    """The volume, where it is not in BOSS."""
    box: Box
    pipeline: str
    parameters: Mapping[str, str]
    """As on a command line."""
    roles: Mapping[str, str]
    """Role to channel."""
    finding: dict[str, Any]
    """What the pipeline learned from the whole box."""
    brightness: Mapping[str, Brightness]
    """By channel."""
    masks: Mapping[str, str]
    """Mask to the name of its files without the suffix."""
    failed_blocks: tuple[Box, ...]
    files: Mapping[str, tuple[int, str]]
    """Path below the folder to bytes and SHA-256."""
    output: tuple[str, str] | None
    """Collection and experiment of the masks in BOSS; None where nothing was pushed."""
    not_in_boss: Mapping[str, str]
    """Masks whose push failed, and why."""
    failures: tuple[str, ...]
    """Deliveries that failed, without the upload, which comes after run.json."""
    has_labels_in_boss: bool
    """Whether the labels were pushed, too."""
    bucket: str | None
    out: str | None
    """Where labels, masks and points were written as well."""
    voxel_size_nm: tuple[float, float, float]

    def unlike(self, held: Mapping[str, Mapping[str, Any]]) -> str:
        """Describe how the checksums of a folder differ from those of the run; empty if they do not."""
        found = {name: (one["bytes"], one["sha256"]) for name, one in held.items()}
        faults = {
            "missing": sorted(self.files.keys() - found.keys()),
            "changed": sorted(name for name in self.files.keys() & found.keys() if self.files[name] != found[name]),
            "not of this run": sorted(found.keys() - self.files.keys()),
        }
        return "; ".join(f"{fault}: {few(names)}" for fault, names in faults.items() if names)


def read_run_file(folder: Path) -> RunFile:
    """Read the run.json of a result folder."""
    path = folder / MARKER
    if not path.is_file():
        found = "it has no run.json" if folder.is_dir() else "there is no such folder"
        raise UsageError(f"result folder {folder}", found, "Give the folder of a run that ended")
    with reading(path):
        content = json.loads(path.read_bytes())
        if content["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}")
        try:
            return _parsed(content)
        except UsageError as error:
            raise DataError(str(path), f"it is not a valid {_SCHEMA} ({error})", "Run the job again") from error


def _parsed(content: Mapping[str, Any]) -> RunFile:
    """Read the fields; raises what Python raises where one is missing or of another type."""
    requested = content["asked"]
    box = Box(*(requested[f"{axis}_range"] for axis in "zyx"))
    pipeline, collection, experiment = (_text(requested[name]) for name in ("pipeline", "collection", "experiment"))
    # run.json of versions that read BOSS alone have none
    source = None if requested.get("source") is None else Location.of_json(requested["source"])
    output = _text(requested["out_collection"]), _text(requested["out_experiment"])
    return RunFile(
        key=results_key(pipeline, _in_boss(requested) if source is None else [source.name], box),
        resolution=int(requested.get("resolution", 0)),
        host=_text(requested["host"]),
        collection=collection,
        experiment=experiment,
        source=source,
        box=box,
        pipeline=pipeline,
        parameters={name: str(value) for name, value in requested["parameters"].items()},
        roles=_texts(content["roles"]),
        finding=dict(content["finding"]),
        brightness={name: Brightness(float(b["mean"]), float(b["sd"])) for name, b in content["channels"].items()},
        masks=_texts(content["masks"]),
        failed_blocks=tuple(_box(block["box"]) for block in content["failed_blocks"]),
        files={name: (int(one["bytes"]), _text(one["sha256"])) for name, one in content["files"].items()},
        output=output if requested["push"] else None,
        not_in_boss={m: state for m, state in _texts(content["in_boss"]).items() if state.startswith("failed")},
        failures=tuple(map(_text, content["failures"])),
        has_labels_in_boss=requested.get("push_labels") is True,
        bucket=None if requested["bucket"] is None else _text(requested["bucket"]),
        out=None if requested.get("out") is None else _text(requested["out"]),
        voxel_size_nm=_size(content["source"]["voxel_size_nm_zyx"]),
    )


def _size(values: Any) -> tuple[float, float, float]:
    z, y, x = map(float, values)
    return (z, y, x)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is not a string")
    return value


def _texts(value: Mapping[str, object]) -> dict[str, str]:
    return {name: _text(text) for name, text in value.items()}


def _box(text: str) -> Box:
    """Read a box as ``str(box)`` writes it."""
    z0, z1, y0, y1, x0, x1 = map(int, re.findall(r"-?\d+", text))
    return Box((z0, z1), (y0, y1), (x0, x1))
