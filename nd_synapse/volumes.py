"""The contracts of a volume of voxels and of a source of channels."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box, Frame, Range

__all__ = ["Cutouts", "JobSource", "Source", "Volume"]


class Volume(Protocol):
    """Voxels in the order z, y, x."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return a part of it, which must not be written to."""


class Cutouts(Protocol):
    """Channels whose voxels can be read; their types are known elsewhere."""

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        """Return the voxels of a channel in three half-open ranges: C order, shape (z, y, x), of the channel's type."""


class Source(Cutouts, Protocol):
    """Channels of one volume that share a frame.

    A source can be pickled to a worker process, and is read there by one thread at a time.
    """

    @property
    def description(self) -> str:
        """The description of the volume by its owner; may be empty."""

    @property
    def identity(self) -> str:
        """A string that no other volume has: results of one are never reused for another."""

    @property
    def channels(self) -> list[str]:
        """Names of all channels of the volume."""

    @property
    def image_channels(self) -> list[str]:
        """Names of the channels that hold images of uint8 or uint16, rather than annotations."""

    @property
    def requested_channels(self) -> list[str]:
        """Names of the requested channels, each one of `channels`."""

    @property
    def frame(self) -> Frame:
        """Extent and voxel size of the volume."""

    @property
    def box(self) -> Box:
        """The requested box, within the extent of the frame."""

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the type of a channel's voxels: uint8, uint16 or uint64."""


class JobSource(Source, Protocol):
    """A source that a job reads: it says also what may be read in it, and what it is."""

    @property
    def readable_channels(self) -> list[str]:
        """Names of the channels of uint8, uint16 or uint64 that may be read."""

    @property
    def forbidden_channels(self) -> list[str]:
        """Names of the channels that exist and may not be read."""

    @property
    def is_service(self) -> bool:
        """Whether a server answers for its voxels, which is to be asked once for each; buckets and files are read."""

    @property
    def is_synthetic(self) -> bool:
        """Whether the volume was generated."""

    def describe(self) -> dict[str, Any]:
        """Return what this is as values for JSON, without secrets."""
