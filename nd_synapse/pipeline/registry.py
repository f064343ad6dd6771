"""The pipelines by name, found through entry points: ours as anybody's.

A distribution adds a pipeline with an entry point of the group ``nd_synapse.pipelines``: its name is the pipeline's,
and it refers to a class that keeps `contract.Pipeline`, or to a function with `parameters` that builds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from nd_synapse.errors import NDSynapseError, StorageError, UnknownNameError, UsageError, called, closest
from nd_synapse.importing import importing
from nd_synapse.installed import own_entry_points
from nd_synapse.pipeline.contract import Parameter, Pipeline
from nd_synapse.pipeline.function import FunctionPipeline
from nd_synapse.pipeline.parameters import check_parameters, parse_parameters
from nd_synapse.redaction import describe_error

__all__ = ["DEFAULT_PIPELINE", "ENTRY_POINTS", "build", "check", "is_ours", "names", "parameters"]

DEFAULT_PIPELINE = "nomads-unsupervised"

ENTRY_POINTS = "nd_synapse.pipelines"
"""Group of entry points of pipelines."""


def _points() -> dict[str, metadata.EntryPoint]:
    """Return the entry point of each pipeline, ours first, the default before all."""
    ours = own_entry_points(ENTRY_POINTS)
    others = reversed(list(metadata.entry_points(group=ENTRY_POINTS)))
    # of others of one name, the first on the path
    every = {point.name: point for point in others} | ours
    order = sorted(every, key=lambda name: (name != DEFAULT_PIPELINE, name not in ours, name))
    found = {name: every[name] for name in order}
    if DEFAULT_PIPELINE not in found:
        raise StorageError(
            "the pipelines",
            "the entry points of nd-synapse are not installed",
            "Install it: pip install -e . in a clone",
        )
    return found


def names() -> list[str]:
    """Return the names of all pipelines, the default first."""
    return list(_points())


def is_ours(pipeline: Pipeline) -> bool:
    """Return whether a pipeline is one of our own distribution."""
    return any(point.module == type(pipeline).__module__ for point in own_entry_points(ENTRY_POINTS).values())


def factory(name: str) -> Any:
    """Return what builds a pipeline: a class or a function."""
    if ":" in name:
        return partial(FunctionPipeline, name)
    points = own_entry_points(ENTRY_POINTS)
    if name not in points:
        points = _points()
    if name not in points:
        raise UnknownNameError(
            f"pipeline {name!r}",
            f"there is no such pipeline; there are {', '.join(closest(name, list(points)))}",
            "Correct --pipeline, or name a function of your own as package.module:function",
        )
    try:
        with importing(f"the module {points[name].module}"):
            return points[name].load()
    except (KeyboardInterrupt, NDSynapseError):
        raise
    except BaseException as error:
        raise UnknownNameError(
            f"pipeline {name!r} of {points[name].value}",
            f"importing it ended with {describe_error(error)}",
            "Reinstall its distribution",
        ) from error


def parameters(name: str) -> Sequence[Parameter]:
    """Return what the user may set of a pipeline."""
    return _declared(factory(name))


def _declared(build_it: Any) -> Sequence[Parameter]:
    """Return the parameters of what builds a pipeline."""
    declared: Sequence[Parameter] = getattr(build_it, "func", build_it).parameters
    return declared


@called()
def build(name: str, given: Mapping[str, str]) -> Pipeline:
    """Build a pipeline with its parameters set."""
    build_it = factory(name)
    pipeline: Pipeline = build_it(**parse_parameters(_declared(build_it), given))
    if ":" not in name and pipeline.name != name:
        found = f"its entry point calls it so, and its attribute name says {pipeline.name!r}"
        raise UsageError(f"pipeline {name!r}", found, "Call it the same in both")
    return pipeline


def check(pipeline: object) -> None:
    """Refuse what a program gives in the place of a pipeline, and one with values that its parameters cannot have."""
    if isinstance(pipeline, type):
        found = f"it is the class {pipeline.__name__} and not a pipeline with its parameters set"
        raise UsageError("pipeline", found, f"Give {pipeline.__name__}()")
    if not all(hasattr(pipeline, part) for part in ("name", "masks", "parameters", "detect")):
        found = f"its type is {type(pipeline).__name__}"
        raise UsageError("pipeline", found, "Give the name of one, a function of a module, or an object of Pipeline")
    check_parameters(pipeline)
