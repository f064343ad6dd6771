"""A pipeline's detections on a volume in memory, as they are evaluated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.errors import UnknownNameError, closest
from nd_synapse.evaluate.synapses import Synapses
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.text import written

__all__ = ["Detections", "is_adjustable", "objects_of", "permissive", "run_pipeline"]

_SCORES = ("score", "probability")
_STRICTNESS = "strictness"
_PERMISSIVE = 0.25
"""Share of the default strictness at which pipelines run, so that the best one is found below the default as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The objects of one mask."""

    synapses: Synapses
    """Centroids, volumes and classes as in the table of a result."""
    labels: NDArray[np.int64]
    """The voxels of the mask, shape (z, y, x), each with its object's id."""
    scores: dict[int, float] | None
    """Score of each id; None where the pipeline has no scores."""
    scored_by: str
    """What the scores are, for the reader."""
    strictness: float | None = None
    """At which they were found, where the pipeline learns it."""


def run_pipeline(
    pipeline: Pipeline,
    channels: Mapping[str, NDArray[Any]],
    voxel_size_nm: tuple[float, float, float],
    mask: str,
    *,
    chosen: Mapping[str, str] | None = None,
    threads: int = 2,
) -> Detections:
    """Detect synapses in channels of uint8 or uint16, shape (z, y, x); `chosen` assigns roles that names do not decide.

    The score of an object is the largest value in its voxels of what the pipeline grades the mask with. Where it has a
    strictness, or grades nothing, it is the column ``score`` or ``probability`` of its table, if there is one.
    """
    masks = pipeline.masks_of(pipeline.choose(list(channels), dict(chosen or {})))
    if mask not in masks:
        found = f"{pipeline.name} makes {', '.join(closest(mask, masks))} of these channels"
        raise UnknownNameError(f"mask {mask!r}", found, "Correct --mask")
    graded = not is_adjustable(pipeline)
    return objects_of(
        detect_arrays(pipeline, channels, voxel_size_nm, chosen=chosen, threads=threads, scores=graded), mask
    )


def is_adjustable(pipeline: Pipeline) -> bool:
    """Return whether a pipeline has a strictness: what it detects has at least that in its column ``score``."""
    return any(parameter.name == _STRICTNESS and parameter.number is not None for parameter in pipeline.parameters)


def permissive(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a pipeline with a low strictness, or that which is given if it is lower still."""
    for parameter in registry.parameters(name):
        if parameter.name == _STRICTNESS and parameter.number is not None:
            low = max(parameter.number * _PERMISSIVE, parameter.minimum or 0.0)
            low = math.ceil(low) if isinstance(parameter.number, int) else low
            value = given.get(_STRICTNESS, parameter.default)
            if value == parameter.default or float(value) >= low:
                return {**given, _STRICTNESS: written(low)}
    return dict(given)


def objects_of(found_all: Found, mask: str) -> Detections:
    """Return the objects of a mask of a detection."""
    labels = np.where(found_all.masks[mask] != 0, np.asarray(found_all.labels, np.int64), 0)
    table = _rows(found_all, mask)
    scores, scored_by = _scores(found_all, mask, table, labels)
    synapses = Synapses(
        np.stack([table[f"centroid_{axis}_um"] for axis in "zyx"], axis=1).astype(np.float64),
        np.asarray(table["class"], np.str_) if "class" in table else None,
        scores,
        np.asarray(table["volume_um3"], np.float64),
    )
    by_id = None if scores is None else dict(zip(table["id"].tolist(), scores.tolist(), strict=True))
    return Detections(synapses, labels, by_id, scored_by, found_all.finding.get(_STRICTNESS))


def _rows(found: Found, mask: str) -> dict[str, NDArray[Any]]:
    """Return the table's rows of the objects that the mask holds."""
    inside = found.table.get(f"in_{mask}")
    if inside is None:  # the only mask, or the first, holds them all
        return found.table
    return {name: values[np.asarray(inside, np.bool_)] for name, values in found.table.items()}


def _scores(
    found: Found, mask: str, table: Mapping[str, NDArray[Any]], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the score of each row, shape (rows,), and what it is."""
    if mask in found.scores:
        largest = np.full(int(max(table["id"], default=0)) + 1, -np.inf)
        places = np.flatnonzero(labels)
        np.maximum.at(largest, labels.ravel()[places], found.scores[mask].ravel()[places])
        return largest[table["id"]], f"largest voxel score of {mask} in the object"
    for name in _SCORES:
        if name in table:
            score = np.asarray(table[name], np.float64)
            return np.where(np.isnan(score), -np.inf, score), f"column {name}"
    return None, ""
