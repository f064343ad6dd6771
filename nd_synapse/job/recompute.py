"""Parts of a run's masks and rows, computed again from the voxels that BOSS holds now.

A part is computed in a window larger than itself, so that its objects are whole. Objects that may reach out of the
window, or to a failed block, are not compared; the window grows until the part has none of them, up to a limit. What is
padding is decided as in the run; where an area that ends at the window may be padding or tissue, both are tried, and
what differs is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.features import OF_CHANNEL
from nd_synapse.detection.flags import BRIGHT_EVERYWHERE, bright_everywhere
from nd_synapse.detection.flat import REACH
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.detection.outcome import Brightness
from nd_synapse.detection.padding import OF_FINDING, RIM
from nd_synapse.detection.plan import KnownPadding
from nd_synapse.detection.windows import WINDOW_NM, Reach, surroundings, window
from nd_synapse.errors import DataError
from nd_synapse.files.csv_tables import texts
from nd_synapse.geometry import Box, nearest_voxel
from nd_synapse.job.digits import rounded, voxel_of
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Pipeline, Place, Summary
from nd_synapse.volumes import Source, Volume

__all__ = ["Again", "Differences", "Known", "parts", "recompute"]

_PART = (16, 256, 256)
"""Voxels (z, y, x) that are compared at a time."""

_MARGIN = (8, 64, 64)
"""Voxels that the first window has more on each side; they double."""

_MOST_VOXELS = 2**25
"""The largest window, its halo included: some hundred megabytes while a pipeline works on it."""

_MOST_VALUES = 2**27
"""Voxels of all channels up to which a window grows."""

_CUT = "cut off"


@dataclass(frozen=True, slots=True)
class Differences:
    """How two volumes differ."""

    compared: int = 0
    voxels: int = 0
    """Voxels that differ."""
    first: tuple[int, int, int] | None = None
    """One of them (z, y, x), absolute."""
    undecided: int = 0
    """Voxels that were not compared."""

    @classmethod
    def between(
        cls, one: NDArray[Any], other: NDArray[Any], box: Box, without: NDArray[np.bool_] | None = None
    ) -> Differences:
        """Compare two arrays (z, y, x) of a box, except some voxels."""
        differ = one != other
        left_out = 0
        if without is not None:
            differ &= ~without
            left_out = int(np.count_nonzero(without))
        count = int(np.count_nonzero(differ))
        first = None
        if count:
            z, y, x = (int(n) for n in np.unravel_index(int(np.argmax(differ)), differ.shape))
            first = (z + box.z[0], y + box.y[0], x + box.x[0])
        return cls(box.voxels - left_out, count, first, left_out)

    def __add__(self, other: Differences) -> Differences:
        """Return the sum of two."""
        return Differences(
            self.compared + other.compared,
            self.voxels + other.voxels,
            self.first or other.first,
            self.undecided + other.undecided,
        )

    def __str__(self) -> str:
        """Return the figures in words, such as ``0 voxels differ of 4,096``."""
        where = f", the first at z, y, x {self.first}" if self.first else ""
        more = f"; {self.undecided:,} not compared: their objects are too large, or reach failed blocks"
        return f"{self.voxels:,} voxels differ of {self.compared:,}{where}{more if self.undecided else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A run as far as it takes to compute a part of it again."""

    source: Source
    pipeline: Pipeline
    roles: Mapping[str, str]
    """Role to channel."""
    finding: Finding
    box: Box
    brightness: Mapping[str, Brightness] = field(default_factory=dict)
    """By channel, in the whole box."""
    failed_blocks: Sequence[Box] = ()
    measured: Sequence[str] = ()
    """Channels that the table has columns of."""

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Size of a voxel (z, y, x)."""
        return self.source.frame.voxel_size_nm

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a block that the pipeline reads."""
        return self.pipeline.halo(self.voxel_size_nm)

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) at a border of a window in which other things may be found than in the box."""
        return self._beyond_padding(self.halo)

    @property
    def reach(self) -> Reach:
        """Voxels (z, y, x) on each side of a centroid by which its measures may differ."""
        return self._beyond_padding(surroundings(window(WINDOW_NM, self.voxel_size_nm)))

    def _beyond_padding(self, reach: Reach) -> Reach:
        """Add how far away it may be decided what is padding, if anything is."""
        z, y, x = reach
        more = REACH + RIM if "padding" in self.finding else 0
        return (z, y + more, x + more)

    def measures(self, points: NDArray[np.int64], frame: Box) -> NDArray[np.bool_]:
        """Return for centroids, int64 (3, n), whether a window has all voxels of the box measured round them."""
        within = np.ones(points.shape[1], np.bool_)
        for places, n, (start, stop), (first, last) in zip(
            points, self.reach, frame.ranges, self.box.ranges, strict=True
        ):
            within &= (np.maximum(places - n, first) >= start) & (np.minimum(places + n + 1, last) <= stop)
        return within


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """A part of a box, computed again."""

    part: Box
    masks: dict[str, Differences]
    """By mask, between what the run left and what was computed."""
    rows: list[dict[str, str]]
    """Heading to cell, without `id`, of each object whose centroid lies in the part and that can be compared."""
    _known: Known
    _window: Box
    _cut: NDArray[np.bool_]

    def has_all_of(self, bounds: Box, centre: Sequence[int]) -> bool:
        """Return whether an object would be among the rows, if there is one."""
        point = np.array(centre, np.int64).reshape(3, 1)
        if not self._window.contains(bounds) or not self._known.measures(point, self._window)[0]:
            return False
        return not self._cut[bounds.slices(self._window.start)].any()


def parts(box: Box, failed_blocks: Sequence[Box]) -> list[Box]:
    """Cut a box into what can be compared: parts away from failed blocks."""
    return [
        part
        for part in box.tiles(_PART, aligned=True)
        if not any(part.grown(_MARGIN, box).intersection(failed) for failed in failed_blocks)
    ]


def recompute(known: Known, masks: Mapping[str, Volume], part: Box) -> Again:
    """Compute a part again, and compare its masks (uint8, of the box)."""
    channels = len({*known.measured, *known.roles.values()})
    most = min(_MOST_VOXELS, _MOST_VALUES // channels)
    margin = np.maximum(_MARGIN, known.margin)
    wide = np.maximum(margin, known.reach)
    if _voxels(part.grown(wide.tolist(), known.box), known.halo) <= most:
        margin = wide
    frame = part.grown(margin.tolist(), known.box)
    if _voxels(frame, known.halo) > _MOST_VOXELS:
        undecided = {name: Differences(undecided=part.voxels) for name in masks}
        return Again(part, undecided, [], known, part, np.ones(part.shape, np.bool_))
    while True:
        found, cut = _decided(known, frame)
        inside = part.slices(frame.start)
        margin *= 2
        larger = part.grown(margin.tolist(), known.box)
        if not cut[inside].any() or larger == frame or _voxels(larger, known.halo) > most:
            break
        frame = larger
    here = part.slices(known.box.start)
    differences = {
        name: Differences.between(mask[here], found.masks[name][inside], part, cut[inside])
        for name, mask in masks.items()
    }
    compared = np.asarray(found.table[f"in_{_CUT}"] == 0) & ~_are_cut(found.table, cut)
    return Again(part, differences, _rows(found.table, compared, known, frame, part), known, frame, cut)


def _voxels(frame: Box, halo: Sequence[int]) -> int:
    """Return the voxels of a window with its halo."""
    return math.prod(extent + 2 * n for extent, n in zip(frame.shape, halo, strict=True))


def _decided(known: Known, frame: Box) -> tuple[Found, NDArray[np.bool_]]:
    """Detect in a window; return also the voxels that are not decided, bool (z, y, x)."""
    found = _detected(known, frame, True)
    cut = found.masks[_CUT] != 0
    if "doubtful_padding" in found.finding:
        other = _detected(known, frame, False)
        for name, mask in other.masks.items():
            cut |= mask != found.masks[name]
        cut |= other.masks[_CUT] != 0
        cut |= _differing(found, other)
    return found, cut


def _differing(found: Found, other: Found) -> NDArray[np.bool_]:
    """Return the voxels of objects that another detection measures otherwise, bool (z, y, x)."""
    rows, others = (
        list(zip(*(values.tolist() for name, values in one.table.items() if name != "id"), strict=True))
        for one in (found, other)
    )
    same = set(others)
    # 0 is the background
    differs = np.array([False, *(row not in same for row in rows)])
    voxels: NDArray[np.bool_] = differs[np.asarray(found.labels)]
    return voxels


def _are_cut(table: Mapping[str, NDArray[Any]], cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which objects have a voxel in their bounding box that is not decided, bool (n,)."""
    bounds = zip(*(table[f"{end}_{axis}"].tolist() for axis in "zyx" for end in ("start", "stop")), strict=True)
    return np.array([cut[a:b, c:d, e:f].any() for a, b, c, d, e, f in bounds], np.bool_)


def _detected(known: Known, frame: Box, doubtful: bool) -> Found:
    """Detect in a window; areas that may be padding are, if `doubtful`."""
    names = dict.fromkeys([*known.measured, *known.roles.values()])
    channels = {name: known.source.get_cutout(name, *frame.ranges) for name in names}
    z, y, x = (stop - start for start, stop in zip(frame.start, known.box.start, strict=True))
    tissue = {
        channel: [(section + z, value) for section, value in those]
        for channel, those in known.finding.get("flat_tissue", {}).items()
    }
    whole = Box.of_shape(known.box.shape, (z, y, x))
    padding = KnownPadding(known.finding.get("padding", {}), tissue, whole, doubtful)
    try:
        return detect_arrays(_InWindow(known, frame), channels, known.voxel_size_nm, padding=padding)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        found = f"computing them again by run.json ended with {type(error).__name__}: {error}"
        raise DataError(f"the masks in {frame}", found, "Run the job again") from error


class _InWindow(Pipeline):
    """A pipeline that has learned already, works on a window of the box, and marks objects that may be cut."""

    def __init__(self, known: Known, frame: Box) -> None:
        self._known = known
        self._window = frame

    @property
    def name(self) -> str:
        return self._known.pipeline.name

    @property
    def help(self) -> str:
        return self._known.pipeline.help

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        return self._known.pipeline.halo(voxel_size_nm)

    @property
    def tissue_only(self) -> bool:  # type: ignore[override] # of an object, not of its class
        return self._known.pipeline.tissue_only

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        del channels, chosen
        return dict(self._known.roles)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        del arrays, place
        return {}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        # which regions of the window are padding is found in it
        return {name: value for name, value in self._known.finding.items() if name not in OF_FINDING}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        # what is learned may depend on the place in the box, such as on the slice
        box = self._known.box
        z, y, x = (a + b - c for a, b, c in zip(place.start, self._window.start, box.start, strict=True))
        return self._known.pipeline.detect(arrays, finding, replace(place, start=(z, y, x), volume=box.shape))

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        chosen = self._known.pipeline.select(objects, finding)
        spans = [(np.asarray(objects[f"start_{axis}"]), np.asarray(objects[f"stop_{axis}"])) for axis in "zyx"]
        cut = np.zeros(len(objects["id"]), np.bool_)
        for (start, stop), (low, high) in zip(spans, self._whole(), strict=True):
            cut |= (start <= low) | (stop >= high)
        for failed in self._known.failed_blocks:
            near = np.ones(len(cut), np.bool_)
            for (start, stop), (low, high), first in zip(spans, failed.ranges, self._window.start, strict=True):
                near &= (start + first <= high) & (stop + first >= low)
            cut |= near
        return Chosen({**chosen.masks, _CUT: cut}, chosen.columns)

    def _whole(self) -> list[tuple[int, int]]:
        """Return between which voxels of the window objects are whole: off its borders, except those of the box."""
        window, known, limits = self._window, self._known, []
        for (start, stop), (first, last), margin in zip(window.ranges, known.box.ranges, known.margin, strict=True):
            low = -1 if start == first else margin
            high = stop - start + 1 if stop == last else stop - start - margin
            limits.append((low, max(high, low + 1)))
        return limits


def _rows(
    table: Mapping[str, NDArray[Any]], decided: NDArray[np.bool_], known: Known, frame: Box, part: Box
) -> list[dict[str, str]]:
    """Return the rows of a part that can be compared, of those that are decided, as the table of the box has them."""
    voxels = table["voxels"]
    columns = dict(table)
    border = np.zeros(len(voxels), np.bool_)
    del columns[f"in_{_CUT}"]
    compared = decided.copy()
    centres = np.empty((3, len(voxels)), np.int64)
    for number, axis in enumerate("zyx"):
        # a mean of so many whole numbers is exact enough to give their sum back
        total = np.rint(table[f"centroid_{axis}_voxel"] * voxels).astype(np.int64) + frame.start[number] * voxels
        columns[f"centroid_{axis}_voxel"] = total / voxels
        columns[f"centroid_{axis}_um"] = total / voxels * (known.voxel_size_nm[number] / 1000)
        start, stop = (table[f"{end}_{axis}"] + frame.start[number] for end in ("start", "stop"))
        columns |= {f"start_{axis}": start, f"stop_{axis}": stop}
        first, last = known.box.ranges[number]
        border |= (start == first) | (stop == last)
        if axis == "z":
            columns["section"] = nearest_voxel(total, voxels)
        # as it is read from the table
        name = f"centroid_{axis}_voxel"
        centres[number] = voxel_of(rounded(name, columns[name]), voxels)
        compared &= (centres[number] >= part.ranges[number][0]) & (centres[number] < part.ranges[number][1])
    columns["touches_border"] = border
    compared &= known.measures(centres, frame)
    bright = bright_everywhere(
        known.measured, lambda channel: table[f"mean_{channel}"], known.brightness, known.roles.values()
    )
    if bright is not None:
        columns[BRIGHT_EVERYWHERE] = bright
    not_measured = set(known.roles.values()) - set(known.measured)
    left_out = {"id"} | {kind + channel for kind in OF_CHANNEL for channel in not_measured}
    cells = {
        name: texts(name, rounded(name, values[compared])) for name, values in columns.items() if name not in left_out
    }
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
