"""How many synapses a cubic micrometre of tissue holds: by the counting brick, with an interval from tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.brick import excluded, weights
from nd_synapse.detection.objects import centres
from nd_synapse.detection.tissue import Tissue
from nd_synapse.geometry import Box

__all__ = ["Count", "Counts", "Density", "density", "interval", "student_t"]

LEVEL = 0.95
_FEWEST_TILES = 8
_FEWEST_SYNAPSES = 30
_SMALLEST_TILE_UM = 2.0
"""A tile is several times as wide as a synapse: else neighbouring tiles share their synapses, and are no sample."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Count:
    """Synapses in a volume."""

    synapses: float
    """A half is one that one of two bricks counts."""
    um3: float
    """Cubic micrometres of tissue."""

    @property
    def per_um3(self) -> float | None:
        """Synapses per cubic micrometre; None without tissue."""
        return self.synapses / self.um3 if self.um3 > 0 else None

    def __str__(self) -> str:
        """Return the synapses per cubic micrometre with the digits that so many carry: one below 10, two below 100."""
        return f"{self.per_um3 or 0:.{self.digits}g}"

    @property
    def digits(self) -> int:
        """Significant digits of the density: chance alone changes a count n by its square root."""
        return 1 if self.synapses < 10 else 2 if self.synapses < 100 else 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Density:
    """The synapses of a box by volume of its tissue."""

    brick: Count
    """The mean of both choices of faces: the density to report."""
    without_low: Count
    """What touches the first plane along z, y or x is left out."""
    without_high: Count
    """What touches the last plane along z, y or x is left out."""
    every: Count
    """All synapses with a voxel of tissue, those that are cut included, in all of the tissue."""
    without_bright: Count | None
    """The brick without objects that are bright in every channel; None where these are unknown."""
    cut: int
    """Synapses that touch the border of the box, padding or a block that failed."""
    interval: tuple[float, float] | None
    """95 % confidence interval of the density, per cubic micrometre."""
    tiles: int
    """Tiles with tissue in the brick."""
    tile_um: tuple[float, float]
    """Extent of a tile along y and x."""
    no_interval: str
    """Why there is no interval, in words; empty where there is one."""
    sections: NDArray[np.int64]
    """Synapses of each section, by their centroids, cut ones included."""
    sections_um3: Floats
    """Cubic micrometres of tissue of each section."""

    def __str__(self) -> str:
        """Return the density in words, such as ``0.692 per um3 of tissue (95 % 0.64 to 0.744)``."""
        if self.brick.per_um3 is None:
            return f"unknown density: {self.no_interval}"
        ends = (
            "no interval"
            if self.interval is None
            else "95 % {:.{n}g} to {:.{n}g}".format(*self.interval, n=self.brick.digits)
        )
        return f"{self.brick} per um3 of tissue ({ends})"

    def as_json(self) -> dict[str, Any]:
        """Return what run.json holds."""
        named = {
            "without_first_planes": self.without_low,
            "without_last_planes": self.without_high,
            "all_objects": self.every,
            "without_bright_everywhere": self.without_bright,
        }
        return {
            "unit": "synapses per cubic micrometre of tissue",
            **_as_json(self.brick),
            "interval_95": self.interval and list(self.interval),
            "no_interval": self.no_interval,
            "tiles": self.tiles,
            "tile_um": list(self.tile_um),
            **{name: count and _as_json(count) for name, count in named.items()},
            "cut_objects": self.cut,
            "by_section": {"synapses": self.sections.tolist(), "tissue_um3": self.sections_um3.tolist()},
        }


def _as_json(count: Count) -> dict[str, float | None]:
    return {"synapses": count.synapses, "tissue_um3": count.um3, "per_um3": count.per_um3}


@dataclass(slots=True, eq=False)
class Counts:
    """Synapses of some blocks, counted for `density`; a synapse without any tissue is left out."""

    synapses: int
    weight: float
    """As the brick counts them."""
    without_low: int
    without_high: int
    without_bright: float | None
    cut: int
    tiles: Floats
    """As the brick counts them, by tile."""
    sections: NDArray[np.int64]

    @classmethod
    def of(
        cls, objects: Mapping[str, NDArray[Any]], tissue: Tissue, volume: Box, bright: NDArray[np.bool_] | None = None
    ) -> Self:
        """Count the synapses of a block, or of more.

        `objects` has the integer columns `voxels`, `sum_z`, `start_z`, `stop_z` (and y, x), `rim_low`, `rim_high`;
        `bright`, bool (n,), says which are bright in every channel.
        """
        # a pipeline that searches all of the box finds objects in padding as well
        rows = np.flatnonzero(objects["rim_low"] >= 0)
        low, high = excluded(objects, volume, rows)
        weight = weights(low, high)
        z, y, x = centres(objects, rows)
        tiles = (len(tissue.y_edges) - 1) * (len(tissue.x_edges) - 1)
        return cls(
            synapses=len(rows),
            weight=float(weight.sum()),
            without_low=int((~low).sum()),
            without_high=int((~high).sum()),
            without_bright=None if bright is None else float(weight[~bright[rows]].sum()),
            cut=int((low | high).sum()),
            tiles=np.bincount(_tiles(tissue, y, x), weight, tiles).astype(np.float64),
            sections=np.bincount(z - volume.z[0], minlength=volume.shape[0]),
        )

    def __add__(self, other: Counts) -> Counts:
        """Add the counts of other synapses; halves are added exactly in any order."""
        both = (self.without_bright, other.without_bright)
        return Counts(
            self.synapses + other.synapses,
            self.weight + other.weight,
            self.without_low + other.without_low,
            self.without_high + other.without_high,
            None if both[0] is None or both[1] is None else both[0] + both[1],
            self.cut + other.cut,
            self.tiles + other.tiles,
            self.sections + other.sections,
        )


def density(counts: Counts, tissue: Tissue, volume: Box, voxel_size_nm: Sequence[float]) -> Density:
    """Return the density of synapses in the tissue of a volume."""
    voxel_um3 = math.prod(voxel_size_nm) / 1e9
    # whole numbers as long as can be: their sums are exact in any order
    first, last = (int(voxels.sum()) for voxels in tissue.counts[1:])
    um3 = tissue.counts[1:].sum(axis=(0, 1)).ravel() / 2 * voxel_um3
    brick = Count(counts.weight, (first + last) / 2 * voxel_um3)
    tiles, tile_um = int(np.count_nonzero(um3)), _tile_um(tissue, voxel_size_nm)
    why = _no_interval(brick, volume, tiles, tile_um)
    return Density(
        brick=brick,
        without_low=Count(counts.without_low, first * voxel_um3),
        without_high=Count(counts.without_high, last * voxel_um3),
        every=Count(counts.synapses, tissue.um3(voxel_size_nm)),
        without_bright=None if counts.without_bright is None else Count(counts.without_bright, brick.um3),
        cut=counts.cut,
        interval=None if why else interval(counts.tiles, um3),
        tiles=tiles,
        tile_um=tile_um,
        no_interval=why,
        sections=counts.sections,
        sections_um3=tissue.voxels.sum(axis=(1, 2)) * voxel_um3,
    )


def _tiles(tissue: Tissue, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the tile in which voxels lie, counted as in a flat array of tiles."""
    row, column = (
        np.searchsorted(edges, c, side="right") - 1 for edges, c in ((tissue.y_edges, y), (tissue.x_edges, x))
    )
    found: NDArray[np.int64] = row * (len(tissue.x_edges) - 1) + column
    return found


def _tile_um(tissue: Tissue, voxel_size_nm: Sequence[float]) -> tuple[float, float]:
    """Return the mean extent of a tile along y and x."""
    y, x = (
        float(edges[-1] - edges[0]) / (len(edges) - 1) * size / 1000
        for edges, size in zip((tissue.y_edges, tissue.x_edges), voxel_size_nm[1:], strict=True)
    )
    return y, x


def _no_interval(brick: Count, volume: Box, tiles: int, tile_um: Sequence[float]) -> str:
    """Return why tiles can give no interval; empty if they can."""
    if not brick.um3:
        if volume.shape[0] == 1:
            return "one section alone cannot show which synapses it cuts"
        return "without its outermost planes and padding the box holds no tissue"
    if min(tile_um) < _SMALLEST_TILE_UM:
        y, x = tile_um
        return f"tiles of {y:.3g} x {x:.3g} µm, an eighth of the box, are hardly larger than synapses"
    if tiles < _FEWEST_TILES:
        return f"{tiles} tiles with tissue are too few, fewer than {_FEWEST_TILES}"
    if brick.synapses < _FEWEST_SYNAPSES:
        return f"{brick.synapses:g} counted synapses are too few, fewer than {_FEWEST_SYNAPSES}"
    return ""


def interval(counted: Floats, um3: Floats) -> tuple[float, float]:
    """Return the 95 % confidence interval of a density from tiles, given synapses and volume of each, shape (tiles,).

    That of a ratio of sums over tiles (Cochran 1977, Sampling Techniques, 3rd edition, sections 2.11 and 6.3), with a
    quantile of Student's t. It holds where tiles are independent: what gathers synapses within a tile widens it, what
    makes neighbouring tiles alike (a dendrite, a layer, a fold) does not, or not enough.
    """
    counted, um3 = counted[um3 > 0], um3[um3 > 0]
    tiles, whole = len(um3), float(um3.sum())
    ratio = float(counted.sum()) / whole
    residuals = counted - ratio * um3
    error = math.sqrt(tiles / (tiles - 1) * float((residuals**2).sum())) / whole
    reach = student_t(tiles - 1, LEVEL) * error
    return max(ratio - reach, 0.0), ratio + reach


def student_t(degrees: int, level: float) -> float:
    """Return what Student's t stays within, on both sides of 0, with a probability.

    Its probability is a finite sum for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4); it is
    inverted by halving. scipy has the same, and takes longer to import than all else of a small run.
    """

    def within(angle: float) -> float:
        sine, cosine = math.sin(angle), math.cos(angle)
        odd = degrees % 2
        term, total = (cosine, 0.0) if odd else (1.0, 0.0)
        for k in range(1 + odd, degrees, 2):
            total += term
            term *= cosine * cosine * k / (k + 1)
        return 2 / math.pi * (angle + sine * total) if odd else sine * total

    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if within(middle) < level else (low, middle)
    return math.tan(low) * math.sqrt(degrees)
