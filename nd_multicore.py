"""Any function on every block of a BOSS volume: the framework known as nd-multicore.

It knows nothing of synapses, and its pool is `block_pool`'s, as the job's is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from block_pool import BlockPool, default_cpus
from box import Box, Range
from errors import DataError, NDSynapseError, UsageError
from NeuroDataResource import NeuroDataResource, get_boss_resource

__all__ = ["Block", "compute_blocks", "get_data", "job", "run_parallel"]

DataDict = dict[str, NDArray[Any]]


class Block:
    """A block in the historical form.

    Parameters
    ----------
    z_range, y_range, x_range : tuple of int
        Half-open ranges.
    """

    def __init__(self, z_range: Range, y_range: Range, x_range: Range) -> None:
        self.box = Box(z_range, y_range, x_range)
        self.z_start, self.z_end = self.box.z
        self.y_start, self.y_end = self.box.y
        self.x_start, self.x_end = self.box.x
        self.data: DataDict | None = None

    @property
    def key(self) -> str:
        """The block's start as ``<z>_<y>_<x>``."""
        return "_".join(str(start) for start in self.box.start)


def compute_blocks(resource: NeuroDataResource, block_size: Sequence[int] = (1000, 1000, 10)) -> list[Block]:
    """Cut the box of a resource into blocks.

    Parameters
    ----------
    resource : NeuroDataResource
        The resource.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.

    Returns
    -------
    list of Block
        They cover the box once; z slowest.

    Raises
    ------
    UsageError
        If the size is not three numbers from 1 upwards.
    """
    try:
        x, y, z = (int(n) for n in block_size)
    except (TypeError, ValueError):
        raise UsageError(f"block size {block_size!r}", "it is not three whole numbers", "Give x, y, z") from None
    return [Block(*box.ranges) for box in resource.box.tiles((z, y, x))]


def get_data(resource: NeuroDataResource, block: Block) -> Block:
    """Pull the requested channels of a block.

    Parameters
    ----------
    resource : NeuroDataResource
        The resource.
    block : Block
        The block; it is not changed.

    Returns
    -------
    Block
        The same block with `data`: channel to voxels, shape (z, y, x), in the channel's type.
    """
    filled = Block(*block.box.ranges)
    filled.data = {channel: resource.get_cutout(channel, *block.box.ranges) for channel in resource.requested_channels}
    return filled


def job(block: Block, resource: NeuroDataResource, function: Callable[[DataDict], Any]) -> str:
    """Run a function on the data of one block.

    Parameters
    ----------
    block : Block
        The block.
    resource : NeuroDataResource
        Where its data come from.
    function : callable
        Takes a dictionary of channel to voxels (z, y, x); what it returns is not kept: it saves what it wants to keep.

    Returns
    -------
    str
        The block's key, ``<z>_<y>_<x>`` of its start.

    Raises
    ------
    DataError
        If the function raises; the cause is attached.
    """
    data = get_data(resource, block).data
    try:
        function(data or {})
    except NDSynapseError:
        raise
    except Exception as error:  # a user's function may raise anything; its block has to be named
        name = getattr(function, "__name__", repr(function))
        raise DataError(
            f"{name} on block {block.box}", f"{type(error).__name__}: {error}", "Correct the function"
        ) from error
    return block.key


_RESOURCE: NeuroDataResource | None = None


def _open_resource(resource: NeuroDataResource) -> None:
    """Keep the resource in this worker, so that its connection is opened once."""
    global _RESOURCE
    _RESOURCE = resource


def _job_of_box(box: Box, function: Callable[[DataDict], Any]) -> str:
    """Run `job` with this worker's resource."""
    if _RESOURCE is None:
        raise NDSynapseError("a block in a worker", "the worker has no resource", "Report this as a defect")
    return job(Block(*box.ranges), _RESOURCE, function)


def run_parallel(
    config_file: str | Path,
    function: Callable[[DataDict], Any],
    cpus: int | None = None,
    block_size: Sequence[int] = (1000, 1000, 10),
) -> list[str]:
    """Run a function on every block of the box in a ``neurodata.cfg``.

    Parameters
    ----------
    config_file : str or Path
        The ``neurodata.cfg``.
    function : callable
        Takes a dictionary of channel to voxels (z, y, x); importable by name.
    cpus : int, optional
        Worker processes; all cores but one where not given, at least one.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.

    Returns
    -------
    list of str
        Keys of the blocks, in the order of the blocks.

    Raises
    ------
    NDSynapseError
        If data cannot be had or the function raises.
    """
    resource = get_boss_resource(config_file)
    blocks = compute_blocks(resource, block_size)
    with BlockPool(default_cpus() if cpus is None else cpus, _open_resource, (resource,)) as pool:
        keys = dict(pool.run(partial(_job_of_box, function=function), [block.box for block in blocks]))
    return [keys[block.box] for block in blocks]


def _main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m nd_multicore neurodata.cfg package.module:function``."""
    parser = argparse.ArgumentParser(prog="nd_multicore", description="Run a function on every block of a BOSS volume.")
    parser.add_argument("config", help="neurodata.cfg with the box and the channels")
    parser.add_argument(
        "function", help="package.module:function, called with a dictionary of channel to (z, y, x) array"
    )
    parser.add_argument("--cpus", type=int, help="worker processes (default: all cores but one, at least one)")
    parser.add_argument("--block-size", default="10,1000,1000", metavar="Z,Y,X", help="default: %(default)s")
    options = parser.parse_args(argv)
    try:
        function = _import_function(options.function)
        z_y_x = options.block_size.split(",")
        keys = run_parallel(options.config, function, options.cpus, z_y_x[::-1])
    except NDSynapseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{key}\n" for key in keys))
    return 0


def _import_function(path: str) -> Callable[[DataDict], Any]:
    """Import ``package.module:function`` from the working folder or the environment."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"function {path!r}", "it is not of the form package.module:function", "Write it so")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function: Callable[[DataDict], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"function {path!r}", str(error), "Check module and function name") from error
    return function


if __name__ == "__main__":
    sys.exit(_main())
