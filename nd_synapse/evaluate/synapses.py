"""Synapses as points: what is known of each, in truth and in detections alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.geometry import Box

__all__ = ["Extent", "Synapses", "synapses_of_labels"]

_FARTHEST_UM = 1e15
"""Larger coordinates, whose squares and sums might overflow, are a defect of the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Synapses:
    """Centres of synapses, a row each, and what else is known of them."""

    centre_um: NDArray[np.float64]
    """z, y, x in micrometres, shape (n, 3)."""
    kind: NDArray[np.str_] | None = None
    """Type of each, such as ``inhibitory``, shape (n,); None where types are unknown."""
    score: NDArray[np.float64] | None = None
    """Shape (n,); -inf for a synapse without a score, no NaN. None where there are no scores."""
    volume_um3: NDArray[np.float64] | None = None
    """Shape (n,); None where volumes are unknown."""

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        if self.centre_um.ndim != 2 or self.centre_um.shape[1] != 3:
            found = f"they have the shape {self.centre_um.shape}"
            raise DataError("centres of synapses", found, "Give (n, 3) numbers z, y, x in micrometres")
        beyond = np.flatnonzero(~(np.abs(self.centre_um) <= _FARTHEST_UM).all(axis=1))
        if len(beyond):
            found = f"row {beyond[0] + 1} is {self.centre_um[beyond[0]].tolist()} um"
            raise DataError("centres of synapses", found, f"Give numbers of at most {_FARTHEST_UM:g}")
        for name in ("kind", "score", "volume_um3"):
            column = getattr(self, name)
            if column is not None and column.shape != (len(self),):
                found = f"it has the shape {column.shape} for {len(self)} centres"
                raise DataError(f"column {name} of synapses", found, "Give one value for each")
        if self.score is not None and np.isnan(self.score).any():
            raise DataError("scores of synapses", "some are NaN", "Give -inf to what has no score")

    def __len__(self) -> int:
        """Return the number of synapses."""
        return len(self.centre_um)

    def take(self, rows: NDArray[Any]) -> Synapses:
        """Return some of the synapses."""
        columns = (self.kind, self.score, self.volume_um3)
        return Synapses(self.centre_um[rows], *(None if column is None else column[rows] for column in columns))

    @classmethod
    def join(cls, parts: Sequence[Synapses]) -> Synapses:
        """Return the synapses of several images; a column that one of them lacks is left out."""

        def column(name: str) -> NDArray[Any] | None:
            each = [getattr(part, name) for part in parts]
            return None if any(one is None for one in each) else np.concatenate(each)

        centres = np.concatenate([part.centre_um for part in parts])
        return cls(centres, *(column(name) for name in ("kind", "score", "volume_um3")))


@dataclass(frozen=True, slots=True)
class Extent:
    """The volume that was searched: a box of voxels and their size."""

    box: Box
    """Index 0 is the origin of the centres' coordinates, and a voxel's index is its centre."""
    voxel_size_nm: tuple[float, float, float]

    def depth_um(self, centre_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how deep points (n, 3) lie below the nearest faces of the box along z, y, x; shape (n, 3)."""
        size = np.asarray(self.voxel_size_nm) / 1000
        low = (np.asarray(self.box.start) - 0.5) * size
        high = (np.asarray(self.box.stop) - 0.5) * size
        depth: NDArray[np.float64] = np.minimum(centre_um - low, high - centre_um)
        return depth


def synapses_of_labels(
    labels: NDArray[Any], voxel_size_nm: Sequence[float]
) -> tuple[Synapses, NDArray[Any], NDArray[np.int64]]:
    """Return the objects of a label volume (z, y, x), 0 being background, their labels, ascending, and their voxels."""
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    ids, rows, counts = np.unique(flat[places], return_inverse=True, return_counts=True)
    size_um = np.asarray(voxel_size_nm, np.float64) / 1000
    sums = [np.bincount(rows, coordinate, len(ids)) for coordinate in np.unravel_index(places, labels.shape)]
    centre_um = np.stack(sums, axis=1) / counts[:, None] * size_um
    volume_um3 = np.asarray(counts * np.prod(size_um), np.float64)
    return Synapses(centre_um, volume_um3=volume_um3), ids, counts.astype(np.int64)
