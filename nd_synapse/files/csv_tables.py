"""A table as CSV: its one writer, and its one reader, which reads a row at a time."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.csv_dialect import Dialect, recognise
from nd_synapse.files.numerals import readings

__all__ = ["check", "read_rows", "texts", "write_csv"]

_ROWS = 16_384
"""Rows that are turned into text at a time: bounds the memory of a table by its columns, not by its rows."""


def read_rows(file: Path, requested: str = "", dialect: Dialect | None = None) -> Iterator[list[str]]:
    """Yield the header of a table, then its rows, each as wide; lines and rows of empty cells are left out.

    How it is written is recognised unless `dialect` says it. A column may lack a heading: its name is empty.
    """
    requested = requested or str(file)
    dialect = dialect or recognise(file, requested)
    with file.open(encoding=dialect.encoding, newline="") as lines:
        reader = csv.reader(lines, delimiter=dialect.separator, strict=True)
        try:
            for _ in range(dialect.lines_before):
                next(reader)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(header, requested)
            yield header
            width = len(header)
            for row in reader:
                if len(row) == width:
                    if row[0] or any(row):
                        yield row
                elif any(row):
                    found = f"line {reader.line_num} has {len(row)} cells, and the header has {width}"
                    raise DataError(requested, found, "Give every line as many, a decimal comma in quotes")
        except (UnicodeDecodeError, csv.Error) as error:
            found = f"it is no table (after line {reader.line_num}: {error})"
            raise DataError(requested, found, "Save it as CSV in UTF-8") from error


def _check_header(header: list[str], requested: str) -> None:
    """Refuse a header with a name twice, without a name, or of numbers, which is a row of a table without header."""
    twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    found = f"{', '.join(map(repr, twice[:8]))[:200]} heads two columns" if twice else ""
    if all(not name or readings(name) for name in header):
        found = "its first line holds numbers alone" if any(header) else "it has no header"
    if found:
        raise DataError(requested, found, "Give each column a heading of its own")


def check(name: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Raise DataError unless the columns form a table that can be written."""
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
        file.write(("\n".join(map(",".join, zip(*cells, strict=True))) + "\n").encode())


def _cells(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as cells, quoted where needed."""
    found = texts(heading, values)
    return list(map(_quoted, found)) if values.dtype.kind == "U" else found


def texts(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as the text of their cells."""
    if values.dtype.kind in "iub":
        # repr() of numbers is str() in two thirds of the time
        return list(map(repr, values.tolist()))
    if values.dtype.kind == "f":
        # str() of a float32 has that type's own shortest digits; tolist() would make it a longer float64.
        found = list(map(repr, values.tolist()) if values.dtype == np.float64 else map(str, values))
        for row in np.flatnonzero(np.isnan(values)):
            found[row] = ""
        return found
    if values.dtype.kind == "U":
        return list(values.tolist())
    raise DataError(f"column {heading!r}", f"it is {values.dtype}", "Give integers, floating-point numbers or text")


def _quoted(text: str) -> str:
    """Return a text as a CSV cell, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
