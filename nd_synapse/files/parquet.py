"""A table as Parquet: for tables too long for a spreadsheet, read by pandas, R, DuckDB and the like."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError

__all__ = ["read_parquet", "write_parquet"]

_ROWS = 2**16
"""Rows that are in memory at a time, and that readers find together."""


def write_parquet(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of one length, a piece at a time."""
    # few tables are that long: the others do not wait for the library
    from arro3.core import Array, RecordBatch, RecordBatchReader
    from arro3.io import write_parquet as write

    def piece(start: int) -> RecordBatch:
        arrays = [Array.from_numpy(np.ascontiguousarray(values[start : start + _ROWS])) for values in columns.values()]
        return RecordBatch.from_arrays(arrays, names=list(columns))

    def pieces() -> Iterator[RecordBatch]:
        for start in range(0, rows, _ROWS):
            yield piece(start)

    rows = max((len(values) for values in columns.values()), default=0)
    guarded = _Guarded(file)
    write(
        RecordBatchReader.from_batches(piece(rows).schema, pieces()),
        cast("IO[bytes]", guarded),
        compression="zstd(3)",
        max_row_group_size=_ROWS,
    )
    if guarded.error is not None:
        raise guarded.error


def read_parquet(file: Path, requested: str, names: Collection[str] | None = None) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the rows of a table that `write_parquet` wrote, a piece at a time: its columns, or those of some names."""
    from arro3.io import read_parquet as read

    try:
        _check_end(file)
        for batch in read(file, batch_size=_ROWS):
            yield {name: _array(batch.column(name)) for name in batch.schema.names if names is None or name in names}
    except OSError:
        raise
    except BaseException as error:
        # arro3 0.9 panics where what is at the end is damaged, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(
            requested, f"it is damaged ({str(error)[:200]})", "Copy it anew, or run the job again"
        ) from error


def _check_end(file: Path) -> None:
    """Refuse a file that is cut short."""
    size = file.stat().st_size
    with file.open("rb") as body:
        body.seek(max(0, size - 8))
        end = body.read()
    if end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") > size - 12:
        raise ValueError("its end is missing")


def _array(column: Any) -> NDArray[Any]:
    """Return a column of Arrow as an array, text in its own type."""
    values: NDArray[Any] = column.to_numpy()
    return values if values.dtype != object else np.array(column.to_pylist(), str)


class _Guarded(io.RawIOBase):
    """A file that keeps its first error for later: arro3 0.9 prints a panic of its own where a write fails."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, body: Any, /) -> int:
        """Write, unless a write failed before."""
        try:
            if self.error is None:
                self._file.write(body)
        except OSError as error:
            self.error = error
        return len(body)
