"""The measurement of a mask in memory: its objects become a table, its images projections.

It is for arrays that a caller already holds; a job measures its blocks together with their detection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from box import Box
from errors import DataError
from pymeda.table import CHANNEL_PREFIX

__all__ = ["measure", "projection"]

_MOST_PIXELS = 1024


def measure(
    mask: NDArray[Any],
    channels: Mapping[str, NDArray[Any]],
    box: Box,
    voxel_size_nm: tuple[float, float, float] | None = None,
) -> dict[str, NDArray[Any]]:
    """Measure the objects of a mask.

    Parameters
    ----------
    mask : ndarray, shape (z, y, x)
        Non-zero is synapse; objects are 26-connected. Not written to.
    channels : mapping of str to ndarray, shape (z, y, x)
        The images, real numbers, same shape. Not written to.
    box : Box
        Where the mask lies.
    voxel_size_nm : tuple of float, optional
        Extent of a voxel along z, y, x in nanometres.

    Returns
    -------
    dict of str to ndarray, shape (objects,)
        One row an object, in the order of their first voxels: ``id`` from 1, centroids in absolute voxels, ``voxels``,
        ``slices``, ``touches_border``, ``mean_<channel>``; with a voxel size also centroids and volume in micrometres.
        An empty mask gives columns without rows.

    Raises
    ------
    DataError
        If the mask is not three-dimensional, or an image has another shape.
    """
    _check(mask, channels, box)
    # As bytes: of bool, cc3d 4.1.1 refuses some masks that are one voxel wide along two axes.
    solid = np.ascontiguousarray(mask != 0).view(np.uint8)
    labels, n = cc3d.connected_components(solid, connectivity=26, return_N=True)
    where = np.nonzero(labels)
    of = labels[where].astype(np.int64) - 1
    voxels = np.bincount(of, minlength=n)
    table: dict[str, NDArray[Any]] = {"id": np.arange(1, n + 1)}
    for axis, at, start in zip("zyx", where, box.start, strict=True):
        table[f"centroid_{axis}_voxel"] = np.bincount(of, at, minlength=n) / np.maximum(voxels, 1) + start
    if voxel_size_nm is not None:
        for axis, size in zip("zyx", voxel_size_nm, strict=True):
            table[f"centroid_{axis}_um"] = table[f"centroid_{axis}_voxel"] * size / 1000
    table["voxels"] = voxels
    if voxel_size_nm is not None:
        z, y, x = voxel_size_nm
        table["volume_um3"] = voxels * (z * y * x) * 1e-9
    table["slices"] = _slices(of, where[0], n)
    table["touches_border"] = _touching(of, where, mask.shape, n)
    for name, image in channels.items():
        sums = np.bincount(of, image[where].astype(np.float64), minlength=n)
        table[CHANNEL_PREFIX + name] = sums / np.maximum(voxels, 1)
    return table


def _check(mask: NDArray[Any], channels: Mapping[str, NDArray[Any]], box: Box) -> None:
    if mask.shape != box.shape:
        raise DataError("a mask", f"its shape is {mask.shape}", f"Give one of shape z, y, x = {box.shape}")
    for name, image in channels.items():
        if image.shape != mask.shape:
            found = f"its shape is {image.shape}, that of the mask {mask.shape}"
            raise DataError(f"channel {name!r}", found, "Give image and mask of the same box")


def _slices(of: NDArray[np.int64], z: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return how many sections each object reaches through, first to last."""
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
    np.minimum.at(first, of, z)
    np.maximum.at(last, of, z)
    spans: NDArray[np.int64] = last - first + 1
    return spans


def _touching(
    of: NDArray[np.int64], where: tuple[NDArray[np.int64], ...], shape: tuple[int, ...], n: int
) -> NDArray[np.bool_]:
    """Return which objects have a voxel at a face of the array."""
    at_face = np.zeros(len(of), dtype=bool)
    for at, extent in zip(where, shape, strict=True):
        at_face |= (at == 0) | (at == extent - 1)
    return np.bincount(of[at_face], minlength=n) > 0


def projection(volume: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum of a volume over z, in bins such that no side has more than 1024 pixels.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
        An image or a mask. Not written to.

    Returns
    -------
    ndarray, shape (y, x)
        Of the volume's type (bool becomes uint8); each pixel is the maximum of its bin.
    """
    flat: NDArray[Any] = volume.max(axis=0)
    step = -(-max(flat.shape) // _MOST_PIXELS)
    for axis in (0, 1):
        flat = np.maximum.reduceat(flat, np.arange(0, flat.shape[axis], step), axis=axis)
    return flat.astype(np.uint8) if flat.dtype == bool else flat
