"""Truth and detections from files: points in a table, or objects in a label volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.evaluate.inputs import column, numbers, read_table, read_volume
from nd_synapse.evaluate.synapses import Extent, Synapses

__all__ = ["is_table", "labelled", "read_labels", "read_points", "within"]

_UM = (("z_um", "y_um", "x_um"), ("centroid_z_um", "centroid_y_um", "centroid_x_um"))
_VOXEL = (
    ("z", "y", "x"),
    ("centroid_z_voxel", "centroid_y_voxel", "centroid_x_voxel"),
    ("axis-0", "axis-1", "axis-2"),  # napari's points of a volume
)
_FOURTH, _OF_SHAPE = "axis-3", "vertex-index"
_SCORES = ("score", "probability")
_CLASS = "class"
_VOLUME = "volume_um3"
_TYPE = "type"


def is_table(path: Path) -> bool:
    """Return whether a file is a table of points by its name; else it is a volume."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt")


def read_points(
    path: Path,
    voxel_size_nm: tuple[float, float, float] | None,
    *,
    kind: str | None = None,
    scored: bool = False,
    mask: str | None = None,
) -> Synapses:
    """Read points from a table."""
    table = read_table(path)
    centre_um = _centres(path, table, voxel_size_nm)
    if kind is None:
        kind = next((name for name in (_TYPE, _CLASS) if name in table), None)
    kinds = None if kind is None else np.array(column(path, table, kind), np.str_)
    score = next((name for name in _SCORES if name in table), None) if scored else None
    scores = None if score is None else numbers(path, table, score, empty=-np.inf)
    volume = numbers(path, table, _VOLUME) if _VOLUME in table else None
    points = Synapses(centre_um, kinds, scores, volume)
    return points if mask is None else points.take(numbers(path, table, f"in_{mask}", empty=0.0) != 0)


def _centres(
    path: Path, table: Mapping[str, list[str]], voxel_size_nm: tuple[float, float, float] | None
) -> NDArray[np.float64]:
    """Return the points in micrometres, shape (n, 3)."""
    if _OF_SHAPE in table:
        raise DataError(
            f"points in {path}", "they are corners of napari's shapes", "Save a layer of points from napari"
        )
    if _FOURTH in table:
        found = "they have four axes, of which any may be that of channels or times"
        raise DataError(f"points in {path}", found, "Save points of one channel (z, y, x) from napari")
    in_um, in_voxels = (
        next((names for names in headings if set(names) <= set(table)), None) for headings in (_UM, _VOXEL)
    )
    if in_um is None and in_voxels is None:
        found = f"its columns are {', '.join(table)}"
        wanted = "Name the columns z,y,x (voxels), z_um,y_um,x_um, or as in synapses.csv or napari"
        raise DataError(f"points in {path}", found, wanted)
    if in_um is None and voxel_size_nm is None:
        raise UsageError(f"points in {path}", "they are in voxels of unknown size", "Give --voxel-size-nm Z,Y,X")
    um = _points(path, table, in_um) if in_um else None
    if in_voxels is None or voxel_size_nm is None:
        assert um is not None  # refused above
        return um
    size_um = np.asarray(voxel_size_nm) / 1000
    from_voxels: NDArray[np.float64] = _points(path, table, in_voxels) * size_um
    if um is None:
        return from_voxels
    # a wrong voxel size would put every point beside the image
    off = np.abs(um - from_voxels) > size_um
    if off.any():
        row = int(np.flatnonzero(off.any(axis=1))[0])
        found = (
            f"row {row + 1}: its voxels are {from_voxels[row].round(3).tolist()} um at that voxel size, and it says "
        )
        found += f"{um[row].round(3).tolist()} um"
        raise DataError(f"points in {path}", found, "Correct --voxel-size-nm Z,Y,X, or remove the wrong columns")
    return um


def _points(path: Path, table: Mapping[str, list[str]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([numbers(path, table, name) for name in names], axis=1)


def read_labels(path: Path, voxel_size_nm: tuple[float, float, float] | None = None) -> NDArray[np.int64]:
    """Read objects from a TIFF stack or Zarr array of whole numbers, shape (z, y, x); see `labelled`."""
    voxels = read_volume(path, voxel_size_nm)
    if voxels.dtype.kind == "i" and voxels.min() < 0:
        raise DataError(str(path), f"it has the label {voxels.min()}", "Use 0 for background and labels above 0")
    if voxels.max() > np.iinfo(np.int64).max:
        raise DataError(str(path), f"it has the label {voxels.max()}", "Use labels of at most 63 bits")
    return labelled(voxels)


def labelled(voxels: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels (z, y, x), 0 being background; a volume of one other value is cut into 26-connected components."""
    inside = voxels[voxels != 0]
    if len(inside) and (inside == inside[0]).all():
        parts = cc3d.connected_components(np.ascontiguousarray(voxels != 0).view(np.uint8), connectivity=26)
        return np.asarray(parts, np.int64)
    return voxels.astype(np.int64)


def within(synapses: Synapses, extent: Extent, reach_nm: float, requested: str) -> Synapses:
    """Return the synapses, or refuse them if no detection in the volume could match some."""
    outside = (extent.depth_um(synapses.centre_um) < -reach_nm / 1000).any(axis=1)
    if outside.any():
        first = synapses.centre_um[outside][0].round(3).tolist()
        size = " x ".join(f"{n * s / 1000:g}" for n, s in zip(extent.box.shape, extent.voxel_size_nm, strict=True))
        found = f"{np.count_nonzero(outside):,} of {len(synapses):,} lie outside of the volume of {size} um (z, y, x), "
        found += f"such as {first} um"
        raise DataError(requested, found, "Check the order of the axes, the unit and --voxel-size-nm, or remove them")
    return synapses
