"""What is in a volume in files or in a bucket, by its metadata: channels, their shape and voxel size, levels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.errors import DataError, UnknownNameError, few
from nd_synapse.files.formats import is_zarr
from nd_synapse.files.image import ImageVolume
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import KnownSize, check_voxel_size
from nd_synapse.files.stacks import open_volumes, volumes_of_node
from nd_synapse.sources.location import Location

__all__ = ["IMAGES", "Contents", "contents_of"]

log = logging.getLogger(__name__)

IMAGES = ("uint8", "uint16")
"""Types of the voxels of images."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The channels of a volume, of one shape and voxel size."""

    location: Location
    volumes: Mapping[str, ImageVolume]
    """By channel, sorted; one of them at least is an image."""
    levels: int
    """Levels of an OME-Zarr image; 1 for everything else."""
    voxel_size_nm: KnownSize
    """Of the metadata, None along an axis of which they say nothing; the user's, if it is given."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extents z, y, x."""
        return next(iter(self.volumes.values())).shape

    @property
    def images(self) -> list[str]:
        """Names of the channels that are images."""
        return [name for name, volume in self.volumes.items() if volume.dtype.name in IMAGES]


def contents_of(location: Location) -> Contents:
    """Read the metadata of a volume, and no voxel; raises as `nd_synapse.sources.source.open_source` does."""
    openers, levels = _openers(location)
    volumes, refused = {}, []
    for name, opener in sorted(openers.items()):
        try:
            volumes[name] = opener()
        except DataError as error:
            refused.append(error)
    if refused and not any(volume.dtype.name in IMAGES for volume in volumes.values()):
        raise refused[0]
    for reason in refused:
        # a warning: a run without the channel has other columns, and perhaps other roles
        log.warning("left out: %s", reason)
    others = [f"{name} ({volume.dtype})" for name, volume in volumes.items() if volume.dtype.name not in IMAGES]
    if len(others) == len(volumes):
        found = f"its channels are {few(others) or 'none'}, and images are uint8 or uint16"
        raise DataError(location.uri, found, "Save them as uint16, after making sure that all values are in its range")
    return Contents(location, volumes, levels, _voxel_size(location, volumes))


def _openers(location: Location) -> tuple[dict[str, Callable[[], ImageVolume]], int]:
    """Return how to open each channel, and the number of levels."""
    path = Path(location.uri)
    # zarr takes a third of a second to import, and most local volumes are TIFF files
    if location.is_remote:
        from nd_synapse.sources.remote import open_remote

        node = open_remote(location.uri)
    elif is_zarr(path):
        from nd_synapse.files.zarr_arrays import open_node

        with reading(path):
            node = open_node(path)
    else:
        if location.resolution:
            requested = f"level {location.resolution} of {location.uri}"
            raise UnknownNameError(requested, "only OME-Zarr has levels", "Leave --resolution out")
        return open_volumes(path), 1
    from nd_synapse.files.zarr_arrays import levels

    with reading(location.uri):
        return volumes_of_node(location.name, location.uri, node, location.resolution), levels(node)


def _voxel_size(location: Location, volumes: Mapping[str, ImageVolume]) -> KnownSize:
    """Return the one voxel size of all channels, as far as it is known; refuse other shapes and sizes."""
    (first, one), *others = volumes.items()
    size = list(one.voxel_size_nm)
    for name, volume in others:
        if volume.shape != one.shape:
            found = f"{first} has the shape {one.shape}, and {name} {volume.shape}"
            raise DataError(location.uri, found, "Give channels of one shape (z, y, x)")
        size = [here or there for here, there in zip(size, volume.voxel_size_nm, strict=True)]
    given = location.voxel_size_nm
    for volume in volumes.values():
        check_voxel_size(volume.name, volume.voxel_size_nm, given or [n or 1.0 for n in size])
    # 0.07 um are not 70 nm to the last bit
    return given or (_rounded(size[0]), _rounded(size[1]), _rounded(size[2]))


def _rounded(size: float | None) -> float | None:
    return None if size is None else float(f"{size:.9g}")
