"""The labels of a result folder, compared with its table and its masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, few
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.files.parquet import read_parquet
from nd_synapse.files.reading import reading
from nd_synapse.geometry import Box
from nd_synapse.job.job import label_names
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.results import LONG_TABLE, TABLE, table_file
from nd_synapse.volumes import Volume

__all__ = ["compare_labels", "mask_in_labels"]

_SHOWN = 3
"""Ids that are named of those with another number of voxels."""

_ROWS = 2**14
"""Rows of a CSV that are text in memory at a time."""


def compare_labels(root: Path, masks: Sequence[str], mask_of: Callable[[str], Volume]) -> tuple[str, bool]:
    """Compare every label image with its mask, which `mask_of` reads, and with the table; say what was found.

    The ids are those of the mask's rows, each with as many voxels as its row says, and lie exactly where the mask does.
    """
    from nd_synapse.files.multiscale import open_level  # zarr is imported only where it is used

    rows = _Rows.read(table_file(root), masks)
    faults, ids = [], 0
    with reading(str(root / LABELS)):
        for place, (name, label) in enumerate(label_names(masks).items()):
            mask = mask_of(name)
            if place == 0:
                faults += _unlike("the image", open_level(root / LABELS, 0), mask)
            array = open_level(root / LABELS, 0, label)
            expected = rows.voxels(name)
            faults += _unlike(f"labels {label}", array, mask)
            faults += _miscounted(f"labels {label}", _counted(array, len(expected)), expected)
            ids += int(np.count_nonzero(expected))
    found = f"{ids:,} ids in {len(masks)} label images have the voxels of table and masks"
    return "; ".join(faults) or found, not faults


def mask_in_labels(root: Path, masks: Sequence[str], name: str) -> Volume:
    """Open a mask as it is in its label image: 255 where there is an id."""
    return _MaskOfLabels(root, label_names(masks)[name])


class _MaskOfLabels:
    """The mask (uint8, 0 and 255) of a label image."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, root: Path, label: str) -> None:
        from nd_synapse.files.multiscale import open_level  # zarr is imported only where it is used

        self._path = str(root / LABELS)
        with reading(self._path):
            self._labels = open_level(root / LABELS, 0, label)
        self.shape: tuple[int, ...] = self._labels.shape

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        """Return a part of it."""
        with reading(self._path):
            mask: NDArray[np.uint8] = (np.asarray(self._labels[index]) != 0) * np.uint8(255)
        return mask


@dataclass(frozen=True, slots=True)
class _Rows:
    """The numbers of voxels in a table, by column; int64, by id from 0."""

    columns: Mapping[str, NDArray[np.int64]]

    @classmethod
    def read(cls, path: Path, masks: Sequence[str]) -> _Rows:
        """Read the columns of voxels and of membership in masks."""
        wanted = {"id", "voxels", *(f"{kind}_{name}" for kind in ("voxels", "in") for name in masks)}
        found: dict[str, list[NDArray[np.int64]]] = {}
        before = 0
        with reading(path):
            for piece in (
                read_parquet(path, path.name, wanted) if path.name == LONG_TABLE else _pieces_of_csv(path, wanted)
            ):
                ids = np.asarray(piece.pop("id"), np.int64)
                if wrong := np.flatnonzero(ids != np.arange(before + 1, before + 1 + len(ids))).tolist():
                    number = before + wrong[0] + 1
                    raise DataError(path.name, f"row {number} has the id {ids[wrong[0]]}", "Run the job again")
                for name, values in piece.items():
                    found.setdefault(name, [np.zeros(1, np.int64)]).append(np.asarray(values, np.int64))
                before += len(ids)
        return cls({name: np.concatenate(values) for name, values in found.items()})

    def voxels(self, mask: str) -> NDArray[np.int64]:
        """Return the voxels of each id in a mask."""
        inside = self.columns.get(f"in_{mask}", 1)
        return self.columns.get(f"voxels_{mask}", self.columns["voxels"]) * inside


def _pieces_of_csv(path: Path, wanted: set[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield some columns of whole numbers or truth, a piece at a time; one of no row where there is none."""
    cells = read_rows(path, TABLE)
    places = {name: place for place, name in enumerate(next(cells)) if name in wanted}
    chunk: list[list[str]] = list(islice(cells, _ROWS))
    while True:
        yield {
            name: np.array([row[at] == "True" if name.startswith("in_") else int(row[at]) for row in chunk], np.int64)
            for name, at in places.items()
        }
        chunk = list(islice(cells, _ROWS))
        if not chunk:
            return


def _unlike(what: str, array: Any, mask: Volume) -> list[str]:
    """Say where an array is 0 and a mask is not, or the other way round."""
    if array.shape != mask.shape:
        return [f"{what} have the shape {array.shape}, the mask has {mask.shape}"]
    shards = Box.of_shape(array.shape).tiles(array.shards or array.chunks)
    differing = sum(int(np.count_nonzero((array[s] != 0) != (mask[s] != 0))) for s in (one.slices() for one in shards))
    return [f"{what} and the mask differ in {differing:,} voxels"] if differing else []


def _counted(array: Any, most: int) -> NDArray[np.int64]:
    """Return the voxels of each id, at least `most` numbers; background counts 0."""
    counts = np.zeros(most, np.int64)
    for shard in Box.of_shape(array.shape).tiles(array.shards or array.chunks):
        ids = array[shard.slices()]
        ids = ids[ids != 0]
        if ids.size and ids.max() >= len(counts):
            raise DataError(LABELS, f"it has the id {ids.max()}, the table ends at {most - 1}", "Run the job again")
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def _miscounted(what: str, counts: NDArray[np.int64], expected: NDArray[np.int64]) -> list[str]:
    """Say which ids have other numbers of voxels than the table."""
    wrong = np.flatnonzero(counts != expected)
    if not len(wrong):
        return []
    shown = few([f"{i} has {counts[i]:,}, not {expected[i]:,}" for i in wrong[:_SHOWN].tolist()])
    return [f"{what}: {len(wrong):,} ids have other numbers of voxels than the table: {shown}"]
