"""How a pass gets its function run on blocks: the contract, and blocks of arrays in memory by threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

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
    sampled: bool = False
    """Whether it runs on boxes of a sample: one that fails is left out of the sample, and no block of the run fails."""


STATISTICS = "statistics"
"""The step whose failures all parts of a run share."""


class Runner(Protocol):
    """Runs functions on blocks."""

    failed_blocks: list[FailedBlock]
    """Blocks whose function failed so far; later steps leave them out."""

    def run(self, step: Step, function: BlockFunction, blocks: Sequence[Box], /) -> None:
        """Run a step on those of some blocks that are not finished yet."""

    def results(self, name: str, function: BlockFunction, blocks: Sequence[Box], /) -> list[Any]:
        """Return what a function returns for each block; a block that fails is an error."""


class ThreadRunner:
    """Runs functions on blocks of arrays in memory; the first exception ends the run."""

    def __init__(self, workspace: Workspace, threads: Executor) -> None:
        self.failed_blocks: list[FailedBlock] = []
        self._workspace = workspace
        self._threads = threads

    def run(self, step: Step, function: BlockFunction, blocks: Sequence[Box]) -> None:
        """Run a step on blocks."""
        self.results(step.name, function, blocks)

    def results(self, _name: str, function: BlockFunction, blocks: Sequence[Box]) -> list[Any]:
        """Return what a function returns for each block."""
        return list(self._threads.map(partial(function, self._workspace), blocks))
