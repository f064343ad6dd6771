"""Handlers of collections, coordinate frames, experiments and channels: rights, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from nd_synapse.local_boss.cutouts import UnservedError
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.requests import Call, check_read, check_role, check_write, may_read
from nd_synapse.local_boss.responses import BossError, Code
from nd_synapse.local_boss.tokens import ANONYMOUS

__all__ = [
    "NOT_DOWNSAMPLED",
    "channel",
    "channels",
    "collection",
    "collections",
    "experiment",
    "experiments",
    "frame",
    "frames",
]

NOT_DOWNSAMPLED = "NOT_DOWNSAMPLED"
"""The one downsample status here: nothing computes lower resolutions."""

Json = dict[str, object]
Names = Mapping[str, str]


def collections(call: Call, _names: Names) -> Response:
    """List the collections that the caller may read."""
    _check_known(call)
    readable = [item.name for item in call.boss.catalog.list_collections() if may_read(call.rights, item)]
    return JSONResponse({"collections": readable})


def experiments(call: Call, names: Names) -> Response:
    """List the experiments of a collection that the caller may read."""
    _check_known(call)
    try:
        found = call.boss.catalog.list_experiments(names["collection"])
    except BossError as error:
        raise _of_a_missing_parent(call, error) from error
    return JSONResponse({"experiments": [item.name for item in found if may_read(call.rights, item)]})


def channels(call: Call, names: Names) -> Response:
    """List the channels of an experiment that the caller may read."""
    _check_known(call)
    try:
        found = call.boss.catalog.list_channels(names["collection"], names["experiment"])
    except BossError as error:
        raise _of_a_missing_parent(call, error) from error
    return JSONResponse({"channels": [item.name for item in found if may_read(call.rights, item)]})


def frames(call: Call, _names: Names) -> Response:
    """List the coordinate frames, to everybody."""
    return JSONResponse({"coords": [item.name for item in call.boss.catalog.list_coordinate_frames()]})


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the catalog makes, finds, changes and deletes resources of one kind, and what is shown of them."""

    create: Callable[..., Any]
    get: Callable[..., Any]
    update: Callable[..., Any]
    delete: Callable[..., None]
    parent: Callable[..., Any] | None
    shown: Callable[[Call, Any], Json]


def collection(call: Call, names: Names) -> Response:
    """Create, read, update or delete a collection."""
    catalog = call.boss.catalog
    kind = _Kind(
        catalog.create_collection,
        catalog.get_collection,
        catalog.update_collection,
        catalog.delete_collection,
        None,
        _collection,
    )
    return _answer(call, kind, names["collection"])


def experiment(call: Call, names: Names) -> Response:
    """Create, read, update or delete an experiment."""
    catalog = call.boss.catalog
    kind = _Kind(
        catalog.create_experiment,
        catalog.get_experiment,
        catalog.update_experiment,
        catalog.delete_experiment,
        catalog.get_collection,
        _experiment,
    )
    return _answer(call, kind, names["collection"], names["experiment"])


def channel(call: Call, names: Names) -> Response:
    """Create, read, update or delete a channel."""
    catalog = call.boss.catalog
    kind = _Kind(
        catalog.create_channel,
        catalog.get_channel,
        catalog.update_channel,
        catalog.delete_channel,
        catalog.get_experiment,
        _channel,
    )
    return _answer(call, kind, names["collection"], names["experiment"], names["channel"])


def frame(call: Call, names: Names) -> Response:
    """Create, read, update or delete a coordinate frame."""
    catalog = call.boss.catalog
    kind = _Kind(
        catalog.create_coordinate_frame,
        catalog.get_coordinate_frame,
        catalog.update_coordinate_frame,
        catalog.delete_coordinate_frame,
        None,
        _frame,
    )
    return _answer(call, kind, names["frame"])


def _answer(call: Call, kind: _Kind, *names: str) -> Response:
    """Do what the method says; the role comes first, then existence, rights, and the fields."""
    match call.method:
        case "POST":
            check_role(call.rights)
            if kind.parent is not None:
                check_write(call.rights, kind.parent(*names[:-1]))
            return JSONResponse(kind.shown(call, kind.create(*names, call.fields(), call.rights.user)), 201)
        case "PUT":
            check_write(call.rights, kind.get(*names))
            return JSONResponse(kind.shown(call, kind.update(*names, call.fields())))
        case "DELETE":
            check_role(call.rights)
            return _delete(call, kind, *names)
    found = kind.get(*names)
    if not isinstance(found, CoordinateFrame):  # those everybody may read
        check_read(call.rights, found)
    return JSONResponse(kind.shown(call, found))


def _delete(call: Call, kind: _Kind, *names: str) -> Response:
    try:
        check_write(call.rights, kind.get(*names))
        kind.delete(*names)
    except BossError as error:
        if error.code != Code.MARKED_FOR_DELETION:  # to delete twice is no fault
            raise
    return Response(status_code=204)


def _check_known(call: Call) -> None:
    """Fail where the real server does: it cannot list anything to callers without a token."""
    if call.rights is ANONYMOUS:
        raise UnservedError


def _of_a_missing_parent(call: Call, error: BossError) -> Exception:
    return UnservedError() if call.boss.strict else error


def _public_fields(item: Collection | Experiment | Channel) -> Json:
    return {"name": item.name, "public": item.public, "description": item.description, "creator": item.creator}


def _collection(call: Call, item: Collection) -> Json:
    inside = call.boss.catalog.list_experiments(item.name)
    readable = [experiment.name for experiment in inside if may_read(call.rights, experiment)]
    return {**_public_fields(item), "experiments": readable}


def _frame(_call: Call, item: CoordinateFrame) -> Json:
    fields = asdict(item)
    return {name: value for name, value in fields.items() if name not in ("id", "creator")}


def _experiment(call: Call, item: Experiment) -> Json:
    inside = call.boss.catalog.list_channels(item.collection, item.name)
    unit = item.time_step_unit
    if unit is None and not call.boss.strict:
        unit = "seconds"  # the real server says null, on which its own client stumbles
    return {
        **_public_fields(item),
        "channels": [channel.name for channel in inside if may_read(call.rights, channel)],
        "collection": item.collection,
        "coord_frame": item.coord_frame,
        "num_hierarchy_levels": item.num_hierarchy_levels,
        "hierarchy_method": item.hierarchy_method,
        "num_time_samples": item.num_time_samples,
        "time_step": item.time_step,
        "time_step_unit": unit,
    }


def _channel(_call: Call, item: Channel) -> Json:
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
