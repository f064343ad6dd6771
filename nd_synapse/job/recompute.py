"""Parts of a mask and their rows, computed again from the voxels that BOSS holds now, by what the run had learned.

It reads a source and compares masks; it knows no result folder, and no file of rows.

A part is computed in a window larger than itself, so that the objects in it are whole. An object that reaches to where
the window's own border could show, or to a hole of the run, is not judged: the window grows until there is none in the
part, up to a limit. A row is that of the whole box where the object is whole, and what is measured round it lies in the
window, or is cut where the box ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.features import OF_CHANNEL
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.detection.windows import WINDOW_NM, Reach, surroundings, window
from nd_synapse.errors import DataError, NDSynapseError, UnknownNameError, UsageError
from nd_synapse.files.csv_tables import texts
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Pipeline, Place, Summary
from nd_synapse.volumes import Source, Volume

__all__ = ["PART", "Again", "Differences", "parts", "pipeline_of", "recompute"]

PART = (16, 256, 256)
"""Extents z, y, x of what is compared at a time."""

_MARGIN = (8, 64, 64)
"""What the first window has more on each side; it doubles."""

_MOST_VOXELS = 2**25
"""The largest window, its halo included: some hundred megabytes while a pipeline is at work on it."""

_MOST_MEASURED = 2**27
"""Voxels of all channels of a window in which objects are measured; beyond it, masks alone are compared."""

_CUT = "cut off"


@dataclass(frozen=True, slots=True)
class Differences:
    """How two volumes differ.

    Parameters
    ----------
    compared : int
        Voxels that were compared.
    voxels : int
        Those that differ.
    first : tuple of int or None
        One of them, the first of the first block that has any: absolute z, y, x.
    undecided : int
        Voxels that were not compared, since their object is larger than the largest window, or reaches a hole.
    """

    compared: int = 0
    voxels: int = 0
    first: tuple[int, int, int] | None = None
    undecided: int = 0

    @classmethod
    def between(
        cls, one: NDArray[Any], other: NDArray[Any], box: Box, but: NDArray[np.bool_] | None = None
    ) -> Differences:
        """Compare two arrays of a box, but for some voxels."""
        differ = one != other
        if but is not None:
            differ &= ~but
        count = int(np.count_nonzero(differ))
        first = None
        if count:
            z, y, x = (int(n) for n in np.unravel_index(int(np.argmax(differ)), differ.shape))
            first = (z + box.z[0], y + box.y[0], x + box.x[0])
        left_out = 0 if but is None else int(np.count_nonzero(but))
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
        more = f"; {self.undecided:,} lie in objects too large, or too near a hole, to judge" if self.undecided else ""
        return f"{self.voxels:,} voxels differ of {self.compared:,}{where}{more}"


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """A part of a box, computed again.

    Parameters
    ----------
    part : Box
        The part.
    masks : dict of str to Differences
        By mask, between what the run left and what was computed.
    rows : dict of str to list of str
        Columns of the table but `id`, as the text of their cells: a row for each object whose centroid lies in the
        part, and that can be judged, in the order of their first voxels.
    """

    part: Box
    masks: dict[str, Differences]
    rows: dict[str, list[str]]
    _box: Box
    _window: Box
    _reach: Reach
    _cut: NDArray[np.bool_]

    def judges(self, here: Box, centre: Sequence[int]) -> bool:
        """Tell whether an object would be among the rows, if there is one."""
        point = np.array(centre, np.int64).reshape(3, 1)
        if not self._window.contains(here) or not _measured_in(point, self._reach, self._window, self._box)[0]:
            return False
        return not self._cut[here.slices(self._window.start)].any()


class _Known(Pipeline):
    """A pipeline that has learned already, looks at a window of a box, and marks the objects that are cut."""

    def __init__(
        self,
        pipeline: Pipeline,
        roles: Mapping[str, str],
        finding: Finding,
        box: Box,
        window: Box,
        sound: Box,
        failed_blocks: Sequence[Box],
    ) -> None:
        self._pipeline = pipeline
        self._roles = dict(roles)
        self._finding = finding
        self._box = box
        self._window = window
        self._sound = sound
        self._holes = failed_blocks

    @property
    def name(self) -> str:
        return self._pipeline.name

    @property
    def help(self) -> str:
        return self._pipeline.help

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        return self._pipeline.halo(voxel_size_nm)

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        del channels, chosen
        return self._roles

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        del arrays, place
        return {}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        return self._finding

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        # what it learned it knows by its place in the box, such as by slice
        offset = zip(place.start, self._window.start, self._box.start, strict=True)
        z, y, x = (start + first - origin for start, first, origin in offset)
        there = replace(place, start=(z, y, x), volume=self._box.shape)
        return self._pipeline.detect(arrays, finding, there)

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        chosen = self._pipeline.select(objects, finding)
        spans = [(np.asarray(objects[f"start_{axis}"]), np.asarray(objects[f"stop_{axis}"])) for axis in "zyx"]
        cut = np.zeros(len(objects["id"]), np.bool_)
        for (start, stop), (low, high) in zip(spans, self._sound.ranges, strict=True):
            cut |= (start <= low) | (stop >= high)
        for failed_block in self._holes:
            near = np.ones(len(cut), np.bool_)
            for (start, stop), (low, high), first in zip(spans, failed_block.ranges, self._window.start, strict=True):
                near &= (start + first <= high) & (stop + first >= low)
            cut |= near
        return Chosen({**chosen.masks, _CUT: cut}, chosen.columns)


def pipeline_of(name: str, parameters: Mapping[str, str], roles: Mapping[str, str], masks: Iterable[str]) -> Pipeline:
    """Build the pipeline of a run."""
    remedy = "It was made by another version, or changed: run the job again"
    try:
        pipeline = registry.build(name, parameters)
    except UnknownNameError:
        raise
    except UsageError as error:
        raise DataError(f"{error.requested}, by run.json", error.found, remedy) from error
    known = {role.name for role in pipeline.roles} or roles.keys()
    if not roles or roles.keys() - known:
        raise DataError(f"roles {', '.join(roles) or 'of none'}, by run.json", f"{name} has others", remedy)
    if set(masks) != set(pipeline.masks):
        found = f"{name} gives {', '.join(pipeline.masks)}"
        raise DataError(f"masks {', '.join(masks)}, by run.json", found, remedy)
    return pipeline


def parts(box: Box, failed_blocks: Sequence[Box]) -> list[Box]:
    """Cut a box into what can be compared."""
    every = box.tiles(PART, aligned=True)
    return [
        part
        for part in every
        if not any(part.grown(_MARGIN, box).intersection(failed_block) for failed_block in failed_blocks)
    ]


def recompute(
    source: Source,
    pipeline: Pipeline,
    roles: Mapping[str, str],
    finding: Finding,
    box: Box,
    masks: Mapping[str, Volume],
    part: Box,
    failed_blocks: Sequence[Box] = (),
    measured: Sequence[str] = (),
) -> Again:
    """Compute a part of the masks again, and the rows of its objects, and compare the masks."""
    voxel_size_nm = source.frame.voxel_size_nm
    halo = pipeline.halo(voxel_size_nm)
    reach = surroundings(window(WINDOW_NM, voxel_size_nm))
    margin = np.maximum(_MARGIN, halo)
    wide = np.maximum(margin, reach)
    if _voxels(part.grown(wide.tolist(), box), halo) <= _MOST_VOXELS:
        margin = wide
    frame = part.grown(margin.tolist(), box)
    if _voxels(frame, halo) > _MOST_VOXELS:
        undecided = {name: Differences(undecided=part.voxels) for name in masks}
        return Again(part, undecided, {}, box, part, reach, np.ones(part.shape, np.bool_))
    while True:
        found, cut = _detected(source, pipeline, roles, finding, box, frame, failed_blocks, measured)
        inside = part.slices(frame.start)
        margin *= 2
        larger = part.grown(margin.tolist(), box)
        if not cut[inside].any() or larger == frame or _voxels(larger, halo) > _MOST_VOXELS:
            break
        frame = larger
    wanted = {name: mask[part.slices(box.start)] for name, mask in masks.items()}
    differences = {
        name: Differences.between(wanted[name], found.masks[name][inside], part, cut[inside]) for name in masks
    }
    complete = all(f"contrast_{channel}" in found.table for channel in measured)
    rows = _rows(found.table, voxel_size_nm, box, frame, part, reach, measured) if complete else {}
    return Again(part, differences, rows, box, frame, reach, cut)


def _measured_in(points: NDArray[np.int64], reach: Reach, frame: Box, box: Box) -> NDArray[np.bool_]:
    """Tell of some voxels whether all that is measured round them, as far as the box has it, lies in a window."""
    within = np.ones(points.shape[1], np.bool_)
    for places, n, (start, stop), (first, last) in zip(points, reach, frame.ranges, box.ranges, strict=True):
        within &= (np.maximum(places - n, first) >= start) & (np.minimum(places + n + 1, last) <= stop)
    return within


def _rows(
    table: Mapping[str, NDArray[Any]],
    voxel_size_nm: Sequence[float],
    box: Box,
    frame: Box,
    part: Box,
    reach: Reach,
    measured: Sequence[str],
) -> dict[str, list[str]]:
    """Return the text of the rows that can be judged, as they are in the table of the whole box."""
    voxels = table["voxels"]
    changed: dict[str, NDArray[Any]] = {}
    border = np.zeros(len(voxels), np.bool_)
    judged = ~np.asarray(table[f"in_{_CUT}"], np.bool_)
    centres = np.empty((3, len(voxels)), np.int64)
    for number, axis in enumerate("zyx"):
        # counted from the window; a mean of so many whole numbers is near enough to tell their sum
        total = np.rint(table[f"centroid_{axis}_voxel"] * voxels).astype(np.int64) + frame.start[number] * voxels
        changed[f"centroid_{axis}_voxel"] = total / voxels
        changed[f"centroid_{axis}_um"] = total / voxels * (voxel_size_nm[number] / 1000)
        start, stop = (table[f"{end}_{axis}"] + frame.start[number] for end in ("start", "stop"))
        changed |= {f"start_{axis}": start, f"stop_{axis}": stop}
        border |= (start == box.ranges[number][0]) | (stop == box.ranges[number][1])
        centres[number] = (2 * total + voxels) // (2 * voxels)
        judged &= (centres[number] >= part.ranges[number][0]) & (centres[number] < part.ranges[number][1])
    judged &= _measured_in(centres, reach, frame, box)
    changed["touches_border"] = border
    others = {name.removeprefix("contrast_") for name in table if name.startswith("contrast_")} - set(measured)
    left_out = {"id", f"in_{_CUT}"} | {kind + channel for kind in OF_CHANNEL for channel in others}
    return {
        name: texts(name, np.asarray(changed.get(name, values))[judged])
        for name, values in table.items()
        if name not in left_out
    }


def _voxels(frame: Box, halo: Sequence[int]) -> int:
    """Return the voxels of a window with its halo."""
    return math.prod(extent + 2 * n for extent, n in zip(frame.shape, halo, strict=True))


def _detected(
    source: Source,
    pipeline: Pipeline,
    roles: Mapping[str, str],
    finding: Finding,
    box: Box,
    frame: Box,
    failed_blocks: Sequence[Box],
    measured: Sequence[str],
) -> tuple[Found, NDArray[np.bool_]]:
    """Detect in a window; return what was found, and the voxels of objects that it may have cut."""
    voxel_size_nm = source.frame.voxel_size_nm
    names = dict.fromkeys([*measured, *roles.values()])
    if frame.voxels * len(names) > _MOST_MEASURED:
        names = dict.fromkeys(roles.values())
    channels = {name: source.get_cutout(name, *frame.ranges) for name in names}
    sound = _sound(frame, box, pipeline.halo(voxel_size_nm))
    known = _Known(pipeline, roles, finding, box, frame, sound, failed_blocks)
    try:
        found = detect_arrays(known, channels, voxel_size_nm)
    except NDSynapseError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        told = f"computing them again by run.json ended with {type(error).__name__}: {error}"
        raise DataError(f"the masks in {frame}", told, "Run the job again") from error
    return found, found.masks[_CUT] != 0


def _sound(frame: Box, box: Box, halo: Sequence[int]) -> Box:
    """Return where objects are whole, counted in the window: off its borders, but for those that the box has, too."""
    ranges = []
    for (start, stop), (first, last), margin in zip(frame.ranges, box.ranges, halo, strict=True):
        low = -1 if start == first else margin
        high = stop - start + 1 if stop == last else stop - start - margin
        ranges.append((low, max(high, low + 1)))
    return Box(*ranges)
