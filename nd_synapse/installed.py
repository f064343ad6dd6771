"""Our own entry points, without reading those of every other distribution."""

from __future__ import annotations

from importlib import metadata

__all__ = ["OURS", "own_entry_points"]

OURS = "nd-synapse"
"""Our own distribution, whose commands and pipelines nobody can replace."""


def own_entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of our distribution by name; none where it is not installed."""
    try:
        points = metadata.distribution(OURS).entry_points
    except metadata.PackageNotFoundError:
        return {}
    return {point.name: point for point in points.select(group=group)}
