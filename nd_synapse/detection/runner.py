"""How a pass gets its function run on blocks: the contract, and blocks of arrays in memory by threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.detection.windows import Reach
from nd_synapse.detection.workspace import BlockFunction, Workspace
from nd_synapse.geometry import Box

__all__ = ["STATISTICS", "Runner", "Step", "ThreadRunner"]


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over blocks."""

    name: str
    kinds: tuple[str, ...]
    """What it saves of each block, in this order: with the last one a block is finished."""
    halo: Reach | None = None
    """What it reads of the images around a block; None if it reads none."""
    shared: bool = True
    """Whether other parts of the run get what it finished."""
    wanted: bool = True
    """Whether what other parts finished is fetched; else their blocks are only left out."""
    reads: Mapping[Box, Sequence[Box]] = field(default_factory=dict)
    """Of blocks that read other voxels than their own: which, without the halo."""
    fails_for_all: bool = False
    """Whether other parts of the run hear of blocks that fail."""
    vital: bool = False
    """Whether a block that fails ends the run: what is left of a run without it would contradict itself."""
    sampled: bool = False
    """Whether it runs on boxes of a sample: one that fails is no failed block. It is left out, if that is not vital."""


STATISTICS = "statistics"
"""The step whose failures all parts of a run share."""


class Runner(Protocol):
    """Runs functions on blocks."""

    failed_blocks: list[FailedBlock]
    """Blocks whose function failed so far; later steps leave them out."""

    def run(self, step: Step, function: BlockFunction, blocks: Sequence[Box], /) -> None:
        """Run a step on those of some blocks that are not finished yet."""

    def missing(self, step: Step, blocks: Sequence[Box], /) -> list[Box]:
        """Return those of some blocks that are not finished; fetch what other parts of the run finished."""

    def leave(self, step: Step, blocks: Sequence[Box], /) -> None:
        """Leave what was made of blocks for the other parts of the run."""


class ThreadRunner:
    """Runs functions on blocks of arrays in memory; the first exception ends the run."""

    def __init__(self, workspace: Workspace, threads: Executor) -> None:
        self.failed_blocks: list[FailedBlock] = []
        self._workspace = workspace
        self._threads = threads

    def run(self, _step: Step, function: BlockFunction, blocks: Sequence[Box]) -> None:
        """Run a step on blocks."""
        list(self._threads.map(partial(function, self._workspace), blocks))

    def missing(self, _step: Step, blocks: Sequence[Box]) -> list[Box]:
        """Return all of the blocks: nothing is kept from run to run."""
        return list(blocks)

    def leave(self, step: Step, blocks: Sequence[Box]) -> None:
        """Leave nothing: there are no other parts."""
