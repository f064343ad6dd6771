"""The pipelines by name: the registry.

It runs none of them; `detection` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from errors import DataError, UnknownNameError, UsageError, closest
from pipelines.contract import Parameter, Pipeline, Role, parse_parameters
from pipelines.nomads_unsupervised import NomadsUnsupervised

__all__ = ["DEFAULT_PIPELINE", "build", "find_channels", "names", "parameters"]

DEFAULT_PIPELINE = "nomads-unsupervised"

_REGISTRY: dict[str, Callable[..., Pipeline]] = {DEFAULT_PIPELINE: NomadsUnsupervised}


def names() -> list[str]:
    """Return the names of all pipelines, sorted."""
    return sorted(_REGISTRY)


def _factory(name: str) -> Any:
    """Return the class of a pipeline by name."""
    if name not in _REGISTRY:
        raise UnknownNameError(
            f"pipeline {name!r}", f"the pipelines are {', '.join(closest(name, _REGISTRY))}", "Correct --pipeline"
        )
    return _REGISTRY[name]


def parameters(name: str) -> Sequence[Parameter]:
    """Return what the user may set of a pipeline.

    Parameters
    ----------
    name : str
        A name of `names`.

    Returns
    -------
    sequence of Parameter
        In the order in which they are to be listed.

    Raises
    ------
    UnknownNameError
        If there is no such pipeline.
    """
    declared: Sequence[Parameter] = _factory(name).parameters
    return declared


def build(name: str, given: Mapping[str, str]) -> Pipeline:
    """Build a pipeline with its parameters set.

    Parameters
    ----------
    name : str
        A name of `names`.
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
    pipeline: Pipeline = _factory(name)(**parse_parameters(parameters(name), given))
    return pipeline


def find_channels(roles: Sequence[Role], channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Decide which channel plays which role.

    A role that the user did not assign goes to the channel whose name contains one of its markers; markers are tried
    in the role's order, upper and lower case, ``-`` and ``_`` count alike.

    Parameters
    ----------
    roles : sequence of Role
        What the pipeline needs.
    channels : sequence of str
        Names of the experiment's image channels.
    chosen : mapping of str to str
        Role to channel, as the user gave it.

    Returns
    -------
    dict of str to str
        Every role with its channel.

    Raises
    ------
    UnknownNameError
        If the user named a role or a channel that does not exist, or no channel carries a marker of a role.
    UsageError
        If several channels carry the same marker, or one channel would play two roles.
    DataError
        If there is no channel.
    """
    wanted = {role.name for role in roles}
    for role_name, channel in chosen.items():
        if role_name not in wanted:
            raise UnknownNameError(
                f"role {role_name!r} in --channels", f"the roles are {', '.join(sorted(wanted))}", "Correct the role"
            )
        if channel not in channels:
            raise UnknownNameError(
                f"channel {channel!r} as {role_name}",
                f"the image channels are {', '.join(closest(channel, channels)) or 'none'}",
                "Correct the name in --channels",
            )
    if not channels:
        raise DataError(
            "channels for " + " and ".join(role.name for role in roles),
            "the experiment has no image channel of uint8 or uint16 that can be read",
            "Check --col and --exp, and what the token may read",
        )
    found = {role.name: chosen.get(role.name) or _by_marker(role, channels) for role in roles}
    if len(set(found.values())) < len(found):
        raise UsageError(
            "channels " + ", ".join(f"{role}={channel}" for role, channel in found.items()),
            "one channel cannot play two roles: it would agree with itself",
            "Choose another one with --channels",
        )
    return found


def _by_marker(role: Role, channels: Sequence[str]) -> str:
    """Find the one channel that carries a marker of the role."""
    listed = ", ".join(channels) or "none"
    for marker in role.markers:
        candidates = [c for c in channels if marker in c.lower().replace("-", "").replace("_", "")]
        if len(candidates) > 1:
            raise UsageError(
                f"a {role.name} channel by its marker {marker!r}",
                f"several channels carry it: {', '.join(candidates)}",
                f"Choose one with --channels {role.name}={candidates[0]}",
            )
        if candidates:
            return candidates[0]
    raise UnknownNameError(
        f"a {role.name} channel ({role.help}; names with {', '.join(role.markers)})",
        f"the image channels are {listed}",
        f"Name it with --channels {role.name}=NAME",
    )
