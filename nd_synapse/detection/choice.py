"""What a pipeline decides: what it learns from the counts, how it grades voxels, which objects it chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.pipeline.contract import Chosen, Finding, Objects, Pipeline, Place, Summary
from nd_synapse.user_code import array_of, blamed, mask_of

__all__ = ["choose", "learn", "scores"]


def learn(pipeline: Pipeline, summary: Summary, roles: Mapping[str, str]) -> Finding:
    """Let a pipeline learn from the counts of all blocks."""
    with blamed(f"learn of {pipeline.name}"):
        finding = dict(pipeline.learn(summary, roles))
        # it goes into run.json, and into the names of what depends on it
        json.dumps(finding)
    strictness = finding.get("strictness")
    if pipeline.raises_strictness and not isinstance(strictness, int | float):
        found = f"it returned {'none' if strictness is None else type(strictness).__name__} as strictness"
        raise DataError(f"learn of {pipeline.name}", found, "Return a number, or let raises_strictness be False")
    return finding


def scores(
    pipeline: Pipeline, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place
) -> dict[str, NDArray[Any]]:
    """Let a pipeline grade the voxels of a block; refuse what breaks the contract."""
    what = f"scores of {pipeline.name}"
    with blamed(what):
        graded = pipeline.scores(arrays, finding, place)
    given = {name: array_of(f"{name!r} of {what}", values) for name, values in graded.items()}
    wrong = {n: (v.dtype, v.shape) for n, v in given.items() if v.shape != place.shape or v.dtype.kind not in "biuf"}
    if wrong:
        raise DataError(what, f"on a block of {place.shape} they are {wrong}", "Give real numbers, one a voxel")
    return given


def choose(pipeline: Pipeline, objects: Objects, finding: Finding) -> Chosen:
    """Let a pipeline choose among objects; refuse what breaks the contract."""
    what = f"select of {pipeline.name}"
    with blamed(what):
        chosen = pipeline.select(objects, finding)
    if not isinstance(chosen, Chosen):
        raise DataError(what, f"it returned {type(chosen).__name__}", "Return Chosen")
    masks = {name: mask_of(f"mask {name!r} of {what}", is_in) for name, is_in in chosen.masks.items()}
    columns = {name: array_of(f"column {name!r} of {what}", values) for name, values in chosen.columns.items()}
    rows = (len(objects["id"]),)
    wrong = {name: values.shape for name, values in [*masks.items(), *columns.items()] if values.shape != rows}
    if wrong or not masks:
        found = f"of {rows[0]} objects it returned {wrong or 'no mask'}"
        raise DataError(what, found, "Return a mask, and columns, with a value for every object")
    taken = [name for name in columns if name in objects and not name.startswith(("max_", "sum_", "mean_"))]
    if taken:
        raise DataError(what, f"the table has a column {taken[0]!r} already", "Call the column otherwise")
    return Chosen(masks, columns)
