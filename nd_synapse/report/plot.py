"""A plot: a drawing with its words, and what becomes of it on the page.

It is no figure in particular; those are in the modules called ``figures_...``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from nd_synapse.report.canvas import house_style, png
from nd_synapse.report.clusters import Clusters, cluster
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.fields import Fields
from nd_synapse.report.table import NothingToDrawError, Standardised, SynapseTable
from nd_synapse.volumes import Volume

__all__ = ["TIMES", "Drawing", "Numbers", "Plot", "Shown", "Subject", "count", "show"]

logger = logging.getLogger(__name__)

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Subject:
    """What the plots of one report are drawn from.

    Parameters
    ----------
    table : SynapseTable
        One row a synapse.
    standardised : Standardised
        Its channels in standard deviations.
    facts : RunFacts
        The run.
    overviews : mapping of str to ndarray, shape (y, x)
        Maximum projection over z of each channel.
    masks : mapping of str to ndarray, shape (y, x)
        The same of each mask; non-zero is synapse.
    seed : int
        Seed of every random choice.
    images : mapping of str to Volume, shape (z, y, x)
        The voxels of each channel in the box of the facts; empty where they are not at hand.
    mask_volumes : mapping of str to Volume, shape (z, y, x)
        The same of each mask; non-zero is synapse.
    """

    table: SynapseTable
    standardised: Standardised
    facts: RunFacts
    overviews: Mapping[str, NDArray[Any]]
    masks: Mapping[str, NDArray[Any]]
    seed: int
    images: Mapping[str, Volume] = field(default_factory=dict)
    mask_volumes: Mapping[str, Volume] = field(default_factory=dict)

    @cached_property
    def fields(self) -> Fields:
        """A random sample of the voxels of `images`, the same one for all figures."""
        return Fields(self.images, self.seed)

    @cached_property
    def clusters(self) -> Clusters:
        """The populations of the synapses, found when a figure asks for them first."""
        return cluster(self.table, self.standardised, self.seed)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers behind a figure, for readers who cannot see it or want to copy them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and its words.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The drawing.
    caption : str
        What is shown, of which data, how many, how computed, in which units.
    alt : str
        What one would see, for those who do not.
    numbers : Numbers, optional
        The numbers behind it.
    """

    figure: Figure
    caption: str
    alt: str
    numbers: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A kind of figure: its id on the page and in file names, its heading, and the function that draws it."""

    slug: str
    title: str
    draw: Callable[[Subject], Drawing]


@dataclass(frozen=True, slots=True)
class Shown:
    """A plot as it came out: an image with its words, or the reason why there is none.

    Parameters
    ----------
    slug, title : str
        Those of the plot.
    image : bytes or None
        The PNG.
    caption, alt : str
        Its words; empty without an image.
    numbers : Numbers or None
        The numbers behind it.
    reason : str
        Why there is no image, as a sentence; empty with one.
    failed : bool
        The reason is a defect rather than the input.
    """

    slug: str
    title: str
    image: bytes | None = None
    caption: str = ""
    alt: str = ""
    numbers: Numbers | None = None
    reason: str = ""
    failed: bool = False


def show(plot: Plot, subject: Subject) -> Shown:
    """Draw a plot; whatever goes wrong is said in its place, so that the rest of the report stands."""
    try:
        with house_style():
            drawing = plot.draw(subject)
            image = png(drawing.figure)
    except NothingToDrawError as why:
        return Shown(plot.slug, plot.title, reason=str(why))
    except Exception as failure:  # the border of one figure: any defect costs it alone, and is logged whole
        logger.exception("figure %s failed", plot.slug)
        return Shown(plot.slug, plot.title, reason=f"{type(failure).__name__}: {failure}", failed=True)
    return Shown(plot.slug, plot.title, image, drawing.caption, drawing.alt, drawing.numbers)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 synapse``, ``2,078 synapses``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
