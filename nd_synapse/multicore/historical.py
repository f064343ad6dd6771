"""The historical functions of nd-multicore: one block at a time, in the caller's process."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nd_synapse.blocks.grid import blocks_of, key_of
from nd_synapse.errors import UsageError, called
from nd_synapse.geometry import Box, Range

if TYPE_CHECKING:
    from nd_synapse.boss.resource import NeuroDataResource

__all__ = ["Block", "BlockFunction", "compute_blocks", "get_data", "in_xyz", "job", "three_numbers", "zyx"]

log = logging.getLogger(__name__)

DataDict = dict[str, NDArray[Any]]

BlockFunction = Callable[[DataDict], Any]
"""What runs on a block: channel to voxels (z, y, x) in; `run` says what may come out."""


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
        return key_of(self.box)


def in_xyz(value: str) -> str:
    """Return a block size of z, y, x as the historical argument."""
    return f"block_size=({', '.join(reversed(value.split(',')))})" if value[:1].isdigit() else "block_size"


@called(block_size=in_xyz)
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
        They cover the box once, z slowest; they are cut at multiples of the size from voxel 0 of the volume.

    Raises
    ------
    UsageError
        If the size is not three whole numbers from 1 upwards, or so small that there would be more than a million.
    """
    return [Block(*box.ranges) for box in blocks_of(resource.box, zyx(block_size))]


def zyx(block_size: Sequence[int]) -> tuple[int, int, int]:
    """Return a block size in the order z, y, x."""
    x, y, z = three_numbers("block size", block_size, 1, "Give x, y, z")
    return z, y, x


def three_numbers(what: str, given: Sequence[int], least: int, remedy: str) -> tuple[int, int, int]:
    """Check three whole numbers, from the least upwards."""
    try:
        first, second, third = (operator.index(number) for number in given)
    except (TypeError, ValueError):
        first = second = third = least - 1
    if min(first, second, third) < least:
        raise UsageError(f"{what} {given!r}", f"it is not three whole numbers from {least} upwards", remedy)
    return first, second, third


@called()
def get_data(resource: NeuroDataResource, block: Block) -> Block:
    """Pull the requested channels of a block.

    Parameters
    ----------
    resource : NeuroDataResource
        The resource.
    block : Block
        The block; its `data` become channel to voxels, shape (z, y, x), in the channel's type.

    Returns
    -------
    Block
        The same block.
    """
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    block.data = {channel: resource.get_cutout(channel, *block.box.ranges) for channel in channels}
    return block


@called()
def job(block: Block, resource: NeuroDataResource, function: BlockFunction | None = None) -> str | None:
    """Run a function on the data of one block.

    Parameters
    ----------
    block : Block
        The block.
    resource : NeuroDataResource
        Where its data come from.
    function : callable, optional
        Takes a dictionary of channel to voxels (z, y, x); what it returns is not kept. By default, the data are pulled
        and nothing is done with them.

    Returns
    -------
    str or None
        The block's key, ``<z>_<y>_<x>`` of its start; None if the function raised, which is logged.

    Raises
    ------
    NDSynapseError
        If the data cannot be pulled.
    """
    # a block of its own: that of the caller does not keep the voxels
    data = get_data(resource, Block(*block.box.ranges)).data
    try:
        if function is not None:
            function(data or {})
    except Exception:  # whatever a user's function raises costs its block alone, as it always did
        name = getattr(function, "__name__", type(function).__name__)
        log.exception("%s on block %s raised an error; correct the function", name, block.box)
        return None
    return block.key
