"""Are the sections and channels registered? Their in-plane shifts, from phase correlation in sampled fields.

It aligns nothing. It reads the same fields of the same sections whatever the blocks are, once, after the detection.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.phase_correlation import TILE, Patch, Peak, correlation, phase_correlation
from nd_synapse.geometry import Box
from nd_synapse.volumes import Volume

__all__ = [
    "BEYOND",
    "MOST_RUNS",
    "PUNCTUM_NM",
    "RUN_SECTIONS",
    "UNSURE",
    "WITHIN",
    "Pair",
    "Registration",
    "count_outcomes",
    "measure_registration",
]

WITHIN, BEYOND, UNSURE = "within", "beyond", "cannot tell"

PUNCTUM_NM = 300.0
"""Width of a punctum."""

RUN_SECTIONS, MOST_RUNS = 16, 32
"""Sections are measured in runs, as BOSS stores them; of a deeper box as many runs as this, spread evenly."""

_SIDE, _SPACING, _MOST_A_SIDE = 256, 320, 3
"""Pixels of a field, those of the box for each field along an axis, and the most fields along an axis."""

_LEAST_SIDE = 64
_MOST_BINNING = 4
_FARTHEST = 64
"""Largest shift that is looked for, in pixels of a field; at most a quarter of its side."""

_FEWEST_SURE, _APART = 3, 16


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one place: a channel in two neighbouring sections, or two channels in one section."""

    channels: tuple[str, str]
    sections: tuple[int, int]
    """Absolute."""
    outcome: str
    """`WITHIN` the width of a punctum, `BEYOND` it, or `UNSURE`; the rest is None or 0 where it is unsure."""
    shift_px: tuple[float, float] | None = None
    """By how much (y, x) the second lies farther than the first, in pixels: the median over the fields."""
    shift_nm: int | None = None
    """Its length: the median over the fields, which a rotation leaves where the shifts cancel out."""
    farthest_nm: int | None = None
    """The largest of any field."""
    correlation: float | None = None
    """Pearson's r of the pixels at the shift, and without it: medians over the fields."""
    unshifted: float | None = None
    sure_fields: int = 0
    """Fields with a sure peak of their own; 0 of a shift that only all of them together show."""
    fields: int = 0
    """Fields that could be compared."""

    @property
    def is_neighbours(self) -> bool:
        """Whether it is one channel in two sections."""
        return self.channels[0] == self.channels[1]


_COLUMNS = tuple(each.name for each in fields_of(Pair))


@dataclass(frozen=True, slots=True)
class Registration:
    """What was measured."""

    limit_nm: float
    """The width of a punctum: what lies beyond moves one out of its place."""
    farthest_px: tuple[int, int]
    """The largest shift (y, x) that was looked for; zeros where the box is too small to measure any."""
    sections: int
    """Sections that were read."""
    of_sections: int
    """Sections of the box."""
    pairs: tuple[Pair, ...]
    """By section; in a section its channels against the one before, then against the first channel."""

    def relations(self) -> dict[tuple[str, str], list[Pair]]:
        """Return the pairs by their two channels."""
        found: dict[tuple[str, str], list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.channels, []).append(pair)
        return found

    def outcomes(self) -> dict[str, dict[str, int]]:
        """Return the number of pairs of each outcome, by channel or by two channels."""
        return {
            " on ".join(dict.fromkeys(reversed(key))): count_outcomes(some) for key, some in self.relations().items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            **{name: getattr(self, name) for name in ("limit_nm", "farthest_px", "sections", "of_sections")},
            "outcomes": self.outcomes(),
            # `asdict` copies each value, in five times the time
            "pairs": [{name: getattr(pair, name) for name in _COLUMNS} for pair in self.pairs],
        }


def count_outcomes(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return how many pairs had each outcome."""
    counts = Counter(pair.outcome for pair in pairs)
    return {outcome: counts[outcome] for outcome in (WITHIN, BEYOND, UNSURE)}


def measure_registration(
    images: Mapping[str, Volume],
    channels: Sequence[str],
    box: Box,
    voxel_size_nm: tuple[float, float, float],
    limit_nm: float = PUNCTUM_NM,
) -> Registration:
    """Measure the shifts between neighbouring sections of each channel, and of each channel against the first.

    Phase correlation (`phase_correlation`) of the square root of the grey values, which evens out shot noise
    (Anscombe 1948, doi:10.2307/2332343), in up to nine fields, each on its own; where too few of them are sure, of all
    of them together.

    Parameters
    ----------
    images : mapping of str to Volume, shape (z, y, x) of the box
        Voxels of each channel, uint8 or uint16.
    channels : sequence of str
        The searched channels.
    box : Box
        Where the images lie.
    voxel_size_nm : tuple of float
        Extent of a voxel (z, y, x).
    limit_nm : float
        The width of a punctum.

    Returns
    -------
    Registration
        The same for the same voxels, however they are stored.
    """
    names = list(dict.fromkeys(channels))
    grid = _Grid.of(box, (voxel_size_nm[1], voxel_size_nm[2]), limit_nm)
    pairs: list[Pair] = []
    before: dict[str, list[Patch | None]] = {}
    last, runs = None, list(_runs(*box.z))
    for start, stop in runs if grid.fields else ():
        read = {name: grid.read(images[name], start - box.z[0], stop - box.z[0]) for name in names}
        for z in range(start, stop):
            now = {name: [Patch.of(field[z - start]) for field in fields] for name, fields in read.items()}
            compared = [((name, z - 1), (name, z), before[name]) for name in names if last == z - 1]
            compared += [((names[0], z), (name, z), now[names[0]]) for name in names[1:]]
            for first, second, patches in compared:
                pairs.append(_pair((first, second), (patches, now[second[0]]), grid, limit_nm))
            before, last = now, z
    sections = sum(stop - start for start, stop in runs) if grid.fields else 0
    y, x = (n * grid.binning for n in grid.reach)
    return Registration(limit_nm, (y, x), sections, box.shape[0], tuple(pairs))


def _runs(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the sections to read, in runs that end where a cuboid of BOSS does."""
    starts = [first, *range((first // RUN_SECTIONS + 1) * RUN_SECTIONS, end, RUN_SECTIONS)]
    chosen = _spread(len(starts) - 1, min(len(starts), MOST_RUNS))
    for start in (starts[i] for i in chosen):
        yield start, min((start // RUN_SECTIONS + 1) * RUN_SECTIONS, end)


def _spread(last: int, count: int) -> list[int]:
    """Return whole numbers from 0 to `last`, evenly spread; the middle one of one."""
    return [last // 2] if count == 1 else [i * last // (count - 1) for i in range(count)]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the fields lie in a section, and how they are read."""

    fields: list[tuple[slice, slice]]
    """y and x, from the first voxel of the box."""
    shape: tuple[int, int]
    """Pixels of a field, binned."""
    binning: int
    """Pixels of the image, along y and x, that make one of a field."""
    pixel_nm: tuple[float, float]
    """Extent (y, x) of a pixel of a field."""

    @classmethod
    def of(cls, box: Box, pixel_nm: tuple[float, float], limit_nm: float) -> _Grid:
        """Choose the fields of a box; none if it is too small."""
        binning = min(max(1, int(limit_nm / max(pixel_nm) / 3)), _MOST_BINNING)
        step = TILE * binning
        extents = box.shape[1:]
        pixel_nm = (pixel_nm[0] * binning, pixel_nm[1] * binning)
        sides = [min(extent // step * step, _SIDE * binning) for extent in extents]
        if min(sides) < _LEAST_SIDE * binning:
            return cls([], (0, 0), binning, pixel_nm)
        starts = [
            _spread(extent - side, min(max(1, extent // (_SPACING * binning)), _MOST_A_SIDE))
            for extent, side in zip(extents, sides, strict=True)
        ]
        fields = [(slice(y, y + sides[0]), slice(x, x + sides[1])) for y in starts[0] for x in starts[1]]
        return cls(fields, (sides[0] // binning, sides[1] // binning), binning, pixel_nm)

    @property
    def reach(self) -> tuple[int, int]:
        """The largest shift (y, x) that is looked for, in pixels of a field."""
        return (min(self.shape[0] // 4, _FARTHEST), min(self.shape[1] // 4, _FARTHEST))

    def read(self, image: Volume, start: int, stop: int) -> list[NDArray[Any]]:
        """Return some sections of each field, binned, of the type of the image."""
        return [self._binned(image[(slice(start, stop), *field)]) for field in self.fields]

    def _binned(self, voxels: NDArray[Any]) -> NDArray[Any]:
        n = self.binning
        if n == 1:
            return voxels
        z, y, x = voxels.shape
        sums = voxels.reshape(z, y // n, n, x // n, n).sum((2, 4), dtype=np.uint32)
        means: NDArray[Any] = (sums // (n * n)).astype(voxels.dtype)
        return means


@dataclass(frozen=True, slots=True)
class _Compared:
    """A field in two images, and by how much the second lies farther than the first, in pixels of the field."""

    one: Patch
    other: Patch
    shift: tuple[int, int]


def _compare(
    first: Sequence[Patch | None], second: Sequence[Patch | None], grid: _Grid
) -> tuple[list[_Compared], int, int]:
    """Return the shifts that decide about two images, how many fields were sure each on its own, and of how many."""
    fields = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    surfaces = [phase_correlation(one, other, grid.reach) for one, other in fields]
    peaks = [Peak.of(surface, grid.reach) for surface in surfaces]
    sure = [_Compared(*field, peak.shift) for field, peak in zip(fields, peaks, strict=True) if peak.sure]
    if _is_enough([compared.shift for compared in sure], len(fields)):
        return sure, len(sure), len(fields)
    together = Peak.of(np.sum(surfaces, axis=0, dtype=np.float32), grid.reach) if surfaces else None
    if together is None or not together.sure:
        return [], 0, len(fields)
    return [_Compared(*field, together.shift) for field in fields], 0, len(fields)


def _is_enough(sure: Sequence[tuple[int, int]], fields: int) -> bool:
    """Return whether sure fields decide: most of them agree, or they are most of all, as in a rotated section."""
    if len(sure) < _FEWEST_SURE:
        return False
    y, x = median(y for y, _ in sure), median(x for _, x in sure)
    agree = sum(abs(shift[0] - y) <= _APART and abs(shift[1] - x) <= _APART for shift in sure)
    return 3 * agree >= 2 * len(sure) or 3 * len(sure) >= 2 * fields


def _median_correlation(compared: Sequence[_Compared], shifts: Sequence[tuple[int, int]]) -> float:
    """Return the median of the correlations of fields, each moved back by a shift."""
    return median(correlation(each.one, each.other, shift) for each, shift in zip(compared, shifts, strict=True))


def _pair(
    images: tuple[tuple[str, int], tuple[str, int]],
    patches: tuple[Sequence[Patch | None], Sequence[Patch | None]],
    grid: _Grid,
    limit_nm: float,
) -> Pair:
    """Measure two images, each a channel in a section."""
    (channel, section), (other_channel, other_section) = images
    channels, sections = (channel, other_channel), (section, other_section)
    compared, sure, fields = _compare(*patches, grid)
    if not compared:
        return Pair(channels, sections, UNSURE, fields=fields)
    shifts = [each.shift for each in compared]
    lengths = [math.hypot(y * grid.pixel_nm[0], x * grid.pixel_nm[1]) for y, x in shifts]
    aligned = [(0, 0)] * len(shifts)
    r = _median_correlation(compared, shifts)
    # sections of an aligned volume are the common case
    unshifted = r if shifts == aligned else _median_correlation(compared, aligned)
    is_beyond = median(lengths) > limit_nm
    if is_beyond and r <= unshifted:
        # what two channels share need not be puncta
        return Pair(channels, sections, UNSURE, fields=fields)
    y, x = (median(values) * grid.binning for values in zip(*shifts, strict=True))
    outcome = BEYOND if is_beyond else WITHIN
    length, farthest = round(median(lengths)), round(max(lengths))
    return Pair(channels, sections, outcome, (y, x), length, farthest, round(r, 2), round(unshifted, 2), sure, fields)
