"""The pipelines as text for a terminal: which there are, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence

from nd_synapse.errors import NDSynapseError
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Parameter

__all__ = ["described", "listed"]


def listed() -> str:
    """Return the pipelines, a line each."""
    lines = [(name, _help(name)) for name in registry.names()]
    lines.append(("MODULE:FUNCTION", "a function of your own: arrays by channel in, a mask or masks by name out"))
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {text}\n" for name, text in lines)


def _help(name: str) -> str:
    """Return the line of a pipeline; one that cannot be imported must not hide the others."""
    try:
        return registry.build(name, {}).help
    except NDSynapseError as error:
        return f"cannot be used: {error.found}"


def described(name: str) -> str:
    """Return what a pipeline takes: its roles and parameters."""
    pipeline = registry.build(name, {})
    lines = [f"pipeline {name}: {pipeline.help}\n"]
    if pipeline.roles:
        lines.append("  channels (--channels ROLE=NAME,...), found by the first of these that is in a name:\n")
        for role in pipeline.roles:
            optional = " (may be absent)" if role.optional else ""
            lines.append(f"    {role.name:<22} {', '.join(role.markers)}: {role.help}{optional}\n")
    parameters = registry.parameters(name)
    if parameters:
        lines.append("  parameters (--param NAME=VALUE, or NAME=@FILE for the text of a file):\n")
        lines += _parameters(parameters)
    return "".join(lines)


def _parameters(parameters: Sequence[Parameter]) -> list[str]:
    """Return a line for each parameter."""
    lines = []
    for parameter in parameters:
        choices = f"; one of {', '.join(parameter.choices)}" if parameter.choices else ""
        # 1.6 nm, but auto, in nm
        unit = f"{' ' if parameter.usual is None else ', in '}{parameter.unit}" if parameter.unit else ""
        default = f"default {parameter.default}{unit}" if parameter.default != "" else "default: none"
        lines.append(f"    {parameter.name:<22} {parameter.help} ({default}{choices})\n")
    return lines
