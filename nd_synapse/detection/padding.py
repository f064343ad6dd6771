"""Padding: constant areas that begin at a border of a section, where aligned images end and nothing was imaged.

Flat regions (`flat`) of all blocks are joined. One that begins at a border is padding, unless its value is a clipped
background: there, what lies beside a region is barely above it, or thin lines are all that there is beside it, while
pixels beside padding are tissue like any other. That is decided for each value of each channel, by

- the five per cent of pixels beside such regions that are farthest from the value: at least half as far as those of all
  pixels that are not flat (edges are often means of tissue and padding);
- the number of all pixels that are not flat: at least eight times that of those beside such regions;
- the length of the border that such a region takes: noise makes short ones.

Padding of any searched channel is not tissue, and neither is a rim around it: edges that were resampled and filtered
are brighter or darker than tissue for several pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import overlapping
from nd_synapse.blocks.distinct import distinct
from nd_synapse.blocks.grid import block_numbers, key_of, mirrored
from nd_synapse.blocks.packing import digest
from nd_synapse.detection.flat import STEP
from nd_synapse.detection.objects import RIMS, Joint, rows_of_objects
from nd_synapse.detection.plan import KnownPadding, Plan
from nd_synapse.detection.regions import NEAR_SIDE, distance_levels, overlaps
from nd_synapse.detection.windows import Reach
from nd_synapse.detection.workspace import Workspace
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Finding, Place

__all__ = [
    "OF_FINDING",
    "RIM",
    "Found",
    "Outside",
    "Padding",
    "counted_around",
    "decide",
    "learned_padding",
    "outside_of",
    "padding_kind",
    "place_of",
]

OF_FINDING = ("padding", "padded_regions", "flat_tissue", "doubtful_padding")
"""What padding adds to a finding: its values by channel, a fingerprint of its regions; where there is any, by channel
the section and value of flat areas of such values that are tissue; in a window, whether areas may be either."""

log = logging.getLogger(__name__)

RIM = 8
"""Pixels around padding that are not tissue either. On a real volume the mean is up to six times as bright four pixels
from padding as elsewhere, and nearly as elsewhere from eight on."""

_CONTACT = 32
"""Pixels of a region at the border of the volume, in the mean over these pixels: clipped noise touches it in spots."""

_THICK = 8
_PERCENT = 95


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a channel in all blocks; see `regions.Regions` and `flat.values_of`."""

    values: NDArray[np.int64]
    regions: NDArray[np.int64]
    runs: NDArray[np.int64]
    inner: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Padding:
    """The padding of a channel."""

    parts: NDArray[np.int64]
    """Ids of the regions of blocks that are padding, ascending."""
    regions: NDArray[np.int64]
    """The rows of the table of the regions of the volume that are; they follow from the voxels, for any blocks."""
    background: tuple[int, ...]
    """Values of regions at the border that are not."""
    tissue: NDArray[np.int64]
    """Section and value of flat regions of the values of padding that are tissue, int64 (n, 2), ascending."""
    is_doubtful: bool = False
    """Whether regions may be either, which end at a window."""

    @property
    def values(self) -> list[int]:
        """The values of padding."""
        values: list[int] = distinct(self.regions[:, 1]).tolist()
        return values


def decide(found: Found, volume: Box, channel: str, known: KnownPadding | None = None) -> Padding:
    """Decide which regions of a channel are padding; of a window, by what is `known` of its volume."""
    joint = Joint(found.regions[:, 0], [_touching(found.runs, found.regions, volume)])
    # the id of a region is that of its first part, and its parts have one value
    names = ("id", "stop_z", *[""] * (found.regions.shape[1] - 2))
    regions = np.stack([joint.column(*column) for column in zip(names, found.regions.T, strict=True)], axis=1)
    at_border = regions[:, 3] > 0
    values = distinct(regions[at_border, 1]).tolist()
    _, ny, nx = volume.shape
    where = np.stack([(regions[:, 0] - 1) // (ny * nx), regions[:, 1]], axis=1)
    doubtful = np.zeros(len(regions), np.bool_)
    if known is None:
        of_value = {value: regions[at_border & (regions[:, 1] == value)] for value in values}
        padded = [value for value, rows in of_value.items() if _is_padding(value, rows, found.values)]
        is_padding = at_border & _have(regions, padded)
    else:
        padded = list(known.values.get(channel, ()))
        has_value = _have(regions, padded)
        # elsewhere in such a section all flat areas are padding
        beside_tissue = _are_in(where, np.array(known.tissue.get(channel, ()), np.int64).reshape(-1, 2))
        near = rows_of_objects(joint, found.runs[found.runs[:, 0] == NEAR_SIDE, 3])
        doubtful[near] = True
        doubtful &= has_value & beside_tissue
        is_padding = has_value & np.where(doubtful, known.doubtful, at_border | ~beside_tissue)
    flat = np.concatenate([where[~is_padding], found.inner])
    return Padding(
        joint.part_ids[is_padding[joint.object_rows]],
        regions[is_padding],
        tuple(value for value in values if value not in padded),
        distinct(flat[_have(flat, padded)], axis=0),
        bool(doubtful.any()),
    )


def _have(rows: NDArray[np.int64], values: list[int]) -> NDArray[np.bool_]:
    """Return which rows have one of some values in their second column, bool (n,)."""
    found: NDArray[np.bool_] = np.isin(rows[:, 1], np.array(values, np.int64))
    return found


def _are_in(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows of section and value are among others."""
    found: NDArray[np.bool_] = np.isin(some[:, 0] << 16 | some[:, 1], others[:, 0] << 16 | others[:, 1])
    return found


def _is_padding(value: int, regions: NDArray[np.int64], elsewhere: NDArray[np.int64]) -> bool:
    """Return whether regions of a value are padding, by their rows of the table and the values of all other pixels."""
    contact, beside = regions[:, 3], regions[:, 4:].sum(axis=0)
    if (contact**2).sum() < _CONTACT * contact.sum() or not elsewhere.any():
        # without any other pixel the channel is constant, which pipelines report
        return False
    if not beside.any():
        return True
    if elsewhere.sum() * STEP**2 < _THICK * beside.sum():
        return False
    away = np.abs(np.arange(len(elsewhere)) - value)
    everywhere = np.bincount(distance_levels(away), elsewhere, minlength=len(beside)).astype(np.int64)
    # two levels are twice the distance
    return _high(beside) + 2 >= _high(everywhere)


def _high(counts: NDArray[np.int64]) -> int:
    """Return the level that five in a hundred reach."""
    return int(np.searchsorted(np.cumsum(counts) * 100, counts.sum() * _PERCENT))


def _touching(runs: NDArray[np.int64], regions: NDArray[np.int64], volume: Box) -> NDArray[np.int64]:
    """Return the ids, shape (n, 2), of regions of one value that touch across blocks."""
    pairs = [np.zeros((0, 2), np.int64)]
    _, ny, nx = volume.shape
    for low, across in ((0, nx), (2, ny)):
        # the place beside one at the high side of a block is one row, or column, farther
        here = runs[runs[:, 0] == low + 1]
        there = runs[runs[:, 0] == low]
        there = there[np.argsort(there[:, 1])]
        which, other = overlaps(here[:, 1:3] + across, there[:, 1:3])
        pairs.append(np.stack([here[which, 3], there[other, 3]], axis=1))
    found = np.concatenate(pairs)
    order = np.argsort(regions[:, 0])
    value = regions[order[np.searchsorted(regions[order, 0], found)], 1]
    touching: NDArray[np.int64] = found[value[:, 0] == value[:, 1]]
    return touching


def learned_padding(workspace: Workspace, found: Mapping[str, Found]) -> Finding:
    """Decide what is padding, save it for the workers, and return `OF_FINDING`; empty without any."""
    plan = workspace.plan
    decided = {channel: decide(of_channel, plan.box, channel, plan.padding) for channel, of_channel in found.items()}
    for channel, padding in decided.items():
        for value in padding.values:
            log.info(
                "channel %s: areas of the value %d that begin at a border are padding, and no tissue", channel, value
            )
        for value in padding.background:
            log.info("channel %s: areas of the value %d at a border are a background, and tissue", channel, value)
    doubtful: Finding = {"doubtful_padding": True} if any(one.is_doubtful for one in decided.values()) else {}
    decided = {channel: padding for channel, padding in decided.items() if len(padding.parts)}
    if not decided:
        return doubtful
    places = np.unravel_index(np.concatenate([padding.parts for padding in decided.values()]) - 1, plan.box.shape)
    voxels = np.stack(places) + np.array([plan.box.start]).T
    blocks = distinct(block_numbers(voxels, plan.box, plan.block_size))
    regions = {"blocks": blocks, **{f"of {channel}": padding.parts for channel, padding in decided.items()}}
    finding: Finding = {
        "padding": {channel: padding.values for channel, padding in decided.items()},
        "padded_regions": digest(np.array(list(decided)), *(padding.regions for padding in decided.values())),
    }
    tissue = {channel: padding.tissue.tolist() for channel, padding in decided.items() if len(padding.tissue)}
    if tissue:
        finding["flat_tissue"] = tissue
    workspace.store.save(padding_kind(finding), "regions", regions)
    return finding | doubtful


def padding_kind(finding: Finding) -> str:
    """Return under which name the padded regions are saved."""
    return f"padding-{finding['padded_regions']}"


@dataclass(frozen=True, slots=True)
class Outside:
    """What is not tissue in a block and around it."""

    marked: NDArray[np.bool_]
    """Shape (z, y, x) with a margin, mirrored beyond the volume."""
    margin: tuple[int, int, int]
    """Voxels (z, y, x) around the block, 1 or more."""

    def around(self, halo: Sequence[int], moved: Sequence[int] = (0, 0, 0)) -> NDArray[np.bool_]:
        """Return what is not tissue in the block with a halo, or in the voxels that lie `moved` (z, y, x) from it."""
        z, y, x = (
            slice(m - h + step, n - m + h + step)
            for n, m, h, step in zip(self.marked.shape, self.margin, halo, moved, strict=True)
        )
        return self.marked[z, y, x]

    def rims(self) -> dict[str, NDArray[np.bool_]]:
        """Return which voxels of the block have a neighbour on the low, and on the high side that is not tissue."""
        rims = {}
        for name, step in zip(RIMS, (-1, 1), strict=True):
            z, y, x = (self.around((0, 0, 0), [step * (axis == along) for axis in range(3)]) for along in range(3))
            rims[name] = z | y | x
        return rims

    def beside(self, rims: Mapping[str, NDArray[np.bool_]]) -> list[tuple[str, NDArray[np.int8]]]:
        """Return what is measured in objects, given `rims`: see `objects.RIMS`."""
        marked = -self.around((0, 0, 0)).view(np.int8)
        return [(name, marked | rim.view(np.int8)) for name, rim in rims.items()]


def _margin(halo: Reach) -> Reach:
    """Return as far as it has to be known what is not tissue, of a block that is read with a halo."""
    z, y, x = (max(n, 1) for n in halo)
    return (z, y, x)


def counted_around(plan: Plan, some: Sequence[Box], finding: Finding) -> list[Box]:
    """Return some blocks, and where there is padding those whose padding may show in them."""
    return _seen_around(plan, Box.around(some)) if "padding" in finding else list(some)


def _seen_around(plan: Plan, box: Box) -> list[Box]:
    """Return the blocks whose padding may show in a box."""
    z, y, x = _margin(plan.halo)
    return list(overlapping(box.grown((z, y + RIM, x + RIM), plan.box), plan.box, plan.block_size))


def outside_of(workspace: Workspace, box: Box, finding: Finding) -> Outside | None:
    """Return what is not tissue in a block and as far around it as the pipeline reads; None where all is tissue."""
    if "padding" not in finding:
        return None
    plan, store = workspace.plan, workspace.store
    known = store.load(padding_kind(finding), "regions")
    near = _seen_around(plan, box)
    starts = np.array([block.start for block in near], np.int64).T
    is_padded = np.isin(block_numbers(starts, plan.box, plan.block_size), known["blocks"])
    spans = [np.zeros((0, 4), np.int64)]
    kind = plan.statistics_kind()
    for block, is_one in zip(near, is_padded.tolist(), strict=True):
        if is_one:
            spans += _spans_of(store.load(kind, key_of(block)), known, block)
    margin = _margin(plan.halo)
    around = box.grown(margin, plan.box)
    marked = _with_rim(np.concatenate(spans), around)
    if not marked.any():
        return None
    inside = Box.of_shape(box.shape, [b - v for b, v in zip(box.start, around.start, strict=True)])
    # what is mirrored lies nearer than its images, so that its rim is mirrored with it
    return Outside(mirrored(marked, inside, margin), margin)


def place_of(workspace: Workspace, box: Box, outside: Outside | None) -> Place:
    """Return where a block lies, with the tissue in it if the pipeline wants that."""
    plan, place = workspace.plan, workspace.place(box)
    if outside is None or not plan.pipeline.tissue_only:
        return place
    return replace(place, tissue=~outside.around(plan.halo))


def _with_rim(spans: NDArray[np.int64], box: Box) -> NDArray[np.bool_]:
    """Mark what is at most `RIM` along y and along x from some spans, in a box: bool (z, y, x)."""
    depth, rows, columns = shape = (box.shape[0], box.shape[1] + 2 * RIM, box.shape[2])
    z, y, start, stop = (spans - np.array(box.start)[[0, 1, 2, 2]] + (0, RIM, -RIM, RIM)).T
    ends = np.clip([start, stop], 0, columns) + (z * rows + y) * columns
    ends = ends[:, (z >= 0) & (z < depth) & (y >= 0) & (y < rows)]
    start, stop = ends[:, np.argsort(ends[0], kind="stable")]
    # of spans that overlap, the next begins where those before it end
    stop = np.maximum.accumulate(stop)
    start[1:] = np.maximum(start[1:], stop[:-1])
    lengths = np.diff(np.stack([start, stop], axis=1).ravel(), prepend=0, append=math.prod(shape))
    marked = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(shape)
    within = 1
    while within < 2 * RIM + 1:
        step = min(within, 2 * RIM + 1 - within)
        marked = marked[:, :-step] | marked[:, step:]
        within += step
    return marked


def _spans_of(
    counted: Mapping[str, NDArray[Any]], known: Mapping[str, NDArray[Any]], block: Box
) -> Iterator[NDArray[np.int64]]:
    """Yield the padding of each channel in a block, given what was counted in it and which regions are padding.

    A row for each run of pixels along x: z, y, the first x and the one after the last, int64 (n, 4).
    """
    for name, ids in known.items():
        channel = name.removeprefix("of ")
        if channel != name and f"flat-spans {channel}" in counted:
            regions = counted[f"flat-regions {channel}"][:, 0]
            # both ascend in few rows: `isin` takes ten times as long
            is_padding = ids.take(np.searchsorted(ids, regions), mode="clip") == regions
            spans = counted[f"flat-spans {channel}"]
            first, stop, _ = spans[is_padding[spans[:, 2]]].T
            z, y, x = np.unravel_index(first, block.shape)
            yield np.stack([z, y, x, x + stop - first], axis=1) + np.array(block.start)[[0, 1, 2, 2]]
