"""What a worker does with one block; each function commits what it made to the store before it returns.

They know neither the order of the passes nor what other workers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.digests import digest
from nd_synapse.blocks.grid import key_of, mirrored
from nd_synapse.detection import objects
from nd_synapse.detection.overview import Overview
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.worker import plan_here
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Detected, Finding, Place, Summary

__all__ = [
    "add_all_counts",
    "add_counts",
    "candidates_of",
    "detect",
    "measured_columns",
    "packed_counts",
    "summarise",
    "touching",
    "write_masks",
]

FOUND = np.uint8(255)

_SETS = 8
"""Sets that a pipeline may tell apart: a bit each."""

_MOST_LEVELS = 2**26
"""Levels of all counts of a summary together: half a GiB."""

_PIECE = 2**20
"""Voxels that are squared at a time: the sum of so many squares of 16 bits is exact in a float64."""


def _role_arrays(plan: Plan, box: Box) -> dict[str, NDArray[Any]]:
    """Read the voxels of each role with the pipeline's halo."""
    tiles = plan.tiles()
    # what is pulled ends where the volume does, or beyond the halo
    inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, tiles.volume.start, strict=True)))
    return {role: mirrored(tiles.channel(channel), inside, plan.halo) for role, channel in plan.roles.items()}


def _place(plan: Plan, box: Box) -> Place:
    """Tell a pipeline where a block lies."""
    z, y, x = (b - v for b, v in zip(box.start, plan.box.start, strict=True))
    return Place((z, y, x), box.shape, plan.box.shape, plan.voxel_size_nm)


def summarise(box: Box) -> float:
    """Count one block, and add up and project its channels."""
    plan = plan_here()
    tiles = plan.tiles()
    arrays = packed_counts(plan.pipeline.summarise(_role_arrays(plan, box), _place(plan, box)))
    for channel in plan.pulled():
        voxels = tiles.channel(channel).part(box)
        arrays[f"overview {channel}"] = Overview.of_block(voxels, box, plan.box).pixels
        arrays[f"digest {channel}"] = np.array([digest(voxels)])
        arrays[f"moments {channel}"] = np.array(_moments(voxels), np.int64)
    store = plan.store()
    store.save(plan.statistics_kind(), key_of(box), arrays)
    return store.write_s


def _moments(voxels: NDArray[Any]) -> tuple[int, int]:
    """Return the sum of some voxels, and that of their squares; both are whole numbers, whatever they are added in."""
    flat = voxels.ravel()
    total = squares = 0
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE].astype(np.float64)
        total += int(piece.sum())
        squares += int(piece @ piece)
    return total, squares


def packed_counts(summary: Summary) -> dict[str, NDArray[Any]]:
    """Return counts without their zeros, as they are saved.

    Parameters
    ----------
    summary : Summary
        Counts by name.

    Returns
    -------
    dict of str to ndarray of int64
        ``places <name>`` and ``counts <name>``, for `add_all_counts`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, counts in summary.items():
        kept = counts != 0
        kept[-1:] = True  # counts that end with zeros are as long as they were
        places = np.flatnonzero(kept)
        arrays[f"places {name}"], arrays[f"counts {name}"] = places, counts[places]
    return arrays


def add_all_counts(total: Summary, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Add all counts of a block, or of a part of the run, to a summary.

    Parameters
    ----------
    total : Summary
        What there is so far; it is changed.
    arrays : mapping of str to ndarray
        From `packed_counts`; what else is in it is passed over.
    """
    for key, counts in arrays.items():
        kind, _, name = key.partition(" ")
        if kind == "counts":
            add_counts(total, name, arrays[f"places {name}"], counts)


def add_counts(total: Summary, name: str, places: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Add counts to a summary, which grows as it must.

    Parameters
    ----------
    total : Summary
        What there is so far; it is changed.
    name : str
        Which counts.
    places : ndarray of int64, shape (n,)
        Where they go, ascending.
    counts : ndarray of int64, shape (n,)
        The counts.

    Raises
    ------
    DataError
        If the summary would become larger than any that was counted.
    """
    length = int(places[-1]) + 1 if len(places) else 0
    have = total.get(name, np.zeros(0, np.int64))
    if len(have) < length:
        levels = sum(map(len, total.values())) - len(have) + length
        if levels > _MOST_LEVELS:
            found = f"there are {levels:,} levels to count, more than {_MOST_LEVELS:,}"
            raise DataError(f"the counts {name!r} of a block", found, "Let the pipeline count fewer levels")
        have = np.concatenate([have, np.zeros(length - len(have), np.int64)])
    have[places] += counts
    total[name] = have


def candidates_of(detected: Detected, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Check what a pipeline detected in a block; return the union of its sets.

    Parameters
    ----------
    detected : Detected
        From the pipeline.
    shape : tuple of int
        Extent (z, y, x) of the block.

    Returns
    -------
    ndarray of bool
        Voxels of objects.

    Raises
    ------
    DataError
        If it is not what the contract says.
    """
    requested = f"what was detected in a block of {shape}"
    wrong = {name: (s.dtype, s.shape) for name, s in detected.sets.items() if s.shape != shape or s.dtype != np.bool_}
    wrong |= {
        name: (e.dtype, e.shape) for name, e in detected.evidence.items() if e.shape != shape or e.dtype.kind != "u"
    }
    if wrong or not 1 <= len(detected.sets) <= _SETS:
        found = f"{len(detected.sets)} sets; of another form: {wrong}"
        raise DataError(requested, found, f"Give 1 to {_SETS} sets of booleans, and evidence in unsigned integers")
    union, *others = detected.sets.values()
    for other in others:
        union = union | other
    return union


def measured_columns(detected: Detected) -> list[tuple[str, NDArray[Any]]]:
    """Return what the pipeline wants to have measured in its objects.

    Parameters
    ----------
    detected : Detected
        From the pipeline.

    Returns
    -------
    list of tuple of str and ndarray
        For `objects.measure`.
    """
    sets = [(f"voxels:{name}", voxels) for name, voxels in detected.sets.items()]
    evidence = [(f"{kind}:{name}", voxels) for name, voxels in detected.evidence.items() for kind in ("max", "sum")]
    return sets + evidence


def detect(box: Box, finding: Finding) -> float:
    """Label the candidates of one block, and measure their parts."""
    plan = plan_here()
    tiles = plan.tiles()
    detected = plan.pipeline.detect(_role_arrays(plan, box), finding, _place(plan, box))
    labelled = objects.label(candidates_of(detected, box.shape), box, plan.box)
    parts = objects.measure(labelled, box, measured_columns(detected))
    saved = {"numbers": labelled.numbers, "ids": labelled.ids, **_bits(detected.sets)}
    del detected
    channels = ((f"intensity:{name}", tiles.channel(name).part(box)) for name in plan.channels)
    parts |= objects.measure_voxels(labelled, channels)
    store, kind = plan.store(), plan.parts_kind(finding)
    store.save(f"labels-{kind}", key_of(box), saved)
    store.save(f"faces-{kind}", key_of(box), _faces(labelled))
    # the parts are saved last: with them the block is finished
    store.save(kind, key_of(box), parts)
    return store.write_s


def _bits(sets: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[Any]]:
    """Return which voxel is in which set, a bit a set; nothing for a single set, which is all that is labelled."""
    if len(sets) == 1:
        return {}
    bits = np.zeros(next(iter(sets.values())).shape, np.uint8)
    for place, voxels in enumerate(sets.values()):
        bits |= voxels.view(np.uint8) << np.uint8(place)
    return {"bits": bits, "sets": np.array(list(sets))}


_SIDES = {"low": 0, "high": -1}


def _faces(labelled: objects.Labelled) -> dict[str, NDArray[Any]]:
    """Return the six outermost planes of a block, which is all that joining needs."""
    return {
        f"{axis} {side}": labelled.ids_of(labelled.numbers.take(place, axis))
        for axis in range(3)
        for side, place in _SIDES.items()
    }


def touching(box: Box, kind: str) -> NDArray[Any]:
    """Find the ids that touch across the borders to the blocks that come after this one, edges and corners included.

    Parameters
    ----------
    box : Box
        The block.
    kind : str
        What parts are called in the store.

    Returns
    -------
    ndarray, shape (n, 2)
        Pairs of ids.
    """
    plan = plan_here()
    store = plan.store()
    here = store.load(f"faces-{kind}", key_of(box))
    pairs = [np.empty((0, 2), objects.id_dtype(plan.box))]
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):
            continue
        neighbour = _neighbour(plan, box, step)
        if neighbour is None or not store.has(kind, key_of(neighbour)):
            continue
        there = store.load(f"faces-{kind}", key_of(neighbour))
        pairs.append(objects.neighbours_across(_border(here, step), _border(there, tuple(-s for s in step))))
    return np.unique(np.concatenate(pairs), axis=0)


def _neighbour(plan: Plan, box: Box, step: tuple[int, ...]) -> Box | None:
    """Return the block next to one in a direction."""
    ranges = []
    for (start, stop), (first, end), size, direction in zip(
        box.ranges, plan.box.ranges, plan.block_size, step, strict=True
    ):
        if direction > 0:
            start, stop = stop, min(end, (stop // size + 1) * size)
        elif direction < 0:
            start, stop = max(first, (start - 1) // size * size), start
        if stop <= start:
            return None
        ranges.append((start, stop))
    return Box(*ranges)


def _border(faces: dict[str, NDArray[Any]], step: Sequence[int]) -> NDArray[Any]:
    """Return the labels of a block that touch its neighbour in a direction: a face, an edge or a corner, as a plane."""
    axis = next(axis for axis, direction in enumerate(step) if direction)
    plane = faces[f"{axis} {'high' if step[axis] > 0 else 'low'}"]
    for place, other in enumerate(other for other in range(3) if other != axis):
        if step[other]:
            edge = plane.shape[place] - 1 if step[other] > 0 else 0
            plane = plane[edge : edge + 1] if place == 0 else plane[:, edge : edge + 1]
    return plane


def write_masks(box: Box, names: tuple[str, ...], parts_kind: str, masks_kind: str) -> float:
    """Write the masks of one block, and project them."""
    plan = plan_here()
    store = plan.store()
    saved = store.load(f"labels-{parts_kind}", key_of(box))
    numbers, sets = saved["numbers"], saved.get("sets", np.empty(0, str)).tolist()
    rows = np.searchsorted(store.open_plain(masks_kind, "part_ids"), saved["ids"])
    overviews: dict[str, NDArray[Any]] = {}
    for name in names:
        value = np.zeros(len(rows) + 1, np.uint8)
        value[1:] = store.open_plain(masks_kind, f"chosen_{name}")[rows]
        mask = value[numbers]
        if name in sets:
            mask[saved["bits"] & (1 << sets.index(name)) == 0] = 0
        store.save_plain(f"{masks_kind}-{name}", key_of(box), mask)
        overviews[f"overview {name}"] = Overview.of_block(mask, box, plan.box).pixels
        overviews[f"voxels {name}"] = np.array([np.count_nonzero(mask)])
        # a plain array has no check sum of its own
        overviews[f"digest {name}"] = np.array([digest(mask)])
    store.save(f"overviews-{masks_kind}", key_of(box), overviews)
    return store.write_s
