"""Synapses as points: what is known of each, in truth and in detections alike.

It reads no file and compares nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.geometry import Box

__all__ = ["Extent", "Synapses", "synapses_of_labels"]


@dataclass(frozen=True, slots=True, eq=False)
class Synapses:
    """Centres of synapses, a row each, and what else is known of them.

    Parameters
    ----------
    centre_um : ndarray of float64, shape (n, 3)
        Centres z, y, x in micrometres.
    kind : ndarray of str, shape (n,), or None
        Type of each, such as ``inhibitory``; None where it is not known.
    score : ndarray of float64, shape (n,), or None
        The higher, the more a synapse; -inf for one without a score, no NaN. None where there are no scores.
    volume_um3 : ndarray of float64, shape (n,), or None
        Volume in cubic micrometres; None where it is not known.

    Raises
    ------
    DataError
        If a centre is not finite, a score is NaN, or the columns differ in length.
    """

    centre_um: NDArray[np.float64]
    kind: NDArray[np.str_] | None = None
    score: NDArray[np.float64] | None = None
    volume_um3: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no table of points."""
        if self.centre_um.ndim != 2 or self.centre_um.shape[1] != 3 or not np.isfinite(self.centre_um).all():
            found = f"they have the shape {self.centre_um.shape}, or some are not finite"
            raise DataError("centres of synapses", found, "Give (n, 3) finite numbers z, y, x in micrometres")
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


@dataclass(frozen=True, slots=True)
class Extent:
    """The part of space that was looked at: a box of voxels and their size.

    Parameters
    ----------
    box : Box
        Voxels; index 0 is the origin of the centres' coordinates, and a voxel's index is its centre.
    voxel_size_nm : tuple of float
        Size of a voxel along z, y, x.
    """

    box: Box
    voxel_size_nm: tuple[float, float, float]

    def depth_um(self, centre_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Measure how deep points lie below the faces of the box."""
        size = np.asarray(self.voxel_size_nm) / 1000
        low = (np.asarray(self.box.start) - 0.5) * size
        high = (np.asarray(self.box.stop) - 0.5) * size
        depth: NDArray[np.float64] = np.minimum(centre_um - low, high - centre_um)
        return depth


def synapses_of_labels(
    labels: NDArray[Any], voxel_size_nm: Sequence[float]
) -> tuple[Synapses, NDArray[Any], NDArray[np.int64]]:
    """Measure the objects of a label volume.

    Parameters
    ----------
    labels : ndarray of int, shape (z, y, x)
        0 is background; the voxels of one value are one object, wherever they lie.
    voxel_size_nm : sequence of float
        Size of a voxel along z, y, x.

    Returns
    -------
    synapses : Synapses
        Centroids and volumes, ordered by label; none for a volume of background.
    ids : ndarray
        The label of each.
    voxels : ndarray of int64
        The number of voxels of each.
    """
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    ids, rows, counts = np.unique(flat[places], return_inverse=True, return_counts=True)
    size_um = np.asarray(voxel_size_nm, np.float64) / 1000
    sums = [np.bincount(rows, coordinate, len(ids)) for coordinate in np.unravel_index(places, labels.shape)]
    centre_um = np.stack(sums, axis=1) / counts[:, None] * size_um
    volume_um3 = np.asarray(counts * np.prod(size_um), np.float64)
    return Synapses(centre_um, volume_um3=volume_um3), ids, counts.astype(np.int64)
