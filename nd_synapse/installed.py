"""What is installed: our entry points, and versions, without reading what every other distribution says of itself."""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["OURS", "own_entry_points", "version_of"]

OURS = "nd-synapse"
"""Our own distribution, whose commands and pipelines nobody can replace."""

_VERSION = re.compile(r"^Version: *(\S+)", re.MULTILINE)


def own_entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of our distribution by name; none where it is not installed."""
    try:
        points = metadata.distribution(OURS).entry_points
    except metadata.PackageNotFoundError:
        return {}
    return {point.name: point for point in points.select(group=group)}


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution; to parse all of its metadata takes up to 15 ms."""
    found = _VERSION.search(metadata.distribution(distribution).read_text("METADATA") or "")
    return found[1] if found else metadata.version(distribution)
