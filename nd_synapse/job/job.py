"""A job as it is asked for, in one frozen value, whoever builds it: the command line, by `job_options`, or a program.

It reads no voxel and contacts no service; `steps` does the job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.blocks.shared_store import Part
from nd_synapse.boss.connection import address_of
from nd_synapse.credentials import Token
from nd_synapse.detection.plan import code_of
from nd_synapse.errors import UnknownNameError, UsageError, closest
from nd_synapse.geometry import Box
from nd_synapse.job.names import mask_names, results_key
from nd_synapse.machine import default_cpus
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline, check_parameters
from nd_synapse.values import parse_int, parse_path

__all__ = ["DEFAULT_OUT_COL", "DEFAULT_OUT_EXP", "DEFAULT_PATH", "Job"]

DEFAULT_OUT_COL = "collman_nomads"
DEFAULT_OUT_EXP = "nomads_predictions"
DEFAULT_PATH = "./results/"
BUCKET_VARIABLE = "RESULTS_BUCKET"

MOST = 1024
"""Workers, and cutouts in flight, at most: beyond it is a slip of the finger."""

_LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of today."""

_MOST_BYTES = 2**60

_Text = str | None

_KINDS: dict[str, Any] = {
    "host": str,
    "token": Token,
    "collection": str,
    "experiment": str,
    "box": Box,
    "channels": Mapping,
    "bucket": _Text,
    "acl": _Text,
    "out_collection": str,
    "out_experiment": str,
    "fresh": bool,
    "push": bool,
    "plots": bool,
    "overwrite": bool,
    "shared": _Text,
    "part": Part | None,
}
"""What the fields of a job are: a program may put anything there."""


def _of_no_kind(name: str, value: object) -> UsageError:
    """Return the error of a field that holds something else than it can."""
    return UsageError(
        f"{name} of a job", f"it is of the type {type(value).__name__}", "See job.Job for what each field holds"
    )


def _texts(name: str, values: Any) -> tuple[str, ...]:
    """Return names as a tuple; one text is not its letters."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(each, str) for each in values):
        raise UsageError(f"{name} {values!r:.100}", "it holds something else than texts", "Give names as texts")
    return tuple(values)


def _no_text(name: str, number: object) -> object:
    """Refuse a number as text: the command line reads it, and a program has numbers."""
    if isinstance(number, str):
        raise _of_no_kind(name, number)
    return number


def _extents(size: Any) -> tuple[int, int, int]:
    """Return a block size as three whole numbers."""
    try:
        z, y, x = (parse_int("block size", _no_text("block_size", n), 1, 2**31 - 1) for n in size)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"block size {size!r:.100}", "it is not three extents from 1 upwards", "Give z, y, x"
        ) from error
    return (z, y, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to read, which pipeline to run, and where the results go.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token
        The token; it shows nowhere.
    collection, experiment : str
        The volume.
    box : Box
        The requested box.
    pipeline : Pipeline
        The detector, its parameters set.
    channels : mapping of str to str
        Role to channel, as far as the user chose.
    only_channels : tuple of str
        The channels to look at; all image channels where empty.
    feature_channels : tuple of str
        The channels to measure in and round the synapses; all that are looked at where empty.
    path : Path
        Folder that holds the result folders.
    bucket : str or None
        S3 bucket; None uploads nothing.
    acl : str or None
        Canned ACL of the objects, only where the user asked for one.
    out_collection, out_experiment : str
        Where in BOSS the masks go.
    cpus : int
        Worker processes.
    block_size : tuple of int or None
        Largest extent of a block along z, y, x; None for the largest that fit the memory.
    pulls : int
        Cutouts that are asked for at the same time.
    memory_bytes : int or None
        Memory that may be used; None for what the container, or the machine, has.
    cache_bytes : int or None
        Disk that pulled voxels may take; None for no limit.
    fresh : bool
        Whether to start over where an earlier run with the same results key was stopped.
    push, plots : bool
        Whether the masks go to BOSS; whether plots are drawn.
    overwrite : bool
        Whether they may replace masks that another run put there.
    shared : str or None
        ``s3://bucket/prefix`` where the parts of a run leave finished blocks for each other.
    part : Part or None
        The part of the run that this job does; None does the whole, or what the parts left.
    """

    host: str
    token: Token
    collection: str
    experiment: str
    box: Box
    pipeline: Pipeline = field(default_factory=lambda: registry.build(registry.DEFAULT_PIPELINE, {}))
    channels: Mapping[str, str] = field(default_factory=dict)
    only_channels: tuple[str, ...] = ()
    feature_channels: tuple[str, ...] = ()
    path: Path = Path(DEFAULT_PATH)
    bucket: str | None = None
    acl: str | None = None
    out_collection: str = DEFAULT_OUT_COL
    out_experiment: str = DEFAULT_OUT_EXP
    cpus: int = field(default_factory=default_cpus)
    block_size: tuple[int, int, int] | None = None
    pulls: int = DEFAULT_PULLS
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    fresh: bool = False
    push: bool = True
    plots: bool = True
    overwrite: bool = False
    shared: str | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        """Refuse what no job can be done with, whoever built it."""
        if isinstance(self.pipeline, str):
            # whoever writes a program names a pipeline as on the command line
            object.__setattr__(self, "pipeline", registry.build(self.pipeline, {}))
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise _of_no_kind(name, getattr(self, name))
        for name in ("only_channels", "feature_channels"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for role, channel in self.channels.items():
            _texts("channels", (role, channel))
        if not all(hasattr(self.pipeline, part) for part in ("name", "masks", "parameters", "detect")):
            raise _of_no_kind("pipeline", self.pipeline)
        check_parameters(self.pipeline)
        address_of(self.host)
        object.__setattr__(self, "path", parse_path("--path", self.path))
        for name in ("cpus", "pulls"):
            object.__setattr__(self, name, parse_int(f"--{name}", _no_text(name, getattr(self, name)), 1, MOST))
        for name in ("memory_bytes", "cache_bytes"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, parse_int(name, _no_text(name, number), 1, _MOST_BYTES))
        if self.block_size is not None:
            object.__setattr__(self, "block_size", _extents(self.block_size))
        if self.shared is not None and self.fresh:
            found = "what is shared stays: a part that began anew would find it there"
            raise UsageError("--fresh with --shared", found, "Begin a run under another --shared")
        if self.shared is not None and self.block_size is None:
            found = "each job would choose blocks that fit its own memory"
            raise UsageError("a run in parts without --block-size", found, "Give all of them one --block-size Z,Y,X")
        mask_names(self.pipeline.name, self.pipeline.masks)
        if len(self.results_key.encode(errors="replace")) > _LONGEST_NAME:
            raise UsageError(
                f"results key {self.results_key}",
                f"a folder's name has at most {_LONGEST_NAME} bytes",
                "Correct --col and --exp: BOSS has no names that long",
            )

    @property
    def results_key(self) -> str:
        """Name of the result folder, of the prefix in S3, and first part of the masks' channels."""
        return results_key(self.pipeline.name, self.collection, self.experiment, self.box)

    def maker(self, roles: Mapping[str, str]) -> str:
        """Say who makes the masks, so that BOSS tells this job, repeated, from one whose masks may differ."""
        hidden = {parameter.name for parameter in self.pipeline.parameters if not parameter.shows}
        settings = {name: value for name, value in self.pipeline.settings.items() if name not in hidden}
        what: list[Any] = [self.results_key, settings, dict(roles)]
        if not registry.is_ours(self.pipeline):
            what.append(code_of(self.pipeline))
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.pipeline.name} of nd-synapse on {self.collection}/{self.experiment}, parameters {digest}"

    def measured(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the channels to measure in and round the synapses."""
        for channel in self.feature_channels:
            if channel not in channels:
                raise UnknownNameError(
                    f"channel {channel!r} in --feature-channels",
                    f"the image channels are {', '.join(closest(channel, channels)) or 'none'}",
                    "Correct the name",
                )
        return self.feature_channels or tuple(channels)

    def requested(self) -> dict[str, Any]:
        """Return what was asked for as plain values, without the token."""
        return {
            "host": self.host,
            "collection": self.collection,
            "experiment": self.experiment,
            "z_range": list(self.box.z),
            "y_range": list(self.box.y),
            "x_range": list(self.box.x),
            "pipeline": self.pipeline.name,
            "parameters": dict(self.pipeline.settings),
            "channels": dict(self.channels),
            "only_channels": list(self.only_channels),
            "feature_channels": list(self.feature_channels),
            "path": str(self.path),
            "bucket": self.bucket,
            "out_collection": self.out_collection,
            "out_experiment": self.out_experiment,
            "cpus": self.cpus,
            "block_size": None if self.block_size is None else list(self.block_size),
            "pulls": self.pulls,
            "push": self.push,
            "overwrite": self.overwrite,
            "shared": self.shared,
            "plots": self.plots,
        }
