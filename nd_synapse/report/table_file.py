"""A table in a file: its columns of numbers, and what of it could not be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, StorageError, few
from nd_synapse.files.csv_dialect import Dialect, recognise
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.files.numerals import COMMA, POINT, decimal_marks, evidence, parse, readings
from nd_synapse.paths import refuse_special
from nd_synapse.report.captions import count

__all__ = ["TableFile", "read_table", "read_table_file"]

log = logging.getLogger(__name__)

_CHUNK_ROWS = 50_000
_CHUNK_CELLS = 2_000_000
_MOST_NUMBERS = 2**28
"""Cells of the largest table that is read: 2 GiB of numbers."""

_TEXT_COLUMN, _TEXT = "class", "U40"

_LAST_ROWS = 8
"""Rows at the end that may hold sums and means; were there more, the words would be values."""
_SUMMARY = frozenset(
    {"total", "totals", "sum", "mean", "average", "avg", "median", "sd", "std", "stdev", "min", "max", "count"}
    | {"summe", "gesamt", "mittelwert", "somme", "moyenne", "suma", "media"}
)
_FIRST_CELLS = 3
_MOST_SUSPECTS = 1000
_MOST_COLUMNS = 8

Floats = NDArray[np.float64]
"""Numbers of a column; NaN where one is missing, infinite where a cell is not usable."""

Rows = Callable[[], Iterator[list[str]]]
"""Reads a table from its beginning."""

Reader = Callable[[int, Sequence[str]], Floats]
"""Takes the place of a column and some of its cells."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """The columns of a table that can be drawn, each of shape (rows,), and what was left out."""

    columns: dict[str, NDArray[Any]]
    how: str
    """How it was read, in words, where that differs from commas, decimal points and UTF-8."""
    notes: tuple[str, ...]
    """Sentences on the rows, cells and columns that are not used."""


class _OtherNumbersError(Exception):
    """A cell is a number in a form that `float` does not read: the table must be read with its decimal mark."""


def read_table(file: Path) -> dict[str, NDArray[Any]]:
    """Read the columns of numbers of a table with a header line: CSV, or with semicolons or tabs between cells.

    Parameters
    ----------
    file : Path
        The file; rows are observations.

    Returns
    -------
    dict of str to ndarray, shape (rows,)
        The columns of numbers, or true and false: float64, or int64 where all are whole. A missing cell, and one that
        is no number, is NaN. Of text, the column ``class`` only. The log names what is not used.

    Raises
    ------
    StorageError
        If the file cannot be read.
    DataError
        If it has no header, a name twice, rows of unequal length, two possible separators, no column of numbers, or
        more cells than can be drawn.
    """
    return read_table_file(file).columns


def read_table_file(file: Path) -> TableFile:
    """Read a table as `read_table`, with what could not be used."""
    requested = f"the table {file}"
    try:
        refuse_special(file)
        return _read(file, requested)
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise StorageError(requested, what, "Give the path of a CSV file that you may read") from error


def _read(file: Path, requested: str) -> TableFile:
    dialect = recognise(file, requested)

    def rows() -> Iterator[list[str]]:
        return read_rows(file, requested, dialect)

    header = next(rows())
    marks = [POINT] * len(header)
    try:
        raw, tail = _columns(rows(), requested, lambda _, cells: _plain(cells, dialect))
    except _OtherNumbersError:
        marks = _marks(rows())
        raw, tail = _columns(rows(), requested, lambda place, cells: _other(cells, marks[place]))
    numbers = [place for place, values in enumerate(raw) if header[place] and _holds_numbers(values)]
    keep, notes = _kept(rows, len(raw[0]), [raw[place] for place in numbers], tail)
    notes += _about_columns(rows, header, raw, numbers, keep)
    if keep.any() and not any(np.isfinite(raw[place][keep]).any() for place in numbers):
        found = f"no column of it can be used as numbers. {' '.join(notes)}".rstrip(". ")
        raise DataError(requested, found, "Give numbers below a header, such that each can be read in one way only")
    for note in notes:
        log.warning("%s: %s", file.name, note)
    if COMMA in marks:
        log.info("%s has decimal commas", file.name)
    how = ", ".join(filter(None, (dialect.words, "decimal commas" if COMMA in marks else "")))
    columns, whole = {}, bool(keep.all())
    for place, name in enumerate(header):
        values, raw[place] = raw[place], np.empty(0)  # no column is held twice
        if place in numbers or values.dtype.kind == "U":
            columns[name] = _finished(values if whole else values[keep])
    return TableFile(columns, how, tuple(notes))


def _columns(rows: Iterator[list[str]], requested: str, read: Reader) -> tuple[list[NDArray[Any]], list[list[str]]]:
    """Return all columns and the last rows, never the whole table as text."""
    header = next(rows)
    parts: list[list[NDArray[Any]]] = [[] for _ in header]
    tail: list[list[str]] = []
    most = max(1, min(_CHUNK_ROWS, _CHUNK_CELLS // len(header)))
    while chunk := list(islice(rows, most)):
        if (len(parts[0]) + 1) * most * len(header) > _MOST_NUMBERS:
            found = f"it has more than {_MOST_NUMBERS:,} cells"
            raise DataError(requested, found, "Give a part of its rows or columns")
        for place, cells in enumerate(zip(*chunk, strict=True)):
            parts[place].append(np.array(cells, _TEXT) if header[place] == _TEXT_COLUMN else read(place, cells))
        tail = [*tail, *chunk][-_LAST_ROWS - 1 :]
    empty = [np.empty(0, _TEXT if name == _TEXT_COLUMN else np.float64) for name in header]
    # one column after another: the parts of a column go when it is whole
    return [np.concatenate(parts.pop(0) or [empty[place]]) for place in range(len(header))], tail


def _plain(cells: Sequence[str], dialect: Dialect) -> Floats:
    """Return cells as numbers where no comma or other sign is in them."""
    if not (dialect.underscores and "_" in "".join(cells)):
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass
    found = {}
    for cell in set(cells):
        found[cell] = parse(cell, POINT)
        if readings(cell) and not _is_plain(cell):
            raise _OtherNumbersError
    return np.fromiter(map(found.__getitem__, cells), np.float64, len(cells))


def _is_plain(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _other(cells: Sequence[str], mark: str) -> Floats:
    """Return cells as numbers with a decimal mark."""
    if mark == COMMA and not {".", "_"} & set("".join(cells)):
        try:
            return np.fromiter((float(cell.replace(",", ".")) for cell in cells), np.float64, len(cells))
        except ValueError:
            pass
    found = {cell: parse(cell, mark) for cell in set(cells)}
    return np.fromiter(map(found.__getitem__, cells), np.float64, len(cells))


def _marks(rows: Iterator[list[str]]) -> list[str]:
    """Return the decimal mark of each column."""
    shown = [frozenset[str]()] * len(next(rows))
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        shown = [evidence(cells, known) for known, cells in zip(shown, zip(*chunk, strict=True), strict=True)]
    return decimal_marks(shown)


def _holds_numbers(values: NDArray[Any]) -> bool:
    """Return whether at least half of the cells that are not missing are numbers."""
    return values.dtype.kind == "f" and bool(np.isinf(values).sum() <= np.isfinite(values).sum())


def _finished(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column with NaN where a cell is not usable, as int64 where all are whole."""
    if values.dtype.kind == "U":
        return values
    if np.isfinite(values).all():
        whole = (np.abs(values) < 2**53).all() and (values == np.trunc(values)).all()
        return values.astype(np.int64) if whole else values
    values[np.isinf(values)] = np.nan
    return values


def _kept(rows: Rows, n: int, columns: Sequence[Floats], tail: list[list[str]]) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which of the n rows are observations, and sentences on the others: of units, headings, sums and means."""
    keep, notes = np.ones(n, dtype=bool), []
    names = list(takewhile(bool, (_SUMMARY.intersection(map(_word, row)) for row in reversed(tail))))
    if 0 < len(names) <= min(_LAST_ROWS, n - 1):
        keep[n - len(names) :] = False
        called = _quoted(sorted(frozenset[str]().union(*names)))
        notes.append(f"{count(len(names), 'row')} at the end left out, called {called}.")
    unusable, usable = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for values in columns:
        unusable |= np.isinf(values)
        usable |= np.isfinite(values)
    suspects = np.flatnonzero(unusable & ~usable & keep)[:_MOST_SUSPECTS].tolist()
    for row, cells in _texts(rows, suspects).items():
        if row == 0 or list(map(str.strip, cells)) == next(rows()):
            keep[row] = False
            notes.append(f"Row {row + 1} left out, for it holds no number: {_quoted(list(filter(None, cells)))}.")
    return keep, notes


def _word(cell: str) -> str:
    return cell.strip(" :\t").lower()


def _about_columns(
    rows: Rows, header: Sequence[str], raw: Sequence[NDArray[Any]], numbers: Sequence[int], keep: NDArray[np.bool_]
) -> list[str]:
    """Return sentences on the columns that are left out, and on the cells of the others that are not usable."""
    found = {
        place: np.flatnonzero(np.isinf(values) & keep) for place, values in enumerate(raw) if values.dtype.kind == "f"
    }
    first = {place: bad[:_FIRST_CELLS].tolist() for place, bad in found.items() if len(bad)}
    texts = _texts(rows, sorted({row for bad in first.values() for row in bad}))
    notes, without = [], []
    for place, name in enumerate(header):
        cells = [(row, texts[row][place]) for row in first.get(place, [])]
        if (place in numbers and cells) or any(len(readings(cell)) > 1 for _, cell in cells):
            fate = "taken as missing" if place in numbers else "so it is left out"
            some = ", ".join(f"{_cell(cell)} in row {row + 1}" for row, cell in cells)
            notes.append(f"Column “{name}”: {count(len(found[place]), 'cell')} not usable, {fate}: {some}.")
        elif place in found and place not in numbers and (cells or np.isfinite(raw[place]).any()):
            without.append(f"“{name}”" if name else f"number {place + 1}, without a heading")
    if numbers[:1] == [0] and len(keep) > 2 and np.flatnonzero(np.isnan(raw[0])).tolist() == [len(keep) - 1]:
        notes.append(f"Row {len(keep)} alone has no “{header[0]}”: remove it if it holds sums or means.")
    if len(notes) > _MOST_COLUMNS:
        notes[_MOST_COLUMNS:] = [f"So are cells of {count(len(notes) - _MOST_COLUMNS, 'further column')}."]
    return notes + [f"Columns without numbers or heading left out: {few(without)}."] * bool(without)


def _texts(rows: Rows, wanted: Sequence[int]) -> dict[int, list[str]]:
    """Return some rows as text, by their number from 0 below the header."""
    if not wanted:
        return {}
    some, last = set(wanted), max(wanted)
    return {number: row for number, row in enumerate(islice(rows(), 1, last + 2)) if number in some}


def _cell(text: str) -> str:
    """Return a cell as a message shows it, with what it may mean."""
    meanings = [f"{value:g}" for value in readings(text)]
    return f"“{text.strip()[:40]}”" + f" ({' or '.join(meanings)}?)" * (len(meanings) > 1)


def _quoted(texts: Sequence[str]) -> str:
    return few([f"“{text.strip()[:40]}”" for text in texts])
