"""The formats of a mask on disk: a pickled array, and an OME-TIFF for Fiji; some slices are in memory at a time."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.halving import halved
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

__all__ = ["MOST_VOXELS", "map_pickle", "ome_xml", "write_pickle", "write_tiff"]

SUFFIXES = (".pkl", ".ome.tiff")
"""Of the two files of a mask."""

# beyond this a classic TIFF's 32-bit offsets could overflow, even where compression gains nothing
_CLASSIC_TIFF_BYTES = 2**32 - 2**25
MOST_VOXELS = 2**35
"""Of masks that have files of their own: no program for TIFF handles more, and a pickle is loaded whole."""

_SLAB_BYTES = 2**24
"""Slices that are read at once, at least one: a mask in blocks opens each of them for every piece that is read."""

_STRIPS = 2048
_TILE = (512, 512)
_PICKLE_TAIL = pickle.TUPLE3 + pickle.REDUCE + pickle.STOP
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
# The root of the names of our images; version 5 UUIDs below it depend on the content alone.
_IMAGES = uuid.uuid5(uuid.NAMESPACE_URL, "nd-synapse/image")


def _slices(name: str, mask: Volume) -> Iterator[NDArray[np.uint8]]:
    """Yield the slices (y, x) of a mask, each contiguous and in memory, or raise DataError for other values."""
    sections = mask.shape[0]
    depth = max(1, _SLAB_BYTES // math.prod(mask.shape[1:]))
    for first in range(0, sections, depth):
        slab = np.ascontiguousarray(mask[first : min(first + depth, sections), :, :])
        for z, plane in enumerate(slab, first):
            other = (plane != 0) & (plane != 255)
            if other.any():
                found = f"slice {z} holds the value {plane[other][0]}"
                raise DataError(f"mask {name}", found, "Give a mask of 0 and 255")
            yield plane


def write_pickle(file: BinaryIO, name: str, mask: Volume) -> bytes:
    """Write a mask as the pickle of one array, slice after slice, and return the SHA-256 of its voxels.

    `pickle.dump` holds all of an array that is not contiguous, and an array that it reads from a read-only one is
    read-only too. The stream here says ``numpy.ndarray(shape, "uint8", bytearray)``, which every NumPy understands.
    """
    file.write(_pickle_head(mask.shape))
    digest = hashlib.sha256()
    for plane in _slices(name, mask):
        file.write(plane.data)
        digest.update(plane.data)
    file.write(_PICKLE_TAIL)
    return digest.digest()


def _pickle_head(shape: Sequence[int]) -> bytes:
    """Return what stands before the voxels in the pickle of a mask."""
    opcodes = [
        (pickle.PROTO, b"\x05"),
        (pickle.GLOBAL, b"numpy\nndarray\n"),
        *((pickle.INT, b"%d\n" % extent) for extent in shape),
        (pickle.TUPLE3, b""),
        (pickle.SHORT_BINUNICODE, b"\x05uint8"),
        (pickle.BYTEARRAY8, struct.pack("<Q", math.prod(shape))),
    ]
    return b"".join(opcode + argument for opcode, argument in opcodes)


def map_pickle(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Map a mask that `write_pickle` wrote into memory; nothing is unpickled, which could run any program."""
    whole = False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # a shape from run.json may have more voxels than the head of a pickle can hold
        if math.prod(shape) + len(_PICKLE_TAIL) < size:
            head = _pickle_head(shape)
            file.seek(0)
            begins = file.read(len(head)) == head
            file.seek(-len(_PICKLE_TAIL), os.SEEK_END)
            ends = file.read() == _PICKLE_TAIL
            whole = begins and ends and size == len(head) + math.prod(shape) + len(_PICKLE_TAIL)
    if not whole:
        raise DataError(f"mask {path.name}", f"it is no mask of shape {shape} that we wrote", "Run the job again")
    return np.memmap(path, np.uint8, mode="r", offset=len(head), shape=shape)


def write_tiff(file: BinaryIO, mask: Volume, xml: bytes) -> None:
    """Write a mask as a TIFF of one compressed page a slice, `xml` in the first page's description.

    Slices of more than 2048 voxels a side are cut into tiles, and have levels: SubIFDs, each half as wide, with the
    largest voxel of those that become one. Smaller ones are in strips, which more programs read.
    """
    steps = _steps(mask.shape)
    large = math.prod(mask.shape) * (4 / 3 if steps[1:] else 1) > _CLASSIC_TIFF_BYTES
    tile = _TILE if steps[1:] else None
    with tifffile.TiffWriter(file, bigtiff=large, byteorder="<") as tiff:
        for step in steps:
            slices = (_halved_often(np.ascontiguousarray(mask[z : z + 1, :, :]), step)[0] for z in range(mask.shape[0]))
            shape = (mask.shape[0], *(-(-n // step) for n in mask.shape[1:]))
            first = {"description": xml, "subifds": len(steps) - 1} if step == 1 else {"subfiletype": 1}
            tiff.write(
                slices if tile is None else (part for plane in slices for part in _tiles(plane)),
                shape=shape,
                dtype=np.uint8,
                tile=tile,
                photometric="minisblack",
                compression="zlib",
                metadata=None,
                software=False,
                maxworkers=1,
                **first,
            )


def _steps(shape: Sequence[int]) -> list[int]:
    """Return how many voxels of a slice a voxel of each level is wide; 1 alone where the slices are small."""
    steps = [1]
    while max(shape[1:]) > _STRIPS and -(-max(shape[1:]) // steps[-1]) > _TILE[0]:
        steps.append(2 * steps[-1])
    return steps


def _halved_often(voxels: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the maximum of each `step` voxels along y and x, a power of 2."""
    while step > 1:
        voxels, step = halved(voxels, (1, 2, 2)), step // 2
    return voxels


def _tiles(plane: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut a slice (y, x) into tiles, those at the end filled with 0."""
    height, width = _TILE
    for y in range(0, plane.shape[0], height):
        for x in range(0, plane.shape[1], width):
            part = plane[y : y + height, x : x + width]
            yield np.pad(part, [(0, n - extent) for n, extent in zip(_TILE, part.shape, strict=True)])


def ome_xml(name: str, box: Box, voxel_size_nm: Sequence[float], description: str, digest: bytes) -> bytes:
    """Return the OME-XML of a mask, in ASCII; its UUID follows from what the file holds."""
    z, y, x = box.shape
    # What XML cannot hold becomes a space.
    description = "".join(c if c.isprintable() else " " for c in description)
    z_um, y_um, x_um = (size_nm / 1000 for size_nm in voxel_size_nm)
    sizes = {"SizeX": x, "SizeY": y, "SizeZ": z, "SizeC": 1, "SizeT": 1}
    physical = {"PhysicalSizeX": x_um, "PhysicalSizeY": y_um, "PhysicalSizeZ": z_um}
    identity = uuid.uuid5(_IMAGES, f"{digest.hex()} {name} {box} {z_um} {y_um} {x_um} {description}")

    ome = ElementTree.Element("OME", {"xmlns": _OME, "Creator": "nd-synapse", "UUID": f"urn:uuid:{identity}"})
    image = ElementTree.SubElement(ome, "Image", {"ID": "Image:0", "Name": name})
    ElementTree.SubElement(image, "Description").text = description
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        {"ID": "Pixels:0", "DimensionOrder": "XYZCT", "Type": "uint8", "BigEndian": "false"}
        | {key: str(extent) for key, extent in sizes.items()}
        | {key: f"{size:.12g}" for key, size in physical.items()}
        | {f"{key}Unit": "\N{MICRO SIGN}m" for key in physical},
    )
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "Name": name, "SamplesPerPixel": "1"})
    ElementTree.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": str(z)})
    for plane in range(z):
        corner = {"X": box.x[0] * x_um, "Y": box.y[0] * y_um, "Z": (box.z[0] + plane) * z_um}
        ElementTree.SubElement(
            pixels,
            "Plane",
            {"TheZ": str(plane), "TheC": "0", "TheT": "0"}
            | {f"Position{axis}": f"{position:.12g}" for axis, position in corner.items()}
            | {f"Position{axis}Unit": "\N{MICRO SIGN}m" for axis in corner},
        )
    ElementTree.SubElement(image, "AnnotationRef", {"ID": "Annotation:0"})
    notes = ElementTree.SubElement(ElementTree.SubElement(ome, "StructuredAnnotations"), "MapAnnotation")
    notes.attrib.update({"ID": "Annotation:0", "Namespace": "nd-synapse/box"})
    value = ElementTree.SubElement(notes, "Value")
    for axis, (start, stop) in zip("zyx", box.ranges, strict=True):
        ElementTree.SubElement(value, "M", {"K": f"{axis}_start"}).text = str(start)
        ElementTree.SubElement(value, "M", {"K": f"{axis}_stop"}).text = str(stop)
    xml: bytes = ElementTree.tostring(ome, encoding="us-ascii", xml_declaration=True)
    return xml
