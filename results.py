"""The result folder of one job: masks, tables, links, manifest and log, each written whole or not at all.

It sends nothing anywhere and computes nothing: the numbers come in as arrays, and `s3` carries the folder away.

::

    <path>/<results_key>/
        nomads-unsupervised-predictions.pkl        the mask, a pickled uint8 array (z, y, x)
        nomads-unsupervised-predictions.ome.tiff   the same mask for Fiji and Bio-Formats
        synapses.csv  NDVIS_links.csv  run.json  job.log
        .work/                                     scratch, never delivered
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import logging
import os
import pickle
import shutil
import struct
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from box import Box
from errors import DataError, StorageError, UsageError

__all__ = ["ResultFolder", "attach_log", "deliverables", "mask_names", "results_key"]

logger = logging.getLogger(__name__)

# Rows that are turned into text at a time: bounds the memory of a table by its columns, not by its rows.
_ROWS = 16_384
# Beyond this a classic TIFF's 32-bit offsets could overflow, even where compression wins nothing.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
# The root of the names of our images; version 5 UUIDs below it depend on the content alone.
_IMAGES = uuid.uuid5(uuid.NAMESPACE_URL, "nd-synapse/image")


def results_key(pipeline: str, col: str, exp: str, box: Box) -> str:
    """Name the results of one request: the folder, the key prefix in S3 and the start of the channel names.

    Parameters
    ----------
    pipeline : str
        The pipeline, such as ``nomads-unsupervised``.
    col : str
        Collection.
    exp : str
        Experiment.
    box : Box
        The requested box; its ranges are half-open.

    Returns
    -------
    str
        ``pipeline_col_exp_z_z0_z1_y_y0_y1_x_x0_x1``.

    Examples
    --------
    >>> results_key("nomads-unsupervised", "collman", "M247514", Box(z=(0, 8), y=(10, 20), x=(0, 5)))
    'nomads-unsupervised_collman_M247514_z_0_8_y_10_20_x_0_5'
    """
    words = [pipeline, col, exp]
    for axis, (start, stop) in zip("zyx", box.ranges, strict=True):
        words += [axis, str(start), str(stop)]
    return "_".join(words)


def mask_names(pipeline: str, masks: Sequence[str]) -> dict[str, str]:
    """Give every mask of a pipeline the name of its files, without the suffix.

    Parameters
    ----------
    pipeline : str
        The pipeline.
    masks : sequence of str
        Names of the masks, the main one first.

    Returns
    -------
    dict of str to str
        ``<pipeline>-predictions`` for the first mask, each further mask's own name for the others; empty for none.
    """
    return {mask: mask if place else f"{pipeline}-predictions" for place, mask in enumerate(masks)}


def deliverables(root: Path) -> list[Path]:
    """List the files of a result folder that are meant for its reader.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    list of Path
        Regular files at any depth, sorted by their path below `root`; empty for a folder without any. Hidden files
        and folders (scratch, half-written files) are left out, and so are symbolic links, which could point anywhere.

    Raises
    ------
    StorageError
        If there is no such folder, or a part of it cannot be listed.
    """
    found: list[Path] = []

    def refuse(cause: OSError) -> None:
        raise cause

    try:
        for folder, subfolders, names in os.walk(root, onerror=refuse):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        return sorted(path for path in found if path.is_file() and not path.is_symlink())
    except OSError as cause:
        raise StorageError(
            f"listing the result folder {root}", _words(cause), "Check the path and your right to read it"
        ) from cause


class ResultFolder:
    """The folder of one request's results.

    Parameters
    ----------
    path : Path
        The folder that holds the results of all requests.
    key : str
        The results key, see `results_key`; it becomes the folder's name.

    Attributes
    ----------
    root : Path
        ``<path>/<key>``; exists once built.
    work : Path
        ``<root>/.work``, scratch for whoever computes; exists once built, is never delivered.

    Raises
    ------
    UsageError
        If `key` is no plain name, so that the folder would lie elsewhere.
    StorageError
        If the folder cannot be created.

    Notes
    -----
    A file appears under its name only when all of it is on disk: it is written beside, flushed to the device and
    renamed. A failed write leaves what was there before. Equal input gives equal bytes.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.root = path / _plain(key)
        self.work = self.root / ".work"
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise StorageError(
                f"creating the result folder {self.root}", _words(cause), "Give a --path that you may write to"
            ) from cause

    def write_mask(
        self,
        name: str,
        mask: NDArray[np.uint8],
        *,
        voxel_size_nm: Sequence[float],
        box: Box,
        description: str,
    ) -> tuple[Path, Path]:
        """Write a mask as a pickled array and as a compressed OME-TIFF, one slice in memory at a time.

        Parameters
        ----------
        name : str
            Name of the files without their suffix, see `mask_names`; also the channel name in the OME-TIFF.
        mask : ndarray of uint8, shape (z, y, x)
            The mask, 0 and 255; may be a read-only memory map larger than memory.
        voxel_size_nm : sequence of float
            Extent of a voxel along z, y, x in nanometres.
        box : Box
            Where the mask lies in its experiment; its shape is the shape of the mask.
        description : str
            What the image is, for its reader; says so when the data are synthetic.

        Returns
        -------
        tuple of Path
            ``<name>.pkl`` and ``<name>.ome.tiff``. `pickle.load` of the first gives a writable array equal to `mask`.

        Raises
        ------
        DataError
            If `mask` is no uint8 volume of the shape of `box`, or holds other values than 0 and 255.
        StorageError
            If a file cannot be written.
        """
        if mask.dtype != np.uint8 or mask.shape != box.shape:
            raise DataError(
                f"mask {name}", f"it is {mask.dtype} of shape {mask.shape}", f"Give uint8 of shape {box.shape}"
            )
        with self._replacing(f"{name}.pkl") as file:
            digest = _write_pickle(file, name, mask)
        xml = _ome_xml(name, box, voxel_size_nm, description, digest)
        with self._replacing(f"{name}.ome.tiff") as file:
            _write_tiff(file, mask, xml)
        return self.root / f"{name}.pkl", self.root / f"{name}.ome.tiff"

    def write_table(self, name: str, columns: Mapping[str, NDArray[Any]]) -> Path:
        """Write columns as CSV: a header, commas, quotes where needed (RFC 4180), lines that end in a line feed.

        Parameters
        ----------
        name : str
            Name of the file, such as ``synapses.csv``.
        columns : mapping of str to ndarray, shape (n,)
            The columns by their headings, in their order. Integers are written as integers, floating-point numbers
            with the fewest digits that give the same number of that type again, NaN as an empty cell, truth values
            as ``True`` and ``False``, text as it is.

        Returns
        -------
        Path
            The file. Columns without rows give the header alone.

        Raises
        ------
        DataError
            If the columns differ in length, are not one-dimensional or of another type.
        StorageError
            If the file cannot be written.
        """
        lengths = {heading: column.shape for heading, column in columns.items()}
        if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
            raise DataError(f"table {name}", f"its columns have the shapes {lengths}", "Give columns of one length")
        (rows,) = next(iter(lengths.values()))
        with self._replacing(name) as file:
            file.write((",".join(map(_quoted, columns)) + "\n").encode())
            for start in range(0, rows, _ROWS):
                cells = [_cells(heading, column[start : start + _ROWS]) for heading, column in columns.items()]
                file.write("".join(f"{','.join(row)}\n" for row in zip(*cells, strict=True)).encode())
        return self.root / name

    def write_links(self, rows: Mapping[str, str]) -> Path:
        """Write ``NDVIS_links.csv``: what a link shows and the link, without a header, as it always was.

        Parameters
        ----------
        rows : mapping of str to str
            Links by what they show, such as ``All`` and ``All neuroglancer``.

        Returns
        -------
        Path
            The file; empty for no links.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows.items())
        with self._replacing("NDVIS_links.csv") as file:
            file.write(text.getvalue().encode())
        return self.root / "NDVIS_links.csv"

    def write_json(self, name: str, mapping: Mapping[str, Any]) -> Path:
        """Write a mapping as JSON, sorted and indented, with its schema; no secret is looked for.

        Parameters
        ----------
        name : str
            Name of the file, such as ``run.json``.
        mapping : mapping of str to Any
            What JSON can hold, and NumPy scalars and paths. The key ``schema`` is set to ``nd-synapse/<name>/1``.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        DataError
            If a value has no form in JSON; NaN and infinity have none.
        StorageError
            If the file cannot be written.
        """
        schema = f"nd-synapse/{name.removesuffix('.json')}/1"
        try:
            text = json.dumps(
                {**mapping, "schema": schema}, indent=2, sort_keys=True, allow_nan=False, default=_json_form
            )
        except (TypeError, ValueError) as cause:
            raise DataError(f"writing {name}", str(cause), "Give numbers, text, lists and mappings") from cause
        with self._replacing(name) as file:
            file.write(f"{text}\n".encode())
        return self.root / name

    def files(self) -> list[Path]:
        """Return the files that are meant for the reader, sorted; see `deliverables`."""
        return deliverables(self.root)

    def clear_work(self) -> None:
        """Remove the scratch folder, and what killed processes left half-written.

        Raises
        ------
        StorageError
            If something cannot be removed.
        """
        try:
            if self.work.exists():
                shutil.rmtree(self.work)
            for part in self.root.glob(".*.part"):
                part.unlink()
        except OSError as cause:
            raise StorageError(
                f"removing the scratch folder {self.work}",
                f"{_words(cause)}; the results are complete",
                "Remove it by hand",
            ) from cause

    @contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        """Give a file to write that takes the place of `name` once it is whole."""
        # The process id keeps two jobs with the same key from writing into one file; the last one to end wins.
        part = self.root / f".{_plain(name)}.{os.getpid()}.part"
        try:
            try:
                with part.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.root / name)
            finally:
                part.unlink(missing_ok=True)
        except OSError as cause:
            raise StorageError(
                f"writing {name} in {self.root}",
                f"{_words(cause)}; the files written before it are kept",
                "Make room and check your right to write there, then run the same command again",
            ) from cause


@contextmanager
def attach_log(folder: ResultFolder) -> Iterator[logging.Handler]:
    """Send what is logged to ``job.log`` of a result folder too, as long as the context lasts.

    Parameters
    ----------
    folder : ResultFolder
        The folder; lines are added to a log that is there already, as when a job is resumed.

    Yields
    ------
    logging.Handler
        The handler on the root logger; whoever keeps secrets out of logs adds the filter to it.

    Raises
    ------
    StorageError
        If the log cannot be opened. A log that fails later (a full disk) is given up with one warning.
    """
    path = folder.root / "job.log"
    try:
        handler = _JobLog(path, encoding="utf-8")
    except OSError as cause:
        raise StorageError(f"opening the log {path}", _words(cause), "Give a --path that you may write to") from cause
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        handler.close()


class _JobLog(logging.FileHandler):
    """A log file that steps aside when it cannot be written, instead of printing a traceback a line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        cause = sys.exception()
        if not isinstance(cause, OSError):
            super().handleError(record)
            return
        # A filter, for the logger is walking over its handlers just now.
        self.addFilter(lambda _: False)
        logger.warning("%s ends here: %s; the log goes on without it", self.baseFilename, _words(cause))

    def close(self) -> None:
        try:
            super().close()
        except OSError as cause:  # the last lines, which a full disk refused already
            logger.warning("%s is incomplete: %s", self.baseFilename, _words(cause))


def _words(cause: OSError) -> str:
    """Return what the system says, with the name of the error."""
    return f"{cause.strerror or cause} ({errno.errorcode.get(cause.errno or 0, 'no error number')})"


def _plain(name: str) -> str:
    """Return `name` if it names an entry of a folder and nothing else, and refuse it otherwise."""
    if not name or name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name):
        raise UsageError(
            f"a result named {name!r}",
            "it would lie outside of its folder, or be hidden",
            "Use a name without slashes, control characters and a leading full stop",
        )
    return name


def _slices(name: str, mask: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the slices (y, x) of a mask, each contiguous and in memory, and refuse what is no mask."""
    for z, given in enumerate(mask):
        plane = np.ascontiguousarray(given)
        other = (plane != 0) & (plane != 255)
        if other.any():
            found = f"slice {z} holds the value {plane[other][0]}"
            raise DataError(f"mask {name}", found, "Give a mask of 0 and 255")
        yield plane


def _write_pickle(file: BinaryIO, name: str, mask: NDArray[np.uint8]) -> bytes:
    """Write a mask as the pickle of one array, slice after slice, and return the SHA-256 of its voxels.

    `pickle.dump` holds all of an array that is not contiguous, and an array that it reads from a read-only one is
    read-only too. The stream here says ``numpy.ndarray(shape, "uint8", bytearray)``, which every NumPy understands.
    """
    opcodes = [
        (pickle.PROTO, b"\x05"),
        (pickle.GLOBAL, b"numpy\nndarray\n"),
        *((pickle.INT, b"%d\n" % extent) for extent in mask.shape),
        (pickle.TUPLE3, b""),
        (pickle.SHORT_BINUNICODE, b"\x05uint8"),
        (pickle.BYTEARRAY8, struct.pack("<Q", mask.nbytes)),
    ]
    file.write(b"".join(opcode + argument for opcode, argument in opcodes))
    digest = hashlib.sha256()
    for plane in _slices(name, mask):
        file.write(plane.data)
        digest.update(plane.data)
    file.write(pickle.TUPLE3 + pickle.REDUCE + pickle.STOP)
    return digest.digest()


def _write_tiff(file: BinaryIO, mask: NDArray[np.uint8], xml: bytes) -> None:
    """Write a mask as a TIFF of one compressed page a slice, `xml` in the first page's description."""
    with tifffile.TiffWriter(file, bigtiff=mask.nbytes > _CLASSIC_TIFF_BYTES, byteorder="<") as tiff:
        tiff.write(
            (np.ascontiguousarray(plane) for plane in mask),
            shape=mask.shape,
            dtype=np.uint8,
            photometric="minisblack",
            compression="zlib",
            description=xml,
            metadata=None,
            software=False,
        )


def _ome_xml(name: str, box: Box, voxel_size_nm: Sequence[float], description: str, digest: bytes) -> bytes:
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


def _cells(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as the text of their cells."""
    if values.dtype.kind in "iub":
        return list(map(str, values.tolist()))
    if values.dtype.kind == "f":
        # str() of a float32 has that type's own shortest digits; tolist() would make it a longer float64.
        texts = list(map(str, values.tolist() if values.dtype == np.float64 else values))
        for row in np.flatnonzero(np.isnan(values)):
            texts[row] = ""
        return texts
    if values.dtype.kind == "U":
        return list(map(_quoted, values.tolist()))
    raise DataError(f"column {heading!r}", f"it is {values.dtype}", "Give integers, floating-point numbers or text")


def _quoted(text: str) -> str:
    """Return a text as a CSV cell, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def _json_form(value: object) -> object:
    """Return what JSON holds for a NumPy scalar or a path."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
