"""A job as one frozen value, and the names of its results; `steps` runs it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.blocks.shared_store import Part
from nd_synapse.boss.address import address_of
from nd_synapse.credentials import Token
from nd_synapse.detection.fingerprint import code_of
from nd_synapse.errors import UnknownNameError, UsageError, called, closest
from nd_synapse.geometry import Box
from nd_synapse.job.places import Target
from nd_synapse.machine import default_cpus
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.sources.location import Location
from nd_synapse.values import parse_int, parse_path
from nd_synapse.volumes import JobSource

__all__ = [
    "DEFAULT_OUT_COL",
    "DEFAULT_OUT_EXP",
    "DEFAULT_PATH",
    "Job",
    "in_boss",
    "label_names",
    "labels_channel",
    "mask_names",
    "results_key",
]

DEFAULT_OUT_COL = "collman_nomads"
DEFAULT_OUT_EXP = "nomads_predictions"
DEFAULT_PATH = "./results/"
BUCKET_VARIABLE = "RESULTS_BUCKET"

MOST = 1024
"""Largest number of workers, and of cutouts in flight."""

_LONGEST_NAME = 255
"""Bytes of a file name on common file systems."""

_MOST_BYTES = 2**60

_Text = str | None

_TYPES: dict[str, Any] = {
    "host": str,
    "token": Token,
    "collection": str,
    "experiment": str,
    "box": Box,
    "channels": Mapping,
    "bucket": _Text,
    "acl": _Text,
    "out": _Text,
    "out_collection": str,
    "out_experiment": str,
    "fresh": bool,
    "push": bool | None,
    "push_labels": bool,
    "plots": bool,
    "overwrite": bool,
    "shared": _Text,
    "part": Part | None,
    "source": Location | None,
}
"""Types of fields; a program may pass anything, such as push="no"."""


def in_boss(collection: str, experiment: str, resolution: int) -> tuple[str, ...]:
    """Return what names a volume in BOSS: collection, experiment, and a level above 0."""
    return (collection, experiment, *([f"level{resolution}"] if resolution else []))


def results_key(pipeline: str, volume: Sequence[str], box: Box) -> str:
    """Name the results of a job: its folder, its prefix in S3, and the start of its channel names.

    `volume` is collection and experiment, or the name of a source.
    """
    ranges = (f"{axis}_{start}_{stop}" for axis, (start, stop) in zip("zyx", box.ranges, strict=True))
    return "_".join([pipeline, *volume, *ranges])


def mask_names(pipeline: str, masks: Sequence[str]) -> dict[str, str]:
    """Give every mask of a pipeline the name of its files, without the suffix."""
    names = {mask: mask if place else f"{pipeline}-predictions" for place, mask in enumerate(masks)}
    for given in (list(masks), list(names.values()), list(label_names(masks).values())):
        twice = [name for name, count in Counter(map(str.casefold, given)).items() if count > 1]
        if twice:
            raise UsageError(
                f"masks {', '.join(masks)} of {pipeline}",
                f"two of them would be called {twice[0]} in files or in BOSS, where case may not count",
                "Rename the masks",
            )
    return names


def label_names(masks: Sequence[str]) -> dict[str, str]:
    """Give every mask the name of the label image with the ids in it."""
    return {mask: mask if place else "synapses" for place, mask in enumerate(masks)}


def labels_channel(masks: Sequence[str]) -> str:
    """Return the name of the channel of the labels in BOSS, as masks have theirs."""
    return f"{masks[0]}_ids"


def _wrong_type(name: str, value: object) -> UsageError:
    """Return the error for a field of another type."""
    return UsageError(f"{name} of a job", f"its type is {type(value).__name__}", "See nd_synapse.job.job.Job")


def _texts(name: str, values: Any) -> tuple[str, ...]:
    """Return names as a tuple; a string is not a sequence of names."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(each, str) for each in values):
        raise UsageError(f"{name} {values!r:.100}", "it is not a list of strings", "Give a list of names")
    return tuple(values)


def _number(name: str, number: object, most: int) -> int:
    """Return a whole number from 1; strings are refused, since only command lines have them."""
    if isinstance(number, str):
        raise _wrong_type(name, number)
    return parse_int(name, number, 1, most)


def _extents(size: Any) -> tuple[int, int, int]:
    """Return a block size as three whole numbers."""
    try:
        z, y, x = (_number("block_size", n, 2**31 - 1) for n in size)
    except (TypeError, ValueError) as error:
        raise UsageError(f"block size {size!r:.100}", "it is not three whole numbers", "Give z, y, x") from error
    return (z, y, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to read, which pipeline to run, and where the results go."""

    host: str = ""
    """BOSS: a host name, or a URL with its scheme."""
    token: Token = field(default_factory=lambda: Token(Token.PUBLIC))
    collection: str = ""
    experiment: str = ""
    resolution: int = 0
    """Level of a volume in BOSS; that of another is in `source`."""
    source: Location | None = None
    """A volume in files or in a bucket, in the place of one in BOSS."""
    box: Box
    pipeline: Pipeline = field(default_factory=lambda: registry.build(registry.DEFAULT_PIPELINE, {}))
    channels: Mapping[str, str] = field(default_factory=dict)
    """Role to channel, as far as the user chose."""
    only_channels: tuple[str, ...] = ()
    """Channels to look at; empty for all image channels."""
    feature_channels: tuple[str, ...] = ()
    """Channels to measure synapses in; empty for all that are looked at."""
    path: Path = Path(DEFAULT_PATH)
    """Folder of the result folders."""
    bucket: str | None = None
    """S3 bucket; None uploads nothing."""
    acl: str | None = None
    """Canned ACL of the objects; None sends none."""
    out: str | None = None
    """Where labels, masks and points are written as well: a folder, ``s3://BUCKET/PATH``, or ``precomputed://`` one."""
    out_collection: str = DEFAULT_OUT_COL
    out_experiment: str = DEFAULT_OUT_EXP
    cpus: int = field(default_factory=default_cpus)
    block_size: tuple[int, int, int] | None = None
    """Largest block (z, y, x); None for the largest that fit the memory."""
    pulls: int = DEFAULT_PULLS
    """Cutouts requested at the same time."""
    memory_bytes: int | None = None
    """Memory that may be used; None for that of the container or machine."""
    cache_bytes: int | None = None
    """Disk for pulled voxels; None for no limit."""
    fresh: bool = False
    """Start over instead of resuming."""
    push: bool | None = None
    """Whether masks go to BOSS; None does so where the volume is in BOSS."""
    push_labels: bool = False
    """Whether the labels go to BOSS as well, to an annotation channel."""
    plots: bool = True
    overwrite: bool = False
    """Whether masks of other runs in BOSS may be replaced."""
    shared: str | None = None
    """``s3://bucket/prefix``, or a folder, where parts of a run share finished blocks."""
    part: Part | None = None
    """The part of the run that this job does; None does all, or what the parts left."""

    @called()
    def __post_init__(self) -> None:
        """Refuse values that no job can have."""
        if isinstance(self.pipeline, str):
            object.__setattr__(self, "pipeline", registry.build(self.pipeline, {}))
        for name, kind in _TYPES.items():
            if not isinstance(getattr(self, name), kind):
                raise _wrong_type(name, getattr(self, name))
        registry.check(self.pipeline)
        if self.source is None:
            address_of(self.host)
        for role, channel in self.channels.items():
            _texts("channels", (role, channel))
        converted: dict[str, Any] = {
            "only_channels": _texts("only_channels", self.only_channels),
            "feature_channels": _texts("feature_channels", self.feature_channels),
            "path": parse_path("--path", self.path),
            "cpus": _number("--cpus", self.cpus, MOST),
            "pulls": _number("--pulls", self.pulls, MOST),
            "resolution": parse_int("--resolution", self.resolution, 0, 9),
            "push": self.source is None if self.push is None else self.push,
        }
        for name in ("memory_bytes", "cache_bytes"):
            if getattr(self, name) is not None:
                converted[name] = _number(name, getattr(self, name), _MOST_BYTES)
        if self.block_size is not None:
            converted["block_size"] = _extents(self.block_size)
        for name, value in converted.items():
            object.__setattr__(self, name, value)
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that exclude each other."""
        if self.shared is not None and self.fresh:
            found = "blocks in the shared store are kept, and would be found again"
            raise UsageError("--fresh with --shared", found, "Start a run with another --shared")
        if self.shared is not None and self.block_size is None:
            found = "each job would choose blocks that fit its own memory"
            raise UsageError("a run in parts without --block-size", found, "Give all of them one --block-size Z,Y,X")
        if self.source is not None and (self.host or self.collection or self.experiment):
            raise UsageError("--source with --host, --col or --exp", "each names a volume", "Give one of them")
        if self.resolution and self.source is not None:
            raise UsageError("--resolution of a job", "the source has its own", "Give it to the source")
        if self.resolution and self.push:
            found = f"the masks would be those of level {self.resolution}, and BOSS takes level 0"
            raise UsageError("a push of masks to BOSS", found, "Give --no-push, or leave --resolution out")
        if self.source is not None and self.push:
            raise UsageError("a push of masks to BOSS", "the volume is not in BOSS", "Leave push out")
        if self.push_labels and not self.push:
            raise UsageError("a push of labels to BOSS", "nothing is pushed", "Leave --push-labels or --no-push out")
        if self.out is not None:
            object.__setattr__(self, "out", Target.of(self.out).uri)
        mask_names(self.pipeline.name, self.pipeline.masks)
        if len(self.results_key.encode(errors="replace")) > _LONGEST_NAME:
            raise UsageError(
                f"results key {self.results_key}",
                f"a folder name has at most {_LONGEST_NAME} bytes",
                "Correct --col and --exp: BOSS has no names that long",
            )

    @property
    def results_key(self) -> str:
        """Name of the result folder and of the prefix in S3, and start of the channel names."""
        return results_key(self.pipeline.name, self.volume if self.source is None else [self.source.name], self.box)

    @property
    def volume(self) -> tuple[str, ...]:
        """What other volumes with the same results key differ by: collection and experiment, or the URI."""
        if self.source is not None:
            return (self.source.uri,)
        return in_boss(self.collection, self.experiment, self.resolution)

    @property
    def title(self) -> str:
        """Name of the volume for people."""
        return f"{self.collection}/{self.experiment}" if self.source is None else self.source.name

    def open_source(self) -> JobSource:
        """Open the volume; its names, bounds and types are checked."""
        if self.source is not None:
            from nd_synapse.sources.source import open_source

            return open_source(self.source).part(self.box.ranges, self.only_channels)
        from nd_synapse.boss.resource import NeuroDataResource  # intern is imported only where it is used

        z, y, x = self.box.ranges
        names = list(self.only_channels)
        return NeuroDataResource(
            self.host, self.token, self.collection, self.experiment, names, x, y, z, resolution=self.resolution
        )

    def maker(self, roles: Mapping[str, str]) -> str:
        """Identify the job in the channel's description: the same job may write there again, others may not."""
        hidden = {parameter.name for parameter in self.pipeline.parameters if not parameter.shows}
        settings = {name: value for name, value in self.pipeline.settings.items() if name not in hidden}
        what: list[Any] = [self.results_key, settings, dict(roles)]
        if not registry.is_ours(self.pipeline):
            what.append(code_of(self.pipeline))
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.pipeline.name} of nd-synapse on {self.collection}/{self.experiment}, parameters {digest}"

    def measured(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the channels to measure synapses in."""
        for channel in self.feature_channels:
            if channel not in channels:
                raise UnknownNameError(
                    f"channel {channel!r} in --feature-channels",
                    f"there is no such image channel; there are {', '.join(closest(channel, channels)) or 'none'}",
                    "Correct the name",
                )
        return self.feature_channels or tuple(channels)

    def requested(self) -> dict[str, Any]:
        """Return the request as plain values, without the token."""
        return {
            "host": self.host,
            "collection": self.collection,
            "experiment": self.experiment,
            "resolution": self.resolution,
            "source": None if self.source is None else self.source.as_json(),
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
            "out": self.out,
            "out_collection": self.out_collection,
            "out_experiment": self.out_experiment,
            "cpus": self.cpus,
            "block_size": None if self.block_size is None else list(self.block_size),
            "pulls": self.pulls,
            "push": self.push,
            "push_labels": self.push_labels,
            "overwrite": self.overwrite,
            "shared": self.shared,
            "plots": self.plots,
        }
