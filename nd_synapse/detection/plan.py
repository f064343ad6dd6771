"""What one detection is to do, as one frozen value, with the fingerprints that tell finished work from foreign work.

It runs nothing; `passes` does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from nd_synapse.blocks.grid import blocks_of
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.detection.windows import WINDOW_NM, Reach, window
from nd_synapse.geometry import Box
from nd_synapse.importing import load_function
from nd_synapse.pipeline.contract import Finding, Pipeline
from nd_synapse.pipeline.function import FunctionPipeline
from nd_synapse.volumes import Source

__all__ = [
    "Plan",
    "code",
    "code_of",
    "remembered_block_size",
]

_NOTE_BYTES = 1000
"""Largest note of a block size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one detection reads and where it works.

    Parameters
    ----------
    source : Source
        Where voxels come from.
    box : Box
        The requested volume.
    pipeline : Pipeline
        The detector, its parameters set.
    roles : mapping of str to str
        Role to channel.
    channels : tuple of str
        Channels to measure in the objects; with those of `roles` these are pulled.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    block_size : tuple of int
        Largest extent of a block along z, y, x.
    folder : Path
        Scratch folder; it exists.
    window_nm : tuple of float
        How far the window round a synapse reaches from its centroid's voxel along z, y, x.
    region : Box or None
        What is pulled: the blocks of a part of the run with their halo. None is the whole box. It shows in no
        fingerprint but that of the tiles.
    code : str
        Fingerprint of the code that computes; drawn by the constructor. Workers get it, so that all go by one name
        whatever happens to the files of an installation while a job runs.
    """

    source: Source
    box: Box
    pipeline: Pipeline
    roles: Mapping[str, str]
    channels: tuple[str, ...]
    voxel_size_nm: tuple[float, float, float]
    block_size: tuple[int, int, int]
    folder: Path
    window_nm: tuple[float, float, float] = WINDOW_NM
    region: Box | None = None
    code: str = ""

    def __post_init__(self) -> None:
        """Draw the fingerprint of the code."""
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
        facts = _Facts(self.source.identity, {channel: self.source.dtype(channel) for channel in self.pulled()})
        return replace(self, source=cast("Source", facts))

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) on each side of a block that the pipeline reads."""
        return self.pipeline.halo(self.voxel_size_nm)

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
        return Tiles(self.store(), kind, self.pulled(), self.region or self.box, self.block_size, self._dtypes())

    def _dtypes(self) -> dict[str, np.dtype[Any]]:
        """Return the type of each channel that is pulled."""
        return {channel: self.source.dtype(channel) for channel in self.pulled()}

    def _input_kind(self) -> str:
        """Return what the voxels of the box are called, cut into tiles."""
        # in their order, by which the files are named
        names = [(channel, str(dtype)) for channel, dtype in self._dtypes().items()]
        return _kind("tiles", self.source.identity, names, self.box.ranges, self.block_size)

    def statistics_kind(self) -> str:
        """Return what the statistics of blocks are called: other code or parameters, another name."""
        pipeline = (self.pipeline.name, dict(self.pipeline.settings))
        return _kind("statistics", self._input_kind(), self.code, pipeline, dict(self.roles), self.voxel_size_nm)

    def parts_kind(self, finding: Finding) -> str:
        """Return what the measured parts of blocks are called."""
        return _kind("parts", self.statistics_kind(), finding, self.channels)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What workers know of a source: enough to name and read its tiles, and neither a connection nor a token."""

    identity: str
    dtypes: Mapping[str, np.dtype[Any]]

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels."""
        return self.dtypes[channel]


def _kind(name: str, *what: Any) -> str:
    """Return a name that differs wherever what was computed may differ."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    return f"{name}-{digest[:16]}"


@cache
def code() -> str:
    """Return a fingerprint of the code that computes: our own sources of detections and pipelines."""
    package = Path(__file__).resolve().parent.parent
    folders = [package / name for name in ("blocks", "detection", "pipeline")]
    digest = hashlib.sha256()
    for path in [*sorted(file for folder in folders for file in folder.glob("*.py")), package / "geometry.py"]:
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    for library in ("numpy", "connected-components-3d"):
        digest.update(metadata.version(library).encode())
    return digest.hexdigest()[:16]


def remembered_block_size(folder: Path) -> tuple[int, int, int] | None:
    """Return the block size of the run that worked in a scratch folder before.

    A run that is to go on with its blocks must cut them alike, whatever the machine that it goes on on would choose.
    """
    try:
        with (folder / "block_size.json").open("rb") as file:
            z, y, x = (int(n) for n in json.loads(file.read(_NOTE_BYTES)))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return (z, y, x) if min(z, y, x) > 0 else None


def code_of(pipeline: Pipeline) -> str:
    """Return a fingerprint of the package, or the lone module, that a pipeline or its function was written in."""
    written = load_function(pipeline.target) if isinstance(pipeline, FunctionPipeline) else type(pipeline)
    try:
        source = Path(inspect.getsourcefile(written) or "")
        package = sys.modules[written.__module__].__package__
        sources = sorted(source.parent.glob("*.py")) if package else [source]
        digest = hashlib.sha256()
        for source in sources:
            digest.update(source.read_bytes())
        return digest.hexdigest()[:16]
    except (KeyError, OSError, TypeError):
        return ""
