"""Handlers of collections, coordinate frames, experiments and channels: rights, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response

from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES, Kind
from nd_synapse.local_boss.cutouts import UnservedError
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.requests import Call, check_role, forbidden, may
from nd_synapse.local_boss.responses import BossError, Code
from nd_synapse.local_boss.tokens import ANONYMOUS, Right

__all__ = ["NOT_DOWNSAMPLED", "answer", "list_names"]

NOT_DOWNSAMPLED = "NOT_DOWNSAMPLED"
"""The one downsample status here: nothing computes lower resolutions."""

Json = dict[str, object]
Names = Mapping[str, str]
Item = Collection | CoordinateFrame | Experiment | Channel


def list_names(kind: Kind[Any], call: Call, names: Names) -> Response:
    """List the resources that the caller may read; coordinate frames everybody may."""
    if kind is FRAMES:
        return JSONResponse({"coords": [item.name for item in call.boss.catalog.listed(FRAMES)]})
    if kind is COLLECTIONS and call.rights is ANONYMOUS:
        raise UnservedError  # the real server cannot list these to callers without a token
    try:
        found = call.boss.catalog.listed(kind, *names.values())
    except BossError as error:
        raise (UnservedError() if call.boss.strict else error) from error
    return JSONResponse({kind.table: [item.name for item in found if _allowed(call, "read", item)]})


def answer(kind: Kind[Any], call: Call, names: Names) -> Response:
    """Create, read, update or delete a resource.

    The role comes first, then existence, rights, whether it was deleted, and the fields.
    """
    catalog, path = call.boss.catalog, tuple(names.values())
    match call.method:
        case "POST":
            check_role(call.rights)
            if kind.parent is not None:
                _check(call, "add", catalog.get(kind.parent, *path[:-1]))
            made = catalog.create(kind, *path, fields=call.fields(), creator=call.rights.user)
            return JSONResponse(_shown(call, made), 201)
        case "PUT":
            _check(call, "update", catalog.get(kind, *path, deleted=True))
            return JSONResponse(_shown(call, catalog.update(kind, *path, fields=call.fields())))
        case "DELETE":
            check_role(call.rights)
            return _delete(call, kind, *path)
    _check(call, "read", catalog.get(kind, *path, deleted=True))
    return JSONResponse(_shown(call, catalog.get(kind, *path)))


def _delete(call: Call, kind: Kind[Any], *names: str) -> Response:
    _check(call, "delete", call.boss.catalog.get(kind, *names, deleted=True))
    try:
        call.boss.catalog.delete(kind, *names)
    except BossError as error:
        if error.code != Code.MARKED_FOR_DELETION:  # to delete twice is no fault
            raise
    return Response(status_code=204)


def _allowed(call: Call, right: Right, item: Item) -> bool:
    """Return whether the caller has a right; coordinate frames and what is public everybody may read."""
    open_to_all = isinstance(item, CoordinateFrame) or item.public
    return (right == "read" and open_to_all) or may(call.rights, right, item)


def _check(call: Call, right: Right, item: Item) -> None:
    if not _allowed(call, right, item):
        raise forbidden(f"Missing {right} permissions on the resource {item.name}")


def _shown(call: Call, item: Item) -> Json:
    """Return what is sent of a resource."""
    match item:
        case Collection():
            return _collection(call, item)
        case CoordinateFrame():
            return {name: value for name, value in asdict(item).items() if name not in ("id", "creator")}
        case Experiment():
            return _experiment(call, item)
        case Channel():
            return _channel(item)


def _public_fields(item: Collection | Experiment | Channel) -> Json:
    return {"name": item.name, "public": item.public, "description": item.description, "creator": item.creator}


def _collection(call: Call, item: Collection) -> Json:
    inside = call.boss.catalog.listed(EXPERIMENTS, item.name)
    readable = [experiment.name for experiment in inside if _allowed(call, "read", experiment)]
    return {**_public_fields(item), "experiments": readable}


def _experiment(call: Call, item: Experiment) -> Json:
    inside = call.boss.catalog.listed(CHANNELS, item.collection, item.name)
    unit = item.time_step_unit
    if unit is None and not call.boss.strict:
        unit = "seconds"  # the real server says null, on which its own client stumbles
    return {
        **_public_fields(item),
        "channels": [channel.name for channel in inside if _allowed(call, "read", channel)],
        "collection": item.collection,
        "coord_frame": item.coord_frame,
        "num_hierarchy_levels": item.num_hierarchy_levels,
        "hierarchy_method": item.hierarchy_method,
        "num_time_samples": item.num_time_samples,
        "time_step": item.time_step,
        "time_step_unit": unit,
    }


def _channel(item: Channel) -> Json:
    return {
        **_public_fields(item),
        "experiment": item.experiment,
        "default_time_sample": item.default_time_sample,
        "type": item.type,
        "base_resolution": item.base_resolution,
        "datatype": item.datatype,
        "sources": list(item.sources),
        "downsample_status": NOT_DOWNSAMPLED,
        "related": list(item.related),
        "storage_type": "spdb",
        "bucket": None,
        "cv_path": None,
    }
