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

__all__ = ["check", "read_rows", "texts", "write_csv"]

_ROWS = 16_384
"""Rows that are turned into text at a time: bounds the memory of a table by its columns, not by its rows."""


def read_rows(file: Path, requested: str = "") -> Iterator[list[str]]:
    """Yield the header of a CSV file in UTF-8, then its rows, each as wide; empty lines are left out."""
    requested = requested or str(file)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            twice = [name for name, count in Counter(header).items() if count > 1]
            if twice or not any(header):
                found = f"{', '.join(map(repr, twice[:8]))[:200]} heads two columns" if twice else "it has no header"
                raise DataError(requested, found, "Give comma-separated columns, each with a heading of its own")
            yield header
            for row in reader:
                if row and len(row) != len(header):
                    found = f"line {reader.line_num} has {len(row)} cells, and the header has {len(header)}"
                    raise DataError(requested, found, "Give every line the same number of cells")
                if row:
                    yield row
        except (UnicodeDecodeError, csv.Error) as error:
            found = f"it is not comma-separated text in UTF-8 (after line {reader.line_num}: {error})"
            raise DataError(requested, found, "Save it as CSV") from error


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
        file.write("".join(f"{','.join(row)}\n" for row in zip(*cells, strict=True)).encode())


def _cells(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as cells, quoted where needed."""
    found = texts(heading, values)
    return list(map(_quoted, found)) if values.dtype.kind == "U" else found


def texts(heading: str, values: NDArray[Any]) -> list[str]:
    """Return some values of a column as the text of their cells."""
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
