"""A table as CSV: the text of its cells, what a table has to be, and its rows read one at a time.

It knows no result folder and no Parquet; `results` has both.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError

__all__ = ["MOST_COLUMNS", "Rows", "check", "texts", "write_csv"]

MOST_COLUMNS = 16_384
"""Columns of the widest table that is read: as many as Excel has."""

_ROWS = 16_384
"""Rows that are turned into text at a time: bounds the memory of a table by its columns, not by its rows."""

_ROW_CHARACTERS = 2**20
"""Characters of the longest row that is read, its line ends included."""


class Rows(Iterator[list[str]]):
    """The rows of a file, one after another; no more of it is held than a row can have.

    The csv module bounds a field, but has its lines, and the fields of a row, as they come.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    asked : str
        What the table is called, for messages.
    strict : bool
        Raise csv.Error for quotes in the wrong place.

    Attributes
    ----------
    characters : int
        How much was read.
    """

    def __init__(self, file: TextIO, requested: str, *, strict: bool = False) -> None:
        self.characters = 0
        self._file = file
        self._asked = requested
        self._begun = 0
        self._reader = csv.reader(self._lines(), strict=strict)

    @property
    def line(self) -> int:
        """The number of the line that was read last, from 1."""
        return self._reader.line_num

    def __next__(self) -> list[str]:
        """Return the next row."""
        self._begun = self.characters
        row = next(self._reader)
        if len(row) > MOST_COLUMNS:
            raise self._too_much(f"the row at line {self.line:,} has {len(row):,} cells, more than {MOST_COLUMNS:,}")
        return row

    def _lines(self) -> Iterator[str]:
        """Yield the lines; a row may have several, where its cells have line ends."""
        while line := self._file.readline(_ROW_CHARACTERS - (self.characters - self._begun) + 1):
            self.characters += len(line)
            if self.characters - self._begun > _ROW_CHARACTERS:
                found = f"the row at line {self.line + 1:,} has more than {_ROW_CHARACTERS:,} characters"
                raise self._too_much(found)
            yield line

    def _too_much(self, found: str) -> DataError:
        return DataError(self._asked, found, "Give a table of comma-separated text, a line for each row")


def check(name: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse what is no table."""
    lengths = {heading: column.shape for heading, column in columns.items()}
    if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise DataError(f"table {name}", f"its columns have the shapes {lengths}", "Give columns of one length")
    for heading, column in columns.items():
        if "\0" in heading:
            raise DataError(f"table {name}", f"its heading {heading!a:.100} has a NUL", "Give the column another name")
        texts(heading, column[:0])


def write_csv(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of one length: a header, commas, quotes where needed (RFC 4180), lines that end in a line feed."""
    rows = len(next(iter(columns.values())))
    file.write((",".join(map(_quoted, columns)) + "\n").encode())
    for start in range(0, rows, _ROWS):
        cells = [_cells(heading, column[start : start + _ROWS]) for heading, column in columns.items()]
        file.write("".join(f"{','.join(row)}\n" for row in zip(*cells, strict=True)).encode())


def _cells(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as their cells are written."""
    found = texts(heading, values)
    return list(map(_quoted, found)) if values.dtype.kind == "U" else found


def texts(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as the text of their cells, as whoever reads them has it."""
    if values.dtype.kind in "iub":
        return list(map(str, values.tolist()))
    if values.dtype.kind == "f":
        # str() of a float32 has that type's own shortest digits; tolist() would make it a longer float64.
        found = list(map(str, values.tolist() if values.dtype == np.float64 else values))
        for row in np.flatnonzero(np.isnan(values)):
            found[row] = ""
        return found
    if values.dtype.kind == "U":
        return list(values.tolist())
    raise DataError(f"column {heading!r}", f"it is {values.dtype}", "Give integers, floating-point numbers or text")


def _quoted(text: str) -> str:
    """Return a text as a CSV cell, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
