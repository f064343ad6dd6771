"""What of the page is interactive: it adds to the static page, which is whole without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nd_synapse.report.plot import Subject

__all__ = ["Interactive", "interactive"]


@dataclass(frozen=True, slots=True)
class Interactive:
    """The script of a page with its data; the sections "viewer" and "table" show them."""

    policy: str = ""
    """What the page's Content-Security-Policy allows besides: ``; script-src 'sha256-...'``."""
    style: str = ""
    script: str = ""
    """Elements before the end of the page, as `Markup`: data and script."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """What the two sections' templates read as ``interactive.context``."""


def interactive(_subject: Subject) -> Interactive:
    """Return the interactive part of a page."""
    return Interactive()
