"""A table as Parquet: for tables too long for a spreadsheet, read by pandas, R, DuckDB and the like."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_parquet"]

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
