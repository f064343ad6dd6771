"""Voxels to and from BOSS, within what `intern` does well.

It looks up no names and decides nothing about masks. Left alone, `intern` forks processes for large cutouts, even when
asked not to, skips uploads of zeros and checks neither shape nor type of what it sends; so every request here is of one
piece, small enough to be sent as it is, and checked.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import requests
from blosc.blosc_extension import error as BloscError  # noqa: N812 - it is a class, whatever its spelling
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray

from nd_synapse.boss.catalog import RESOLUTION
from nd_synapse.boss.connection import call
from nd_synapse.boss.errors import reply_of
from nd_synapse.boss.retry import UNREADABLE_ATTEMPTS
from nd_synapse.boss.transport import counting_repeats, expecting
from nd_synapse.errors import DataError, UnavailableError
from nd_synapse.geometry import Box

__all__ = ["CUBOID", "REQUEST_VOXELS", "erase_block", "pieces_of", "read_cutout", "request_size", "write_block"]

log = logging.getLogger(__name__)

CUBOID = (16, 512, 512)  # how BOSS stores voxels, z, y, x

# intern splits a read of more than 60.3 million voxels, and a write of more than 67.1 million, in its own ways; BOSS
# refuses more than 272 million. Eight cuboids are far below all of them, and 268 MB at 8 bytes a voxel.
REQUEST_VOXELS = 8 * math.prod(CUBOID)

_Result = TypeVar("_Result")


def request_size(shape: Sequence[int]) -> tuple[int, int, int]:
    """Choose the size of one request for a box: whole cuboids, long in x rather than deep."""
    cuboids = [1, 1, 1]
    for axis in (2, 1, 0):
        # One more than fits in: a box may begin in the middle of a cuboid.
        while cuboids[axis] * CUBOID[axis] < shape[axis] + CUBOID[axis]:
            longer = [n + (a == axis) for a, n in enumerate(cuboids)]
            extents = (n * size for n, size in zip(longer, CUBOID, strict=True))
            if math.prod(min(extent, whole) for extent, whole in zip(extents, shape, strict=True)) > REQUEST_VOXELS:
                break
            cuboids = longer
    z, y, x = (n * size for n, size in zip(cuboids, CUBOID, strict=True))
    return (z, y, x)


def pieces_of(box: Box) -> list[Box]:
    """Return what of a box each request reads."""
    return [box] if box.voxels <= REQUEST_VOXELS else list(box.tiles(request_size(box.shape), aligned=True))


def read_cutout(remote: BossRemote, channel: ChannelResource, box: Box) -> NDArray[Any]:
    """Read a box of a channel, in as many requests as are needed.

    Parameters
    ----------
    remote : BossRemote
        The connection.
    channel : ChannelResource
        A channel with its datatype, as `find_channel` returns it.
    box : Box
        The voxels to read, within the frame.

    Returns
    -------
    ndarray
        Shape (z, y, x) of `box`, the channel's own dtype, C order. It is the caller's: writable, and no view of a
        buffer of `intern`, whose own answers are read-only or not depending on their size.

    Raises
    ------
    NDSynapseError
        See `boss.translation`.
    """
    requested = f"voxels {box} of {_name(channel)}"
    voxels = np.empty(box.shape, dtype=channel.datatype)
    for tile in pieces_of(box):
        answer = _read_tile(remote, channel, tile, requested)
        if answer.shape != tile.shape or answer.dtype != voxels.dtype:
            raise UnavailableError(
                requested,
                f"BOSS sent {answer.dtype} of shape {answer.shape} for {tile}",
                "Report it to the host's owner",
            )
        voxels[tile.slices(box.start)] = answer
    return voxels


def _read_tile(remote: BossRemote, channel: ChannelResource, tile: Box, requested: str) -> NDArray[Any]:
    """Read what one request holds."""
    z, y, x = tile.ranges

    def read() -> NDArray[Any]:
        with expecting(tile.voxels * np.dtype(channel.datatype).itemsize):
            voxels: NDArray[Any] = remote.get_cutout(channel, RESOLUTION, list(x), list(y), list(z), parallel=False)
            return voxels

    for attempt in range(1, UNREADABLE_ATTEMPTS + 1):
        try:
            return _voxels_call(remote, requested, read)
        except UnavailableError as error:
            if attempt == UNREADABLE_ATTEMPTS or not isinstance(error.__cause__, BloscError):
                raise
            log.warning("%s: what came cannot be unpacked; asking again", requested)
    raise AssertionError("the last attempt returns or raises")


def write_block(remote: BossRemote, channel: ChannelResource, box: Box, voxels: NDArray[Any]) -> int:
    """Write voxels: those that are not zero replace what was there, zeros change nothing, as BOSS has it.

    Parameters
    ----------
    remote : BossRemote
        The connection.
    channel : ChannelResource
        The channel.
    box : Box
        Where they go; at most `REQUEST_VOXELS`.
    voxels : ndarray
        Shape (z, y, x) of `box`, dtype of the channel.

    Returns
    -------
    int
        Attempts that failed before: BOSS may still carry each of them out.

    Raises
    ------
    NDSynapseError
        See `boss.translation`; `DataError` if shape, type or size are wrong: nothing is sent then.
    """
    requested = f"writing {box} of {_name(channel)}"
    if voxels.shape != box.shape or voxels.dtype != np.dtype(channel.datatype) or box.voxels > REQUEST_VOXELS:
        raise DataError(
            requested,
            f"the block is {voxels.dtype} of shape {voxels.shape}",
            f"It must be {channel.datatype} of shape {box.shape}, at most {REQUEST_VOXELS} voxels",
        )
    z, y, x = box.ranges
    return _repeats(
        remote, requested, lambda: remote.create_cutout(channel, RESOLUTION, list(x), list(y), list(z), voxels)
    )


def erase_block(remote: BossRemote, channel: ChannelResource, box: Box) -> int:
    """Set all voxels of a box to zero."""
    z, y, x = box.ranges
    return _repeats(
        remote,
        f"erasing {box} of {_name(channel)}",
        lambda: remote.create_cutout_to_black(channel, RESOLUTION, list(x), list(y), list(z)),
    )


def _repeats(remote: BossRemote, requested: str, function: Callable[[], object]) -> int:
    """Make one call that changes voxels; return how many of its attempts were given up."""
    with counting_repeats() as repeats:
        _voxels_call(remote, requested, function)
    return repeats.count


def _voxels_call(remote: BossRemote, requested: str, function: Callable[[], _Result]) -> _Result:
    """Make one call of the volume service, and find out what its status 500 means."""
    try:
        return call(remote, requested, function)
    except UnavailableError as error:
        cause = error.__cause__
        if isinstance(cause, requests.HTTPError) and reply_of(cause).status == 500:
            # BOSS answers so to a token that it does not know, too; a question in JSON gets the true answer.
            call(remote, requested, remote.list_collections)
        raise


def _name(channel: ChannelResource) -> str:
    return f"channel {channel.coll_name}/{channel.exp_name}/{channel.name}"
