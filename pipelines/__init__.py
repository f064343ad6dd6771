"""The pipelines by name: the registry.

It runs none of them; `detection` does.

Another distribution adds a pipeline with an entry point of the group ``nd_synapse.pipelines``, whose name is the
pipeline's and which leads to a class that keeps `contract.Pipeline`.
"""

from __future__ import annotations

import sys

import beginning

if sys.argv[:1] == ["-m"]:
    # python is looking for what it is to run, pipelines.evaluate, and imports the packages round it first
    beginning.begin()

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from errors import UnknownNameError, closest
from pipelines.contract import Parameter, Pipeline, check_parameters, parse_parameters
from pipelines.function import FunctionPipeline
from pipelines.nomads_classifier import NomadsClassifier
from pipelines.nomads_unsupervised import NomadsUnsupervised
from pipelines.probabilistic import Probabilistic
from wording import reason_of

__all__ = ["DEFAULT_PIPELINE", "ENTRY_POINTS", "build", "is_ours", "names", "parameters"]

DEFAULT_PIPELINE = "nomads-unsupervised"

ENTRY_POINTS = "nd_synapse.pipelines"
"""Group of entry points in which other distributions announce their pipelines."""

_OURS: dict[str, type[Pipeline]] = {
    pipeline.name: pipeline for pipeline in (NomadsUnsupervised, NomadsClassifier, Probabilistic)
}


def _others() -> dict[str, metadata.EntryPoint]:
    """Return the pipelines of other distributions; ours cannot be replaced."""
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS) if point.name not in _OURS}


def names() -> list[str]:
    """Return the names of all pipelines, the default first."""
    return [*_OURS, *sorted(_others())]


def is_ours(pipeline: Pipeline) -> bool:
    """Tell whether a pipeline is one of this repository, and no function or distribution of the user's.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline.

    Returns
    -------
    bool
        Whether its code is ours.
    """
    return type(pipeline) in _OURS.values()


def factory(name: str) -> Any:
    """Return what builds a pipeline.

    Parameters
    ----------
    name : str
        A name of `names`, or ``package.module:function``.

    Returns
    -------
    callable
        Called with the parameters by name; the class itself unless it is a function's.

    Raises
    ------
    UnknownNameError
        If there is no such pipeline, or it cannot be imported.
    """
    if name in _OURS:
        return _OURS[name]
    if ":" in name:
        return partial(FunctionPipeline, name)
    others = _others()
    if name not in others:
        raise UnknownNameError(
            f"pipeline {name!r}",
            f"the pipelines are {', '.join(closest(name, names()))}",
            "Correct --pipeline, or name a function of your own as package.module:function",
        )
    try:
        return others[name].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnknownNameError(
            f"pipeline {name!r} of {others[name].value}",
            f"importing it ended with {reason_of(error)}",
            "Install its distribution anew",
        ) from error


def parameters(name: str) -> Sequence[Parameter]:
    """Return what the user may set of a pipeline.

    Parameters
    ----------
    name : str
        A name of `names`, or ``package.module:function``.

    Returns
    -------
    sequence of Parameter
        In the order in which they are to be listed.

    Raises
    ------
    UnknownNameError
        If there is no such pipeline.
    """
    build_it = factory(name)
    declared: Sequence[Parameter] = getattr(build_it, "func", build_it).parameters
    return declared


def build(name: str, given: Mapping[str, str]) -> Pipeline:
    """Build a pipeline with its parameters set.

    Parameters
    ----------
    name : str
        A name of `names`, or ``package.module:function``.
    given : mapping of str to str
        Parameters that the user set, as text.

    Returns
    -------
    Pipeline
        Ready to run.

    Raises
    ------
    UnknownNameError
        If there is no such pipeline.
    UsageError
        If a parameter is unknown or does not fit.
    """
    pipeline: Pipeline = factory(name)(**parse_parameters(parameters(name), given))
    check_parameters(pipeline)
    return pipeline
