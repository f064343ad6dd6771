"""What functions of users on blocks return, and what is kept of finished blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.geometry import Box
from nd_synapse.multicore.on_block import is_finished, run_on_block, set_up_worker
from nd_synapse.multicore.results import assembled_rows, assembled_volumes
from tests.cases import Case
from tests.cases._user_code import BOX, RAMP, Channels, case, pulled_tiles


def _kept(function: Callable[[Channels], Any], folder: Path) -> str:
    """Run a function on one block, and return what was kept of it."""
    set_up_worker(pulled_tiles(folder))
    store, box = Store(folder), Box((0, 2), (0, 8), (0, 8))
    run_on_block(box, function, (0, 0, 0))
    volumes = [
        f"{kind.removeprefix('volume-')}: {np.count_nonzero(array)} voxels of {array.dtype}"
        for kind in store.kinds("volume-")
        for array in [store.open_plain(kind, key_of(box))]
    ]
    rows = store.load("rows", key_of(box)) if store.has("rows", key_of(box)) else {}
    return "; ".join([*volumes, *(f"{name}: {values.tolist()} of {values.dtype}" for name, values in rows.items())])


def _returning(value: Any) -> Callable[[Path], str]:
    """Return what observes a function that returns a value."""
    return partial(_kept, lambda _: value)


class Metres(np.ndarray[Any, Any]):
    """An array with a unit."""

    unit = "m"


class Lazy:
    """Computes itself when NumPy asks, as dask, xarray and torch do."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._value


BLOCK = RAMP[:2]
MASKED = np.ma.masked_less(BLOCK, 120)


def _on_disk(folder: Path) -> str:
    """Return a mapped array."""
    np.save(folder / "saved.npy", BLOCK)
    return _kept(lambda _: np.load(folder / "saved.npy", mmap_mode="r"), folder / "store")


# ---------------------------------------------------------------- files of finished blocks


def _again(change: Callable[[list[Path]], object], kind: str, folder: Path) -> str:
    """Finish two blocks, change the files of one kind, go on, and return what came of it."""
    tiles = pulled_tiles(folder)
    set_up_worker(tiles)
    boxes = list(BOX.tiles(tiles.size))
    task = partial(run_on_block, function=lambda c: {"same": c["ramp"], "most": [int(c["ramp"].max())]}, halo=(0, 0, 0))
    for box in boxes:
        task(box)
    change(sorted((folder / kind).iterdir()))
    missing = [box for box in boxes if not is_finished(tiles.store, box)]
    for box in missing:
        task(box)
    keys = [key_of(box) for box in boxes]
    rows = assembled_rows(tiles.store, keys)["most"].tolist()
    volume = np.asarray(assembled_volumes(tiles.store, keys, BOX, tiles.size)["same"])
    return (
        f"{len(missing)} blocks run again; volume {'right' if np.array_equal(volume, RAMP) else 'wrong'}, rows {rows}"
    )


def _trade(files: list[Path]) -> None:
    one, other = (path.read_bytes() for path in files)
    files[0].write_bytes(other)
    files[1].write_bytes(one)


def _flip(files: list[Path]) -> None:
    body = bytearray(files[0].read_bytes())
    body[-3] ^= 16
    files[0].write_bytes(bytes(body))


CASES: tuple[Case, ...] = (
    case(
        "masked-volume",
        "a masked array as a volume",
        _returning(MASKED),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "masked-column",
        "a masked column",
        _returning({"rows": MASKED[1, 7]}),
        "rows: [120, 121, 122, 123, 124, 125, 126, 127] of uint8",
        "DataError: 'rows' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "masked-sections",
        "a list of masked sections",
        _returning(list(MASKED)),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "masked-value",
        "a list with a masked value in it",
        _returning({"rows": [1.5, np.ma.masked]}),
        "rows: [1.5, nan] of float64",
        "DataError: 'rows' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "masked-lazy",
        "an array that computes itself, and is masked then",
        _returning(Lazy(MASKED)),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "lazy",
        "an array that computes itself",
        _returning(Lazy(BLOCK)),
        "result: 127 voxels of uint8",
        "result: 127 voxels of uint8",
    ),
    case(
        "quantity",
        "an array with a unit",
        _returning(BLOCK.astype(np.float32).view(Metres)),
        "result: 127 voxels of float32",
        "DataError: 'result' of a block: it is a Metres, which is more than an array",
    ),
    case("mapped", "an array on disk", _on_disk, "result: 127 voxels of uint8", "result: 127 voxels of uint8"),
    case(
        "view-of-input",
        "a view of the input",
        partial(_kept, lambda channels: channels["ramp"][:, ::-1]),
        "result: 127 voxels of uint8",
        "result: 127 voxels of uint8",
    ),
    case(
        "complex",
        "complex numbers",
        _returning(BLOCK * 1j),
        "result: 127 voxels of complex128",
        "result: 127 voxels of complex128",
    ),
    case(
        "times",
        "a column of times",
        _returning({"rows": np.array(["2018-05-01"], "M8[D]")}),
        "rows: [datetime.date(2018, 5, 1)] of datetime64[D]",
        "rows: [datetime.date(2018, 5, 1)] of datetime64[D]",
    ),
    case(
        "sparse",
        "a sparse column",
        _returning({"rows": scipy.sparse.coo_array(np.array([0, 0, 7]))}),
        "ValueError: 'rows' holds objects: numbers or texts can be saved",
        "DataError: 'rows' of a block: it holds objects or records (coo_array)",
    ),
    case(
        "none-in-list",
        "a list with None in it",
        _returning({"rows": [1, None]}),
        "ValueError: 'rows' holds objects: numbers or texts can be saved",
        "DataError: 'rows' of a block: it holds objects or records (NoneType)",
    ),
    case(
        "records",
        "records",
        _returning({"rows": np.zeros(2, [("z", "i4"), ("x", "i4")])}),
        "rows: [(0, 0), (0, 0)] of [('z', '<i4'), ('x', '<i4')]",
        "DataError: 'rows' of a block: it holds objects or records ([('z', '<i4'), ('x', '<i4')])",
    ),
    case(
        "texts-and-numbers",
        "a list of numbers and texts",
        _returning({"rows": [1, "two"]}),
        "rows: ['1', 'two'] of <U21",
        "DataError: 'rows' of a block: NumPy would change its values, to those of <U21",
    ),
    case(
        "fractions-and-large-numbers",
        "a list of 2**53 + 1 and a fraction",
        _returning({"rows": [2**53 + 1, 0.5]}),
        "rows: [9007199254740992.0, 0.5] of float64",
        "DataError: 'rows' of a block: NumPy would change its values, to those of float64",
    ),
    case(
        "trailing-zero-bytes",
        "bytes that end with a zero",
        _returning({"rows": [b"ab\0"]}),
        "rows: [b'ab'] of |S3",
        "DataError: 'rows' of a block: NumPy would change its values, to those of |S3",
    ),
    case(
        "unequal-lengths",
        "lists of unequal length",
        _returning({"rows": [[1, 2], [3]]}),
        "ValueError: setting an array element with a sequence",
        "DataError: 'rows' of a block: its parts differ in shape",
    ),
    case(
        "two-results",
        "a tuple of a mask and a number",
        _returning((BLOCK > 5, 3)),
        "ValueError: setting an array element with a sequence",
        "DataError: 'result' of a block: its parts differ in shape",
    ),
    case(
        "file-damaged-rows",
        "rows of a finished block with a flipped bit",
        partial(_again, _flip, "rows"),
        "StorageError: reading FOLDER/rows/0_0_0.npz: the file is damaged, in every run",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    case(
        "file-damaged-volume",
        "a volume of a finished block with a flipped bit",
        partial(_again, _flip, "volume-same"),
        "0 blocks run again; volume wrong, rows [127, 255]",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    case(
        "file-damaged-mark",
        "the mark of a finished block with a flipped bit",
        partial(_again, _flip, "done"),
        "0 blocks run again; volume right, rows [127, 255]",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    case(
        "files-traded-rows",
        "rows of two finished blocks that traded their contents",
        partial(_again, _trade, "rows"),
        "0 blocks run again; volume right, rows [255, 127]",
        "2 blocks run again; volume right, rows [127, 255]",
    ),
    case(
        "files-traded-volumes",
        "volumes of two finished blocks that traded their contents",
        partial(_again, _trade, "volume-same"),
        "0 blocks run again; volume wrong, rows [127, 255]",
        "2 blocks run again; volume right, rows [127, 255]",
    ),
    case(
        "file-cut",
        "a volume of a finished block that was cut short",
        partial(_again, lambda files: os.truncate(files[0], 100), "volume-same"),
        "StorageError: reading FOLDER/volume-same/0_0_0.npy: the file is damaged, in every run",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
)
