"""N5: datasets and groups of them, as their ``attributes.json`` describe them."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UnknownNameError, few
from nd_synapse.files.chunked import Chunked, Objects, metadata_of
from nd_synapse.files.image import Image, axes_of_names, in_nanometres
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import UNKNOWN_SIZE, KnownSize
from nd_synapse.text import levels_there

__all__ = ["datasets", "level_count", "open_dataset"]

_ATTRIBUTES = "attributes.json"
_REWRITE = "Write its attributes.json anew"


def datasets(objects: Objects, name: str) -> dict[str, str]:
    """Return the paths of the datasets that are the channels, by name: "" is a dataset or an image with levels."""
    said = metadata_of(objects, _ATTRIBUTES, name) or {}
    if _is_image(objects, "", said, name):
        return {"": ""}
    members = {
        member: metadata_of(objects, f"{member}/{_ATTRIBUTES}", f"{name}/{member}") for member in objects.names("")
    }
    if not said and not any(members.values()):
        raise UnknownNameError(name, "there is no N5 dataset, and no group", "Check the address")
    found = {member: member for member, their in members.items() if their and _is_image(objects, member, their, name)}
    if not found:
        groups = [member for member, their in members.items() if their is not None]
        raise DataError(name, f"it is an N5 group without datasets; it holds {few(groups) or 'none'}", "Name a dataset")
    return found


def _is_image(objects: Objects, path: str, said: Mapping[str, Any], name: str) -> bool:
    """Return whether attributes are those of a dataset, or of a group whose s0 is the finest level of an image."""
    return "dimensions" in said or bool(metadata_of(objects, _below(path, f"s0/{_ATTRIBUTES}"), name))


def level_count(objects: Objects, path: str, name: str) -> int:
    """Return the number of levels of an image."""
    level = 0
    while metadata_of(objects, _below(path, f"s{level}/{_ATTRIBUTES}"), name):
        level += 1
    return max(level, 1)


def open_dataset(objects: Objects, path: str, name: str, level: int = 0) -> Image:
    """Return a dataset, or a level of an image of several; `name` is for messages."""
    group = metadata_of(objects, _below(path, _ATTRIBUTES), name) or {}
    if "dimensions" in group:
        if level:
            found = "it is one dataset without levels"
            raise UnknownNameError(f"level {level} of {name}", found, "Leave --resolution out")
        return _image(objects, path, name, group, {})
    said = metadata_of(objects, _below(path, f"s{level}/{_ATTRIBUTES}"), name)
    if not said:
        found = levels_there(level_count(objects, path, name))
        raise UnknownNameError(f"level {level} of {name}", found, "Give another --resolution")
    with reading(name):
        factors = group["scales"][level] if "scales" in group else ()
    return _image(objects, _below(path, f"s{level}"), name, {"downsamplingFactors": factors, **said}, group)


def _image(objects: Objects, path: str, name: str, said: Mapping[str, Any], group: Mapping[str, Any]) -> Image:
    """Return the dataset with these attributes; those of its group stand in for what they lack."""
    with reading(name):
        shape = tuple(int(n) for n in reversed(said["dimensions"]))
        chunk = tuple(int(n) for n in reversed(said["blockSize"]))
        dtype = np.dtype(str(said["dataType"]))
        size, axes = _size_and_axes(said, group, len(shape))
        if len(axes) != len(shape):
            raise DataError(name, f"it names the axes {', '.join(axes)} and has {len(shape)}", _REWRITE)
        decode = _decoder(name, said)

    def fetch(place: tuple[int, ...]) -> NDArray[Any] | None:
        key = _below(path, "/".join(map(str, reversed(place))))
        body = objects.read(key)
        if body is None:
            return None
        with reading(f"chunk {key} of {name}"):
            return _block(body, dtype, len(shape), decode)

    array = Chunked(shape, dtype, chunk, fetch)
    array.check(name)
    return Image(name, axes, shape, dtype, array.__getitem__, size, chunks=path)


def _block(body: bytes, dtype: np.dtype[Any], dimensions: int, decode: Callable[[bytes], bytes]) -> NDArray[Any]:
    """Decode a block: the mode, the number of dimensions and their extents, x first, then voxels, big-endian."""
    mode, count = struct.unpack_from(">HH", body)
    if mode not in (0, 1) or count != dimensions:
        raise ValueError(f"its header says mode {mode}, {count} dimensions")
    extents = struct.unpack_from(f">{count}I", body, 4)
    voxels = np.frombuffer(decode(body[4 + 4 * (count + mode) :]), dtype.newbyteorder(">"))
    return voxels.reshape(extents[::-1])


def _decoder(name: str, said: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return what unpacks a block."""
    packing = said.get("compression", said.get("compressionType", "raw"))
    kind = packing["type"] if isinstance(packing, dict) else packing
    # numcodecs takes a tenth of a second to import
    if kind in ("blosc", "zstd"):
        from numcodecs import Blosc, Zstd

        return (Blosc() if kind == "blosc" else Zstd()).decode  # type: ignore[no-any-return] # numcodecs has no types
    known: dict[str, Callable[[bytes], bytes]] = {
        "raw": bytes,
        # with useZlib, zlib in the place of gzip; 32 knows both by their headers
        "gzip": lambda body: zlib.decompress(body, 32 + zlib.MAX_WBITS),
        "bzip2": bz2.decompress,
        "xz": lzma.decompress,
    }
    if kind not in known:
        found = f"its compression is {kind}; {', '.join(known)}, blosc and zstd are read"
        raise DataError(name, found, "Save it with one of them")
    return known[kind]


def _size_and_axes(said: Mapping[str, Any], group: Mapping[str, Any], dimensions: int) -> tuple[KnownSize, str]:
    """Return voxel size and axes, in the order of the array, by the conventions of COSEM, of the Saalfeld lab.

    The first names its axes as C orders them; the others say x first, and may leave the names out.
    """
    transform = said.get("transform")
    if isinstance(transform, dict) and {"axes", "scale", "units"} <= set(transform):
        axes = axes_of_names(transform["axes"]) or ""
        return _size(axes, transform["scale"], transform["units"], [1.0] * len(axes)), axes
    both = {**group, **said}
    axes = axes_of_names(list(reversed(both.get("axes") or ()))) or "zyx".rjust(dimensions, "?")
    scale, units = both.get("pixelResolution"), both.get("units") or ()
    if isinstance(scale, dict):
        scale, units = scale["dimensions"], scale.get("unit", "")
    scale = list(reversed(scale or both.get("resolution") or ()))
    units = [units] * len(scale) if isinstance(units, str) else list(reversed(units))
    factors = list(reversed(said.get("downsamplingFactors") or [1] * len(scale)))
    named = axes if len(scale) == len(axes) else "".join(axis for axis in axes if axis in "zyx")
    return _size(named, scale, units, factors), axes


def _size(axes: str, scale: Sequence[Any], units: Sequence[Any], factors: Sequence[Any]) -> KnownSize:
    if not len(axes) == len(scale) == len(units) == len(factors):
        return UNKNOWN_SIZE
    sizes = {
        axis: in_nanometres(float(n) * float(factor), str(unit))
        for axis, n, unit, factor in zip(axes, scale, units, factors, strict=True)
        if axis in "zyx"
    }
    return sizes.get("z"), sizes.get("y"), sizes.get("x")


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
