"""Trivial detectors to compare with: maxima of the Laplacian of Gaussian above a threshold.

Each channel is divided by its standard deviation; where there are several markers, a voxel has the smallest of their
responses. A width is given in pixels along x, and is the same length along y and z.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["BASELINES", "maxima", "response", "thresholds"]

BASELINES = (
    ("Laplacian of Gaussian, sigma 2.5 px, Otsu", 2.5, "otsu"),
    ("Laplacian of Gaussian, sigma 1.5 px, 5 median deviations", 1.5, "deviations"),
    ("Laplacian of Gaussian, sigma 2 px, 5 median deviations", 2.0, "deviations"),
)
"""What, its width in pixels, its threshold."""

_MAD_TO_SD = 1.4826  # of a normal distribution
_APART = 5  # a maximum is the largest of this many voxels along each axis


def response(
    markers: Sequence[NDArray], voxel_size_nm: tuple[float, float, float], sigma: float, deviation: float | None = None
) -> NDArray[np.float32]:
    """Return the smallest response of some markers (z, y, x) at each voxel; `deviation` is in place of their own."""
    return np.minimum.reduce([_laplacian(one, voxel_size_nm, sigma, deviation or one.std()) for one in markers])


def _laplacian(
    voxels: NDArray, voxel_size_nm: tuple[float, float, float], sigma: float, deviation: float
) -> NDArray[np.float32]:
    """Return minus the Laplacian of Gaussian of a channel in its standard deviations, 0 where that is 0."""
    x_nm = voxel_size_nm[2]
    along = [0.0 if n == 1 else sigma * x_nm / nm for n, nm in zip(voxels.shape, voxel_size_nm, strict=True)]
    smooth = ndimage.gaussian_filter(voxels.astype(np.float32), along)
    result = np.zeros_like(smooth)
    for axis, nm in enumerate(voxel_size_nm):
        if voxels.shape[axis] > 1:
            result -= ndimage.correlate1d(smooth, [1, -2, 1], axis) * np.float32((x_nm / nm) ** 2)
    return result / np.float32(deviation) if deviation else result


def maxima(responses: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the places (n, 3) of the positive maxima of a volume (z, y, x), and their values (n,)."""
    window = [min(_APART, n) for n in responses.shape]
    places = np.nonzero((responses > 0) & (responses == ndimage.maximum_filter(responses, window)))
    return np.stack(places, axis=1), responses[places].astype(np.float64)


def thresholds(responses: NDArray[np.float32], values: NDArray[np.float64], rule: str) -> float:
    """Return the least value of a maximum that counts: by Otsu (1979) on `values` (n,), or by deviations."""
    if rule == "deviations":
        return float(5 * _MAD_TO_SD * np.median(np.abs(responses - np.median(responses))))
    counts, edges = np.histogram(values, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[np.nanargmax(between)])
