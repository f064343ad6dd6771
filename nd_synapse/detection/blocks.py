"""What is done with one block in each pass; each function saves what it made before it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import Bits
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.packing import digest
from nd_synapse.detection import objects
from nd_synapse.detection.counted import counts_of_block
from nd_synapse.detection.joining import faces_of
from nd_synapse.detection.kinds import Kinds
from nd_synapse.detection.numbering import rows_of_parts
from nd_synapse.detection.overview import Overview
from nd_synapse.detection.padding import outside_of
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.tissue import lost_to_padding
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Detected, Finding, Place
from nd_synapse.user_code import array_of, mask_of, returns_once

__all__ = [
    "FOUND",
    "PADDED",
    "candidates_of",
    "checked",
    "detect",
    "detected_in_tissue",
    "measured_columns",
    "summarise",
]
__all__ += ["write_masks"]

FOUND = np.uint8(255)

PADDED = "padded"
"""Beside the faces of a block: what its padding takes from the counts of tissue; with a channel, from its moments."""

_SETS = 8
"""Sets that a pipeline may distinguish: a bit each."""

_CORNER = (8, 64, 64)
"""Voxels that are searched of a block without tissue, at most: few beside a block, and enough for a user's function."""

_PIECE = 2**20
"""Voxels that are squared at a time: the sum of so many squares of 16 bits is exact in a float64."""


def summarise(workspace: Workspace, box: Box, observed: Sequence[str]) -> None:
    """Count one block; of the observed channels also save the projection, the digest and the moments."""
    plan = workspace.plan
    arrays = counts_of_block(workspace, box)
    for channel in observed:
        voxels = workspace.voxels(channel, box)
        arrays[f"overview {channel}"] = Overview.of_block(voxels, box, plan.box).pixels
        arrays[f"digest {channel}"] = np.array([digest(voxels)])
        arrays[f"moments {channel}"] = np.array(_moments(voxels), np.int64)
    workspace.store.save(plan.statistics_kind(), key_of(box), arrays)


def _moments(voxels: NDArray[Any]) -> tuple[int, int, int]:
    """Return the number of some voxels, their sum, and that of their squares, exactly."""
    flat = voxels.ravel()
    total = squares = 0
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE].astype(np.float64)
        total += int(piece.sum())
        # not a product of vectors: linear algebra starts threads of its own for it
        squares += int(np.square(piece, out=piece).sum())
    return len(flat), total, squares


def checked(detected: Detected, shape: tuple[int, ...]) -> Detected:
    """Return what a pipeline detected in a block as plain arrays; refuse what breaks the contract."""
    what = f"what was detected in a block of {shape}"
    if not isinstance(detected, Detected):
        raise DataError(what, f"it is of the type {type(detected).__name__}", "Return Detected from detect")
    sets = {name: mask_of(f"set {name!r}", voxels) for name, voxels in detected.sets.items()}
    evidence = {name: array_of(f"evidence {name!r}", voxels) for name, voxels in detected.evidence.items()}
    # whole numbers are no set: they may be labels
    types = {name: np.asanyarray(voxels).dtype for name, voxels in detected.sets.items()}
    wrong = {name: (types[name], s.shape) for name, s in sets.items() if s.shape != shape or types[name] != np.bool_}
    wrong |= {name: (e.dtype, e.shape) for name, e in evidence.items() if e.shape != shape or e.dtype.kind != "u"}
    if wrong or not 1 <= len(sets) <= _SETS:
        found = f"{len(sets)} sets" + (f"; of another form: {wrong}" if wrong else "")
        remedy = (
            f"Give 1 to {_SETS} sets of booleans, and evidence in unsigned integers, of that shape: without the halo"
        )
        raise DataError(what, found, remedy)
    return Detected(sets, evidence)


def candidates_of(detected: Detected) -> NDArray[np.bool_]:
    """Return the union of the sets that a pipeline detected, bool (z, y, x)."""
    union, *others = detected.sets.values()
    for other in others:
        union = union | other
    return union


def measured_columns(detected: Detected) -> list[tuple[str, NDArray[Any]]]:
    """Return what is measured in the objects of a block, for `objects.measure`."""
    sets = [(f"voxels:{name}", voxels) for name, voxels in detected.sets.items()]
    evidence = [(f"{kind}:{name}", voxels) for name, voxels in detected.evidence.items() for kind in ("max", "sum")]
    return sets + evidence


def detected_in_tissue(
    plan: Plan, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place, outside: NDArray[np.bool_] | None
) -> Detected:
    """Run a pipeline's `detect`, and leave out what lies outside of tissue: bool (z, y, x) with the pipeline's halo.

    Of a block without tissue a corner alone is searched, which says what sets and evidence there are.
    """
    searched = None if outside is None or not plan.pipeline.tissue_only else ~outside
    z, y, x = (slice(halo, halo + n) for halo, n in zip(plan.halo, place.shape, strict=True))
    depth, rows, columns = map(min, place.shape, _CORNER)
    corner = (depth, rows, columns)
    if searched is not None and place.shape != corner and not searched[z, y, x].any():
        here = tuple(slice(n + 2 * halo) for n, halo in zip(corner, plan.halo, strict=True))
        some = {role: voxels[here] for role, voxels in arrays.items()}
        found = detected_in_tissue(plan, some, finding, replace(place, shape=corner), ~searched[here])
        sets = {name: np.zeros(place.shape, np.bool_) for name in found.sets}
        return Detected(sets, {name: np.zeros(place.shape, seen.dtype) for name, seen in found.evidence.items()})
    with returns_once(f"detect of {plan.pipeline.name}"):
        detected = plan.pipeline.detect(arrays, finding, replace(place, tissue=searched))
    detected = checked(detected, place.shape)
    if searched is None:
        return detected
    tissue = searched[z, y, x]
    return replace(detected, sets={name: voxels & tissue for name, voxels in detected.sets.items()})


def detect(workspace: Workspace, box: Box, finding: Finding) -> None:
    """Label the candidates of one block, and measure their parts."""
    plan, store = workspace.plan, workspace.store
    outside = outside_of(workspace, box, finding)
    marked = None if outside is None else outside.around(plan.halo)
    detected = detected_in_tissue(plan, workspace.role_arrays(box), finding, workspace.place(box), marked)
    labelled = objects.label(candidates_of(detected), box, plan.box)
    rims = {} if outside is None else outside.rims()
    beside = [] if outside is None else outside.beside(rims)
    parts = objects.measure(labelled, box, measured_columns(detected) + beside)
    # few voxels belong to objects: all else of a block is background, and need not be packed
    places = labelled.places.astype(np.uint32)
    saved: dict[str, NDArray[Any]] = {"places": places, "voxels": labelled.voxels, "ids": labelled.ids}
    saved |= _bits(detected.sets, places)
    del detected
    channels = ((f"intensity:{name}", workspace.voxels(name, box)) for name in plan.channels)
    parts |= objects.measure_voxels(labelled, channels)
    kind = plan.parts_kind(finding)
    store.save(f"labels-{kind}", key_of(box), saved)
    faces = faces_of(labelled)
    if outside is not None:
        marked = outside.around((0, 0, 0))
        faces[PADDED] = lost_to_padding(marked, list(rims.values()), box, plan.box)
        for channel in plan.pulled():
            faces[f"{PADDED} {channel}"] = np.array(_moments(workspace.voxels(channel, box)[marked]), np.int64)
    store.save(f"faces-{kind}", key_of(box), faces)
    # the parts are saved last: with them the block is finished
    store.save(kind, key_of(box), parts)


def _bits(sets: Mapping[str, NDArray[np.bool_]], places: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
    """Return in which sets some voxels are, a bit a set; nothing for a single set, which is all that is labelled."""
    if len(sets) == 1:
        return {}
    bits = np.zeros(len(places), np.uint8)
    for place, voxels in enumerate(sets.values()):
        bits |= voxels.ravel()[places].view(np.uint8) << np.uint8(place)
    return {"bits": bits, "sets": np.array(list(sets))}


def write_masks(workspace: Workspace, box: Box, names: tuple[str, ...], kinds: Kinds, described: bool) -> None:
    """Write the masks of one block; where they are `described`, also their projections and digests."""
    plan, store = workspace.plan, workspace.store
    saved = store.load(kinds.labels, key_of(box))
    sets = saved.get("sets", np.empty(0, str)).tolist()
    rows, chosen = rows_of_parts(workspace, box, kinds, saved["ids"])
    store.save(kinds.numbers, key_of(box), {"rows": rows})
    overviews: dict[str, NDArray[Any]] = {}
    for name in names:
        value = chosen.get(name, np.zeros(len(rows), np.bool_)) * FOUND
        values = np.repeat(value, saved["voxels"])
        if name in sets:
            values[saved["bits"] & (1 << sets.index(name)) == 0] = 0
        mask = np.zeros(box.shape, np.uint8)
        mask.ravel()[saved["places"]] = values
        bits = Bits.of(mask)
        store.save_plain(f"{kinds.masks}-{name}", key_of(box), bits)
        overviews[f"voxels {name}"] = np.array([np.count_nonzero(values)])
        if described:
            overviews[f"overview {name}"] = Overview.of_block(mask, box, plan.box).pixels
            # a plain array has no check sum of its own
            overviews[f"digest {name}"] = np.array([digest(bits)])
    store.save(kinds.overviews, key_of(box), overviews)
