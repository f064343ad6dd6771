"""The files of a result folder: masks, tables and links, each written whole or not at all.

::

    <path>/<results_key>/
        nomads-unsupervised-predictions.pkl        the mask, a pickled uint8 array (z, y, x)
        nomads-unsupervised-predictions.ome.tiff   the same mask for Fiji and Bio-Formats
        synapses.ome.zarr/                         the same mask, and the ids of the table, for viewers
        synapses.annotations/                      the rows of the table as points for neuroglancer
        synapses.csv  NDVIS_links.csv  run.json  job.log
        .work/                                     scratch, never delivered
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nd_synapse.columns import counted, pieces, step_of
from nd_synapse.errors import DataError
from nd_synapse.files import csv_tables, parquet
from nd_synapse.files import masks as mask_files
from nd_synapse.files import points as point_files
from nd_synapse.files.atomic import replacing, writing
from nd_synapse.geometry import Box
from nd_synapse.redaction import redacted_values
from nd_synapse.volumes import Volume

__all__ = [
    "LINKS",
    "LONG_TABLE",
    "MOST_IN_CSV",
    "POINTS",
    "TABLE",
    "table_file",
    "write_file",
    "write_links",
    "write_mask",
    "write_points",
    "write_table",
    "write_tables",
]

TABLE = "synapses.csv"
LONG_TABLE = "synapses.parquet"
POINTS = "synapses.annotations"
LINKS = "NDVIS_links.csv"

_PROPERTIES = ("score", "probability", "confidence", "volume_um3")
"""Columns that are properties of a point, beside its class; one without any number is left out."""

_MOST_CLASSES = 256

MOST_WITHOUT_PARQUET = 100_000
"""Rows above which the table is written as Parquet."""

MOST_IN_CSV = 10_000_000
"""Rows above which it is no longer written as CSV, of several GB by then, and points are a sample."""


@contextmanager
def write_file(root: Path, name: str) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `name` once it is complete and on the device."""
    with writing(root, name), replacing(root / name) as file:
        yield file


def write_mask(
    root: Path, name: str, mask: Volume, *, voxel_size_nm: Sequence[float], box: Box, description: str
) -> tuple[Path, Path]:
    """Write a mask (uint8, z, y, x) as a pickled array and as an OME-TIFF.

    Some slices at a time are in memory.
    """
    if mask.dtype != np.uint8 or mask.shape != box.shape:
        raise DataError(f"mask {name}", f"it is {mask.dtype} of shape {mask.shape}", f"Give uint8 of shape {box.shape}")
    with write_file(root, f"{name}.pkl") as file:
        digest = mask_files.write_pickle(file, name, mask)
    xml = mask_files.ome_xml(name, box, voxel_size_nm, description, digest)
    # each level of a TIFF is written from all slices: to read one file is faster than all blocks again
    pickled = mask_files.map_pickle(root / f"{name}.pkl", box.shape)
    with write_file(root, f"{name}.ome.tiff") as file:
        mask_files.write_tiff(file, pickled, xml)
    return root / f"{name}.pkl", root / f"{name}.ome.tiff"


def write_tables(root: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns (each of shape (n,)) as CSV, as Parquet where they are long, or as both."""
    rows = len(columns["id"])
    if rows <= MOST_IN_CSV:
        write_table(root, TABLE, columns)
    if rows > MOST_WITHOUT_PARQUET:
        write_table(root, LONG_TABLE, columns)


def table_file(folder: Path) -> Path:
    """Return the table of a result folder: its CSV, or the Parquet of one that is too long for it."""
    is_long = not (folder / TABLE).exists() and (folder / LONG_TABLE).exists()
    return folder / (LONG_TABLE if is_long else TABLE)


def write_table(root: Path, name: str, columns: Mapping[str, NDArray[Any]]) -> Path:
    """Write columns (each of shape (n,)) as CSV, or as Parquet if the name ends so."""
    csv_tables.check(name, columns)
    with write_file(root, name) as file:
        (parquet.write_parquet if name.endswith(".parquet") else csv_tables.write_csv)(file, columns)
    return root / name


def write_points(
    root: Path, table: Mapping[str, NDArray[Any]], box: Box, voxel_size_nm: tuple[float, float, float]
) -> None:
    """Write the rows of a table (columns of shape (n,)) as points with `_PROPERTIES` and the class as properties.

    Of more than `MOST_IN_CSV` rows it is every second, fourth, eighth ...: some 100 bytes a point are in memory.
    """
    step = step_of(len(table["id"]), MOST_IN_CSV)
    table = {name: values[::step] for name, values in table.items()}
    properties: dict[str, NDArray[Any]] = {
        name: np.asarray(table[name], np.float32)
        for name in _PROPERTIES
        if name in table and not (len(table[name]) and np.isnan(table[name]).all())
    }
    labels: dict[str, list[str]] = {}
    if "class" in table:
        classes = list(counted(table["class"]))
        if len(classes) <= _MOST_CLASSES:
            labels["class"] = classes
            properties["class"] = _codes(table["class"], classes)
    z, y, x = (np.asarray(table[f"centroid_{axis}_voxel"]) + 0.5 for axis in "zyx")
    points = point_files.Points(box, voxel_size_nm, (z, y, x), properties, labels, step)

    def create(name: str) -> AbstractContextManager[BinaryIO]:
        path = f"{POINTS}/{name}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        return write_file(root, path)

    point_files.write_points(create, points)


def _codes(values: NDArray[Any], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return the place of each value among the classes, which are sorted, uint8 (n,)."""
    codes, ordered = np.zeros(len(values), np.uint8), np.asarray(classes, values.dtype)
    for piece in pieces(len(values)):
        codes[piece] = np.searchsorted(ordered, values[piece])
    return codes


def write_links(root: Path, links: Mapping[str, str]) -> Path:
    """Write labels and links as two columns without a header, the historical form."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(redacted_values(links).items())
    with write_file(root, LINKS) as file:
        file.write(text.getvalue().encode())
    return root / LINKS
