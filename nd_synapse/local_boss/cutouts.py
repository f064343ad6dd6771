"""The rules of a cutout request: time samples, resolution, ranges, size and channel type, in the order of BOSS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from nd_synapse.geometry import Box, Range
from nd_synapse.local_boss.codec import LARGEST_BUFFER_BYTES
from nd_synapse.local_boss.models import Channel, CoordinateFrame, Experiment
from nd_synapse.local_boss.responses import BossError, Code

__all__ = [
    "LARGEST_CUTOUT_BYTES",
    "Cutout",
    "UnservedError",
    "check_access_mode",
    "check_annotation",
    "check_resolution",
    "check_served",
    "check_size",
    "parse_cutout",
    "parse_ids",
    "whole",
]

LARGEST_CUTOUT_BYTES = 520 * 2**20
ACCESS_MODES = ("cache", "no-cache", "raw")


class UnservedError(Exception):
    """What the real server answers with an unhandled error: a page of HTML with status 500."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """A checked request for voxels."""

    channel: Channel
    resolution: int
    box: Box
    times: Range
    """Half-open range of time samples, perhaps empty."""
    timed: bool
    """Whether the request names time samples, so that its payload has a time axis."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Extent along t, z, y, x."""
        return (self.times[1] - self.times[0], *self.box.shape)

    @property
    def unpacked_bytes(self) -> int:
        """Size of the voxels in bytes."""
        return prod(self.shape) * np.dtype(self.channel.datatype).itemsize


def whole(digits: str) -> int:
    """Return the number that digits spell; from 10^20 on all are alike, beyond every id and range."""
    return int(digits) if len(digits) <= 20 else 10**20


def parse_cutout(channel: Channel, experiment: Experiment, frame: CoordinateFrame, parts: Mapping[str, str]) -> Cutout:
    """Check the ranges of a request."""
    times = _times(channel, experiment, parts.get("t"))
    resolution = int(parts["resolution"])
    check_resolution(channel, experiment, resolution)
    z, y, x = (_range(parts[axis]) for axis in "zyx")
    inside = zip((z, y, x), frame.start, frame.stop, strict=True)
    if any(a >= b or a < start or b > stop for (a, b), start, stop in inside):
        requested = "/".join([parts["resolution"], parts["x"], parts["y"], parts["z"]])
        raise BossError(400, Code.INVALID_CUTOUT_ARGS, f"Incorrect cutout arguments {requested}")
    return Cutout(channel, resolution, Box(z, y, x), times, timed=bool(parts.get("t")))


def check_resolution(channel: Channel, experiment: Experiment, resolution: int) -> None:
    """Refuse a resolution that the channel does not have, with 400/1002."""
    first, end = channel.base_resolution, channel.base_resolution + experiment.num_hierarchy_levels
    if not first <= resolution < end:
        message = f"Invalid resolution {resolution}. The resolution has to be within {first} and {end}"
        raise BossError(400, Code.TYPE_ERROR, message)


def check_access_mode(query: Mapping[str, str], strict: bool) -> None:
    """Refuse an unknown access mode, or the old option together with the new one."""
    mode = query.get("access-mode")
    if mode is None or (mode in ACCESS_MODES and "no-cache" not in query):
        return
    if strict:
        raise UnservedError
    message = f"Invalid access-mode: give one of {', '.join(ACCESS_MODES)}, and not no-cache beside it."
    raise BossError(400, Code.INVALID_CUTOUT_ARGS, message)


def check_size(cutout: Cutout) -> None:
    """Raise 413/2000 for a cutout that is too large."""
    # BOSS counts two bytes for a voxel of uint64; a Blosc buffer cannot hold more than 2 GiB in any case
    counted = cutout.unpacked_bytes // (4 if cutout.channel.datatype == "uint64" else 1)
    if counted > LARGEST_CUTOUT_BYTES or cutout.unpacked_bytes > LARGEST_BUFFER_BYTES:
        message = "Cutout request is over 500MB when uncompressed. Reduce cutout dimensions."
        raise BossError(413, Code.REQUEST_TOO_LARGE, message)


def check_annotation(channel: Channel, what: str) -> None:
    """Raise 400/2003 for objects of an image channel."""
    if channel.type != "annotation":
        message = f"The channel {channel.name} is not an annotation channel: it has no {what}."
        raise BossError(400, Code.DATATYPE_NOT_SUPPORTED, message)


def check_served(channel: Channel, resolution: int, reading: bool) -> None:
    """Refuse what the real server lets you make but cannot serve."""
    unserved = channel.datatype == "uint32" or (channel.datatype == "uint64" and channel.type == "image")
    unmade = reading and channel.type == "annotation" and resolution != channel.base_resolution
    if unserved or unmade:
        raise UnservedError


def parse_ids(text: str) -> list[int]:
    """Return the object ids of a comma-separated list; what is no id stands for no object."""
    return [whole(part) for part in text.split(",") if part.isascii() and part.isdigit()]


def _range(text: str) -> Range:
    start, stop = text.split(":")
    return whole(start), whole(stop)


def _times(channel: Channel, experiment: Experiment, text: str | None) -> Range:
    if text is None:
        return channel.default_time_sample, channel.default_time_sample + 1
    start, stop = _range(text)
    # one sample beyond the last is let through, as BOSS does
    if start > experiment.num_time_samples or stop > experiment.num_time_samples + 1 or start > stop:
        raise BossError(400, Code.INVALID_URL, f"Invalid time range {text} for {experiment.num_time_samples} samples")
    return start, stop
