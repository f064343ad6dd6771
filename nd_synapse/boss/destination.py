"""The channel in BOSS that a mask goes to: found, or created; it changes no voxels, see `boss.push`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intern.remote.boss import BossRemote
from intern.resource.boss.resource import (
    ChannelResource,
    CollectionResource,
    CoordinateFrameResource,
    ExperimentResource,
)

from nd_synapse.boss.catalog import RESOLUTION, check_name, read_frame
from nd_synapse.boss.connection import call, describe_resource
from nd_synapse.boss.cutouts import check_access
from nd_synapse.boss.errors import reply_of, was_deleted
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.geometry import Box, Frame

__all__ = ["Destination", "check_destination", "ensure_channel", "is_mask", "refuse_taken"]

log = logging.getLogger(__name__)

# BOSS accepts a channel whose three names are longer together, and then fails at every cutout of it.
_NAMES_TOGETHER = 255

_CONTENTS = {
    "uint8": "Mask: 255 where something was found, 0 elsewhere",
    "uint64": "Labels: the row of the table that a voxel belongs to, 0 elsewhere",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """The channel that a mask goes to; names that BOSS would not keep are a UsageError."""

    collection: str
    experiment: str
    channel: str
    maker: str = ""
    """What makes the mask. It stands in the channel's description and identifies a run when it is repeated."""
    overwrite: bool = False
    """Whether the mask may replace that of another maker."""
    datatype: str = "uint8"
    """uint8 for a mask, uint64 for labels, which BOSS keeps in annotation channels."""

    def __post_init__(self) -> None:
        """Refuse names that BOSS would change or not find again."""
        check_name("output collection", self.collection, "Choose another one with --out-col")
        check_name("output experiment", self.experiment, "Choose another one with --out-exp")
        check_name("output channel", self.channel, "Choose other names of pipeline and mask")
        length = len(self.collection) + len(self.experiment) + len(self.channel) + 2
        if length > _NAMES_TOGETHER:
            raise UsageError(
                f"output channel {self}",
                f"collection, experiment and channel have {length} characters together, BOSS keeps {_NAMES_TOGETHER}",
                "Choose shorter names with --out-col and --out-exp",
            )

    def __str__(self) -> str:
        """Return the three names with slashes."""
        return f"{self.collection}/{self.experiment}/{self.channel}"

    @property
    def description(self) -> str:
        """The channel's description in BOSS."""
        content = _CONTENTS[self.datatype]
        return f"{content}; made by {self.maker}" if self.maker else content

    @property
    def kind(self) -> str:
        """The channel's type in BOSS."""
        return "image" if self.datatype == "uint8" else "annotation"


def is_mask(fields: Mapping[str, Any]) -> bool:
    """Return whether a channel is a mask of ours, or labels, by its description in BOSS."""
    return str(fields.get("description") or "").startswith(tuple(_CONTENTS.values()))


def check_destination(remote: BossRemote, destination: Destination, box: Box, source: Frame | None) -> None:
    """Refuse, before the work, a destination that a push would refuse after it; nothing is created."""
    requested, wanted = _experiment(destination)
    fields = _look_up(remote, requested, wanted)
    if fields is None:
        if source is None:
            raise _without_source(requested)
        _look_up(remote, f"output collection {destination.collection}", CollectionResource(destination.collection))
        return
    check_frame(requested, read_frame(remote, str(fields["coord_frame"])), box, source)
    requested, wanted = _channel(destination)
    fields = _look_up(remote, requested, wanted)
    if fields is not None:
        _check_kind(requested, fields, destination)
        _check_maker(requested, fields, destination)


def ensure_channel(
    remote: BossRemote, destination: Destination, box: Box, source: Frame | None
) -> tuple[ChannelResource, bool]:
    """Find the channel for a mask, or create it with the collection, frame and experiment that it needs."""
    _ensure_experiment(remote, destination, box, source)
    requested, wanted = _channel(destination)
    fields, is_new = _ensure(remote, requested, wanted)
    _check_kind(requested, fields, destination)
    _check_maker(requested, fields, destination)
    if not is_new:
        # a token may have the right to sign and not to write: it would lock the channel's owner out
        check_access(remote, wanted, box)
    if fields.get("description") != destination.description:
        _sign(remote, requested, wanted, fields)
    return wanted, is_new


def refuse_taken(remote: BossRemote, destination: Destination) -> None:
    """Refuse a channel whose description has changed since: another job took it over and may be writing to it."""
    requested, wanted = _channel(destination)
    there = str(describe_resource(remote, requested, wanted).get("description") or "")
    if there != destination.description:
        raise UsageError(
            requested,
            f"another job took it over during this push; its description: {there[:200] or 'none'}",
            "Make sure that no other job writes to it; then replace its mask with --overwrite, or"
            " choose another experiment with --out-exp NAME",
        )


def _experiment(destination: Destination) -> tuple[str, ExperimentResource]:
    """Return the experiment of a destination: its name in messages, and its resource."""
    requested = f"output experiment {destination.collection}/{destination.experiment}"
    return requested, ExperimentResource(destination.experiment, destination.collection)


def _channel(destination: Destination) -> tuple[str, ChannelResource]:
    """Return the channel of a destination: its name in messages, and its resource."""
    return f"output channel {destination}", ChannelResource(
        destination.channel,
        destination.collection,
        destination.experiment,
        type=destination.kind,
        datatype=destination.datatype,
        description=destination.description,
    )


def _check_kind(requested: str, fields: Mapping[str, Any], destination: Destination) -> None:
    """Refuse a channel that cannot hold a mask, or labels."""
    kind, datatype, base = fields.get("type"), fields.get("datatype"), fields.get("base_resolution") or RESOLUTION
    if (kind, datatype, base) != (destination.kind, destination.datatype, RESOLUTION):
        raise DataError(
            requested,
            f"it exists already, with type {kind} and {datatype}, and {base} as its base resolution",
            f"{destination.kind.capitalize()} of {destination.datatype} and resolution 0 is needed:"
            " choose another experiment with --out-exp NAME",
        )


def _check_maker(requested: str, fields: Mapping[str, Any], destination: Destination) -> None:
    """Refuse a channel of another maker, unless it may be replaced."""
    there = str(fields.get("description") or "")
    if there != destination.description and not destination.overwrite:
        raise UsageError(
            requested,
            f"another run or user made it; its description: {there[:200] or 'none'}",
            "Replace its mask with --overwrite, or choose another experiment with --out-exp NAME",
        )


def _sign(remote: BossRemote, requested: str, channel: ChannelResource, fields: Mapping[str, Any]) -> None:
    """Write the new maker into the description of a channel."""
    # an update removes the links to other channels that it does not name
    channel.sources, channel.related = list(fields.get("sources") or []), list(fields.get("related") or [])
    call(remote, requested, lambda: remote.update_project(channel.name, channel))
    log.info("%s is overwritten", requested)


def _without_source(requested: str) -> UnknownNameError:
    return UnknownNameError(requested, "there is none", "Create it, or pass the source to create it from")


def _ensure_experiment(remote: BossRemote, destination: Destination, box: Box, source: Frame | None) -> None:
    """Find or create the experiment of a destination, and check that its frame suits the mask."""
    requested, wanted = _experiment(destination)
    fields = _look_up(remote, requested, wanted)
    if fields is None:
        if source is None:
            raise _without_source(requested)
        _ensure(remote, f"output collection {destination.collection}", CollectionResource(destination.collection))
        wanted.coord_frame = _ensure_frame(
            remote, requested, f"{destination.collection}_{destination.experiment}", box, source
        )
        fields, _ = _ensure(remote, requested, wanted)
    check_frame(requested, read_frame(remote, str(fields["coord_frame"])), box, source)


def check_frame(requested: str, frame: Frame, box: Box, source: Frame | None) -> None:
    """Refuse an output frame that cannot hold a mask voxel on voxel."""
    remedy = "Choose another experiment with --out-exp NAME; a missing one is created to fit"
    if not frame.extent.contains(box):
        raise DataError(requested, f"its frame {frame.name} holds {frame.extent}, the mask is {box}", remedy)
    if source is not None and not frame.same_voxels(source):
        raise DataError(
            requested, f"its voxels are {frame.size_text()}, those of {source.name} are {source.size_text()}", remedy
        )


def _ensure_frame(remote: BossRemote, requested: str, name: str, box: Box, source: Frame) -> str:
    """Return the name of a coordinate frame equal to the source's: its own if BOSS has it, else that of a copy."""
    try:
        existing = read_frame(remote, source.name)
    except UnknownNameError:
        existing = None
    if existing is not None and existing.extent == source.extent and existing.same_voxels(source):
        return source.name
    (z_start, z_stop), (y_start, y_stop), (x_start, x_stop) = source.extent.ranges
    z_size, y_size, x_size = source.voxel_size_nm
    extent = (x_start, x_stop, y_start, y_stop, z_start, z_stop)
    copy = CoordinateFrameResource(name, f"Like {source.name}", *extent, x_size, y_size, z_size, "nanometers")
    _, is_new = _ensure(remote, f"coordinate frame {name}", copy)
    if not is_new:
        # Names of frames are shared by all of BOSS: this one may be of another user.
        check_frame(requested, read_frame(remote, name), box, source)
    return name


def _look_up(remote: BossRemote, requested: str, wanted: Any) -> Mapping[str, Any] | None:
    """Return BOSS's description of a resource; None if it can be created, which a deleted one cannot."""
    try:
        return describe_resource(remote, requested, wanted)
    except UnknownNameError as error:
        if was_deleted(error):
            raise
        return None


def _ensure(remote: BossRemote, requested: str, wanted: Any) -> tuple[Mapping[str, Any], bool]:
    """Return BOSS's description of a resource, which is created if missing, and whether it was created."""
    existing = _look_up(remote, requested, wanted)
    if existing is not None:
        return existing, False
    try:
        created = call(remote, requested, lambda: remote.create_project(wanted))
    except UsageError as error:
        # BOSS answers 400 if it exists already: another job created it meanwhile, or an attempt of ours whose
        # response was lost. It may hold voxels by now, so it does not count as new.
        reply = reply_of(error)
        existing = _look_up(remote, requested, wanted) if reply is not None and reply.status == 400 else None
        if existing is None:
            raise
        return existing, False
    log.info("created %s", requested)
    return created.raw, True
