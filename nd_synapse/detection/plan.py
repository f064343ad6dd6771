"""What one detection is to do, as one frozen value, and the names under which it keeps what it finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from nd_synapse.blocks.grid import blocks_of
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.detection.fingerprint import code, code_of
from nd_synapse.detection.flat import REACH
from nd_synapse.detection.windows import WINDOW_NM, Reach, window
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding, Pipeline
from nd_synapse.volumes import Source

__all__ = ["Facts", "KnownPadding", "Plan", "remembered_block_size"]

_NOTE_BYTES = 1000
"""Largest note of a block size."""


@dataclass(frozen=True, slots=True)
class KnownPadding:
    """What a detection found of the padding of a volume, for one in a window of it."""

    values: Mapping[str, Sequence[int]]
    """The values of padding by channel."""
    tissue: Mapping[str, Sequence[Sequence[int]]]
    """By channel, section and value wherever a flat area of such a value is tissue; sections count from the window's
    first."""
    volume: Box
    """The volume; the window begins at 0."""
    doubtful: bool = True
    """Whether areas that end at the window, and may be either, are padding."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one detection reads and where it works."""

    source: Source
    box: Box
    """The requested volume."""
    pipeline: Pipeline
    roles: Mapping[str, str]
    """Role to channel."""
    channels: tuple[str, ...]
    """Channels to measure in the objects; with those of `roles` these are pulled."""
    voxel_size_nm: tuple[float, float, float]
    block_size: tuple[int, int, int]
    """Largest extent of a block along z, y, x."""
    folder: Path
    """Scratch folder; it exists."""
    window_nm: tuple[float, float, float] = WINDOW_NM
    """How far the window round a synapse reaches from its centroid's voxel along z, y, x."""
    region: Box | None = None
    """What is pulled: the blocks of a part of the run with their halo; None is the whole box."""
    padding: KnownPadding | None = None
    """What is known of the padding; None is to find it."""
    code: str = ""
    """Fingerprint of the code that computes. Workers get it, so that all use one name even if files of an installation
    change while a job runs."""

    def __post_init__(self) -> None:
        """Compute the fingerprint of the code."""
        if not self.code:
            object.__setattr__(self, "code", f"{code()}-{code_of(self.pipeline)}")

    def blocks(self) -> list[Box]:
        """Return the blocks, which tile the box, cut where BOSS cuts its cuboids if the block size allows."""
        return blocks_of(self.box, self.block_size)

    def pulled(self) -> list[str]:
        """Return the channels that are pulled."""
        return list(dict.fromkeys([*self.roles.values(), *self.channels]))

    def remember(self) -> None:
        """Note the block size in the scratch folder, for `remembered_block_size`."""
        self.store().write_note("block_size", json.dumps(self.block_size))

    def for_workers(self) -> Plan:
        """Return the plan without its source: workers read what was pulled."""
        source = cast("Source", Facts(self.source.identity, self._dtypes()))
        # a pipeline may change the working directory
        return replace(self, source=source, folder=self.folder.absolute())

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) on each side of a block that the pipeline reads."""
        return self.pipeline.halo(self.voxel_size_nm)

    @property
    def counted_halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) on each side of a block that statistics read: also for what is flat in the halo."""
        z, y, x = self.halo
        return (z, max(y, 1) + REACH, max(x, 1) + REACH)

    @property
    def reach(self) -> Reach:
        """Voxels (z, y, x) on each side of a centroid's voxel that are in its window."""
        return window(self.window_nm, self.voxel_size_nm)

    def store(self) -> Store:
        """Return the store in the scratch folder."""
        return Store(self.folder)

    def tiles(self) -> Tiles:
        """Return the pulled tiles."""
        kind = self._input_kind()
        if self.region is not None:
            kind = _kind("tiles", kind, self.region.ranges)
        return Tiles(self.store(), kind, self.region or self.box, self.block_size, self._dtypes())

    def _dtypes(self) -> dict[str, np.dtype[Any]]:
        """Return the type of each channel that is pulled."""
        return {channel: self.source.dtype(channel) for channel in self.pulled()}

    def _input_kind(self) -> str:
        """Return the name of the voxels of the box, cut into tiles."""
        # in their order, by which the files are named
        names = [(channel, str(dtype)) for channel, dtype in self._dtypes().items()]
        return _kind("tiles", self.source.identity, names, self.box.ranges, self.block_size)

    def statistics_kind(self) -> str:
        """Return the name of the statistics of blocks: other code or parameters, another name."""
        pipeline = (self.pipeline.name, dict(self.pipeline.settings))
        return _kind("statistics", self._input_kind(), self.code, pipeline, dict(self.roles), self.voxel_size_nm)

    def parts_kind(self, finding: Finding) -> str:
        """Return the name of the measured parts of blocks."""
        return _kind("parts", self.statistics_kind(), finding, self.channels)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a source without a connection or a token: enough to name and read its tiles."""

    identity: str
    dtypes: Mapping[str, np.dtype[Any]]

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels."""
        return self.dtypes[channel]


def _kind(name: str, *what: Any) -> str:
    """Return a name that differs wherever what was computed may differ."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    return f"{name}-{digest[:16]}"


def remembered_block_size(folder: Path) -> tuple[int, int, int] | None:
    """Return the block size of the run that worked in a scratch folder before.

    A run that is to go on with its blocks must cut them alike, whatever this machine would choose.
    """
    try:
        with (folder / "block_size.json").open("rb") as file:
            z, y, x = (int(n) for n in json.loads(file.read(_NOTE_BYTES)))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return (z, y, x) if min(z, y, x) > 0 else None
