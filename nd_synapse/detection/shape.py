"""The shape of objects by their second moments, from sums that blocks can add up.

Sums of products of coordinates are kept modulo 2**64, in which adding, and moving the origin, are exact whatever
overflows; counted from an object's own corner they are small again, and true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PRODUCT_SUMS", "eigenvalues", "elongation", "moved"]

PRODUCT_SUMS = {
    "sum_zz": (0, 0),
    "sum_zy": (0, 1),
    "sum_zx": (0, 2),
    "sum_yy": (1, 1),
    "sum_yx": (1, 2),
    "sum_xx": (2, 2),
}
"""Column to the two axes whose coordinates are multiplied."""

_ROWS = 2**16
"""Objects whose matrices are in memory at a time."""

Integers = NDArray[np.int64]


def moved(
    products: Integers, sums: tuple[Integers, Integers], voxels: Integers, by: tuple[int | Integers, int | Integers]
) -> Integers:
    """Return what sums of products become when the origin is moved."""
    new: Integers = products + (sums[0] * by[1] + sums[1] * by[0] + voxels * by[0] * by[1])
    return new


def elongation(
    objects: Mapping[str, NDArray[Any]], rows: Integers, voxel_size_nm: Sequence[float]
) -> NDArray[np.float64]:
    """Return the longest principal axis of objects over the middle one, float64 (n,), from 1 upwards.

    That is the root of the ratio of the two largest eigenvalues of the covariance in physical units, in which a voxel
    is a cuboid and no point. A ball has 1, and so has a disc. NaN for an object whose moments do not fit 63 bits: some
    10**10 voxels over an extent of 30,000.
    """
    result = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        here = slice(start, start + _ROWS)
        some = {name: objects[name][rows[here]] for name in _NEEDED}
        spreads = _covariances(some, np.asarray(voxel_size_nm, np.float64) / 1000)
        fits = np.isfinite(spreads).all(axis=(1, 2))
        spreads[~fits] = np.eye(3)
        _, middle, longest = eigenvalues(spreads)
        result[here] = np.where(fits, np.sqrt(longest / middle), np.nan)
    return result


def eigenvalues(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eigenvalues of symmetric matrices (n, 3, 3), ascending, float64 (3, n): same bits on every processor.

    By Jacobi's rotations (1846, doi:10.1515/crll.1846.30.51), which need only sums, products, quotients and square
    roots: IEEE 754 rounds each of them, whereas what LAPACK computes depends on how its kernels sum.
    """
    a = {(p, q): matrices[:, p, q].copy() for p in range(3) for q in range(p, 3)}
    for _ in range(_SWEEPS):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            r = 3 - p - q
            to_p, to_q = (min(r, p), max(r, p)), (min(r, q), max(r, q))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                half = (a[q, q] - a[p, p]) / (2 * a[p, q])
                tangent = np.where(half < 0, -1.0, 1.0) / (np.abs(half) + np.sqrt(half * half + 1))
            tangent[a[p, q] == 0] = 0
            cosine = 1 / np.sqrt(tangent * tangent + 1)
            sine = tangent * cosine
            change = tangent * a[p, q]
            a[p, p], a[q, q], a[p, q] = a[p, p] - change, a[q, q] + change, np.zeros_like(change)
            a[to_p], a[to_q] = cosine * a[to_p] - sine * a[to_q], sine * a[to_p] + cosine * a[to_q]
    return np.sort([a[p, p] for p in range(3)], axis=0)


_SWEEPS = 6
"""Each squares what is left beside the diagonal: five suffice."""

_NEEDED = frozenset(
    {"voxels", *PRODUCT_SUMS, *(f"{what}_{axis}" for what in ("sum", "start", "stop") for axis in "zyx")}
)


def _covariances(objects: Mapping[str, Integers], voxel_size_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of the coordinates of objects in square micrometres, shape (n, 3, 3)."""
    voxels = objects["voxels"]
    corners = [objects[f"start_{axis}"] for axis in "zyx"]
    extents = [objects[f"stop_{axis}"] - corner for axis, corner in zip("zyx", corners, strict=True)]
    sums = [objects[f"sum_{axis}"] for axis in "zyx"]
    means = [(total - voxels * corner) / voxels for total, corner in zip(sums, corners, strict=True)]
    result = np.empty((len(voxels), 3, 3))
    for name, (a, b) in PRODUCT_SUMS.items():
        products = moved(objects[name], (sums[a], sums[b]), voxels, (-corners[a], -corners[b]))
        spread = products / voxels - means[a] * means[b] + (a == b) / 12
        fits = voxels.astype(np.float64) * extents[a] * extents[b] < 2.0**63
        spread = np.where(fits, spread * (voxel_size_um[a] * voxel_size_um[b]), np.nan)
        result[:, a, b] = result[:, b, a] = spread
    return result
