"""What a pipeline decides in the parent: what it learns from the counts, and which objects it chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nd_synapse.errors import DataError
from nd_synapse.pipeline.contract import Chosen, Finding, Objects, Pipeline, Summary
from nd_synapse.user_code import array_of, blamed, mask_of

__all__ = ["choose", "learn"]


def learn(pipeline: Pipeline, summary: Summary, roles: Mapping[str, str]) -> Finding:
    """Let a pipeline learn from the counts of all blocks."""
    with blamed(f"learn of {pipeline.name}"):
        finding = dict(pipeline.learn(summary, roles))
        # it goes into run.json, and into the names of what depends on it
        json.dumps(finding)
    return finding


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
    return Chosen(masks, columns)
