"""What is evaluated, read from local files: image volumes, and tables as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UnknownNameError, closest
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.files.numerals import decimal_marks, evidence, parse, readings
from nd_synapse.files.reading import reading

__all__ = ["MAX_BYTES", "MAX_ROWS", "Volumes", "column", "numbers", "read_table", "read_volume"]

MAX_BYTES = 4 * 2**30
"""Largest array that is read: truth, images and what is made of them are in memory together."""

MAX_ROWS = 5_000_000
"""Longest table that is read."""

MAX_CELLS = 8 * MAX_ROWS
"""Cells of the largest table that is read: each is a text of its own in memory."""

_TIFF = (".tif", ".tiff")


def read_volume(path: Path) -> NDArray[Any]:
    """Read a volume of bool or integers, shape (z, y, x), from a TIFF stack, a Zarr array or a .npy file."""
    # scoring a table needs no image formats
    from nd_synapse.files.stacks import is_zarr, open_stack

    if path.is_dir() and not is_zarr(path):
        raise DataError(str(path), "it is a folder, but no Zarr array", "Name the TIFF file or the Zarr array")
    stack = open_stack([path])
    needed = stack.shape[0] * stack.slice_bytes
    if needed > MAX_BYTES:
        found = f"it has {needed / 2**30:.1f} GiB, more than the {MAX_BYTES / 2**30:.0f} GiB that are read"
        raise DataError(str(path), found, "Evaluate on a part of the volume")
    return stack.read(0, stack.shape[0])


class Volumes(Mapping[str, NDArray[Any]]):
    """The volumes of a folder of TIFF files, a Zarr group or a TIFF file, by name; each is read when it is needed."""

    def __init__(self, path: Path) -> None:
        from nd_synapse.files.stacks import is_zarr

        with reading(path):
            if path.is_file():
                self._files = {_name(path): path}
            else:
                self._files = dict(_zarr_arrays(path) if is_zarr(path) else _tiff_files(path))
        if not self._files:
            wanted = "Give a folder with a TIFF stack a channel, or a Zarr group with an array a channel"
            raise DataError(str(path), "it holds no image volume", wanted)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read a volume, shape (z, y, x)."""
        return read_volume(self._files[name])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self._files))

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self._files)


def _tiff_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the TIFF files of a folder by their stems."""
    seen: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in _TIFF and not file.name.startswith("."):
            name = _name(file)
            if name in seen:
                found = f"{seen[name].name} and {file.name} are both called {name}"
                raise DataError(str(folder), found, "Keep one file a channel")
            seen[name] = file
            yield name, file


def _name(file: Path) -> str:
    """Return the name of the channel in a TIFF file."""
    return file.stem.removesuffix(".ome")


def _zarr_arrays(folder: Path) -> Iterator[tuple[str, Path]]:
    from nd_synapse.files.zarr_arrays import array_names

    return ((name, folder / name) for name in array_names(folder))


def read_table(path: Path) -> dict[str, list[str]]:
    """Read the columns of a table with a header, as text."""
    with reading(path):
        table = read_rows(path)
        header = next(table)
        most_rows = min(MAX_ROWS, MAX_CELLS // len(header))
        rows = list(islice(table, most_rows + 1))
        if len(rows) > most_rows:
            found = f"it has more than {most_rows:,} rows of {len(header):,} cells"
            raise DataError(str(path), found, "Evaluate on a part of the volume")
    return {name: [row[place].strip() for row in rows] for place, name in enumerate(header) if name}


def column(path: Path, table: Mapping[str, list[str]], name: str) -> list[str]:
    """Return a column of a table."""
    if name not in table:
        known = ", ".join(closest(name, table)[:12])
        raise UnknownNameError(f"column {name!r} of {path}", f"its columns are {known}", "Correct the name")
    return table[name]


def numbers(path: Path, table: Mapping[str, list[str]], name: str, empty: float | None = None) -> NDArray[np.float64]:
    """Return a column as finite float64, shape (n,); `empty` is what empty cells and NaN become, refused if None."""
    cells = column(path, table, name)
    mark = dict(zip(table, decimal_marks([evidence(others) for others in table.values()]), strict=True))[name]
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        value = parse(cell, mark)
        if math.isnan(value) and empty is not None:
            value = empty
        elif not math.isfinite(value):
            several = [f"{reading:g}" for reading in readings(cell)]
            which = f"can be {' or '.join(several)}" if several else "is no finite number"
            found = f"row {row + 1} has {cell!r} in column {name!r}, which {which}"
            raise DataError(str(path), found, "Correct or remove the row")
        values[row] = value
    return values
