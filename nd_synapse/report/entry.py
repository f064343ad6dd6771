"""The report from arrays or from a table in a file: what `pymeda_driver` offers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection import objects
from nd_synapse.detection.overview import Overview
from nd_synapse.errors import DataError, StorageError
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.geometry import Box
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
_MOST_NUMBERS = 2**28
"""Cells of the largest table that is read: 2 GiB of numbers."""

_TEXT_COLUMN, _TEXT = "class", "U40"


def pymeda_pipeline(
    results: NDArray[Any] | Mapping[str, NDArray[Any]],
    norm_data: Mapping[str, NDArray[Any]],
    title: str = "PyMeda Plots",
    path: str | Path = "./",
    *,
    origin: tuple[int, int, int] = (0, 0, 0),
    voxel_size_nm: tuple[float, float, float] | None = None,
) -> Path:
    """Write the report of masks and images in memory.

    Parameters
    ----------
    results : ndarray, shape (z, y, x), or mapping of str to such arrays
        The mask, non-zero at synapses, which are 26-connected. Of several masks, all are outlined, the objects of
        the first are measured, and the others become groups of them. Never written to.
    norm_data : mapping of str to ndarray, shape (z, y, x)
        Channel to its image, real numbers. Never written to.
    title : str
        Title of the page; the file is called ``PyMeda_<title>.html``.
    path : str or Path
        The folder; made if missing.
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
    UsageError
        If a voxel cannot have the given size.
    StorageError
        If the folder cannot be written.
    """
    folder = parse_path("path", path)
    if not isinstance(norm_data, Mapping):
        raise DataError("the images of a report", f"they are {type(norm_data).__name__}", "Map channels to images")
    masks = _arrays("mask", results if isinstance(results, Mapping) else {"synapses": results})
    images = _arrays("channel", norm_data)
    if not masks:
        raise DataError("a report of masks", "there is no mask", "Give at least one")
    name, mask = next(iter(masks.items()))
    if mask.ndim != 3 or 0 in mask.shape:
        raise DataError(f"mask {name!r}", f"its shape is {mask.shape}", "Give masks of shape z, y, x")
    for kind, arrays in (("mask", masks), ("channel", images)):
        for key, array in arrays.items():
            if array.shape != mask.shape:
                found = f"its shape is {array.shape}, that of the mask {name!r} {mask.shape}"
                raise DataError(f"{kind} {key!r}", found, "Give images and masks of the same box")
    note = f"Synapses are the objects of the mask “{name}”; one is in another mask if that holds half of its voxels."
    box = Box.of_shape(mask.shape, origin)
    facts = RunFacts(box=box, voxel_size_nm=voxel_size_nm, notes=[note] if len(masks) > 1 else [])
    others = {key: array for key, array in masks.items() if key != name}
    return write_report(
        folder,
        title=str(title),
        table=measure(mask, images, box, voxel_size_nm, others),
        facts=facts,
        overviews={channel: _overview(image, box) for channel, image in images.items()},
        mask_overviews={key: _overview(array != 0, box) for key, array in masks.items()},
        images=images,
        mask_volumes=masks,
    )


def _arrays(kind: str, given: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
    """Return what a caller passed as arrays of real numbers."""
    arrays = {}
    for key, value in given.items():
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(f"{kind} {key!r}", "its rows differ in length", "Give an array z, y, x") from error
        if array.dtype.kind not in "buif":
            raise DataError(f"{kind} {key!r}", f"it holds {array.dtype}", "Give real numbers")
        check_magnitude(f"{kind} {key!r}", array)
        arrays[str(key)] = array
    return arrays


def measure(
    mask: NDArray[Any],
    images: Mapping[str, NDArray[Any]],
    box: Box,
    voxel_size_nm: tuple[float, float, float] | None,
    others: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Return the table of a detection, each column (objects,); columns in micrometres need a voxel size."""
    labelled = objects.label(mask != 0, box, box)
    parts, joint = objects.join([objects.measure(labelled, box, ())], [])
    table = dict(objects.table(parts, box, (1.0, 1.0, 1.0) if voxel_size_nm is None else voxel_size_nm))
    if voxel_size_nm is None:
        table = {name: values for name, values in table.items() if not name.endswith(("_um", "_um3"))}
    inside = labelled.numbers != 0
    rows = objects.rows_of_objects(joint, labelled.ids)[labelled.numbers[inside] - 1]
    for name, image in images.items():
        # `objects.measure` sums integers; these images may be normalised
        sums = np.bincount(rows, image[inside].astype(np.float64), minlength=len(parts["id"]))
        table[f"mean_{name}"] = sums / parts["voxels"]
    for name, other in others.items():
        shared = np.bincount(rows[other[inside] != 0], minlength=len(parts["id"]))
        table[f"in_{name}"] = 2 * shared >= parts["voxels"]
    return table


def _overview(volume: NDArray[Any], box: Box) -> NDArray[Any]:
    """Return the maximum projection (y, x) of a volume (z, y, x); bool becomes uint8."""
    pixels = Overview.of_block(volume, box, box).pixels
    return pixels.view(np.uint8) if pixels.dtype == bool else pixels


def read_table(file: Path) -> dict[str, NDArray[Any]]:
    """Read the columns of numbers of a CSV file in UTF-8 with a header line.

    Parameters
    ----------
    file : Path
        The file; rows are observations.

    Returns
    -------
    dict of str to ndarray, shape (rows,)
        The columns of numbers, or true and false: float64, or int64 where all are whole. An empty cell, ``NA`` or
        ``NaN`` is missing. Of text, the column ``class`` only; the log names the others.

    Raises
    ------
    StorageError
        If the file cannot be read.
    DataError
        If it has no header, a name twice, rows of unequal length, or more cells than can be drawn.
    """
    try:
        refuse_special(file)
        header, chunks = _read_chunks(file, read_rows(file, f"the table {file}"))
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise StorageError(f"the table {file}", what, "Give the path of a CSV file that you may read") from error
    columns = {name: _column([chunk[i] for chunk in chunks]) for i, name in enumerate(header)}
    texts = [name for name, values in columns.items() if values is None]
    if texts:
        logging.getLogger(__name__).info("columns without numbers are left out: %s", ", ".join(texts))
    return {name: values for name, values in columns.items() if values is not None}


Chunk = list[NDArray[Any] | None]


def _read_chunks(file: Path, rows: Iterator[list[str]]) -> tuple[list[str], list[Chunk]]:
    """Return the names of the columns and their numbers in chunks of rows: never the whole table as text."""
    header = next(rows)
    chunks: list[Chunk] = []
    most = max(1, min(_CHUNK_ROWS, _CHUNK_CELLS // len(header)))
    while chunk := list(islice(rows, most)):
        if (len(chunks) + 1) * most * len(header) > _MOST_NUMBERS:
            found = f"it has more than {_MOST_NUMBERS:,} cells"
            raise DataError(f"the table {file}", found, "Give a part of its rows or columns")
        columns = zip(header, zip(*chunk, strict=True), strict=True)
        chunks.append([np.array(cells, _TEXT) if name == _TEXT_COLUMN else _numbers(cells) for name, cells in columns])
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
