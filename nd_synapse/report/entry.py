"""The public door of the PyMeda report: from a run, from arrays, or from a table in a file.

It draws nothing itself; the figures and the page are in the package `pymeda`.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection import objects
from nd_synapse.detection.overview import Overview
from nd_synapse.errors import DataError, StorageError, UsageError
from nd_synapse.files.csv_tables import Rows
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.paths import refuse_special
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.report import Report, draw_report, write_report
from nd_synapse.report.table import check_magnitude
from nd_synapse.values import parse_path

__all__ = ["Report", "RunFacts", "draw_report", "pymeda_pipeline", "read_table", "write_report"]

_MISSING = frozenset({"", "na", "nan", "none", "null"})
_TRUTH = {"true": "1", "false": "0"}
_CHUNK_ROWS = 50_000
_CHUNK_CELLS = 2_000_000
"""Cells that are held as text at a time."""

_MOST_NUMBERS = 2**28
"""Cells of the largest table that is read; each is a number of 8 bytes, and a column is there twice for a time."""

_CLASS = "class"
_TEXT = "U40"


def pymeda_pipeline(
    results: NDArray[Any] | Mapping[str, NDArray[Any]],
    norm_data: Mapping[str, NDArray[Any]],
    title: str = "PyMeda Plots",
    path: str | Path = "./",
    *,
    origin: tuple[int, int, int] = (0, 0, 0),
    voxel_size_nm: tuple[float, float, float] | None = None,
) -> Path:
    """Write the report of a mask and its images, all of them in memory.

    Parameters
    ----------
    results : ndarray, shape (z, y, x), or mapping of str to such arrays
        The mask, non-zero where a synapse is; synapses are 26-connected. Of several, all are outlined, the
        objects of the first are measured, and those of the others are compared with them. Never written to.
    norm_data : mapping of str to ndarray, shape (z, y, x)
        Channel to its image, real numbers. Never written to.
    title : str
        Title of the page; the file is called after it.
    path : str or Path
        The folder; made where it is missing.
    origin : tuple of int
        First voxel of the arrays in the experiment (z, y, x).
    voxel_size_nm : tuple of float, optional
        Extent of a voxel along z, y, x in nanometres; without it, positions and sizes are in voxels.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    DataError
        If there is no mask, or arrays are not three-dimensional or differ in shape.
    StorageError
        If the folder cannot be written.
    """
    folder = parse_path("path", path)
    if not isinstance(norm_data, Mapping):
        raise DataError("the images of a report", "they are no dictionary", "Give one of channel to image")
    given = results if isinstance(results, Mapping) else {"synapses": results}
    masks = {str(key): _array(f"mask {key!r}", array) for key, array in given.items()}
    if not masks:
        raise DataError("a report of masks", "there is no mask", "Give at least one")
    name, mask = next(iter(masks.items()))
    images = {str(channel): _array(f"channel {channel!r}", image) for channel, image in norm_data.items()}
    if voxel_size_nm is not None:
        voxel_size_nm = _voxel_size(voxel_size_nm)
    for other, array in masks.items():
        if array.ndim != 3 or 0 in array.shape or array.shape != mask.shape:
            found = f"its shape is {array.shape}, that of {name!r} {mask.shape}"
            raise DataError(f"mask {other!r}", found, "Give masks of one shape z, y, x")
    box = Box.of_shape(mask.shape, origin)
    table = _measured(mask, images, box, voxel_size_nm, {key: array for key, array in masks.items() if key != name})
    notes = (
        [
            f"The synapses are the objects of the mask “{name}”; one belongs to another mask, too, if that holds at "
            f"least half of its voxels."
        ]
        if len(masks) > 1
        else []
    )
    return write_report(
        folder,
        title=str(title),
        table=table,
        facts=RunFacts(box=box, voxel_size_nm=voxel_size_nm, notes=notes),
        overviews={channel: _overview(image, box) for channel, image in images.items()},
        mask_overviews={key: _overview(array != 0, box) for key, array in masks.items()},
        images=images,
        mask_volumes=masks,
    )


def _array(name: str, given: Any) -> NDArray[Any]:
    """Return what a caller passed as an array of numbers that can be computed with."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(name, "it is no array: its rows differ in length", "Give an array z, y, x") from error
    if array.dtype.kind not in "buif":
        raise DataError(name, f"it holds {array.dtype}", "Give real numbers")
    check_magnitude(name, array)
    return array


def _voxel_size(given: Any) -> tuple[float, float, float]:
    """Return the size of a voxel."""
    try:
        z, y, x = (float(size) for size in given)
        if are_voxel_sizes((z, y, x)):
            return z, y, x
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"voxel size {given!r:.100}", "no voxel has such a size", f"Give {VOXEL_SIZES} along z, y, x")


def _measured(
    mask: NDArray[Any],
    images: Mapping[str, NDArray[Any]],
    box: Box,
    voxel_size_nm: tuple[float, float, float] | None,
    others: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Return the table that a detection of one block has; without a voxel size, without its columns in micrometres."""
    for name, image in images.items():
        if image.shape != mask.shape:
            found = f"its shape is {image.shape}, that of the mask {mask.shape}"
            raise DataError(f"channel {name!r}", found, "Give image and mask of the same box")
    labelled = objects.label(mask != 0, box, box)
    parts, joint = objects.join([objects.measure(labelled, box, ())], [])
    table = dict(objects.table(parts, box, voxel_size_nm or (1.0, 1.0, 1.0)))
    if voxel_size_nm is None:
        table = {name: values for name, values in table.items() if not name.endswith(("_um", "_um3"))}
    inside = labelled.numbers != 0
    rows = objects.rows_of_objects(joint, labelled.ids)[labelled.numbers[inside] - 1]
    for name, image in images.items():
        # detections sum whole numbers; the images of a caller may be normalised
        sums = np.bincount(rows, image[inside].astype(np.float64), minlength=len(parts["id"]))
        table[f"mean_{name}"] = sums / parts["voxels"]
    for name, other in others.items():
        shared = np.bincount(rows[other[inside] != 0], minlength=len(parts["id"]))
        table[f"in_{name}"] = 2 * shared >= parts["voxels"]
    return table


def _overview(volume: NDArray[Any], box: Box) -> NDArray[Any]:
    """Return the projection of a volume; bool becomes uint8."""
    pixels = Overview.of_block(volume, box, box).pixels
    return pixels.view(np.uint8) if pixels.dtype == bool else pixels


def read_table(file: Path) -> dict[str, NDArray[Any]]:
    """Read the numeric columns of a CSV file with a header line.

    Parameters
    ----------
    file : Path
        The file, UTF-8. Rows are observations.

    Returns
    -------
    dict of str to ndarray, shape (rows,)
        The columns that hold numbers, or true and false: float64, or int64 where all are whole. An empty cell, ``NA``
        or ``NaN`` is missing. Of text, the column ``class`` only; others are left out, and the log names them.

    Raises
    ------
    StorageError
        If the file cannot be read.
    DataError
        If it is no table: no header, a name twice, rows of unequal length; or it is larger than any that is drawn.
    """
    try:
        refuse_special(file)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            header, chunks = _read_rows(file, Rows(lines, f"the table {file}"))
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise StorageError(f"the table {file}", what, "Give the path of a CSV file that you may read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table {file}", "it is not text in UTF-8 with commas", "Save it as CSV") from error
    columns = {name: _column([chunk[i] for chunk in chunks]) for i, name in enumerate(header)}
    texts = [name for name, values in columns.items() if values is None]
    if texts:
        logging.getLogger(__name__).info("columns without numbers are left out: %s", ", ".join(texts))
    return {name: values for name, values in columns.items() if values is not None}


Chunk = list[NDArray[Any] | None]


def _read_rows(file: Path, reader: Iterator[list[str]]) -> tuple[list[str], list[Chunk]]:
    """Return the names of the columns, and their numbers in chunks of rows, so that no table is held as text."""
    header = [name.strip() for name in next(reader, [])]
    if not header or len(set(header)) < len(header):
        found = "it is empty" if not header else "its first line names a column twice"
        raise DataError(f"the table {file}", found, "Give a CSV file whose first line names the columns")
    rows = (row for row in reader if row)
    chunks: list[Chunk] = []
    most = max(1, min(_CHUNK_ROWS, _CHUNK_CELLS // len(header)))
    while chunk := list(islice(rows, most)):
        if (len(chunks) + 1) * most * len(header) > _MOST_NUMBERS:
            found = f"it has more than {_MOST_NUMBERS:,} cells"
            raise DataError(f"the table {file}", found, "Give a part of its rows or columns")
        if any(len(row) != len(header) for row in chunk):
            found = f"a row has not the {len(header)} cells of the first line"
            raise DataError(f"the table {file}", found, "Give each row one cell a column")
        columns = zip(header, zip(*chunk, strict=True), strict=True)
        chunks.append([np.array(cells, _TEXT) if name == _CLASS else _numbers(cells) for name, cells in columns])
    return header, chunks or [[np.empty(0) for _ in header]]


def _numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return cells as numbers, NaN for a missing one; None where one of them is no number."""
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        plain = [cell.strip().lower() for cell in cells]
    try:
        return np.array([np.nan if cell in _MISSING else float(_TRUTH.get(cell, cell)) for cell in plain])
    except ValueError:
        return None


def _column(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Return the chunks of a column as one; None where one of them is text."""
    numbers = [part for part in parts if part is not None]
    if len(numbers) < len(parts):
        return None
    column = np.concatenate(numbers)
    if column.dtype.kind == "U":
        return column
    whole = np.isfinite(column).all() and (np.abs(column) < 2**53).all() and (column == np.trunc(column)).all()
    return column.astype(np.int64) if whole else column
