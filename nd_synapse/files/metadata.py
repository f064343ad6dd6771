"""What the metadata of a TIFF say about its planes: OME-XML, the description of ImageJ, and resolution tags."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from nd_synapse.errors import DataError
from nd_synapse.files.image import in_nanometres
from nd_synapse.files.slabs import UNKNOWN_SIZE, KnownSize

__all__ = ["Described", "described"]

# printers and scanners go down to some 10 um; finer pixels are those of a microscope
_FINEST_PRINT_NM = 10_000
_PRINT = ("inch", "cm")
_SIGNED = (-32768.0, 1.0)


@dataclass(frozen=True, slots=True)
class Described:
    """What metadata say; each part may be absent."""

    voxel_size_nm: KnownSize = UNKNOWN_SIZE
    channels: tuple[str, ...] = ()
    planes: tuple[int, ...] = ()
    """How many planes there are, each time that it is said."""
    place: tuple[tuple[int, int, int], int] | None = None
    """Image, channel and time of a plane that is a file of its own, and its z."""
    is_signed: bool = False
    """Whether uint16 stands for int16, with 32,768 added."""


def described(path: Path, tif: tifffile.TiffFile) -> Described:
    """Return what the metadata of a TIFF say."""
    page = tif.pages.first
    if page.is_ome:
        return _by_ome(path, page.description)
    if tif.is_imagej:
        return _by_imagej(path, page, dict(tif.imagej_metadata or {}))
    unit = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, 2)), "")
    return Described((None, *_resolution(page, unit)), planes=_shaped(tif))


def _resolution(page: Any, unit: str) -> tuple[float | None, float | None]:
    """Return the extents (y, x) in nanometres of a pixel by its resolution tags."""
    found = []
    for code in (283, 282):
        number, parts = page.tags.valueof(code, (0, 0))
        found.append(_length(parts / number, unit) if number else None)
    return found[0], found[1]


def _length(size: float, unit: str) -> float | None:
    """Return a length in nanometres, None for that of a dot on paper or on a screen."""
    length = in_nanometres(size, unit)
    return None if unit in _PRINT and length is not None and length > _FINEST_PRINT_NM else length


def _shaped(tif: tifffile.TiffFile) -> tuple[int, ...]:
    """Return how many planes tifffile's own description says that there are."""
    page = tif.pages.first
    text = page.shaped_description or ""
    if not text.startswith("{") or len(tif.series) != 1:
        return ()
    shape = json.loads(text).get("shape", ())
    return (math.prod(shape) // math.prod(page.shape),) if shape else ()


def _by_imagej(path: Path, page: Any, said: dict[str, Any]) -> Described:
    planes = [math.prod(int(said.get(key, 1)) for key in ("channels", "slices", "frames"))]
    planes = planes if {"channels", "slices", "frames"} & set(said) else []
    if "images" in said:
        planes.append(int(said["images"]))
    unit = str(said.get("unit", ""))
    spacing = _length(_number(said.get("spacing", 0)), unit)
    calibration = (_number(said.get("c0", 0)), _number(said.get("c1", 1)))
    is_signed = calibration == _SIGNED and said.get("cf", 0) == 0 and page.dtype == "uint16"
    if not is_signed and (calibration != (0.0, 1.0) or said.get("cf", 0) != 0):
        coefficients = f"({said.get('c0', 0)}, {said.get('c1', 1)})"
        found = f"ImageJ calibrates its values (function {said.get('cf', 0)}, coefficients {coefficients})"
        raise DataError(
            str(path), found, "Save it without (in Fiji: Analyze > Calibrate, None keeps the stored values)"
        )
    return Described((spacing, *_resolution(page, unit)), planes=tuple(planes), is_signed=is_signed)


def _by_ome(path: Path, xml: str) -> Described:
    root = ElementTree.fromstring(xml)  # noqa: S314 # expat limits the expansion of entities
    if root.find("{*}BinaryOnly") is not None:
        raise DataError(str(path), "its OME-XML is in another file (BinaryOnly)", "Save it as one OME-TIFF")
    pixels = root.findall("{*}Image/{*}Pixels")
    place = _place(path, root, pixels)
    if len(pixels) != 1:
        return Described(place=place)
    said = pixels[0].attrib
    z, y, x = (_physical(said, axis) for axis in "ZYX")
    channels = tuple(one.get("Name") or "" for one in pixels[0].findall("{*}Channel"))
    whole = Described((z, y, x), channels if all(channels) else ())
    if place is not None:  # the planes lie in several files
        return replace(whole, place=place)
    return replace(whole, planes=(math.prod(int(said[f"Size{axis}"]) for axis in "ZCT"),))


def _physical(said: dict[str, str], axis: str) -> float | None:
    """Return the extent of a voxel in nanometres along an axis."""
    size, unit = said.get(f"PhysicalSize{axis}"), said.get(f"PhysicalSize{axis}Unit", "um")
    return in_nanometres(_number(size), unit) if size else None


def _number(value: Any) -> float:
    """Return a number that may have a decimal comma, as some programs write; NaN for anything else."""
    try:
        return float(str(value).replace(",", "."))
    except ValueError:
        return math.nan


def _place(
    path: Path, root: ElementTree.Element, pixels: list[ElementTree.Element]
) -> tuple[tuple[int, int, int], int] | None:
    """Return where a file belongs in a set of several, None if the OME-XML names no other file."""
    planes = [
        (image, data, data.find("{*}UUID")) for image, one in enumerate(pixels) for data in one.findall("{*}TiffData")
    ]
    files = {uuid.text for _, _, uuid in planes if uuid is not None}
    if len(files) < 2:
        return None
    for image, data, uuid in planes:
        if uuid is None:
            continue
        # a file that was renamed keeps its UUID
        if root.get("UUID", uuid.get("FileName")) in (uuid.text, path.name) or uuid.get("FileName") == path.name:
            c, t, z = (int(data.get(f"First{axis}", 0)) for axis in "CTZ")
            return (image, c, t), z
    raise DataError(str(path), "its OME-XML speaks of other files", "Give it the name that its OME-XML has")
