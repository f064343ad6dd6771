"""Formats that are not read: files and folders of other programs are known by how they begin, and named."""

from __future__ import annotations

import json
from pathlib import Path

from nd_synapse.errors import DataError

__all__ = ["TO_TIFF", "container", "is_zarr", "refuse_foreign"]

_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")
TO_TIFF = "Save it as a TIFF stack (in Fiji: File > Save As > Tiff)"
_TO_ZARR = "Save it as Zarr or TIFF"
_UNPACK = "Unpack it, and name the array in it"

# (where it stands, what stands there, the format, what to do)
_MAGIC = (
    (0, b"\x89PNG", "a PNG picture", TO_TIFF),
    (0, b"\xff\xd8\xff", "a JPEG picture", TO_TIFF),
    (0, b"GIF8", "a GIF picture", TO_TIFF),
    (0, b"BM", "a BMP picture", TO_TIFF),
    (8, b"WEBP", "a WebP picture", TO_TIFF),
    (4, b"jP  \r\n", "a JPEG 2000 picture", TO_TIFF),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", TO_TIFF),
    (0, b"\x89HDF", "an HDF5 file (such as .h5, .ims or .mat)", TO_TIFF),
    (0, b"ZISRAWFILE", "a Zeiss CZI file", TO_TIFF),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file", TO_TIFF),
    (0, b"\x70\0\0\0", "a Leica LIF file", TO_TIFF),
    (0, b"\xd0\xcf\x11\xe0", "an OLE file (such as .oib or .zvi)", TO_TIFF),
    (0, b"NRRD", "an NRRD file", TO_TIFF),
    (208, b"MAP ", "an MRC file", TO_TIFF),
    (344, b"n+1\0", "a NIfTI file", TO_TIFF),
    (128, b"DICM", "a DICOM file", TO_TIFF),
    (0, b"P5", "a PGM picture", TO_TIFF),
    *((0, b"\x80" + bytes([n]), "a Python pickle, which could run code when read", _TO_ZARR) for n in range(2, 6)),
    (0, b"%PDF", "a PDF document", TO_TIFF),
    (0, b"PK\3\4", "a ZIP archive (such as .npz or a zipped Zarr)", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
)
_HEAD = max(offset + len(magic) for offset, magic, _, _ in _MAGIC)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((path / marker).is_file() for marker in _ZARR_MARKERS)


def refuse_foreign(path: Path) -> None:
    """Raise DataError if a file or a folder has a format that is known and not read."""
    if path.is_dir():
        _refuse_folder(path)
        return
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for offset, magic, name, remedy in _MAGIC:
        if head[offset:].startswith(magic):
            raise DataError(str(path), f"it is {name}", remedy)


def container(path: Path) -> str:
    """Return ``n5`` or ``precomputed`` for a folder of such a format, and nothing for everything else."""
    if (path / "attributes.json").is_file():
        return "n5"
    try:
        is_precomputed = (path / "info").is_file() and "scales" in json.loads((path / "info").read_bytes())
    except (ValueError, TypeError):
        return ""
    return "precomputed" if is_precomputed else ""


def _refuse_folder(path: Path) -> None:
    kind = {"n5": "an N5 container", "precomputed": "a volume of Neuroglancer (precomputed)"}.get(container(path))
    if kind is not None:
        raise DataError(str(path), f"it is {kind}", _TO_ZARR)
