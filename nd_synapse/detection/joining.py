"""Parts of all blocks joined to objects, on disk: columns lie in files, and one at a time is in memory.

How parts become objects is said in `objects`; here is only where they lie. What stays in memory for each object is its
id and where it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.detection import objects
from nd_synapse.geometry import Box

__all__ = ["ColumnFiles", "join_blocks"]


class ColumnFiles(Mapping[str, NDArray[Any]]):
    """Columns of a table, each a mapped file.

    Parameters
    ----------
    store : Store
        Where they lie.
    kind : str
        What they are called there; what was there is removed.
    columns : iterable of tuple of str and ndarray
        The columns; each is let go as soon as it is saved.
    """

    def __init__(self, store: Store, kind: str, columns: Iterable[tuple[str, NDArray[Any]]]) -> None:
        store.drop(kind)
        self._columns: dict[str, NDArray[Any]] = {}
        for number, (name, values) in enumerate(columns):
            # an array of no elements cannot be mapped
            if len(values):
                store.save_plain(kind, str(number), np.asarray(values))
                values = store.open_plain(kind, str(number))
            self._columns[name] = values

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column, read-only."""
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names in their order."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


def join_blocks(
    store: Store, kind: str, blocks: Sequence[Box], pairs: Sequence[NDArray[Any]]
) -> tuple[ColumnFiles, objects.Joint]:
    """Join the parts of objects that touch across blocks.

    Parameters
    ----------
    store : Store
        Where the parts of each block are.
    kind : str
        What they are called there.
    blocks : sequence of Box
        The blocks, at least one.
    pairs : sequence of ndarray, shape (n, 2)
        From `objects.neighbours_across`.

    Returns
    -------
    found : ColumnFiles
        The columns of `objects.measure`, a row for each object, ordered by its first voxel.
    joint : Joint
        Which part belongs to which object.

    Raises
    ------
    StorageError
        If parts cannot be read, or there is no room.
    """
    raw = f"raw-{kind}"
    store.drop(raw)
    names: list[str] = []
    for block in blocks:
        parts = store.load(kind, key_of(block))
        names = names or list(parts)
        for number, name in enumerate(names):
            store.append(raw, str(number), parts[name])
        id_type = parts["id"].dtype
    ids = store.appended(raw, str(names.index("id")), id_type)
    joint = objects.Joint(ids, pairs)

    def columns() -> Iterator[tuple[str, NDArray[Any]]]:
        for number, name in enumerate(names):
            yield name, joint.column(name, store.appended(raw, str(number), id_type if name == "id" else np.int64))

    found = ColumnFiles(store, f"objects-{kind}", columns())
    store.drop(raw)
    return found, joint
