"""Phase correlation of two fields of pixels: by how much the second is displaced, and whether that is sure.

Kuglin and Hines 1975, The phase correlation image alignment method, Proc. IEEE Int. Conf. Cybernetics and Society,
pages 163 to 165.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TILE", "Patch", "Peak", "correlation", "phase_correlation"]

TILE = 8
"""Padding is found in tiles of so many pixels, and left out with the tiles around it."""

_FINE, _COARSE = 1.5, 8.0
"""Standard deviations of the Gaussians between which structures count: puncta do, noise and background do not."""

_PEAK = 6
"""Reach of a peak: what is farther away is the rest, among which chance has its highest peak."""

_SURE_SD, _SURE_RATIO = 7.0, 2.0
"""A sure peak is so many standard deviations of the rest high, and so many times the next peak."""

Floats = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Patch:
    """A field of a section, and the phases of its spectrum."""

    pixels: NDArray[np.float64]
    tissue: NDArray[np.bool_]
    """Where it is not padding."""
    phases: Spectrum
    """Each frequency of the half spectrum, as long as the root of its weight: of two, a product has the weight."""
    sums: tuple[int, int]
    """Of all pixels, and of their squares."""

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Patch | None:
        """Return a patch; None where more than half of it is padding."""
        tissue = _tissue(pixels)
        if 2 * np.count_nonzero(tissue) < tissue.size:
            return None
        roots = np.sqrt(pixels, dtype=np.float32)
        padding = None if tissue.all() else ~tissue
        # picking tissue where all is takes as long as the transform
        roots -= (roots.ravel() if padding is None else roots[tissue]).mean()
        if padding is not None:
            # its rim would be the same in both images, and a peak without a shift
            roots[padding] = 0
        # with this factor NumPy computes in float32: without any it does so in float64, in three times the time
        spectrum = np.fft.rfft2(roots * _taper(roots.shape), norm="forward")
        size = np.sqrt(spectrum.real**2 + spectrum.imag**2)
        spectrum *= np.divide(_roots_of_band(roots.shape), size, out=np.zeros_like(size), where=size > 0)
        exact = pixels.astype(np.float64)
        return cls(exact, tissue, spectrum.astype(np.complex64, copy=False), _sums(exact))


def _tissue(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a field is neither constant, nor next to that."""
    y, x = pixels.shape
    rows = pixels.reshape(y // TILE, TILE, x)
    # along one axis after the other, each but the last of its array: a fiftieth of the time
    high, low = (
        extreme(np.ascontiguousarray(extreme(rows, 1).reshape(y // TILE, x // TILE, TILE).transpose(2, 0, 1)), 0)
        for extreme in (np.max, np.min)
    )
    is_flat = high == low
    if not is_flat.any():
        return np.ones((y, x), np.bool_)
    flat = np.pad(is_flat, 1)
    near = np.zeros(high.shape, np.bool_)
    for i, j in np.ndindex(3, 3):
        near |= flat[i : i + near.shape[0], j : j + near.shape[1]]
    tissue: NDArray[np.bool_] = (~near).repeat(TILE, 0).repeat(TILE, 1)
    return tissue


@cache
def _taper(shape: tuple[int, ...]) -> Floats:
    """Return weights that fall to zero towards all borders: in a spectrum, opposite ones touch."""
    # by `math`: what NumPy computes differs between processors in the last bit
    rows, columns = (
        [math.sin(min(8 * min(i + 0.5, n - i - 0.5) / n, 1) * (math.pi / 2)) ** 2 for i in range(n)] for n in shape
    )
    return np.outer(rows, columns).astype(np.float32)


@cache
def _roots_of_band(shape: tuple[int, ...]) -> Floats:
    """Return the root of the weight of each frequency of a half spectrum."""
    fine, coarse = (
        np.outer(
            [_gaussian(min(i, shape[0] - i) / shape[0], sigma) for i in range(shape[0])],
            [_gaussian(i / shape[1], sigma) for i in range(shape[1] // 2 + 1)],
        )
        for sigma in (_FINE, _COARSE)
    )
    roots: Floats = np.sqrt(fine * (1 - coarse)).astype(np.float32)
    return roots


def _gaussian(frequency: float, sigma: float) -> float:
    """Return what a blur leaves of a frequency."""
    return math.exp(-2 * (math.pi * sigma * frequency) ** 2)


def phase_correlation(one: Patch, other: Patch, reach: tuple[int, int]) -> Floats:
    """Return the phase correlation of two fields at the shifts (y, x) up to `reach`, float32; shift 0 in the middle."""
    n = one.pixels.shape[1]
    # axis by axis: what lies farther along y need not be transformed along x
    lines = np.fft.irfft(_near(np.fft.ifft(one.phases.conj() * other.phases, axis=0), reach[0]), n)
    return np.ascontiguousarray(_near(lines.T, reach[1]).T)


def _near(surface: NDArray[Any], reach: int) -> NDArray[Any]:
    """Return the rows from -reach to reach of a surface that repeats, row 0 in the middle."""
    return np.concatenate([surface[-reach:], surface[: reach + 1]])


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest peak of a phase correlation, and whether chance can have made it."""

    shift: tuple[int, int]
    sure: bool

    @classmethod
    def of(cls, surface: Floats, reach: tuple[int, int]) -> Peak:
        """Find the peak of what `phase_correlation` returned."""
        rest = surface.copy()
        y, x = (int(i) for i in np.unravel_index(int(rest.argmax()), rest.shape))
        height = float(rest[y, x])
        peak = rest[max(0, y - _PEAK) : y + _PEAK + 1, max(0, x - _PEAK) : x + _PEAK + 1]
        others = rest.size - peak.size
        peak[:] = 0
        sd = math.sqrt(float(np.square(rest).sum()) / others)
        sure = height > _SURE_SD * sd and height > _SURE_RATIO * float(rest.max())
        return cls((y - reach[0], x - reach[1]), sure)


def correlation(one: Patch, other: Patch, shift: tuple[int, int]) -> float:
    """Return Pearson's r of the tissue that two patches share when the second is moved back by a shift."""
    parts = [
        (slice(max(0, -n), length - max(0, n)), slice(max(0, n), length - max(0, -n)))
        for n, length in zip(shift, one.pixels.shape, strict=True)
    ]
    (here_y, there_y), (here_x, there_x) = parts
    tissue = one.tissue[here_y, here_x] & other.tissue[there_y, there_x]
    n = int(np.count_nonzero(tissue))
    a, b = one.pixels[here_y, here_x], other.pixels[there_y, there_x]
    if n < tissue.size:
        # what is no tissue adds 0: to leave it out takes as long as all sums
        a, b = a * tissue, b * tissue
    # aligned sections without padding are the common case
    (sum_a, aa), (sum_b, bb) = (one.sums, other.sums) if n == one.pixels.size else (_sums(a), _sums(b))
    spread = (n * aa - sum_a**2) * (n * bb - sum_b**2)
    return (n * _product(a, b) - sum_a * sum_b) / math.sqrt(spread) if spread else 0.0


def _sums(pixels: NDArray[np.float64]) -> tuple[int, int]:
    """Return the sum of some pixels, and that of their squares."""
    return int(pixels.sum()), _product(pixels, pixels)


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """Return the sum of the products of two fields."""
    # sums of whole numbers below 2^53 are exact, in whichever order they are added; BLAS would start threads
    return int(np.einsum("yx,yx->", one, other))
