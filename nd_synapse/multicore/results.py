"""What came of the blocks: arrays assembled to volumes, and rows put one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.worker import Failed
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.user_code import loses

__all__ = ["Results", "assembled_rows", "assembled_volumes"]


class Results(list[str]):
    """The keys ``<z>_<y>_<x>`` of the blocks that are done, in the order of the blocks, and what came of them.

    Parameters
    ----------
    keys : sequence of str
        The keys.
    failed : dict of str to Failed
        Key to what happened, for the blocks that are missing.
    volumes : dict of str to BlockVolume
        Assembled arrays by name; an array that came without a name is called ``result``. 0 where a block failed.
    rows : dict of str to ndarray
        Columns; the rows of the blocks in the order of the blocks.
    """

    def __init__(
        self,
        keys: Sequence[str],
        failed: dict[str, Failed],
        volumes: dict[str, BlockVolume],
        rows: dict[str, NDArray[Any]],
    ) -> None:
        super().__init__(keys)
        self.failed = failed
        self.volumes = volumes
        self.rows = rows


def assembled_volumes(
    store: Store, keys: Sequence[str], box: Box, size: tuple[int, int, int]
) -> dict[str, BlockVolume]:
    """Return the assembled arrays by name."""
    volumes = {}
    done = set(keys)
    for kind in store.kinds("volume-"):
        saved = [key for key in keys if store.has(kind, key, "npy")]
        if not saved:
            continue

        def read(block: Box, kind: str = kind) -> NDArray[Any] | None:
            key = key_of(block)
            return store.open_plain(kind, key) if key in done and store.has(kind, key, "npy") else None

        name = kind.removeprefix("volume-")
        dtype = _common_dtype(name, {store.open_plain(kind, key).dtype for key in saved})
        volumes[name] = BlockVolume(read, box, size, dtype)
    return volumes


def _common_dtype(name: str, dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    """Return a type that holds what all blocks returned under a name."""
    try:
        common = np.result_type(*dtypes)
    except TypeError:
        common = None
    if common is None or any(loses(dtype, common) for dtype in dtypes):
        raise DataError(
            f"{name!r} of all blocks",
            f"blocks returned {', '.join(sorted(map(str, dtypes)))}, and no type holds them all",
            "Return the same type always",
        )
    return common


def assembled_rows(store: Store, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the rows of all blocks, one after another."""
    parts = [store.load("rows", key) for key in keys if store.has("rows", key)]
    names = list(dict.fromkeys(name for part in parts for name in part))
    if any(part.keys() != set(names) for part in parts):
        raise DataError("the rows of all blocks", "blocks returned different columns", "Return the same ones always")
    return {name: _column(name, [part[name] for part in parts]) for name in names}


def _column(name: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the parts of a column as one; an empty one has no say in its type, for numpy takes [] for floats."""
    filled = [part for part in parts if len(part)] or parts
    return np.concatenate(filled, dtype=_common_dtype(name, {part.dtype for part in filled}))
