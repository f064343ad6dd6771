"""What is evaluated, read from local files: image volumes, and tables as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UnknownNameError, closest
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.files.numerals import decimal_marks, evidence, parse, readings
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack

__all__ = ["MAX_BYTES", "MAX_ROWS", "Volumes", "column", "numbers", "read_table", "read_volume"]

MAX_BYTES = 4 * 2**30
"""Largest array that is read: truth, images and what is made of them are in memory together."""

MAX_ROWS = 5_000_000
"""Longest table that is read."""

MAX_CELLS = 8 * MAX_ROWS
"""Cells of the largest table that is read: each is a text of its own in memory."""

Size = tuple[float, float, float]


def read_volume(path: Path, voxel_size_nm: Size | None = None) -> NDArray[Any]:
    """Read a volume of bool or integers, shape (z, y, x), from a TIFF stack, a Zarr array or a .npy file."""
    # scoring a table needs no image formats
    from nd_synapse.files.stacks import open_stack

    return _read(lambda: open_stack([path]), voxel_size_nm)


def _read(open_one: Callable[[], Stack], voxel_size_nm: Size | None) -> NDArray[Any]:
    """Read a whole stack, if it fits and its file says no other voxel size."""
    stack = open_one()
    if voxel_size_nm is not None:
        stack.check_voxel_size(voxel_size_nm)
    needed = stack.shape[0] * stack.slice_bytes
    if needed > MAX_BYTES:
        found = f"it has {needed / 2**30:.1f} GiB, more than the {MAX_BYTES / 2**30:.0f} GiB that are read"
        raise DataError(stack.name, found, "Evaluate on a part of the volume")
    return stack.read(0, stack.shape[0])


class Volumes(Mapping[str, NDArray[Any]]):
    """The channels of a folder of TIFF files, a Zarr group or an image, by name; each is read when it is needed."""

    def __init__(self, path: Path, voxel_size_nm: Size | None = None) -> None:
        from nd_synapse.files.stacks import open_channels

        self._channels = open_channels(path)
        self._voxel_size_nm = voxel_size_nm

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read a volume, shape (z, y, x)."""
        return _read(self._channels[name], self._voxel_size_nm)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self._channels))

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self._channels)


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
