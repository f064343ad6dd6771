"""The arithmetic of the probabilistic detector: from log probabilities to puncta, and from puncta to a synapse's grade.

A region is a `Box` in indices of the requested volume. Every voxel of a result is computed by the same operations in
the same order whatever the region: shifts and adds, never a running sum. So a voxel has the same bytes in any block.
Probabilities are float32. Shifts are done on flat memory, which takes a third of the time of rows that start anywhere;
so a map has rows and columns after those of its region that mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box

__all__ = ["Channel", "grade", "log_table", "reach"]

_BASE_MINIMUM = 0.5
_CERTAIN = 5.5
"""Standard deviations above the mean from which p is taken as it is there: it lacks 2e-8 of 1, and float32 cannot
separate from 1 what lacks less than 3e-8."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a query in a block."""

    voxels: NDArray[Any]
    """uint8 or uint16, shape (z, y, x): the block with its halo."""
    origin: tuple[int, int, int]
    """Place of its first voxel in the volume; below 0 where the halo leaves the volume."""
    tables: Mapping[int, NDArray[np.float32]]
    """`log_table` by slice of the volume."""
    slices: int
    """Slices that a punctum spans: 1, 2 or 3."""


@lru_cache(maxsize=256)
def log_table(mean: float, std: float, top: int, width: int) -> NDArray[np.float32]:
    """Return the log probability of intensities 0 to n - 1 to be foreground, over ``width**2``: float32 (n,).

    Sums over a window are thus means; intensities from n on have the last value. `mean` and `std` are the slice's,
    `top` is the largest intensity there can be. Where `std` is 0, no pixel stands out: log 0.5 throughout.
    """
    if std == 0:
        return np.full(1, math.log(0.5) / width**2, np.float32)
    last = min(top, math.ceil(mean + _CERTAIN * std))
    scaled = (mean - np.arange(last + 1)) / (std * math.sqrt(2))
    probabilities = np.fromiter(map(math.erfc, scaled.data), np.float64, last + 1) / 2
    # p is 0 from 38 deviations below the mean. math.log, since NumPy's differs in its last bits between processors
    exact = (math.log(p) if p > 0 else -math.inf for p in probabilities.tolist())
    logs: NDArray[np.float32] = (np.fromiter(exact, np.float64, last + 1) / width**2).astype(np.float32)
    return logs


def reach(base: Sequence[int], adjacent: Sequence[int], width: int) -> tuple[int, int]:
    """Return the slices and the pixels around a voxel that its grade depends on."""
    slices = max([int(n > 1) for n in base] + [1 + int(n > 1) for n in adjacent])
    if adjacent:
        return slices, 2 * width
    return slices, width if len(base) > 1 else width // 2


def grade(
    base: Sequence[Channel], adjacent: Sequence[Channel], region: Box, volume: Box, width: int, floor: float
) -> NDArray[np.float32]:
    """Return the probability of each voxel of a region to be a synapse: float32, shape of the region.

    A synapse is marked in the `base`, at least one channel, and the `adjacent` side is searched nearby. It is 0 where
    the first channel of the base has less than 0.5 and near the borders of the volume; of one channel without a partner
    its own map. Values not above `floor` may be too large, up to `floor`, or 0.
    """
    result = np.zeros(region.shape, np.float32)
    alone = len(base) == 1 and not adjacent
    inner = region if alone else _scored(region, volume, width)
    if inner is None:
        return result
    grades = result[inner.slices(region.start)]
    for plane, found in zip(grades, _probability(base[0], inner, volume, width), strict=True):
        enough = _cropped(found, plane)
        np.copyto(plane, enough, where=alone or enough >= _BASE_MINIMUM)
    if adjacent:
        _multiply_adjacent(grades, adjacent, inner, volume, width, floor)
    beside = _widened(inner, width // 2 - 1, width // 2)
    for channel in base[1:]:
        for plane, found in zip(grades, _probability(channel, beside, volume, width), strict=True):
            plane *= _cropped(_box_sums(found, width), plane) / width**2
    return result


def _cropped(values: NDArray[np.float32], plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the valid part of a map, of the shape of `plane`."""
    return values[: plane.shape[0], : plane.shape[1]]


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


def _probability(channel: Channel, region: Box, volume: Box, width: int) -> Iterator[NDArray[np.float32]]:
    """Yield, slice by slice, the probability of each pixel to lie in a punctum that spans the channel's slices."""
    window = _widened(region, width // 2 - 1, width // 2)
    flat: dict[int, NDArray[np.float32]] = {}
    for z in range(*region.z):
        near = _neighbours(z, channel.slices, volume.shape[0])
        flat = {k: flat[k] if k in flat else _flat_map(channel, k, window, volume, width) for k in (z, *near)}
        if not near:
            yield flat[z]
            continue
        unlike = _squared(flat[z] - flat[near[0]])
        for other in near[1:]:
            unlike += _squared(flat[z] - flat[other])
        np.exp(unlike, out=unlike)
        yield np.divide(flat[z], unlike, out=unlike)


def _squared(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square in place."""
    values *= values
    return values


def _neighbours(z: int, slices: int, depth: int) -> tuple[int, ...]:
    """Return the slices with which a slice is compared; none in a volume of one slice."""
    wanted = {1: (), 2: (z + 1 if z + 1 < depth else z - 1,), 3: (z + 1, z - 1)}[slices]
    return tuple(other for other in wanted if 0 <= other < depth)


def _flat_map(channel: Channel, z: int, window: Box, volume: Box, width: int) -> NDArray[np.float32]:
    """Return the geometric mean of p over windows of one slice, at each window's first pixel, shape of `window`."""
    _, y, x = window.slices(channel.origin)
    logs = channel.tables[z].take(channel.voxels[z - channel.origin[0], y, x], mode="clip")
    # the halo shows the volume mirrored, where the definition has p = 1
    for axis, (start, stop), (low, high) in zip((0, 1), window.ranges[1:], volume.ranges[1:], strict=True):
        rows = logs if axis == 0 else logs.T
        rows[: max(low - start, 0)] = 0
        rows[min(high, stop) - start :] = 0
    means = _box_sums(logs, width)
    np.exp(means, out=means)
    return means


def _box_sums(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Sum windows of `width` x `width` pixels; at each window's first pixel, same shape."""
    return _folded(_folded(values, np.add, range(0, width * values.shape[-1], values.shape[-1])), np.add, range(width))


def _folded(values: NDArray[np.float32], operation: np.ufunc, shifts: range) -> NDArray[np.float32]:
    """Combine each value with those that follow it at all but the first of `shifts`, which is 0, in flat memory."""
    flat = values.reshape(-1)
    length = max(len(flat) - shifts[-1], 0)
    result = np.empty_like(values)
    folded = result.reshape(-1)
    operation(flat[:length], flat[shifts[1] : shifts[1] + length], out=folded[:length])
    for shift in shifts[2:]:
        operation(folded[:length], flat[shift : shift + length], out=folded[:length])
    folded[length:] = 0
    return result


def _multiply_adjacent(
    grades: NDArray[np.float32], adjacent: Sequence[Channel], inner: Box, volume: Box, width: int, floor: float
) -> None:
    """Multiply grades, in place, by the means of all adjacent channels in the window where the first has most."""
    searched = _widened(inner, 3 * width // 2 - 1, 3 * width // 2).grown((1, 0, 0), volume)
    sums = [_box_sums(found, width) for found in _probability(adjacent[0], searched, volume, width)]
    row = sums[0].shape[1]
    rows = (_folded(plane, np.maximum, range(0, 3 * width * row, width * row)) for plane in sums)
    largest = [_cropped(_folded(plane, np.maximum, range(0, 3 * width, width)), grades[0]) for plane in rows]
    first = searched.z[0]
    for plane, z in zip(grades, range(*inner.z), strict=True):
        nearby = reduce(np.maximum, largest[max(z - 1 - first, 0) : z + 2 - first])
        plane *= nearby / width**2
    if len(adjacent) > 1:
        places = np.nonzero(grades > floor)
        windows = _best_windows(np.array(sums), places, inner.z[0] - first, width)
        for channel in adjacent[1:]:
            maps = _probability(channel, searched, volume, width)
            others = np.concatenate([_box_sums(found, width).ravel() for found in maps])
            grades[places] *= others[windows] / width**2


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
