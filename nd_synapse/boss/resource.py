"""One BOSS experiment to read from: its channels, its bounds, its voxel size, its voxels; it writes nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray

from nd_synapse.boss.address import Address, address_of
from nd_synapse.boss.catalog import (
    LARGEST_LEVEL,
    RESOLUTION,
    at_level,
    find_channel,
    find_experiment,
    read_frame,
    unknown,
)
from nd_synapse.boss.connection import Patience, connect
from nd_synapse.boss.cutouts import read_cutout
from nd_synapse.boss.destination import is_mask
from nd_synapse.config import NeurodataConfig, read_neurodata_config
from nd_synapse.credentials import Token, find_token
from nd_synapse.errors import DataError, PermissionDeniedError, RangeError, UsageError, called
from nd_synapse.geometry import Box, Frame, Range, check_within
from nd_synapse.redaction import redacted
from nd_synapse.values import parse_int

__all__ = ["NeuroDataResource", "get_boss_config", "get_boss_resource"]

log = logging.getLogger(__name__)


class NeuroDataResource:
    """Channels of one BOSS experiment, and a box of it.

    Token, names, ranges and the types of requested channels are checked when it is made, before the first voxel is
    read. It can be sent to worker processes; each opens a connection of its own.

    Parameters
    ----------
    host : str
        A host name (then https is used) or a URL with its scheme.
    token : Token or str
        A token that may read; printing or logging this object does not show it.
    collection, experiment : str
        Where the channels are.
    requested_channels : sequence of str
        Channels of the job; none means all.
    x_range, y_range, z_range : tuple of int, optional
        Half-open ranges of the job, within the volume; by default all of it.
    patience : Patience, optional
        Time limits and retries.
    resolution : int
        Level that is read, 0 being the finest; ranges are in its voxels.

    Raises
    ------
    UnknownNameError
        If there is no such collection, experiment, channel or level; the message lists those that exist.
    RangeError
        If a range is empty, reversed or leaves the volume.
    DataError
        If a requested channel has voxels of a type that cannot be read.
    PermissionDeniedError
        If the token is not accepted, or may not read this.
    UnavailableError
        If BOSS does not answer.
    """

    @called()
    def __init__(
        self,
        host: str,
        token: Token | str,
        collection: str,
        experiment: str,
        requested_channels: Sequence[str] = (),
        x_range: Range | None = None,
        y_range: Range | None = None,
        z_range: Range | None = None,
        *,
        patience: Patience | None = None,
        resolution: int = RESOLUTION,
    ) -> None:
        wanted = _names(requested_channels)
        self.host: Address = address_of(host)
        self.token = Token.of(token)
        self.collection = collection
        self.experiment = experiment
        self.resolution = parse_int("--resolution", resolution, 0, LARGEST_LEVEL)
        ranges = (z_range, y_range, x_range)
        Box(*((0, 1) if given is None else given for given in ranges))  # refuses invalid ones before BOSS is asked
        self._patience = patience or Patience()
        self._resources: dict[str, ChannelResource] = {}
        self._remote: BossRemote | None = None
        self._remote_pid = 0

        found = find_experiment(self.remote, collection, experiment)
        self.channels: list[str] = sorted(found["channels"])
        # a server may repeat what it was sent
        self.description: str = redacted(str(found.get("description") or ""), self.token)
        self.frame: Frame = at_level(read_frame(self.remote, str(found["coord_frame"])), found, self.resolution)
        whole = ((max(start, 0), stop) for start, stop in self.frame.extent.ranges)
        self.box = Box(*(all_of if given is None else given for given, all_of in zip(ranges, whole, strict=True)))
        check_within(self.box, self.frame)
        names = [name for name in wanted if name]
        for name in names:
            self._resource(name)
        self.requested_channels: list[str] = names or list(self.channels)
        self._named = frozenset(names)
        self._forbidden: list[str] = []

    @property
    def remote(self) -> BossRemote:
        """The connection of this process, opened when it is first needed."""
        # A connection that is inherited by fork shares its sockets with the parent: the responses would be mixed up.
        if self._remote is None or self._remote_pid != os.getpid():
            self._remote = connect(self.host.url, self.token, patience=self._patience)
            self._remote_pid = os.getpid()
        return self._remote

    @property
    def identity(self) -> str:
        """Host, names, level and extent of the volume."""
        level = f" level {self.resolution}" if self.resolution else ""
        return f"{self.host}/{self.collection}/{self.experiment}{level} {self.frame.extent} {self.frame.size_text()}"

    @cached_property
    def readable_channels(self) -> list[str]:
        """Names of the channels of uint8, uint16 or uint64 that the token may read; BOSS is asked once."""
        return [name for name in self.channels if self._is_readable(name)]

    @property
    def forbidden_channels(self) -> list[str]:
        """Names of the channels that exist but that the token may not read."""
        _ = self.readable_channels  # this fills the list
        return list(self._forbidden)

    def _is_readable(self, channel: str) -> bool:
        """Return whether a channel can be read; one that cannot is logged."""
        try:
            self._resource(channel)
        except DataError as error:
            log.info("left out: %s", error)
        except PermissionDeniedError as error:
            # a warning: a run without the channel has other columns, and perhaps other roles
            log.warning("left out: %s", error)
            self._forbidden.append(channel)
        else:
            return True
        return False

    @property
    def image_channels(self) -> list[str]:
        """Names of the readable channels that hold images of uint8 or uint16.

        Masks of ours count only if they were requested by name: a job that pushes into the experiment that it reads
        would otherwise read its own result the next time.
        """
        return [name for name in self.readable_channels if self._is_image(name)]

    def _is_image(self, channel: str) -> bool:
        """Return whether a channel holds an image that can be measured."""
        resource = self._resource(channel)
        if resource.type != "image" or resource.datatype not in {"uint8", "uint16"}:
            return False
        return channel in self._named or not is_mask(resource.raw)

    @property
    def is_service(self) -> bool:
        """Whether a server answers for the voxels."""
        return True

    @property
    def is_synthetic(self) -> bool:
        """Whether the experiment's description begins with "synthetic"."""
        return self.description.lower().startswith("synthetic")

    @property
    def max_dimensions(self) -> tuple[int, int, int]:
        """One past the last voxel of the volume along z, y, x."""
        return self.frame.extent.stop

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edges of a voxel along z, y, x, in nanometres."""
        return self.frame.voxel_size_nm

    @property
    def z_range(self) -> Range:
        """The job's range along z."""
        return self.box.z

    @property
    def y_range(self) -> Range:
        """The job's range along y."""
        return self.box.y

    @property
    def x_range(self) -> Range:
        """The job's range along x."""
        return self.box.x

    def __repr__(self) -> str:
        return f"<NeuroDataResource {self.collection}/{self.experiment} at {self.host}, {self.box}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the connection: sockets cannot be sent to another process."""
        return {**self.__dict__, "_remote": None, "_remote_pid": 0}

    @called()
    def get_cutout(self, chan: str, zRange: Range, yRange: Range, xRange: Range) -> NDArray[Any]:  # noqa: N803 - as ever
        """Read voxels of a channel.

        Parameters
        ----------
        chan : str
            Name of a channel of the experiment, requested or not.
        zRange, yRange, xRange : tuple of int
            Half-open ranges within the volume, not only within the job's.

        Returns
        -------
        ndarray
            Shape (z, y, x), of the channel's own dtype, C order, writable.

        Raises
        ------
        UnknownNameError
            If there is no such channel.
        RangeError
            If a range is empty, reversed or leaves the volume.
        NDSynapseError
            If BOSS refuses or does not answer.
        """
        box = Box(zRange, yRange, xRange)
        check_within(box, self.frame)
        return read_cutout(self.remote, self._resource(chan), box, self.resolution)

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels: uint8, uint16 or uint64."""
        datatype: np.dtype[Any] = np.dtype(self._resource(channel).datatype)
        return datatype

    def assert_channel_exists(self, channel: str) -> bool:
        """Return True, or raise UnknownNameError with the names that exist, the closest first."""
        if channel not in self.channels:
            requested = f"channel {channel!r} of {self.collection}/{self.experiment}"
            raise unknown(requested, "channel", channel, self.channels, "Check the names of the channels")
        return True

    def correct_range(self, z_range: Range, y_range: Range, x_range: Range) -> bool:
        """Return whether three half-open ranges, pairs of int, are valid and lie within the volume."""
        try:
            check_within(Box(z_range, y_range, x_range), self.frame)
        except RangeError:
            return False
        return True

    def describe(self) -> dict[str, Any]:
        """Return what this is as values for JSON, without the token."""
        return {
            "host": self.host.url,
            "collection": self.collection,
            "experiment": self.experiment,
            "resolution": self.resolution,
            "description": self.description,
            "coordinate_frame": self.frame.name,
            "channels": list(self.channels),
            "requested_channels": list(self.requested_channels),
            "z_range": list(self.box.z),
            "y_range": list(self.box.y),
            "x_range": list(self.box.x),
            "volume_stop_zyx": list(self.max_dimensions),
            "voxel_size_nm_zyx": list(self.voxel_size),
        }

    def _resource(self, channel: str) -> ChannelResource:
        """Return a channel with its datatype; BOSS is asked once."""
        if channel not in self._resources:
            self.assert_channel_exists(channel)
            self._resources[channel] = find_channel(
                self.remote, self.collection, self.experiment, channel, self.resolution
            )
        return self._resources[channel]


def _names(channels: Sequence[str]) -> list[str]:
    """Return names of channels as a list; refuse other types, among them a single text."""
    some = isinstance(channels, Sequence) and not isinstance(channels, str)
    if not some or not all(isinstance(name, str) for name in channels):
        raise UsageError(
            f"requested channels {channels!r:.100}", "they are not a list of text", "Give names, or [] for all channels"
        )
    return list(channels)


_KEYS = {key: f"{key} in neurodata.cfg" for key in ("host", "z_range", "y_range", "x_range")}
_KEYS |= {"col": "collection in neurodata.cfg", "exp": "experiment in neurodata.cfg"}


@called(anywhere=True, **_KEYS)
def get_boss_config(path: Path | str, *, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read a neurodata.cfg that names a host, an experiment and a box.

    Parameters
    ----------
    path : path
        The file, see `read_neurodata_config`.
    environ : mapping, optional
        Where ``BOSS_TOKEN`` is looked up, which takes precedence over the file's token; ``os.environ`` by default.

    Returns
    -------
    dict
        ``host``, ``token`` (a `Token`), ``collection``, ``experiment``, ``channels`` (list; empty means all),
        ``x_range``, ``y_range``, ``z_range`` (tuples of int) and ``resolution``.

    Raises
    ------
    UsageError
        If the file is missing, malformed or incomplete; the message has file, section and key.
    """
    config = read_neurodata_config(path)
    return {
        "token": find_token(None, None, os.environ if environ is None else environ, config.token),
        "host": _required(config, "host", "Default"),
        "collection": _required(config, "collection", "shared"),
        "experiment": _required(config, "experiment", "shared"),
        "channels": list(config.channels),
        "x_range": _required(config, "x_range", "Parallel"),
        "y_range": _required(config, "y_range", "Parallel"),
        "z_range": _required(config, "z_range", "Parallel"),
        "resolution": config.resolution,
    }


def _required(config: NeurodataConfig, key: str, section: str) -> Any:
    """Return a value of a neurodata.cfg, or refuse a file without it."""
    value = getattr(config, key)
    if value is None:
        raise UsageError(
            f"{key} in [{section}] of {config.path}", "it is missing", "neurodata.cfg.example shows an example"
        )
    return value


@called(anywhere=True, **_KEYS)
def get_boss_resource(path: Path | str) -> NeuroDataResource:
    """Open the experiment and box of a neurodata.cfg.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    NeuroDataResource
        Its names, ranges and token are checked.

    Raises
    ------
    NDSynapseError
        As `get_boss_config` and `NeuroDataResource`.
    """
    config = get_boss_config(path)
    names = ("host", "token", "collection", "experiment", "channels", "x_range", "y_range", "z_range")
    return NeuroDataResource(*(config[name] for name in names), resolution=config["resolution"])
