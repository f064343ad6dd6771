"""The channel in BOSS that a mask goes to: found, or created with all that it needs.

It writes no voxels: see `nd_boss`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import (
    ChannelResource,
    CollectionResource,
    CoordinateFrameResource,
    ExperimentResource,
)

from boss_catalog import check_name, read_frame
from boss_connection import call, describe_resource
from boss_errors import reply_of, was_deleted
from box import Box
from errors import DataError, UnknownNameError, UsageError
from frame import Frame

__all__ = ["Destination", "check_destination", "ensure_channel"]

log = logging.getLogger(__name__)

# BOSS accepts a channel whose three names are longer together, and then fails at every cutout of it.
_NAMES_TOGETHER = 255


@dataclass(frozen=True, slots=True)
class Destination:
    """The channel that a mask goes to.

    Parameters
    ----------
    collection, experiment, channel : str
        Its names.

    Raises
    ------
    UsageError
        If a name has characters that BOSS does not keep, or the three are too long together.
    """

    collection: str
    experiment: str
    channel: str

    def __post_init__(self) -> None:
        """Refuse what BOSS would store under another name, or not find again."""
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


def check_destination(remote: BossRemote, destination: Destination, box: Box, source: Frame) -> None:
    """Refuse, before any work is done, an output experiment that a mask does not fit; nothing is created.

    Parameters
    ----------
    remote : BossRemote
        The connection.
    destination : Destination
        The channel; it may be missing, and so may the experiment.
    box : Box
        What will be written.
    source : Frame
        The frame that the mask will be computed in.

    Raises
    ------
    DataError
        If the experiment's frame does not hold the box, or its voxels differ in size.
    UnknownNameError
        If the experiment was deleted.
    PermissionDeniedError
        If the token may not see it.
    """
    asked = f"output experiment {destination.collection}/{destination.experiment}"
    try:
        fields = describe_resource(remote, asked, ExperimentResource(destination.experiment, destination.collection))
    except UnknownNameError as error:
        if was_deleted(error):
            raise
        return
    check_frame(asked, read_frame(remote, str(fields["coord_frame"])), box, source)


def ensure_channel(
    remote: BossRemote, destination: Destination, box: Box, source: Frame | None
) -> tuple[ChannelResource, bool]:
    """Find the channel for a mask, or create it with the collection, frame and experiment that it needs.

    Parameters
    ----------
    remote : BossRemote
        The connection.
    destination : Destination
        The channel.
    box : Box
        What will be written.
    source : Frame or None
        The frame that the mask was computed in. Without it a missing experiment is not created, and the voxel size of
        an existing one is not compared.

    Returns
    -------
    channel : ChannelResource
        An image channel of uint8.
    is_new : bool
        Whether it was created just now, and so holds no voxel.

    Raises
    ------
    DataError
        If the experiment's frame does not hold the box, its voxels differ in size, or the channel is no uint8 image.
    UnknownNameError
        If the experiment is missing and `source` is not given, or a name was deleted.
    PermissionDeniedError
        If the token may not create what is missing.
    """
    _ensure_experiment(remote, destination, box, source)
    wanted = ChannelResource(
        destination.channel,
        destination.collection,
        destination.experiment,
        type="image",
        datatype="uint8",
        description="Mask: 255 where something was found, 0 elsewhere",
    )
    asked = f"output channel {destination}"
    fields, is_new = _ensure(remote, asked, wanted)
    if (fields["type"], fields["datatype"]) != ("image", "uint8"):
        raise DataError(
            asked,
            f"there is such a channel already, of type {fields['type']} and {fields['datatype']}",
            "A mask needs an image channel of uint8: choose another experiment with --out-exp NAME",
        )
    return wanted, is_new


def _ensure_experiment(remote: BossRemote, destination: Destination, box: Box, source: Frame | None) -> None:
    """Find or create the experiment of a destination, and check that its frame suits the mask."""
    asked = f"output experiment {destination.collection}/{destination.experiment}"
    wanted = ExperimentResource(destination.experiment, destination.collection)
    try:
        fields = describe_resource(remote, asked, wanted)
    except UnknownNameError as error:
        if was_deleted(error):
            raise
        if source is None:
            raise UnknownNameError(asked, error.found, "Create it, or pass the source that it shall be like") from error
        _ensure(remote, f"output collection {destination.collection}", CollectionResource(destination.collection))
        wanted.coord_frame = _ensure_frame(remote, f"{destination.collection}_{destination.experiment}", source)
        fields, _ = _ensure(remote, asked, wanted)
    frame = read_frame(remote, str(fields["coord_frame"]))
    check_frame(asked, frame, box, source)


def check_frame(asked: str, frame: Frame, box: Box, source: Frame | None) -> None:
    """Refuse an output frame that cannot hold a mask voxel on voxel.

    Parameters
    ----------
    asked : str
        What the frame is of, for the message.
    frame : Frame
        The frame of the output.
    box : Box
        What will be written.
    source : Frame or None
        The frame that it was computed in.

    Raises
    ------
    DataError
        If the box leaves the frame, or the voxels differ in size.
    """
    remedy = "Choose another experiment with --out-exp NAME; a missing one is created to fit"
    if not frame.extent.contains(box):
        raise DataError(asked, f"its frame {frame.name} holds {frame.extent}, the mask is {box}", remedy)
    if source is not None and not frame.same_voxels(source):
        raise DataError(
            asked, f"its voxels are {frame.size_text()}, those of {source.name} are {source.size_text()}", remedy
        )


def _ensure_frame(remote: BossRemote, name: str, source: Frame) -> str:
    """Return the name of a coordinate frame equal to the source's: its own if BOSS has it, else a copy."""
    try:
        existing = read_frame(remote, source.name)
    except UnknownNameError:
        existing = None
    if existing is not None and existing.extent == source.extent and existing.same_voxels(source):
        return source.name
    (z_start, z_stop), (y_start, y_stop), (x_start, x_stop) = source.extent.ranges
    z_size, y_size, x_size = source.voxel_size_nm
    copy = CoordinateFrameResource(
        name,
        f"Like {source.name}",
        x_start=x_start,
        x_stop=x_stop,
        y_start=y_start,
        y_stop=y_stop,
        z_start=z_start,
        z_stop=z_stop,
        x_voxel_size=x_size,
        y_voxel_size=y_size,
        z_voxel_size=z_size,
        voxel_unit="nanometers",
    )
    _ensure(remote, f"coordinate frame {name}", copy)
    return name


def _ensure(remote: BossRemote, asked: str, wanted: Any) -> tuple[Mapping[str, Any], bool]:
    """Return BOSS's description of a resource, and whether it was created for that."""
    try:
        return describe_resource(remote, asked, wanted), False
    except UnknownNameError as error:
        if was_deleted(error):
            raise
    try:
        created = call(remote, asked, lambda: remote.create_project(wanted))
    except UsageError as error:
        cause = error.__cause__
        if not isinstance(cause, requests.HTTPError) or reply_of(cause).status != 400:
            raise
        # Refused, perhaps because another job, or an attempt of ours without an answer, created it meanwhile.
        return _refused(remote, asked, wanted, error)
    log.info("created %s", asked)
    return created.raw, True


def _refused(remote: BossRemote, asked: str, wanted: Any, refusal: UsageError) -> tuple[Mapping[str, Any], bool]:
    """Look again for what could not be created; whether it is new is not known then, so it is not."""
    try:
        return describe_resource(remote, asked, wanted), False
    except UnknownNameError:
        raise refusal from refusal.__cause__
