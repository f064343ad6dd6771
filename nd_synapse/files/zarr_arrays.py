"""Zarr arrays and groups in folders, of format 2 or 3, and the finest level of OME-Zarr; zarr decodes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any, cast

import zarr
from zarr.abc.store import Store

from nd_synapse.errors import DataError, UnknownNameError, few
from nd_synapse.files.image import Image, axes_of_names, image_of_array, in_nanometres
from nd_synapse.files.slabs import MAX_SLICE_BYTES, UNKNOWN_SIZE, KnownSize
from nd_synapse.files.zarr_chunks import chunked
from nd_synapse.text import levels_there

__all__ = ["Node", "array_names", "image_of", "levels", "open_node", "open_zarr"]

Node = zarr.Group | zarr.Array[Any]


def open_zarr(path: Path) -> Image:
    """Open an array, or the finest level of an OME-Zarr image."""
    return image_of(str(path), open_node(path))


def open_node(place: Path | Store) -> Node:
    """Open an array or a group in a folder, or in a store; zarr warns where a folder has metadata of both formats."""
    newer = isinstance(place, Path) and (place / "zarr.json").is_file()
    return zarr.open(place, mode="r", zarr_format=3 if newer else None)


def image_of(name: str, node: Node, level: int = 0) -> Image:
    """Return an array, or a level of an OME-Zarr image, 0 being the finest; `name` is for messages."""
    if isinstance(node, zarr.Group):
        return _of_group(name, node, level)
    if level:
        raise UnknownNameError(f"level {level} of {name}", "it is one array without levels", "Leave --resolution out")
    return _of_array(name, node)


def array_names(node: Node) -> list[str]:
    """Return the names of the arrays of a group that is no OME-Zarr image; empty for everything else."""
    if not isinstance(node, zarr.Group) or {"multiscales", "bioformats2raw.layout"} & set(_ome(node)):
        return []
    return sorted(name for name, _ in node.arrays())


def levels(node: Node) -> int:
    """Return the number of levels of an OME-Zarr image; 1 for everything else."""
    if not isinstance(node, zarr.Group):
        return 1
    ome = _ome(node)
    if "bioformats2raw.layout" in ome and (series := _series(node)):
        return levels(node[series[0]])
    scales = ome.get("multiscales") or []
    return len(_multiscale(node.name, scales[0]).paths) if scales else 1


def _of_array(path: str, array: Any, axes: str | None = None, size_nm: KnownSize = UNKNOWN_SIZE) -> Image:
    """Return an array as an image, its axes named by itself or by the group that it is in."""
    if "pickle" in str(array.metadata.to_dict()):
        # decoding such a chunk runs any program that its writer put there
        raise DataError(path, "its chunks are pickles, which may run code", "Save it with another codec")
    chunk = array.shards or array.chunks
    size = math.prod(chunk) * array.dtype.itemsize
    if size > MAX_SLICE_BYTES:
        found = f"its chunks of {chunk} have {size / 2**30:.1f} GiB, more than {MAX_SLICE_BYTES / 2**30:.0f} GiB"
        raise DataError(path, found, "Save it in smaller chunks")
    own = _own_axes(path, array)
    if own is not None and axes is not None and own != axes:
        found = f"its axes are {', '.join(own)}, and the group says {', '.join(axes)}"
        raise DataError(path, found, "Correct the names of its axes")
    if (own or axes) and size_nm == UNKNOWN_SIZE:
        size_nm = _own_size(array.attrs, own or axes or "")
    return replace(image_of_array(chunked(path, array) or array, path, own or axes, size_nm), chunks=array.path)


def _own_axes(path: str, array: Any) -> str | None:
    """Return the axes that an array names: as Zarr 3 does, or xarray, or funlib."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or array.attrs.get("axis_names")
    if not names or not any(names):
        return None
    if len(names) != array.ndim:
        raise DataError(path, f"it names {len(names)} axes and has {array.ndim}", "Correct the names of its axes")
    return axes_of_names(names)


def _own_size(attributes: Any, axes: str) -> KnownSize:
    """Return the voxel size (z, y, x) that funlib writes beside the names of axes."""
    sizes = attributes.get("voxel_size") or attributes.get("resolution") or ()
    units = attributes.get("units") or ()
    space = [axis for axis in axes if axis in "zyx"]
    if not len(sizes) == len(units) == len(space):
        return UNKNOWN_SIZE
    return _by_axis({axis: in_nanometres(float(n), unit) for axis, n, unit in zip(space, sizes, units, strict=True)})


def _by_axis(sizes: Mapping[str, float | None]) -> KnownSize:
    return sizes.get("z"), sizes.get("y"), sizes.get("x")


def _ome(group: zarr.Group) -> dict[str, Any]:
    """Return the metadata of OME-Zarr: under ``ome`` since 0.5."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    return dict(ome) if isinstance(ome, dict) else {}


def _series(group: zarr.Group) -> list[str]:
    """Return the paths of the images that bioformats2raw wrote: as ``OME`` lists them, or else 0, 1, 2, ..."""
    listed = _ome(cast(zarr.Group, group["OME"])).get("series") if "OME" in group else None
    return list(map(str, listed or takewhile(group.__contains__, map(str, count()))))


def _of_group(path: str, group: zarr.Group, level: int) -> Image:
    """Return a level of the OME-Zarr image that a group is."""
    ome = _ome(group)
    if "bioformats2raw.layout" in ome and (series := _series(group)):
        if len(series) > 1:
            found = f"it has {len(series)} series: {few(series)}"
            raise DataError(path, found, f"Name one of them, such as {path}/{series[0]}")
        return image_of(f"{path}/{series[0]}", group[series[0]], level)
    scales: list[Any] = ome.get("multiscales") or []
    if not scales:
        raise _no_image(path, group, ome)
    if len(scales) > 1:
        raise DataError(path, f"it has {len(scales)} multiscale images", "Save each as an image of its own")
    said = _multiscale(path, scales[0])
    first = said.paths[0]
    if level >= len(said.paths):
        found = levels_there(len(said.paths))
        raise UnknownNameError(f"level {level} of {path}", found, "Give another --resolution")
    if lacking := [one for one in (first, said.paths[level]) if one not in group]:
        raise DataError(path, f"its metadata name an array {lacking[0]} that is not there", "Copy it anew")
    array: Any = group[first]
    for other in (one for one in said.paths[1:] if one in group):
        shape = cast(zarr.Array[Any], group[other]).shape
        if math.prod(shape) > math.prod(array.shape):
            found = f"its first level {first} has the shape {array.shape}, and {other} has {shape}"
            raise DataError(path, found, f"Name the level that you mean, such as {path}/{other}")
    array = group[said.paths[level]]
    if said.axes is not None and len(said.axes) != array.ndim:
        raise DataError(path, f"it names {len(said.axes)} axes and has {array.ndim}", "Correct its axes")
    image = _of_array(path, array, said.axes, said.sizes_nm[level])
    return replace(image, channels=_labels(ome.get("omero")), start=said.starts[level])


@dataclass(frozen=True, slots=True)
class _Multiscale:
    """What the metadata of an OME-Zarr image say of its levels, the finest first."""

    paths: tuple[str, ...]
    axes: str | None
    sizes_nm: tuple[KnownSize, ...]
    starts: tuple[tuple[float, float, float], ...]
    """Voxel 0 of each level in its voxels (z, y, x)."""


def _multiscale(path: str, said: Any) -> _Multiscale:
    """Return what the metadata say; DataError where they are not as the format has them."""
    try:
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in said.get("axes") or ()]
        names = axes_of_names([axis["name"] for axis in axes])
        paths = tuple(one["path"] for one in said["datasets"])
        sizes = tuple(_size(names or "", axes, (one, said)) for one in said["datasets"])
        starts = tuple(_start(names or "", (one, said)) for one in said["datasets"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _malformed(path, f"{error} is missing" if isinstance(error, KeyError) else error) from error
    if not paths:
        raise _malformed(path, "they name no level")
    return _Multiscale(paths, names, sizes, starts)


def _malformed(path: str, why: object) -> DataError:
    found = f"its OME-Zarr metadata are not as the format has them ({why})"
    return DataError(path, found, "Correct its multiscales (in zarr.json or .zattrs)")


def _labels(omero: Any) -> tuple[str, ...]:
    """Return the names of channels that a program saved for its display, if there are any."""
    channels = omero.get("channels") if isinstance(omero, dict) else None
    labels = [channel.get("label") for channel in channels or () if isinstance(channel, dict)]
    return tuple(map(str, labels)) if all(labels) else ()


def _size(names: str, axes: Sequence[Mapping[str, Any]], scaled: Sequence[Mapping[str, Any]]) -> KnownSize:
    """Return the voxel size that scales, one after the other, and the units of axes give."""
    factors = [1.0] * len(names)
    found = False
    for one in scaled:
        for transformation in one.get("coordinateTransformations") or ():
            # an empty scale says nothing
            if names and transformation.get("type") == "scale" and (scale := transformation.get("scale")):
                found = True
                if len(scale) != len(names):
                    raise ValueError(f"a scale of {len(scale)} numbers for {len(names)} axes")
                factors = [a * float(b) for a, b in zip(factors, scale, strict=True)]
    if not found:
        return UNKNOWN_SIZE
    sizes = (in_nanometres(n, str(axis.get("unit", ""))) for n, axis in zip(factors, axes, strict=True))
    return _by_axis(dict(zip(names, sizes, strict=True)))


def _start(names: str, placed: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Return where scales and translations, one after the other, have voxel 0, in voxels (z, y, x)."""
    factors, starts = [1.0] * len(names), [0.0] * len(names)
    for one in placed:
        for transformation in one.get("coordinateTransformations") or ():
            if names and (scale := transformation.get("scale")):
                factors = [a * float(b) for a, b in zip(factors, scale, strict=True)]
                starts = [a * float(b) for a, b in zip(starts, scale, strict=True)]
            if names and (translation := transformation.get("translation")):
                starts = [a + float(b) for a, b in zip(starts, translation, strict=True)]
    found = {axis: start / factor for axis, start, factor in zip(names, starts, factors, strict=True) if factor}
    return found.get("z", 0.0), found.get("y", 0.0), found.get("x", 0.0)


def _no_image(path: str, group: zarr.Group, ome: Mapping[str, Any]) -> DataError:
    """Return the error for a group that is no image, with what it is."""
    members = sorted(name for name, _ in group.members())
    shown = few(members) or "nothing"
    example = f"{path}/{members[0] if members else 'NAME'}"
    images = [name for name, one in group.groups() if "multiscales" in _ome(one)]
    if "plate" in ome or "well" in ome:
        kind = "plate" if "plate" in ome else "well"
        return DataError(
            path, f"it is a {kind} of OME-Zarr, with several images", f"Name one image in it, below {example}"
        )
    if images:
        return DataError(
            path,
            f"it is a group of {len(images)} images: {few(sorted(images))}",
            f"Name one of them, such as {example}",
        )
    found = f"it is a Zarr group without OME-Zarr metadata; it holds {shown}"
    return DataError(path, found, f"Name one of them, such as {example}")
