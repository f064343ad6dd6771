"""A plot: a function that draws a figure with its words, and what becomes of it on the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from nd_synapse.report.clusters import Clusters, cluster
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.fields import Fields
from nd_synapse.report.look import GROUPS, house_style, png, svg
from nd_synapse.report.table import NothingToDrawError, Standardised, SynapseTable
from nd_synapse.volumes import Volume

__all__ = ["Drawing", "Numbers", "Plot", "Shown", "Subject", "show"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What the plots of one report are drawn from."""

    table: SynapseTable
    standardised: Standardised
    facts: RunFacts
    overviews: Mapping[str, NDArray[Any]]
    """Maximum projection over z of each channel, shape (y, x)."""
    masks: Mapping[str, NDArray[Any]]
    """The same of each mask; non-zero is synapse."""
    seed: int
    """Seed of every random choice."""
    images: Mapping[str, Volume] = field(default_factory=dict)
    """Voxels of each channel in the box of the facts, (z, y, x); empty if only the table is known."""
    mask_volumes: Mapping[str, Volume] = field(default_factory=dict)

    @cached_property
    def group_colours(self) -> dict[str, str]:
        """The colour of each mask and class, the same in every figure."""
        return dict(zip(dict.fromkeys([*self.masks, *self.mask_volumes, *self.table.groups]), cycle(GROUPS)))

    @cached_property
    def fields(self) -> Fields:
        """A random sample of the voxels of `images`, shared by all figures."""
        return Fields(self.images, self.seed)

    @cached_property
    def clusters(self) -> Clusters:
        """The populations of the synapses, computed at the first use."""
        return cluster(self.table, self.standardised, self.seed)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers behind a figure, for readers who cannot see it or want to copy them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and its words."""

    figure: Figure
    caption: str
    """What is shown, of which data, how many, how computed, in which units."""
    alt: str
    """What the figure shows, for readers who cannot see it."""
    numbers: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A kind of figure: its id on the page and in file names, its heading, and the function that draws it."""

    slug: str
    title: str
    draw: Callable[[Subject], Drawing]


@dataclass(frozen=True, slots=True)
class Shown:
    """A drawn plot: an image with its words, or the reason why there is none."""

    slug: str
    title: str
    image: bytes | None = None
    """The PNG."""
    svg: bytes | None = None
    """The same as SVG, where it was requested."""
    caption: str = ""
    alt: str = ""
    numbers: Numbers | None = None
    reason: str = ""
    """Why there is no image, as a sentence."""
    failed: bool = False
    """The reason is a defect, not the input."""


def show(plot: Plot, subject: Subject, with_svg: bool = False) -> Shown:
    """Draw a plot; if it fails, the report shows the reason in its place and the log has the traceback."""
    try:
        with house_style():
            drawing = plot.draw(subject)
            image = png(drawing.figure)
            vectors = svg(drawing.figure) if with_svg else None
    except NothingToDrawError as why:
        return Shown(plot.slug, plot.title, reason=str(why))
    except Exception as failure:  # a defect in one figure must not cost the others
        logger.exception("figure %s failed", plot.slug)
        return Shown(plot.slug, plot.title, reason=f"{type(failure).__name__}: {failure}", failed=True)
    return Shown(plot.slug, plot.title, image, vectors, drawing.caption, drawing.alt, drawing.numbers)
