"""Handlers of cutouts, object ids, bounding boxes, metadata and the downsample status: rights, and replies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from nd_synapse.errors import StorageError
from nd_synapse.local_boss import metadata as stored_metadata
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES, Kind, check_total_name
from nd_synapse.local_boss.codec import pack, unpack
from nd_synapse.local_boss.cutouts import (
    Cutout,
    UnservedError,
    check_access_mode,
    check_annotation,
    check_resolution,
    check_served,
    check_size,
    parse_cutout,
    parse_ids,
    whole,
)
from nd_synapse.local_boss.models import Channel, CoordinateFrame, Experiment
from nd_synapse.local_boss.requests import BLOSC, JSON, Call, Resource, UnacceptableError, forbidden, may
from nd_synapse.local_boss.responses import BossError, Code, MissingError, digest
from nd_synapse.local_boss.routes_resources import NOT_DOWNSAMPLED
from nd_synapse.local_boss.tokens import Right
from nd_synapse.local_boss.voxels import CHUNK

__all__ = [
    "bounding_box",
    "downsample",
    "get_cutout",
    "ids",
    "metadata",
    "post_cutout",
    "reserve",
    "to_black",
]

logger = logging.getLogger(__name__)

LARGEST_UPLOAD_BYTES = 550 * 2**20
"""What the proxy in front of the real server lets through."""

METADATA_RIGHTS: Mapping[str, Right] = {"GET": "read", "POST": "add", "PUT": "update", "DELETE": "delete"}

Names = Mapping[str, str]


def get_cutout(call: Call, names: Names) -> Response:
    """Return the voxels of a box, only those of the objects in ``filter`` if it is given."""
    check_access_mode(call.query, call.boss.strict)
    cutout = _cutout(call, names, "read_volumetric_data", public=True)
    wanted = call.query.get("filter")
    if wanted:
        check_annotation(cutout.channel, "objects to filter by")
    check_size(cutout)
    check_served(cutout.channel, cutout.resolution, reading=True)
    if call.media == JSON:
        raise UnservedError  # there the real server has its errors in JSON, but no voxels
    if call.media != BLOSC:
        raise UnacceptableError
    voxels = call.boss.voxels.read(cutout.channel, cutout.resolution, cutout.box, cutout.times)
    if wanted:
        largest = np.iinfo(voxels.dtype).max
        kept = np.array([number for number in parse_ids(wanted) if number <= largest], voxels.dtype)
        voxels = np.where(np.isin(voxels, kept), voxels, np.zeros((), voxels.dtype))
    body = pack(voxels)
    # Packed voxels have no check sum, and plain HTTP has none either.
    return Response(body, headers={"Content-Digest": digest(body)}, media_type=BLOSC)


def post_cutout(call: Call, names: Names) -> Response:
    """Lay voxels over those of a box."""
    cutout = _cutout(call, names, "add_volumetric_data")
    check_size(cutout)
    check_served(cutout.channel, cutout.resolution, reading=False)
    shape = cutout.shape if cutout.timed else cutout.box.shape
    voxels = unpack(call.body, shape, cutout.channel.datatype).reshape(cutout.shape)
    base = cutout.channel.base_resolution
    if cutout.resolution not in (base, base + 1):
        message = f"Error during write_cuboid: RESOLUTION_MISMATCH, resolution {cutout.resolution} cannot be written"
        raise BossError(400, Code.BOSS_SYSTEM_ERROR, message)
    try:
        call.boss.voxels.write(cutout.channel, cutout.resolution, cutout.box, cutout.times, voxels)
    except StorageError as error:
        logger.error("%s", error)  # noqa: TRY400 - reported, not a defect
        message = "Error during write_cuboid: the data folder cannot be written, see the log of the server"
        raise BossError(400, Code.BOSS_SYSTEM_ERROR, message) from error
    return Response(status_code=201, media_type="text/html")


def to_black(call: Call, names: Names) -> Response:
    """Set the voxels of a box to 0."""
    cutout = _cutout(call, names, "add_volumetric_data")
    check_size(cutout)
    check_served(cutout.channel, cutout.resolution, reading=False)
    call.boss.voxels.erase(cutout.channel, cutout.resolution, cutout.box, cutout.times)
    return Response(status_code=200, media_type="text/html")


def ids(call: Call, names: Names) -> Response:
    """List the objects in a box."""
    cutout = _cutout(call, names, "read_volumetric_data")
    check_annotation(cutout.channel, "object ids")
    check_served(cutout.channel, cutout.resolution, reading=True)
    found = np.zeros(1, cutout.channel.datatype)
    for _, _, voxels in call.boss.voxels.chunks(cutout.channel, cutout.resolution, cutout.box, cutout.times):
        found = np.union1d(found, voxels)
    return JSONResponse({"ids": [str(number) for number in found[1:].tolist()]})


def bounding_box(call: Call, names: Names) -> Response:
    """Return the box around an object: ``tight``, or ``loose``, that is in whole chunks."""
    how = call.query.get("type", "loose")
    if how not in ("loose", "tight"):
        raise BossError(400, Code.INVALID_ARGUMENT, "Invalid type of bounding box: give loose or tight.")
    channel, experiment, _ = _place(call, names)
    _check(call, "read_volumetric_data", channel)
    resolution, wanted = int(names["resolution"]), whole(names["id"])
    check_resolution(channel, experiment, resolution)
    check_annotation(channel, "objects")
    check_served(channel, resolution, reading=True)
    ranges = _around(call, channel, resolution, wanted, tight=how == "tight")
    if not ranges:
        raise BossError(404, Code.OBJECT_NOT_FOUND, f"Object {wanted} not found in channel {channel.name}")
    return JSONResponse({f"{axis}_range": ranges[axis] for axis in "xyzt"})


def _around(call: Call, channel: Channel, resolution: int, wanted: int, tight: bool) -> dict[str, list[int]]:
    """Return the ranges along t, z, y, x around an object, none if it is nowhere."""
    ranges: dict[str, list[int]] = {}
    if wanted > np.iinfo(channel.datatype).max:
        return ranges
    for time, chunk, voxels in call.boss.voxels.chunks(channel, resolution):
        hits = np.nonzero(voxels == wanted)
        if not len(hits[0]):
            continue
        if tight:
            part = [(a + int(hit.min()), a + int(hit.max()) + 1) for a, hit in zip(chunk.start, hits, strict=True)]
        else:
            part = [(a, a + n) for a, n in zip(chunk.start, CHUNK, strict=True)]
        for axis, (start, stop) in zip("tzyx", [(time, time + 1), *part], strict=True):
            known = ranges.setdefault(axis, [start, stop])
            known[:] = min(known[0], start), max(known[1], stop)
    return ranges


def reserve(call: Call, names: Names) -> Response:
    """Reserve object ids."""
    channel = _channel(call, names)
    _check(call, "add_volumetric_data", channel)
    if channel.type != "annotation":
        raise UnservedError
    first = stored_metadata.reserve_ids(call.boss.catalog.database, channel, whole(names["count"]))
    return JSONResponse({"start_id": first, "count": names["count"]})


def metadata(call: Call, names: Names) -> Response:
    """List, read, add, change or delete metadata keys."""
    resource = _resource(call, names)
    _check(call, METADATA_RIGHTS[call.method], resource)
    database, key, value = call.boss.catalog.database, call.query.get("key"), call.query.get("value")
    if call.method == "GET" and key is None:
        return JSONResponse({"keys": stored_metadata.list_metadata(database, resource)})
    if not key:
        raise BossError(400, Code.INVALID_POST_ARGUMENT, "Missing key in the request.")
    match call.method:
        case "GET":
            return JSONResponse({"key": key, "value": stored_metadata.get_metadata(database, resource, key)})
        case "DELETE":
            stored_metadata.delete_metadata(database, resource, key)
            return Response(status_code=204)
    if not value:
        raise BossError(400, Code.INVALID_POST_ARGUMENT, "Missing value in the request.")
    new = call.method == "POST"
    stored_metadata.put_metadata(database, resource, key, value, new)
    return Response(status_code=201 if new else 200, media_type="text/html")


def downsample(call: Call, names: Names) -> Response:
    """Return the extent and voxel size of every level; x, y, z order."""
    channel, experiment, frame = _place(call, names)
    _check(call, "read_volumetric_data", channel, public=True)
    levels = range(experiment.num_hierarchy_levels)  # from 0 in BOSS, whatever the channel's base resolution is
    isotropic = experiment.hierarchy_method == "isotropic"
    scales = {level: (2**level, 2**level, 2**level if isotropic else 1) for level in levels}
    size, extent = frame.voxel_size[::-1], [b - a for a, b in zip(frame.start, frame.stop, strict=True)][::-1]
    return JSONResponse(
        {
            "status": NOT_DOWNSAMPLED,
            "num_hierarchy_levels": experiment.num_hierarchy_levels,
            "voxel_size": {str(n): [a * b for a, b in zip(size, scale, strict=True)] for n, scale in scales.items()},
            "extent": {str(n): [-(-a // b) for a, b in zip(extent, scale, strict=True)] for n, scale in scales.items()},
            "cuboid_size": {str(n): list(CHUNK[::-1]) for n in scales},
        }
    )


def _cutout(call: Call, names: Names, right: Right, public: bool = False) -> Cutout:
    """Check existence, then rights, then ranges."""
    channel, experiment, frame = _place(call, names)
    _check(call, right, channel, public)
    return parse_cutout(channel, experiment, frame, names)


def _check(call: Call, right: Right, resource: Resource, public: bool = False) -> None:
    """Raise 403/3001 unless the caller has a right; `public` is whether the public flag gives it to everybody."""
    if not (public and resource.public) and not may(call.rights, right, resource):
        raise forbidden("This user does not have the required permissions")


def _place(call: Call, names: Names) -> tuple[Channel, Experiment, CoordinateFrame]:
    channel = _channel(call, names)
    experiment = call.boss.catalog.get(EXPERIMENTS, channel.collection, channel.experiment)
    return channel, experiment, call.boss.catalog.get(FRAMES, experiment.coord_frame)


def _channel(call: Call, names: Names) -> Channel:
    found = _resource(call, names)
    assert isinstance(found, Channel)
    return found


def _resource(call: Call, names: Names) -> Resource:
    """Return the innermost resource that is named; a missing one is reported as BOSS does for data."""
    path = [names[kind] for kind in ("collection", "experiment", "channel") if names.get(kind)]
    kind: Kind[Any] = (COLLECTIONS, EXPERIMENTS, CHANNELS)[len(path) - 1]
    try:
        found: Resource = call.boss.catalog.get(kind, *path)
    except MissingError as error:
        raise error.for_data() from error
    if call.boss.strict:
        _check_lookup(path)
    return found


def _check_lookup(path: list[str]) -> None:
    """Fail where the real server does: it cannot look up names that are too long together."""
    try:
        check_total_name(*path)
    except BossError as error:
        raise UnservedError from error
