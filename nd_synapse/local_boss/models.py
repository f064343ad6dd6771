"""The rows of the catalog as plain values: collections, coordinate frames, experiments and channels."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Channel", "Collection", "CoordinateFrame", "Experiment"]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of experiments."""

    id: int
    name: str
    description: str
    public: bool
    creator: str


@dataclass(frozen=True, slots=True)
class CoordinateFrame:
    """The extent and the voxel size of experiments.

    Ranges are half-open, in voxels of resolution 0; sizes are in `voxel_unit`.
    """

    id: int
    name: str
    description: str
    creator: str
    x_start: int
    x_stop: int
    y_start: int
    y_stop: int
    z_start: int
    z_stop: int
    x_voxel_size: float
    y_voxel_size: float
    z_voxel_size: float
    voxel_unit: str

    @property
    def start(self) -> tuple[int, int, int]:
        """First voxel (z, y, x)."""
        return (self.z_start, self.y_start, self.x_start)

    @property
    def stop(self) -> tuple[int, int, int]:
        """One past the last voxel (z, y, x)."""
        return (self.z_stop, self.y_stop, self.x_stop)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Size of a voxel (z, y, x) in `voxel_unit`."""
        return (self.z_voxel_size, self.y_voxel_size, self.x_voxel_size)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment of a collection, placed in a coordinate frame."""

    id: int
    collection: str
    name: str
    description: str
    public: bool
    creator: str
    coord_frame: str
    num_hierarchy_levels: int
    hierarchy_method: str
    num_time_samples: int
    time_step: int | None
    time_step_unit: str | None


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of an experiment: the home of voxels.

    `sources` and `related` are names of channels of the same experiment; `frame_stop` (z, y, x) and `time_samples`
    are the extent of the experiment.
    """

    id: int
    collection: str
    experiment: str
    name: str
    description: str
    public: bool
    creator: str
    type: str
    datatype: str
    base_resolution: int
    default_time_sample: int
    frame_stop: tuple[int, int, int]
    time_samples: int
    sources: tuple[str, ...]
    related: tuple[str, ...]
