"""The arithmetic of the probabilistic detector: from log probabilities to puncta, and from puncta to a synapse's grade.

It knows no query language and no blocks: a region is asked for, and the voxels of its neighbourhood must be there.

A region is a `Box` in indices of the requested volume. Every voxel of a result is computed by the same operations in
the same order whatever the region: shifts and adds, never a running sum. So a voxel has the same bytes in any block.
All arrays of probabilities are float32, shape (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from box import Box

__all__ = ["Channel", "grade", "log_table", "punctum_map", "reach"]

_BASE_MINIMUM = 0.5
_CERTAIN = 8.3
"""Standard deviations above the mean from which the normal distribution function is 1 in 64 bits."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a query, as far as a block holds it.

    Parameters
    ----------
    voxels : ndarray of uint8 or uint16, shape (z, y, x)
        The block with its halo.
    origin : tuple of int
        Place (z, y, x) of its first voxel in the volume; below 0 where the halo leaves the volume.
    tables : mapping of int to ndarray of float32, shape (n,)
        Slice of the volume to log p by intensity, from `log_table`.
    slices : int
        Slices that a punctum spans: 1, 2 or 3.
    """

    voxels: NDArray[Any]
    origin: tuple[int, int, int]
    tables: Mapping[int, NDArray[np.float32]]
    slices: int


def log_table(mean: float, std: float, top: int) -> NDArray[np.float32]:
    """Return the log probability of every intensity of a slice to be foreground.

    Parameters
    ----------
    mean, std : float
        Population mean and standard deviation of the slice.
    top : int
        The largest intensity that there can be.

    Returns
    -------
    ndarray of float32, shape (n,)
        Log of the normal distribution function; intensities from n on have the value of the last entry. A slice with a
        standard deviation of 0 has log 0.5 throughout: no pixel of it stands out.
    """
    if std == 0:
        return np.full(1, math.log(0.5), np.float32)
    last = min(top, math.ceil(mean + _CERTAIN * std))
    scaled = (mean - np.arange(last + 1)) / (std * math.sqrt(2))
    probabilities = np.array([math.erfc(value) / 2 for value in scaled.tolist()])
    with np.errstate(divide="ignore"):  # 38 deviations below the mean p is 0, and so is what it is multiplied with
        logs: NDArray[np.float32] = np.log(probabilities).astype(np.float32)
    return logs


def reach(base: Sequence[int], adjacent: Sequence[int], width: int) -> tuple[int, int]:
    """Return how far the grade of a voxel depends on others.

    Parameters
    ----------
    base, adjacent : sequence of int
        Slices that a punctum spans, for each channel of the side.
    width : int
        Width of a punctum, in pixels.

    Returns
    -------
    tuple of int
        Slices up and down, pixels along y and x.
    """
    slices = max([int(n > 1) for n in base] + [1 + int(n > 1) for n in adjacent])
    if adjacent:
        return slices, 2 * width
    return slices, width if len(base) > 1 else width // 2


def grade(
    base: Sequence[Channel], adjacent: Sequence[Channel], region: Box, volume: Box, width: int, floor: float
) -> NDArray[np.float32]:
    """Return the probability of each voxel to be a synapse.

    Parameters
    ----------
    base : sequence of Channel
        The side in whose voxels a synapse is marked, at least one channel.
    adjacent : sequence of Channel
        The side that is searched for nearby.
    region : Box
        Where, in indices of the volume.
    volume : Box
        The requested volume, from 0.
    width : int
        Width of a punctum in pixels, even.
    floor : float
        What is not larger than this may be given too large, up to `floor`, or as 0.

    Returns
    -------
    ndarray of float32, shape of `region`
        0 where the first channel of the base has less than 0.5 and near the borders of the volume; of one channel
        without a partner its own map.
    """
    if len(base) == 1 and not adjacent:
        return punctum_map(base[0], region, volume, width)
    result = np.zeros(region.shape, np.float32)
    inner = _scored(region, volume, width)
    if inner is None:
        return result
    grades = punctum_map(base[0], inner, volume, width)
    grades *= grades >= _BASE_MINIMUM
    if adjacent:
        _multiply_adjacent(grades, adjacent, inner, volume, width, floor)
    for channel in base[1:]:
        beside = _widened(inner, width // 2 - 1, width // 2)
        grades *= _box_sums(punctum_map(channel, beside, volume, width), width) / width**2
    result[inner.slices(region.start)] = grades
    return result


def _scored(region: Box, volume: Box, width: int) -> Box | None:
    """Return the part of a region that is far enough from the y and x borders of the volume."""
    margin = 3 * width // 2
    (_, y, x) = volume.shape
    if min(y, x) <= 2 * margin:
        return None
    return region.intersection(Box(volume.z, (margin, y - margin), (margin, x - margin)))


def _widened(region: Box, before: int, after: int) -> Box:
    """Return a region with more rows and columns on its low and high sides."""
    return Box(region.z, (region.y[0] - before, region.y[1] + after), (region.x[0] - before, region.x[1] + after))


def punctum_map(channel: Channel, region: Box, volume: Box, width: int) -> NDArray[np.float32]:
    """Return the probability of each voxel to lie in a punctum that spans the channel's slices.

    Parameters
    ----------
    channel : Channel
        The channel.
    region : Box
        Where, within the volume.
    volume : Box
        The requested volume, from 0.
    width : int
        Width of a punctum in pixels, even.

    Returns
    -------
    ndarray of float32, shape of `region`
        From 0 to 1.
    """
    depth = volume.shape[0]
    partners = {z: _neighbours(z, channel.slices, depth) for z in range(*region.z)}
    flat = {
        z: _flat_map(channel, z, region, volume, width)
        for z in sorted({*partners, *(n for near in partners.values() for n in near)})
    }
    result = np.empty(region.shape, np.float32)
    for plane, (z, near) in zip(result, partners.items(), strict=True):
        if not near:
            plane[...] = flat[z]
            continue
        unlike = _squared(flat[z] - flat[near[0]])
        for other in near[1:]:
            unlike += _squared(flat[z] - flat[other])
        np.negative(unlike, out=unlike)
        np.exp(unlike, out=unlike)
        np.multiply(flat[z], unlike, out=plane)
    return result


def _squared(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square in place."""
    values *= values
    return values


def _neighbours(z: int, slices: int, depth: int) -> tuple[int, ...]:
    """Return the slices with which a slice is compared; none in a volume of one slice."""
    wanted = {1: (), 2: (z + 1 if z + 1 < depth else z - 1,), 3: (z + 1, z - 1)}[slices]
    return tuple(other for other in wanted if 0 <= other < depth)


def _flat_map(channel: Channel, z: int, region: Box, volume: Box, width: int) -> NDArray[np.float32]:
    """Return the geometric mean of p over the window of every pixel of one slice, shape (y, x) of the region."""
    window = _widened(Box((z, z + 1), region.y, region.x), width // 2 - 1, width // 2)
    inside = Box(
        *(
            (max(start, low), min(stop, high))
            for (start, stop), (low, high) in zip(window.ranges, volume.ranges, strict=True)
        )
    )
    logs = channel.tables[z].take(channel.voxels[inside.slices(channel.origin)][0], mode="clip")
    if inside != window:
        outside = [(i[0] - w[0], w[1] - i[1]) for i, w in zip(inside.ranges[1:], window.ranges[1:], strict=True)]
        logs = np.pad(logs, outside)
    means = _box_sums(logs, width)
    means /= width**2
    np.exp(means, out=means)
    return means


def _box_sums(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Sum windows of `width` x `width` pixels of each slice; the result, by the windows' first pixel, is smaller."""
    y, x = (n - width + 1 for n in values.shape[-2:])
    rows = values[..., :y, :] + values[..., 1 : y + 1, :]
    for k in range(2, width):
        rows += values[..., k : y + k, :]
    sums = rows[..., :x] + rows[..., 1 : x + 1]
    for k in range(2, width):
        sums += rows[..., k : x + k]
    return sums


def _multiply_adjacent(
    grades: NDArray[np.float32], adjacent: Sequence[Channel], inner: Box, volume: Box, width: int, floor: float
) -> None:
    """Multiply grades, in place, by the means of all adjacent channels in the window where the first has most."""
    searched = _widened(inner, 3 * width // 2 - 1, 3 * width // 2).grown((1, 0, 0), volume)
    sums = _box_sums(punctum_map(adjacent[0], searched, volume, width), width)
    y, x = inner.shape[1:]
    rows = sums[:, :y].copy()
    for k in (width, 2 * width):
        np.maximum(rows, sums[:, k : y + k], out=rows)
    largest = rows[:, :, :x].copy()
    for k in (width, 2 * width):
        np.maximum(largest, rows[:, :, k : x + k], out=largest)
    first = searched.z[0]
    for plane, z in zip(grades, range(*inner.z), strict=True):
        nearby = largest[max(z - 1 - first, 0) : z + 2 - first].max(axis=0)
        nearby /= width**2
        plane *= nearby
    if len(adjacent) > 1:
        places = np.nonzero(grades > floor)
        windows = _best_windows(sums, places, inner.z[0] - first, width)
        for channel in adjacent[1:]:
            others = _box_sums(punctum_map(channel, searched, volume, width), width)
            grades[places] *= others.ravel()[windows] / width**2


def _best_windows(
    sums: NDArray[np.float32], places: tuple[NDArray[np.intp], ...], above: int, width: int
) -> NDArray[np.intp]:
    """Return for each place the C-order index of the largest of its windows; of equal ones the first in C order."""
    depth, y, x = sums.shape
    z = places[0] + above
    corner = (z * y + places[1]) * x + places[2]
    flat = sums.ravel()
    best = np.full(len(corner), -1, np.float32)
    chosen: NDArray[np.intp] = corner.copy()
    for dz, ky, kx in product((-1, 0, 1), range(3), range(3)):
        window = corner + (dz * y + ky * width) * x + kx * width
        exists = (z + dz >= 0) & (z + dz < depth)
        values = np.where(exists, flat.take(window, mode="clip"), -1)
        larger = values > best
        best[larger] = values[larger]
        chosen[larger] = window[larger]
    return chosen
