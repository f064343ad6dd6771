"""Experiments, coordinate frames and channels of BOSS, looked up by name; it creates nothing and moves no voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from intern.remote.boss import BossRemote
from intern.resource.boss.resource import (
    ChannelResource,
    CollectionResource,
    CoordinateFrameResource,
    ExperimentResource,
)

from nd_synapse.boss.connection import call, describe_resource
from nd_synapse.errors import DataError, PermissionDeniedError, UnknownNameError, UsageError, closest
from nd_synapse.geometry import NANOMETRES, Box, Frame
from nd_synapse.text import levels_there

__all__ = [
    "LARGEST_LEVEL",
    "RESOLUTION",
    "at_level",
    "check_name",
    "find_channel",
    "find_experiment",
    "read_frame",
    "unknown",
]

LARGEST_LEVEL = 9  # BOSS takes one digit
RESOLUTION = 0  # the native one: every box and every voxel size is in its voxels

_TYPES = ("uint8", "uint16", "uint64")  # what intern can carry
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NAMES_SHOWN = 8


def check_name(kind: str, name: str, remedy: str) -> str:
    """Refuse a name that BOSS would cut off at the first character that it does not allow."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{kind} {name!r}", "a name in BOSS has letters, digits, _ and - only, at least one", remedy)
    return name


def find_experiment(remote: BossRemote, collection: str, experiment: str) -> Mapping[str, Any]:
    """Look up an experiment; the error for an unknown name lists those that exist."""
    check_name("collection", collection, "Check --col")
    check_name("experiment", experiment, "Check --exp")
    requested = f"experiment {collection}/{experiment}"
    try:
        return describe_resource(remote, requested, ExperimentResource(experiment, collection))
    except UnknownNameError as error:
        missing = error
    try:
        found = describe_resource(remote, f"collection {collection}", CollectionResource(collection))
    except UnknownNameError as error:
        names = call(remote, "the list of collections", remote.list_collections)
        raise unknown(f"collection {collection}", "collection", collection, names, "Check --col") from error
    except PermissionDeniedError:
        # A token that may not see the collection still gets to know that the experiment is missing.
        raise missing from missing.__cause__
    raise unknown(requested, "experiment", experiment, found.get("experiments", []), "Check --exp") from missing


def unknown(requested: str, kind: str, name: str, existing: Iterable[str], remedy: str) -> UnknownNameError:
    """Build the error for a name that does not exist."""
    names = closest(name, existing)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    there = f"there are {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "there is none"
    return UnknownNameError(requested, f"there is no such {kind}; {there}", remedy)


def read_frame(remote: BossRemote, name: str) -> Frame:
    """Look up a coordinate frame."""
    requested = f"coordinate frame {name}"
    fields = describe_resource(remote, requested, CoordinateFrameResource(name))
    return call(remote, requested, lambda: frame_of(fields))


def frame_of(fields: Mapping[str, Any]) -> Frame:
    """Read BOSS's description of a coordinate frame."""
    requested = f"coordinate frame {fields['name']}"
    ends = [(int(fields[f"{axis}_start"]), int(fields[f"{axis}_stop"])) for axis in "zyx"]
    if any(stop <= start for start, stop in ends):
        raise DataError(
            requested, f"it holds no voxel: z, y, x are {ends}", "Ask the owner of the experiment to correct it"
        )
    unit = str(fields["voxel_unit"])
    if unit not in NANOMETRES:
        raise DataError(requested, f"its unit is {unit!r}", f"Known are {', '.join(NANOMETRES)}")
    z, y, x = (float(fields[f"{axis}_voxel_size"]) * NANOMETRES[unit] for axis in "zyx")
    return Frame(str(fields["name"]), Box(*ends), (z, y, x))


def at_level(frame: Frame, experiment: Mapping[str, Any], level: int) -> Frame:
    """Return the frame of a level of an experiment: each has half the voxels of the one before along x and y.

    ``isotropic`` experiments have half of them along z, too. BOSS itself checks ranges against level 0 alone.
    """
    count = int(experiment.get("num_hierarchy_levels") or 1)
    if level >= count:
        found = levels_there(count)
        raise UnknownNameError(f"level {level} of experiment {experiment['name']}", found, "Give another --resolution")
    factors = [2**level if axis in "yx" or experiment.get("hierarchy_method") == "isotropic" else 1 for axis in "zyx"]
    ends = ((start // n, -(-stop // n)) for (start, stop), n in zip(frame.extent.ranges, factors, strict=True))
    z, y, x = (size * n for size, n in zip(frame.voxel_size_nm, factors, strict=True))
    return Frame(frame.name, Box(*ends), (z, y, x))


def find_channel(
    remote: BossRemote, collection: str, experiment: str, channel: str, level: int = RESOLUTION
) -> ChannelResource:
    """Look up a channel, with the datatype that cutouts need; refuse one that has no voxels at a level."""
    requested = f"channel {collection}/{experiment}/{channel}"
    fields = describe_resource(remote, requested, ChannelResource(channel, collection, experiment))
    datatype = str(fields["datatype"])
    base = call(remote, requested, lambda: int(fields.get("base_resolution") or RESOLUTION))
    if datatype not in _TYPES:
        raise DataError(
            requested, f"its voxels are {datatype}", f"Only {', '.join(_TYPES)} can be read: choose another"
        )
    if base > level:
        raise DataError(requested, f"its finest resolution is {base}", "Give another --resolution")
    state = str(fields.get("downsample_status") or "")
    if level > base and state != "DOWNSAMPLED":
        # BOSS answers with zeros, as if the tissue were black
        found = f"level {level} is not computed ({state or 'BOSS says nothing of it'})"
        raise DataError(requested, found, "Read level 0, or let BOSS compute the levels")
    # intern refuses a type that it does not know
    return call(
        remote,
        requested,
        lambda: ChannelResource(
            channel, collection, experiment, type=str(fields["type"]), datatype=datatype, raw=fields
        ),
    )
