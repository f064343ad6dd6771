"""Detections that chance makes: a pipeline run on sample fields in which its markers are independent of each other.

A *field* is a box that follows from the requested volume alone, so what is found in it is the same for any blocks. In
each field the pipeline runs once on the voxels as they are, and again on a null::

    as they are            shifted by d               what a detection at p is then made of
    pre   . o . . O .      pre   O . . o . .          the pre-synaptic punctum at p + d,
    post  . x . x . .      post  . x . x . .          the post-synaptic punctum at p

For a pipeline of one marker the null is the mirrored image: what becomes a bright spot is a dark one, which only noise
makes. `confidence` turns the scores that are found here into figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import MemoryStore, Store
from nd_synapse.detection import objects
from nd_synapse.detection.blocks import candidates_of, detected_in_tissue, measured_columns
from nd_synapse.detection.choice import choose
from nd_synapse.detection.padding import outside_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Detected, Finding

__all__ = ["Sample", "Scores", "gather", "measure", "sample_of"]

_FIELD = (16, 128, 128)
"""Largest extent of a field along z, y, x: a few synapses deep, and many wide."""

_MOST_FIELDS = 64
_SAMPLE_VOXELS = 2**21
"""Voxels of all fields together: some 1,500 synapses of a cortex, at 70 x 100 x 100 nm."""

_NEAREST_NM, _FARTHEST_NM = 1200.0, 2400.0
"""How far markers are shifted: farther than synapses are wide, and not into other tissue."""

_MOST_PIXELS = 64
"""Longest shift, however small the pixels: what is read of a field's surroundings takes memory."""

_DIAGONAL = math.sqrt(0.5)
_HALF = ((0.0, 1.0), (_DIAGONAL, _DIAGONAL), (1.0, 0.0), (_DIAGONAL, -_DIAGONAL))
_COMPASS = _HALF + tuple((-y, -x) for y, x in _HALF)

_BESIDE_NM = 225.0
"""How far beside a detection its puncta reach: half of a punctum's width, and half of the 150 nm between the two."""

_DEPTH_NM = 100.0
"""How far beside a detection its dark ring reaches along z: half of a punctum's depth."""

_AROUND_NM = 500.0
"""How far in its sections a bright punctum has a dark ring for a detector of spots: three standard deviations of it."""

_NONE = np.float32(np.nan)


@dataclass(frozen=True, slots=True)
class Sample:
    """Where and how a plan's chance detections are sampled."""

    fields: tuple[Box, ...] = ()
    shifts: tuple[tuple[int, int], ...] = ()
    """Pixels (y, x) by which the channels in `moved` are shifted; (0, 0) alone where images are mirrored."""
    moved: frozenset[str] = frozenset()
    reason: str = ""
    """Why nothing is sampled; empty where something is."""

    @property
    def reach(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a field within the shifts."""
        y, x = (max((abs(shift[axis]) for shift in self.shifts), default=0) for axis in (0, 1))
        return 0, y, x


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores of what was found in fields, float32; zeros where the pipeline gives none."""

    found: NDArray[np.float32]
    """Of the detections in the voxels as they are, shape (n,)."""
    null: NDArray[np.float32]
    """Of the detections in the null, shape (m,)."""
    partners: NDArray[np.float32]
    """Of the detections in the voxels as they are that a null detection's puncta take part in, shape (m, 2): the
    shifted punctum, the other one; NaN where it takes part in none."""
    elsewhere: NDArray[np.float32]
    """The same as `partners` where the null detection lies elsewhere in the field, shape (m, 2): what lies in one place
    by chance; NaN of one marker."""
    voxels: int
    """Voxels of tissue in the fields."""
    null_voxels: int
    """The same in the null, where both channels have tissue, each shift counted."""


def sample_of(plan: Plan) -> Sample:
    """Return where and how the chance detections of a plan are sampled."""
    null = plan.pipeline.null
    if null is None:
        return Sample(reason=f"{plan.pipeline.name} does not say how chance would make its detections")
    fields = tuple(_fields(plan.box))
    if not null.shifted:
        return Sample(fields, ((0, 0),))
    moved = frozenset(channel for role, channel in plan.roles.items() if role in null.shifted)
    still = {channel for role, channel in plan.roles.items() if role not in null.shifted}
    if not moved or not still:
        return Sample(reason="there are no markers of two sides, which could be shifted against each other")
    if moved & still:
        return Sample(reason=f"channel {min(moved & still)} is a marker of both sides")
    smallest = min(plan.voxel_size_nm[1:])
    if smallest * _MOST_PIXELS < _NEAREST_NM:
        return Sample(reason=f"pixels of {smallest:g} nm are too small to shift a marker by {_NEAREST_NM / 1000:g} µm")
    shifts = tuple(_shifts(fields, plan))
    if not shifts:
        return Sample(reason=f"the box is too narrow to shift a marker by {_NEAREST_NM / 1000:g} µm")
    return Sample(fields, shifts, moved)


def _fields(volume: Box) -> Iterator[Box]:
    """Yield the fields of a volume, spread over it; the whole of a small one."""
    extents = [min(n, length) for n, length in zip(_FIELD, volume.shape, strict=True)]
    most = min(_MOST_FIELDS, _SAMPLE_VOXELS // math.prod(extents))
    counts = [1, 1, 1]
    while 2 * math.prod(counts) <= most:
        room = [length // (n * count) for length, n, count in zip(volume.shape, extents, counts, strict=True)]
        axis = room.index(max(room))
        if room[axis] < 2:
            break
        counts[axis] *= 2
    starts = [
        [first + (2 * k + 1) * length // (2 * count) - n // 2 for k in range(count)]
        for first, length, n, count in zip(volume.start, volume.shape, extents, counts, strict=True)
    ]
    for z in starts[0]:
        for y in starts[1]:
            yield from (Box.of_shape(extents, (z, y, x)) for x in starts[2])


def _shifts(fields: Sequence[Box], plan: Plan) -> Iterator[tuple[int, int]]:
    """Yield shifts: eight directions, each another length, but those that half of the fields has no partner for."""
    for number, direction in enumerate(_COMPASS):
        length_nm = _NEAREST_NM + (_FARTHEST_NM - _NEAREST_NM) * (3 * number % 8) / 7
        y, x = (
            round(part * min(length_nm / size, _MOST_PIXELS))
            for part, size in zip(direction, plan.voxel_size_nm[1:], strict=True)
        )
        parts = [_with_partner(field, (y, x), plan.box) for field in fields]
        searched = sum(part.voxels for part in parts if part is not None)
        if (y, x) != (0, 0) and 2 * searched >= sum(field.voxels for field in fields):
            yield y, x


def _with_partner(field: Box, shift: tuple[int, int], volume: Box) -> Box | None:
    """Return the part of a field that lies in the volume after a shift as well."""
    return field.intersection(_moved(volume, (-shift[0], -shift[1])))


def _moved(box: Box, shift: tuple[int, int]) -> Box:
    """Return a box moved by pixels (y, x)."""
    z, y, x = box.start
    return Box.of_shape(box.shape, (z, y + shift[0], x + shift[1]))


def measure(workspace: Workspace, field: Box, sample: Sample, finding: Finding, kind: str) -> None:
    """Detect in a field and in its null, and save the scores."""
    plan = workspace.plan
    around = _Field(workspace, sample, field.grown(sample.reach, plan.box), finding)
    found = around.found_in(field).scores
    taken = around.taken()
    null, null_voxels = [np.empty(0, np.float32)], 0
    partners, elsewhere = ([np.empty((0, 2), np.float32)] for _ in range(2))
    for shift in sample.shifts:
        here = _with_partner(field, shift, plan.box)
        if here is None:
            continue
        by_chance = around.by_chance(here, shift)
        places = [box.slices(around.box.start) for box in (_moved(here, shift), here)]
        # turned round, a field is as full, and has nothing to do with itself
        sides = [
            (f"max:{turn}{side}", taken[at][:, ::turn, ::turn]) for turn in (1, -1) for side, at in enumerate(places)
        ]
        kept = ~np.isnan(by_chance.scores)
        ranks = objects.measure_voxels(by_chance.labelled, sides)
        there, beside, *turned = (ranks[name][kept] for name, _ in sides)
        null.append(by_chance.scores[kept])
        if not sample.moved:
            # a mirrored image has one punctum for both sides, and of a ring around a bright one chance makes as little
            # in the voxels as they are
            there, turned = np.zeros_like(there), [np.zeros_like(there)] * 2
        partners.append(np.stack([around.ranked[there], around.ranked[beside]], axis=1))
        elsewhere.append(np.stack([around.ranked[ranks_of] for ranks_of in turned], axis=1))
        null_voxels += around.tissue(here, shift)
    arrays: dict[str, NDArray[Any]] = {
        "found": found[~np.isnan(found)],
        "null": np.concatenate(null),
        "partners": np.concatenate(partners),
        "elsewhere": np.concatenate(elsewhere),
        "counts": np.array([around.tissue(field, None), null_voxels], np.int64),
    }
    workspace.store.save(kind, key_of(field), arrays)


def gather(store: Store | MemoryStore, fields: Sequence[Box], kind: str) -> Scores:
    """Put the scores of some fields together, of which there must be one."""
    saved = [store.load(kind, key_of(field)) for field in fields]
    found, null, partners, elsewhere = (
        np.concatenate([each[name] for each in saved]) for name in ("found", "null", "partners", "elsewhere")
    )
    voxels, null_voxels = np.sum([each["counts"] for each in saved], axis=0).tolist()
    return Scores(found, null, partners, elsewhere, voxels, null_voxels)


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """The objects of a box, and the score of each, float32; NaN where it is not chosen."""

    labelled: objects.Labelled
    scores: NDArray[np.float32]


class _Field:
    """A field with its surroundings: the voxels, read once, and what the pipeline finds in them."""

    def __init__(self, workspace: Workspace, sample: Sample, box: Box, finding: Finding) -> None:
        self.box = box
        self._workspace, self._plan = workspace, workspace.plan
        self._sample = sample
        self._finding = finding
        halo = self._plan.halo
        self._voxels = {name: workspace.with_halo(name, box, halo) for name in self._plan.pulled()}
        self._tops = {name: self._voxels[name].max() for name in self._plan.roles.values()}
        outside = outside_of(workspace, box, finding) if self._plan.pipeline.tissue_only else None
        self._outside = None if outside is None else outside.around(halo)
        self._detected = self._detect(box, None)
        self._whole = self._choose(self._detected, box, None)
        scores = self._whole.scores
        rows = np.flatnonzero(~np.isnan(scores))
        self._order = rows[np.argsort(scores[rows], kind="stable")]
        self.ranked: NDArray[np.float32] = np.concatenate([np.full(1, _NONE), scores[self._order]])
        """The scores of the detections in the box, ascending, after NaN for none."""

    def taken(self) -> NDArray[np.uint32]:
        """Return which detection a voxel's punctum takes part in: its place in `ranked`, uint32 (z, y, x)."""
        rank = np.zeros(len(self._whole.scores) + 1, np.uint32)
        rank[self._order + 1] = np.arange(1, len(self._order) + 1)
        ranks: NDArray[np.uint32] = rank[self._whole.labelled.numbers]
        for axis, size in enumerate(self._plan.voxel_size_nm):
            reach_nm = _BESIDE_NM if self._sample.moved else _AROUND_NM if axis else _DEPTH_NM
            for _ in range(min(round(reach_nm / size), _MOST_PIXELS)):
                low, high = (np.moveaxis(ranks, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
                grown = ranks.copy()
                of_low, of_high = (np.moveaxis(grown, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
                np.maximum(of_low, high, out=of_low)
                np.maximum(of_high, low, out=of_high)
                ranks = grown
        return ranks

    def found_in(self, box: Box) -> _Objects:
        """Return what is found in a part of the box as it is."""
        here = box.slices(self.box.start)
        sets, evidence = (
            {name: values[here] for name, values in each.items()}
            for each in (self._detected.sets, self._detected.evidence)
        )
        return self._choose(Detected(sets, evidence), box, None)

    def by_chance(self, box: Box, shift: tuple[int, int]) -> _Objects:
        """Return what is found in the null of a part of the box."""
        return self._choose(self._detect(box, shift), box, shift)

    def tissue(self, box: Box, shift: tuple[int, int] | None) -> int:
        """Return how many voxels of a part of the box are tissue, in the null on both sides."""
        outside = self._outside_of(box, shift, (0, 0, 0))
        return box.voxels - (0 if outside is None else int(np.count_nonzero(outside)))

    def _detect(self, box: Box, shift: tuple[int, int] | None) -> Detected:
        """Run the pipeline; None for the voxels as they are."""
        halo = self._plan.halo
        arrays = {role: self._read(name, box, shift, halo) for role, name in self._plan.roles.items()}
        outside = self._outside_of(box, shift, halo)
        return detected_in_tissue(self._plan, arrays, self._finding, self._workspace.place(box), outside)

    def _outside_of(
        self, box: Box, shift: tuple[int, int] | None, halo: tuple[int, int, int]
    ) -> NDArray[np.bool_] | None:
        """Return what is not tissue in a box with a halo, bool (z, y, x); None where all is."""
        if self._outside is None:
            return None
        here = self._cut(self._outside, box, halo)
        return here if shift is None else here | self._cut(self._outside, _moved(box, shift), halo)

    def _cut(self, whole: NDArray[Any], box: Box, halo: tuple[int, int, int]) -> NDArray[Any]:
        """Return a box with a halo of an array that has the pipeline's, shape (z, y, x)."""
        z, y, x = (
            slice(part.start + most - n, part.stop + most + n)
            for part, most, n in zip(box.slices(self.box.start), self._plan.halo, halo, strict=True)
        )
        return whole[z, y, x]

    def _read(self, channel: str, box: Box, shift: tuple[int, int] | None, halo: tuple[int, int, int]) -> NDArray[Any]:
        """Return the voxels of a box with a halo, shape (z, y, x), read-only: as they are, shifted or mirrored."""
        if shift is not None and channel in self._sample.moved:
            box = _moved(box, shift)
        voxels: NDArray[Any] = np.ascontiguousarray(self._cut(self._voxels[channel], box, halo))
        if shift is not None and not self._sample.moved and channel in self._tops:
            voxels = self._tops[channel] - voxels
        voxels.flags.writeable = False
        return voxels

    def _choose(self, detected: Detected, box: Box, shift: tuple[int, int] | None) -> _Objects:
        """Label and measure what was detected in a box, and let the pipeline choose."""
        plan = self._plan
        labelled = objects.label(candidates_of(detected), box, plan.box)
        channels = ((f"intensity:{name}", self._read(name, box, shift, (0, 0, 0))) for name in plan.channels)
        parts = objects.measure(labelled, box, measured_columns(detected))
        parts |= objects.measure_voxels(labelled, channels)
        # a pipeline gets its objects in the order of their first voxels
        order = np.argsort(parts["id"])
        table = objects.table({name: values[order] for name, values in parts.items()}, plan.box, plan.voxel_size_nm)
        chosen = choose(plan.pipeline, dict(table), self._finding)
        given = np.asarray(chosen.columns.get("score", np.zeros(len(order))), np.float32)
        scores = np.empty(len(order), np.float32)
        scores[order] = np.where(next(iter(chosen.masks.values())), given, _NONE)
        return _Objects(labelled, scores)
