"""What is in a volume in files or in a bucket, by its metadata: channels, their shape and voxel size, levels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nd_synapse.errors import DamagedError, DataError, UnknownNameError, few
from nd_synapse.files.chunked import Objects
from nd_synapse.files.floats import scaled
from nd_synapse.files.formats import container, is_zarr
from nd_synapse.files.image import Image, ImageVolume
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import KnownSize, check_voxel_size, shown_size
from nd_synapse.files.stacks import Opener, channels_of, images_of_node, open_images
from nd_synapse.sources.location import Location

__all__ = ["IMAGES", "Contents", "contents_of", "openers_of"]

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
    """Levels of the channel that has the fewest."""
    voxel_size_nm: KnownSize
    """Of the metadata, None along an axis of which they say nothing; the user's, if it is given."""
    left_out: tuple[DataError, ...] = ()
    """Why channels that are there are not among them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extents z, y, x."""
        return next(iter(self.volumes.values())).shape

    @property
    def images(self) -> list[str]:
        """Names of the channels that are images."""
        return [name for name, volume in self.volumes.items() if volume.dtype.name in IMAGES]

    def warn_of_left_out(self) -> None:
        """Log each channel that is left out; a run without it has other columns, and perhaps other roles."""
        for reason in self.left_out:
            log.warning("left out: %s", reason)


def contents_of(location: Location) -> Contents:
    """Read the metadata of a volume, and no voxel; raises as `nd_synapse.sources.source.open_source` does."""
    openers, levels = openers_of(location)
    volumes, refused = {}, []
    for name, opener in sorted(openers.items()):
        try:
            volumes[name] = _volume(opener, location)
        except DataError as error:
            # a damaged file is a channel that is missed; others, such as overviews in colour, are none
            if location.channels or isinstance(error, DamagedError):
                raise
            refused.append(error)
    if refused and not any(volume.dtype.name in IMAGES for volume in volumes.values()):
        raise refused[0]
    others = [f"{name} ({volume.dtype})" for name, volume in volumes.items() if volume.dtype.name not in IMAGES]
    if len(others) == len(volumes):
        found = f"its channels are {few(others) or 'none'}, and images are uint8 or uint16"
        raise DataError(location.uri, found, "Save them as uint16, after making sure that all values are in its range")
    return Contents(location, volumes, levels, _voxel_size(location, volumes), tuple(refused))


def openers_of(location: Location) -> tuple[dict[str, Opener], int]:
    """Return how to open each channel, and the number of levels."""
    if location.channels:
        chosen, levels = {}, []
        for name, uri in location.channels:
            found, count = openers_of(location.of(uri))
            chosen[name] = _one_of(found, name, uri)
            levels.append(count)
        return chosen, min(levels)
    match location.format or _format(location):
        case "tiff":
            if location.resolution:
                requested = f"level {location.resolution} of {location.uri}"
                raise UnknownNameError(requested, "a TIFF has no levels", "Leave --resolution out")
            return open_images(Path(location.place)), 1
        case "zarr":
            return _of_zarr(location)
        case "n5":
            from nd_synapse.files import n5

            return _of_paths(location, n5.datasets, n5.open_dataset, n5.level_count)
    from nd_synapse.files import precomputed

    return _of_paths(location, precomputed.volumes, precomputed.open_scale, precomputed.level_count)


def _format(location: Location) -> str:
    """Return the format of a location that does not say it; a URL is that of a Zarr."""
    path = Path(location.place)
    if location.is_remote or is_zarr(path):
        return "zarr"
    return container(path) or "tiff"


def _one_of(found: Mapping[str, Opener], name: str, uri: str) -> Opener:
    """Return a channel that lies apart: the only one there, or that of its name."""
    if name not in found and len(found) != 1:
        held = f"it has the channels {few(sorted(found))}"
        raise DataError(f"--channel {name}={uri}", held, "Call it as one of them is called, or give its own URI")
    return found[name] if name in found else next(iter(found.values()))


def _of_zarr(location: Location) -> tuple[dict[str, Opener], int]:
    # zarr takes a third of a second to import, and most local volumes are TIFF files
    from nd_synapse.files.zarr_arrays import levels, open_node

    if location.is_remote:
        from nd_synapse.sources.remote import open_remote

        node = open_remote(location.place)
    else:
        with reading(Path(location.place)):
            node = open_node(Path(location.place))
    with reading(location.uri):
        return images_of_node(location.name, location.uri, node, location.resolution), levels(node)


def _of_paths(
    location: Location,
    members: Callable[[Objects, str], Mapping[str, str]],
    opened: Callable[[Objects, str, str, int], Image],
    count: Callable[[Objects, str, str], int],
) -> tuple[dict[str, Opener], int]:
    """Return the channels of a format that describes its volumes itself."""
    from nd_synapse.sources.objects import objects_at  # requests is imported only where it is used

    objects = objects_at(location.place)
    paths = members(objects, location.uri)
    levels = min(count(objects, path, location.uri) for path in paths.values())
    if "" in paths:
        image = opened(objects, "", location.uri, location.resolution)
        return channels_of(location.name, location.uri, image), levels
    return {
        name: partial(_alone, opened, objects, path, f"{location.uri}/{name}", location.resolution)
        for name, path in paths.items()
    }, levels


def _alone(opened: Callable[[Objects, str, str, int], Image], *which: Any) -> tuple[Image, None]:
    return opened(*which), None


def _volume(opener: Opener, location: Location) -> ImageVolume:
    """Open a channel; floating point is scaled on request, and refused without."""
    image, place = opener()
    if image.dtype.kind == "f":
        if not location.scale_float:
            remedy = "Give --scale-float if they are within 0 to 1; save whole numbers as uint16"
            raise DataError(image.name, f"it holds {image.dtype.name}, not whole numbers", remedy)
        image = scaled(image)
    with reading(image.name):
        return image.volume(place)


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
    for name, volume in volumes.items():
        try:
            check_voxel_size(volume.name, volume.voxel_size_nm, given or [n or 1.0 for n in size])
        except DataError:
            if given:
                raise
            here, there = (shown_size(each.voxel_size_nm) for each in (one, volume))
            found = f"voxels of {first} have {here} nm (z, y, x), and those of {name} {there}"
            raise DataError(location.uri, found, "Give channels of one voxel size") from None
    # 0.07 um are not 70 nm to the last bit
    return given or (_rounded(size[0]), _rounded(size[1]), _rounded(size[2]))


def _rounded(size: float | None) -> float | None:
    return None if size is None else float(f"{size:.9g}")
