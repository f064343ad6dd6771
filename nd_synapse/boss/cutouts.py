"""Voxels to and from BOSS, in requests of one piece; it looks up no names and decides nothing about masks.

`intern` builds the requests. They are sent here, because its own calls fork processes for large cutouts, skip uploads
of zeros, unpack whatever arrives, and check neither shape nor type of what they send.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections.abc import Sequence
from typing import Any

import blosc
import numpy as np
import requests
from blosc.blosc_extension import error as BloscError  # noqa: N812 - it is a class, whatever its spelling
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
from intern.service.boss.v1.volume import CacheMode
from numpy.typing import NDArray

from nd_synapse.boss.catalog import RESOLUTION
from nd_synapse.boss.connection import call, send, url_for
from nd_synapse.boss.errors import reply_of
from nd_synapse.errors import DataError, UnavailableError
from nd_synapse.geometry import Box

__all__ = [
    "CUBOID",
    "REQUEST_VOXELS",
    "check_access",
    "erase_block",
    "pieces_of",
    "read_cutout",
    "request_size",
    "write_block",
]

log = logging.getLogger(__name__)

CUBOID = (16, 512, 512)  # how BOSS stores voxels, z, y, x

# BOSS refuses requests of more than 272 million voxels. Eight cuboids are far below, and 268 MB at 8 bytes a voxel.
REQUEST_VOXELS = 8 * math.prod(CUBOID)

_READ_ATTEMPTS = 3
"""How often voxels are requested that arrive damaged, beside the retries of each request."""

_BLOSC_HEADER_BYTES = 16


def request_size(shape: Sequence[int], itemsize: int = 1) -> tuple[int, int, int]:
    """Choose the size of one request for a box: whole cuboids, long in x rather than deep, of as many bytes at most."""
    cuboids = [1, 1, 1]
    for axis in (2, 1, 0):
        # One more than fits in: a box may begin in the middle of a cuboid.
        while cuboids[axis] * CUBOID[axis] < shape[axis] + CUBOID[axis]:
            longer = [n + (a == axis) for a, n in enumerate(cuboids)]
            extents = (n * size for n, size in zip(longer, CUBOID, strict=True))
            if itemsize * math.prod(map(min, extents, shape)) > REQUEST_VOXELS:
                break
            cuboids = longer
    z, y, x = (n * size for n, size in zip(cuboids, CUBOID, strict=True))
    return (z, y, x)


def pieces_of(box: Box) -> list[Box]:
    """Return the part of a box that each request reads."""
    return [box] if box.voxels <= REQUEST_VOXELS else list(box.tiles(request_size(box.shape), aligned=True))


def read_cutout(remote: BossRemote, channel: ChannelResource, box: Box, level: int = RESOLUTION) -> NDArray[Any]:
    """Read a box of a channel: shape (z, y, x) of `box`, the channel's dtype, C order, writable."""
    voxels = np.empty(box.shape, dtype=channel.datatype)
    for piece in pieces_of(box):
        voxels[piece.slices(box.start)] = _read_piece(remote, channel, piece, level)
    return voxels


def _read_piece(remote: BossRemote, channel: ChannelResource, box: Box, level: int) -> NDArray[Any]:
    """Read the voxels of one request: shape (z, y, x) of `box`, the channel's dtype, read-only."""
    requested = f"voxels {box} of {_name(channel)}"
    for attempt in range(1, _READ_ATTEMPTS + 1):
        response = _request(remote, channel, box, requested, "GET", level=level)
        try:
            return _unpack(response, box, np.dtype(channel.datatype))
        except (ValueError, BloscError) as error:
            if attempt == _READ_ATTEMPTS:
                raise UnavailableError(
                    requested,
                    f"{url_for(remote)} answered with something that does not make sense: {error}, after the retries",
                    "Check that --host is a BOSS host, and the connection to it; then try again",
                ) from error
            log.warning("%s: %s; trying again", requested, error)
    raise AssertionError("the last attempt returns or raises")


def _unpack(response: requests.Response, box: Box, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the voxels of a response, shape (z, y, x) of `box`; raise ValueError if it holds anything else."""
    body = response.content
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    sent_digest = response.headers.get("Content-Digest", "")  # RFC 9530 (2024); most servers send none
    if "sha-256=" in sent_digest and f"sha-256=:{digest}:" not in sent_digest:
        raise ValueError("it differs from the digest that was sent with it")
    if len(body) < _BLOSC_HEADER_BYTES:
        raise ValueError(f"its {len(body)} bytes are not packed voxels")
    # The sizes in its header are compared before memory is allocated for them.
    unpacked, packed, _ = blosc.get_cbuffer_sizes(body)
    if packed != len(body):
        raise ValueError(f"its {len(body):,} bytes are not packed voxels, or not all of them")
    if unpacked != box.voxels * dtype.itemsize:
        raise ValueError(f"it has {unpacked:,} bytes of voxels instead of {box.voxels * dtype.itemsize:,}")
    return np.frombuffer(blosc.decompress(body), dtype).reshape(box.shape)


def write_block(remote: BossRemote, channel: ChannelResource, box: Box, voxels: NDArray[Any]) -> int:
    """Write `voxels`, shape (z, y, x) of `box`; BOSS keeps its own where they are 0. Return the attempts that failed.

    BOSS may still carry out each attempt that failed.
    """
    requested = f"writing {box} of {_name(channel)}"
    if voxels.shape != box.shape or voxels.dtype != np.dtype(channel.datatype) or box.voxels > REQUEST_VOXELS:
        raise DataError(
            requested,
            f"the block is {voxels.dtype} of shape {voxels.shape}",
            f"It must be {channel.datatype} of shape {box.shape}, at most {REQUEST_VOXELS} voxels",
        )
    body = blosc.compress(np.ascontiguousarray(voxels), typesize=voxels.itemsize)
    return _repeats(_request(remote, channel, box, requested, "POST", body))


def erase_block(remote: BossRemote, channel: ChannelResource, box: Box) -> int:
    """Set all voxels of a box to zero; return the attempts that failed."""
    return _repeats(_request(remote, channel, box, f"erasing {box} of {_name(channel)}", "PUT"))


def check_access(remote: BossRemote, channel: ChannelResource, box: Box) -> None:
    """Refuse a channel whose voxels may not be read or cannot be written now; no voxel is changed."""
    read_cutout(remote, channel, _first_voxel(box))
    _write_nothing(remote, channel, box)


def _write_nothing(remote: BossRemote, channel: ChannelResource, box: Box) -> None:
    """Write a zero, which changes no voxel but needs all that a write needs."""
    first = _first_voxel(box)
    write_block(remote, channel, first, np.zeros(first.shape, channel.datatype))


def _first_voxel(box: Box) -> Box:
    return Box(*((start, start + 1) for start in box.start))


def _repeats(response: requests.Response) -> int:
    """Return the attempts that failed before this response; a client that `connect` did not make has none."""
    return int(getattr(response.raw, "repeats", 0))


def _request(
    remote: BossRemote,
    channel: ChannelResource,
    box: Box,
    requested: str,
    method: str,
    body: bytes | None = None,
    level: int = RESOLUTION,
) -> requests.Response:
    """Send one request of the volume service: GET reads a box, POST writes it, PUT erases it."""
    service = remote.volume_service
    z, y, x = (list(ends) for ends in box.ranges)
    where = (channel, method, "application/blosc", service.url_prefix, service.auth, level, x, y, z, None)
    match method:
        case "GET":
            request = service.service.get_cutout_request(*where, access_mode=CacheMode.no_cache)
            request.headers["Accept"] = "application/blosc"
        case "POST":
            request = service.service.get_cutout_request(*where, numpyVolume=body)
        case _:
            request = service.service.get_cutout_to_black_request(*where)
    try:
        return call(remote, requested, lambda: send(service, request, 201 if method == "POST" else 200))
    except UnavailableError as error:
        reply = reply_of(error)
        if reply is not None and reply.status == 500:
            # BOSS answers so to a token that it does not know, too; a request for JSON gets the true reason.
            call(remote, requested, remote.list_collections)
            if method == "PUT":  # and to an erase in a locked channel; a write gets the true reason
                _write_nothing(remote, channel, box)
        raise


def _name(channel: ChannelResource) -> str:
    return f"channel {channel.coll_name}/{channel.exp_name}/{channel.name}"
