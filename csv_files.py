"""A table as CSV: the text of its cells, and what a table has to be.

It knows no result folder and no Parquet; `results` has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from errors import DataError

__all__ = ["check", "write_csv"]

_ROWS = 16_384
"""Rows that are turned into text at a time: bounds the memory of a table by its columns, not by its rows."""


def check(name: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse what is no table.

    Parameters
    ----------
    name : str
        What the table is called, for messages.
    columns : mapping of str to ndarray
        The columns by their headings.

    Raises
    ------
    DataError
        If they differ in length, are not one-dimensional or of another type than numbers, truth values and text.
    """
    lengths = {heading: column.shape for heading, column in columns.items()}
    if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise DataError(f"table {name}", f"its columns have the shapes {lengths}", "Give columns of one length")
    for heading, column in columns.items():
        _cells(heading, column[:0])


def write_csv(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of one length: a header, commas, quotes where needed (RFC 4180), lines that end in a line feed.

    Parameters
    ----------
    file : binary file
        Where to.
    columns : mapping of str to ndarray, shape (n,)
        The columns by their headings, which `check` has passed.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    rows = len(next(iter(columns.values())))
    file.write((",".join(map(_quoted, columns)) + "\n").encode())
    for start in range(0, rows, _ROWS):
        cells = [_cells(heading, column[start : start + _ROWS]) for heading, column in columns.items()]
        file.write("".join(f"{','.join(row)}\n" for row in zip(*cells, strict=True)).encode())


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
