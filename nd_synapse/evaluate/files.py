"""The door to local files: image volumes from TIFF and Zarr, tables from CSV; foreign exceptions become ours here.

It knows no synapse and no truth; `truth` and `synaptograms` make those of what is read here.
"""

from __future__ import annotations

import csv
import lzma
import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, NDSynapseError, StorageError, UnknownNameError, closest
from nd_synapse.files.csv_tables import Rows
from nd_synapse.paths import refuse_special

__all__ = ["MAX_BYTES", "MAX_ROWS", "Volumes", "read_table", "read_volume", "reading"]

MAX_BYTES = 4 * 2**30
"""Largest array that is read: truth, images and what is made of them are in memory together."""

MAX_ROWS = 5_000_000
"""Longest table that is read."""

MAX_CELLS = 8 * MAX_ROWS
"""Cells of the largest table that is read: each is a text of its own in memory."""

MAX_CHARACTERS = 2**30
"""Characters of the largest table that is read."""

_TIFF = (".tif", ".tiff")
_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")

# bad bytes have no one exception class
_DAMAGED = (
    *(AssertionError, ImportError, SyntaxError, SystemError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error),
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file; what goes wrong in its libraries is raised as an error of ours."""
    try:
        refuse_special(path)
        yield
    except NDSynapseError:
        raise
    except FileNotFoundError as error:
        raise UnknownNameError(str(path), "there is no such file", "Check the path") from error
    except MemoryError as error:
        raise DataError(str(path), "there is no memory for it", "Evaluate on a part of the volume") from error
    except _DAMAGED as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(str(path), f"it is damaged, or not what its name says ({words})", "Write it anew") from error
    except OSError as error:
        found = f"it cannot be read ({error.strerror or error})"
        raise StorageError(str(path), found, "Check the path and your right to read it") from error


def read_volume(path: Path) -> NDArray[Any]:
    """Read a volume of whole numbers.

    Parameters
    ----------
    path : Path
        A TIFF stack of one channel (one page a slice), or a Zarr array (a folder).

    Returns
    -------
    ndarray of bool or int, shape (z, y, x)
        The voxels; one TIFF page is a volume of one slice.

    Raises
    ------
    UnknownNameError
        If there is no such file.
    DataError
        If it is no such volume, damaged, or larger than `MAX_BYTES`.
    StorageError
        If it cannot be read.
    """
    with reading(path):
        return _read_zarr(path, _open_zarr(path)) if path.is_dir() else _read_tiff(path)


class Volumes(Mapping[str, NDArray[Any]]):
    """The volumes of a folder of TIFF files or of a Zarr group, by name; each is read when it is asked for.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    UnknownNameError
        If there is no such folder.
    DataError
        If it holds no volume, or two of one name.
    StorageError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with reading(path):
            if path.is_file():
                raise DataError(str(path), "it is a file", "Give the folder with a stack for each channel")
            self._files = dict(_zarr_arrays(path) if _is_zarr(path) else _tiff_files(path))
        if not self._files:
            wanted = "Give a folder with a TIFF stack a channel, or a Zarr group with an array a channel"
            raise DataError(str(path), "it holds no image volume", wanted)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read a volume, shape (z, y, x)."""
        return read_volume(self._files[name])

    def __iter__(self) -> Iterator[str]:
        """Walk over the names, sorted."""
        return iter(sorted(self._files))

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self._files)


def _is_zarr(path: Path) -> bool:
    return any((path / marker).is_file() for marker in _ZARR_MARKERS)


def _tiff_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the TIFF files of a folder by their stems."""
    seen: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in _TIFF and not file.name.startswith("."):
            name = file.stem.removesuffix(".ome")
            if name in seen:
                found = f"{seen[name].name} and {file.name} are both called {name}"
                raise DataError(str(folder), found, "Keep one file a channel")
            seen[name] = file
            yield name, file


def _zarr_arrays(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the arrays of a Zarr group by their names."""
    group = _open_zarr(folder)
    names = [name for name, _ in group.arrays()] if hasattr(group, "arrays") else []
    if not names:
        found = "it is a single array" if hasattr(group, "shape") else "it is a group without arrays"
        raise DataError(str(folder), found, "Give a Zarr group with an array z, y, x for each channel")
    for name in names:
        yield name, folder / name


def _open_zarr(path: Path) -> Any:
    """Open a Zarr array or group."""
    # zarr takes a third of a second, and most users have TIFF files
    from nd_synapse.files.zarr_arrays import open_folder

    if not _is_zarr(path):
        raise DataError(str(path), "it is a folder, but no Zarr array", "Name the TIFF file or the Zarr array")
    return open_folder(path)


def _read_zarr(path: Path, array: Any) -> NDArray[Any]:
    if not hasattr(array, "shape"):
        names = ", ".join(sorted(name for name, _ in array.arrays())[:8]) or "none"
        raise DataError(str(path), f"it is a group; its arrays: {names}", f"Name one of them, such as {path}/NAME")
    from nd_synapse.files.zarr_arrays import checked_array

    shape = _checked(path, array.shape, array.dtype)
    voxels: NDArray[Any] = np.asarray(checked_array(array, str(path), array.shape)[...]).reshape(shape)
    return voxels


def _read_tiff(path: Path) -> NDArray[Any]:
    # scoring a table needs neither
    import tifffile

    from nd_synapse.files.tiff import check_chain, check_page

    check_chain(path)
    with tifffile.TiffFile(path) as tif:
        if len(tif.series) != 1:
            raise DataError(
                str(path), f"it holds {len(tif.series)} images of different shapes", "Give one stack z, y, x"
            )
        series = tif.series[0]
        if any(axis in "SC" and extent > 1 for axis, extent in zip(series.axes, series.shape, strict=True)):
            found = f"it has several channels or colours (axes {series.axes}, extents {series.shape})"
            raise DataError(str(path), found, "Save each channel as a grey-scale stack of its own")
        shape = _checked(path, series.shape, series.dtype)
        size = tif.filehandle.size
        for page in series.pages:
            # tifffile fills in zeros for what lies beyond the end of a file
            if page is None or any(a + n > size for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
                raise DataError(str(path), "it is cut short, or slices are missing", "Copy it anew")
            check_page(page)
        voxels: NDArray[Any] = series.asarray(maxworkers=1)
    if voxels.size != math.prod(shape):
        raise DataError(str(path), f"it announces {shape} voxels and has {voxels.size:,}", "Copy it anew")
    return voxels.reshape(shape).astype(voxels.dtype.newbyteorder("="), copy=False)


def _checked(path: Path, shape: tuple[int, ...], dtype: Any) -> tuple[int, int, int]:
    """Return the extents z, y, x, or raise DataError if this is no volume of whole numbers that fits."""
    kept = [int(extent) for extent in shape]
    while len(kept) > 3 and 1 in kept[:-2]:
        kept.remove(1)
    kept = [1] * (3 - len(kept)) + kept
    if len(kept) != 3 or len(shape) < 2 or min(kept) < 1:
        raise DataError(str(path), f"it has the shape {tuple(shape)}, not z, y, x", "Give one volume z, y, x")
    if np.dtype(dtype).kind not in "bui":
        raise DataError(str(path), f"it holds {np.dtype(dtype).name}, not whole numbers", "Save it as integers")
    bytes_needed = math.prod(kept) * np.dtype(dtype).itemsize
    if bytes_needed > MAX_BYTES:
        found = f"it has {bytes_needed / 2**30:.1f} GiB, more than the {MAX_BYTES / 2**30:.0f} GiB that are read"
        raise DataError(str(path), found, "Evaluate on a part of the volume")
    return (kept[0], kept[1], kept[2])


def read_table(path: Path) -> dict[str, list[str]]:
    """Read a table with a header."""
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        lines = Rows(file, str(path), strict=True)
        header = [cell.strip() for cell in next(lines, [])]
        twice = {name for name, count in Counter(header).items() if count > 1}
        if not any(header) or twice:
            some = ", ".join(sorted(map(repr, twice))[:8])[:200]
            found = f"{some} heads two columns" if twice else "it has no header"
            raise DataError(str(path), found, "Give comma-separated columns, each with a heading of its own")
        most_rows = min(MAX_ROWS, MAX_CELLS // len(header))
        rows: list[list[str]] = []
        for row in lines:
            if len(rows) == most_rows:
                found = f"it has more than {most_rows:,} rows of {len(header):,} cells"
                raise DataError(str(path), found, "Evaluate on a part of the volume")
            if lines.characters > MAX_CHARACTERS:
                found = f"it has more than {MAX_CHARACTERS:,} characters"
                raise DataError(str(path), found, "Evaluate on a part of the volume")
            if len(row) != len(header) and row:
                found = f"line {lines.line} has {len(row)} cells, and the header has {len(header)}"
                raise DataError(str(path), found, "Give every line the same number of cells")
            if row:
                rows.append(row)
    return {name: [row[column].strip() for row in rows] for column, name in enumerate(header)}


def column(path: Path, table: Mapping[str, list[str]], name: str) -> list[str]:
    """Return a column of a table."""
    if name not in table:
        known = ", ".join(closest(name, table)[:12])
        raise UnknownNameError(f"column {name!r} of {path}", f"its columns are {known}", "Correct the name")
    return table[name]


def numbers(path: Path, table: Mapping[str, list[str]], name: str, empty: float | None = None) -> NDArray[np.float64]:
    """Return a column of a table as numbers.

    Parameters
    ----------
    path : Path
        The table, for the message.
    table : mapping of str to list of str
        From `read_table`.
    name : str
        Its heading.
    empty : float, optional
        What an empty cell and NaN mean; where None, they are refused.

    Returns
    -------
    ndarray of float64, shape (n,)
        The values, no NaN; finite but for `empty`.

    Raises
    ------
    UnknownNameError
        If there is no such column.
    DataError
        If a cell is no finite number.
    """
    values = np.empty(len(column(path, table, name)))
    for row, cell in enumerate(table[name]):
        try:
            value = float(cell or "nan")
        except ValueError:
            value = math.inf
        if math.isnan(value) and empty is not None:
            value = empty
        elif not math.isfinite(value):
            found = f"row {row + 1} has {cell!r} in column {name!r}, which is no finite number"
            raise DataError(str(path), found, "Correct or remove the row")
        values[row] = value
    return values
