"""What run.json says of a run, read again: one frozen value, each field checked.

It opens no other file, and trusts no name in this one: neither to be a path nor to be code.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nd_synapse.errors import DataError, StorageError, UsageError, few
from nd_synapse.geometry import Box

__all__ = ["MOST_BYTES", "Outline", "RunFile", "outline_of", "read_run_file"]

_SCHEMA = "nd-synapse/run/1"
MOST_BYTES = 2**28
"""Largest file: one with 100,000 holes, each with its traceback, has 118 MiB."""

_MOST_PARTS = 2**22
"""Commas and brackets of the largest file, those of texts included: 3 million in that one. What is between two of them
takes some hundred bytes of memory, however little it is."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
_BOSS_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HOLE = re.compile(r"z (\d{1,9}):(\d{1,9}) y (\d{1,9}):(\d{1,9}) x (\d{1,9}):(\d{1,9})")


_PROBLEMS = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)
"""What Python raises where JSON is none, or lacks something, or has something of another type."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a run.json says of itself, whatever else is wrong with it.

    Parameters
    ----------
    experiment : tuple of str
        Collection and experiment that the run read.
    files : frozenset of str
        Paths below its folder that it lists, but for those that could lead elsewhere.
    """

    experiment: tuple[str, str]
    files: frozenset[str]


def outline_of(body: bytes) -> Outline | None:
    """Read what a run.json is of."""
    if _oddity(body):
        return None
    try:
        said = json.loads(body)
        if said["schema"] != _SCHEMA:
            return None
        experiment = (_text(said["asked"]["collection"]), _text(said["asked"]["experiment"]))
        return Outline(experiment, frozenset(name for name in map(_text, said["files"]) if _leads_down(name)))
    except _PROBLEMS:
        return None


def _oddity(body: bytes) -> str:
    """Say why a file is none of ours, before it is parsed, which may take many times its size; nothing is ''."""
    parts = sum(map(body.count, (b",", b"[", b"{")))
    if len(body) > MOST_BYTES:
        return f"it has more than {MOST_BYTES:,} bytes"
    if parts > _MOST_PARTS:
        return f"it has {parts:,} commas and brackets, more than the {_MOST_PARTS:,} of any run"
    # ours escape what is not ASCII; with one character of another kind, a text may take four times its memory
    return "" if body.isascii() else f"it is no {_SCHEMA}: it is not ASCII"


def _leads_down(path: str) -> bool:
    """Tell whether a path is of a file below a folder, none of them hidden."""
    plain = path.isprintable() and "\\" not in path
    return plain and not any(part == "" or part.startswith(".") for part in path.split("/"))


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run that ended, as its run.json tells it.

    Parameters
    ----------
    key : str
        The results key.
    host : str
        BOSS.
    collection, experiment : str
        The volume.
    box : Box
        The requested box.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    pipeline : str
        Name of the pipeline.
    parameters : mapping of str to str
        Its parameters, as on a command line.
    roles : mapping of str to str
        Role to channel.
    finding : dict of str to Any
        What the pipeline learned from the whole box: finite numbers, strings, and lists of them.
    masks : mapping of str to str
        Mask to the name of its files without the suffix, the first mask first.
    voxels : mapping of str to int
        Mask to its voxels, as the table has them.
    synapses : int
        Rows of the table.
    holes : tuple of Box
        Blocks that failed.
    files : mapping of str to tuple of int and str
        Path below the folder to bytes and SHA-256.
    output : tuple of str or None
        Collection and experiment of the masks in BOSS; None where nothing was to be pushed.
    not_in_boss : mapping of str to str
        Masks whose push failed, and why.
    failures : tuple of str
        What could not be delivered, but for an upload: that comes after this file.
    bucket : str or None
        S3 bucket, if one was asked for.
    """

    key: str
    host: str
    collection: str
    experiment: str
    box: Box
    voxel_size_nm: tuple[float, float, float]
    pipeline: str
    parameters: Mapping[str, str]
    roles: Mapping[str, str]
    finding: dict[str, Any]
    masks: Mapping[str, str]
    voxels: Mapping[str, int]
    synapses: int
    failed_blocks: tuple[Box, ...]
    files: Mapping[str, tuple[int, str]]
    output: tuple[str, str] | None
    not_in_boss: Mapping[str, str]
    failures: tuple[str, ...]
    bucket: str | None

    def unlike(self, held: Mapping[str, tuple[int, str]]) -> str:
        """Say how the files of a folder differ from those of the run."""
        faults = {
            "missing": sorted(self.files.keys() - held.keys()),
            "changed": sorted(name for name in self.files.keys() & held.keys() if self.files[name] != held[name]),
            "not of this run": sorted(held.keys() - self.files.keys()),
        }
        return "; ".join(f"{fault}: {few(names)}" for fault, names in faults.items() if names)


def read_run_file(folder: Path) -> RunFile:
    """Read the run.json of a result folder."""
    path = folder / "run.json"
    try:
        if path.exists() and not path.is_file():
            # a pipe would be waited for
            raise DataError(str(path), "it is no file", "Give the folder of a run that ended")
        with path.open("rb") as file:
            # so many bytes are taken beforehand
            body = file.read(min(os.fstat(file.fileno()).st_size, MOST_BYTES) + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        remedy = "Give the folder of a run that ended"
        raise UsageError(f"result folder {folder}", "it has no run.json", remedy) from error
    except OSError as error:
        raise StorageError(
            f"reading {path}", str(error.strerror), "Check its path, and your right to read it"
        ) from error
    oddity = _oddity(body)
    if oddity:
        raise DataError(str(path), oddity, "Give the folder of a run that ended")
    try:
        return _run_of(json.loads(body))
    except _PROBLEMS as error:
        found = f"it is no {_SCHEMA} ({type(error).__name__}: {str(error)[:100]})"
        raise DataError(
            str(path), found, "Run the job again, or take its run.json from where it was uploaded"
        ) from error


def _run_of(said: Mapping[str, Any]) -> RunFile:
    """Read what JSON holds; raises what Python raises where something is missing or of another type."""
    if said["schema"] != _SCHEMA:
        raise ValueError(f"schema {said['schema']!r}")
    requested = said["asked"]
    box = Box(*(tuple(requested[f"{axis}_range"]) for axis in "zyx"))
    stems = _texts(said["masks"])
    pipeline = _plain(_text(requested["pipeline"]))
    if f"{pipeline}-predictions" not in stems.values():
        raise ValueError("no mask is the pipeline's own")
    first_first = sorted(stems, key=lambda mask: (stems[mask] != f"{pipeline}-predictions", mask))
    words = [pipeline, _in_boss(_text(requested["collection"])), _in_boss(_text(requested["experiment"]))]
    return RunFile(
        key="_".join(words + [str(word) for axis in "zyx" for word in (axis, *getattr(box, axis))]),
        host=_text(requested["host"]),
        collection=words[1],
        experiment=words[2],
        box=box,
        voxel_size_nm=_size(said["source"]["voxel_size_nm_zyx"]),
        pipeline=pipeline,
        parameters={_text(name): str(value) for name, value in requested["parameters"].items()},
        roles=_texts(said["roles"]),
        finding={_text(name): _learned(value) for name, value in said["finding"].items()},
        masks={mask: _plain(stems[mask]) for mask in first_first},
        voxels={_text(mask): int(n) for mask, n in said["voxels"].items()},
        synapses=int(said["counts"]["synapses"]),
        failed_blocks=tuple(_hole(_text(failed_block["box"])) for failed_block in said["holes"]),
        files={_text(name): (int(one["bytes"]), _text(one["sha256"])) for name, one in said["files"].items()},
        output=(_text(requested["out_collection"]), _text(requested["out_experiment"])) if requested["push"] else None,
        not_in_boss={m: _text(state) for m, state in said["in_boss"].items() if _text(state).startswith("failed")},
        failures=tuple(map(_text, said["failures"])),
        bucket=None if requested["bucket"] is None else _text(requested["bucket"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value


def _texts(value: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}


def _size(value: Sequence[object]) -> tuple[float, float, float]:
    """Return the size of a voxel, if one can have it."""
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float) or not 0 < one < math.inf:
            raise ValueError(f"a voxel of {str(value)[:60]} nm")
    z, y, x = map(float, value)  # type: ignore[arg-type]
    return z, y, x


def _learned(value: object) -> Any:
    """Return a number, a string, or a list of them, if a pipeline can have learned it."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise TypeError(f"{str(one)[:40]!r} is neither number nor text")
        if not isinstance(one, str) and not math.isfinite(one):
            raise ValueError(f"{one} is no finite number")
    return value


def _plain(name: str) -> str:
    """Return a name if it can lead nowhere else, be it as a file's or as a module's."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no name of a pipeline or a mask")
    return name


def _in_boss(name: str) -> str:
    """Return a name if BOSS can have it; it becomes part of a key."""
    if not _BOSS_NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no name in BOSS")
    return name


def _hole(text: str) -> Box:
    found = _HOLE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no box")
    z0, z1, y0, y1, x0, x1 = map(int, found.groups())
    return Box((z0, z1), (y0, y1), (x0, x1))
