"""The report: the chapters of the page, drawn from a table and the facts of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from nd_synapse.report import page
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_channels import CHANNELS
from nd_synapse.report.figures_clusters import CLUSTERS
from nd_synapse.report.figures_detections import DETECTIONS, IMAGES
from nd_synapse.report.figures_gallery import CLUSTER_GALLERY, GALLERY, draw_samples
from nd_synapse.report.figures_groups import CLUSTERS_IN_TISSUE, GROUPS
from nd_synapse.report.figures_registration import REGISTRATION
from nd_synapse.report.figures_strictness import STRICTNESS
from nd_synapse.report.figures_tissue import TISSUE
from nd_synapse.report.figures_voxels import VOXELS
from nd_synapse.report.interactive import Interactive, interactive
from nd_synapse.report.plot import Plot, Shown, Subject, show
from nd_synapse.report.table import NothingToDrawError, Standardised, SynapseTable, standardise
from nd_synapse.report.verdict import Looked, verdict
from nd_synapse.volumes import Volume

__all__ = ["CHAPTERS", "Report", "draw_report", "write_report"]

log = logging.getLogger(__name__)

CHAPTERS: tuple[tuple[str, str, str, tuple[Plot, ...]], ...] = (
    ("viewer", "Viewer", "The channels that were searched, with the outlines of what was found.", IMAGES),
    ("table", "Table and gallery", "Every synapse, one by one.", (*STRICTNESS, *GALLERY)),
    (
        "quality",
        "Quality",
        "What speaks for the detections, and what against them.",
        (*DETECTIONS, *REGISTRATION, *VOXELS),
    ),
    (
        "populations",
        "Populations",
        "Which kinds of synapses there are.",
        (*GROUPS, *CLUSTER_GALLERY, *CLUSTERS_IN_TISSUE),
    ),
    (
        "appendix",
        "Appendix",
        "The PyMeda plots under their names, and two figures more.",
        (*CHANNELS, *CLUSTERS, *TISSUE),
    ),
)
"""The sections of the page that hold figures: id, heading, what they answer in a sentence, and the plots."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report whose figures are drawn; its page can be written again when there are new facts of the run."""

    title: str
    synapses: SynapseTable
    standardised: Standardised
    chapters: list[page.Chapter]
    looked: Looked
    interactive: Interactive
    seed: int

    def write(self, path: Path, facts: RunFacts) -> Path:
        """Write the page, and each figure as a PNG; the same input gives the same bytes."""
        found = verdict(self.synapses, self.standardised, facts, self.looked)
        text = page.html(self.title, self.chapters, self.synapses, facts, found, self.interactive, self.seed)
        plots = [plot for chapter in self.chapters for plot in chapter.plots]
        return page.write(Path(path), page.file_name(self.title), text, plots)


def draw_report(
    *,
    title: str,
    table: Mapping[str, ArrayLike],
    facts: RunFacts,
    overviews: Mapping[str, NDArray[Any]],
    mask_overviews: Mapping[str, NDArray[Any]],
    images: Mapping[str, Volume] | None = None,
    mask_volumes: Mapping[str, Volume] | None = None,
    seed: int = 0,
    svg: bool = False,
) -> Report:
    """Draw the figures of a run; parameters as in `write_report`. Images are read now, and not kept."""
    synapses = SynapseTable.of(table).drawn()
    standardised = standardise(list(synapses.channels), synapses.brightness())
    subject = Subject(synapses, standardised, facts, overviews, mask_overviews, seed, images or {}, mask_volumes or {})
    every = [plot for *_, plots in CHAPTERS for plot in plots]
    shown = {}
    for number, plot in enumerate(every, start=1):
        started = time.monotonic()
        shown[plot.slug] = show(plot, subject, svg)
        log.info("figure %d of %d: %s, %.1f s", number, len(every), plot.title, time.monotonic() - started)
    chapters = [
        page.Chapter(slug, heading, lead, [shown[plot.slug] for plot in plots])
        for slug, heading, lead, plots in CHAPTERS
    ]
    return Report(title, synapses, standardised, chapters, _look(subject, shown), interactive(subject), seed)


def _look(subject: Subject, shown: Mapping[str, Shown]) -> Looked:
    """Return what the verdict needs of the voxels."""
    against = shown.get("against-random")
    areas = (
        {row[0]: float(row[-1].removesuffix(" %")) / 100 for row in against.numbers.rows}
        if (against is not None and against.numbers is not None)
        else {}
    )
    samples = draw_samples(subject)
    try:
        at_top = subject.fields.at_top
    except NothingToDrawError:
        at_top = None
    return Looked(colours=subject.group_colours, samples=samples, at_top=at_top, areas=areas)


def write_report(
    path: Path,
    *,
    title: str,
    table: Mapping[str, ArrayLike],
    facts: RunFacts,
    overviews: Mapping[str, NDArray[Any]],
    mask_overviews: Mapping[str, NDArray[Any]],
    images: Mapping[str, Volume] | None = None,
    mask_volumes: Mapping[str, Volume] | None = None,
    seed: int = 0,
    svg: bool = False,
) -> Path:
    """Write the report of a run: one HTML file, and each figure as a PNG in ``figures``.

    Parameters
    ----------
    path : Path
        The folder; made if missing.
    title : str
        Title of the page; the file is called ``PyMeda_<title>.html``.
    table : mapping of str to array_like, shape (n,)
        One row a synapse. Known columns: ``id``, ``centroid_<axis>_voxel`` (absolute; the middle of voxel i is i) and
        ``centroid_<axis>_um`` for z, y and x, ``voxels``, ``volume_um3``, ``slices``, ``score``, ``touches_border``,
        ``class``, ``in_<mask>``, and ``mean_<channel>``; without any ``mean_`` column, every other column of numbers is
        a channel. None is required.
    facts : RunFacts
        The run; the figures use its box and voxel size.
    overviews : mapping of str to ndarray, shape (y, x)
        Maximum projection over z of each channel.
    mask_overviews : mapping of str to ndarray, shape (y, x)
        Maximum projection over z of each mask; non-zero is synapse.
    images : mapping of str to Volume, shape (z, y, x), optional
        Voxels of each channel in the box, for the figures that need them.
    mask_volumes : mapping of str to Volume, shape (z, y, x), optional
        Voxels of each mask in the box.
    seed : int
        Seed of every random choice.
    svg : bool
        Write each figure as an SVG, too.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    DataError
        If columns differ in length, or hold neither numbers nor text.
    StorageError
        If the folder cannot be written.
    """
    report = draw_report(
        title=title,
        table=table,
        facts=facts,
        overviews=overviews,
        mask_overviews=mask_overviews,
        images=images,
        mask_volumes=mask_volumes,
        seed=seed,
        svg=svg,
    )
    return report.write(path, facts)
