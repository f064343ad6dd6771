"""The report: a table and the facts of a run, through all plots, to the page.

It measures nothing and knows no figure in particular: those are listed where they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from nd_synapse.report import page
from nd_synapse.report.alerts import alerts
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.figures_channels import CHANNELS
from nd_synapse.report.figures_clusters import CLUSTERS
from nd_synapse.report.figures_detections import DETECTIONS
from nd_synapse.report.figures_gallery import CLUSTER_GALLERY, GALLERY
from nd_synapse.report.figures_groups import CLUSTERS_IN_TISSUE, GROUPS
from nd_synapse.report.figures_tissue import TISSUE
from nd_synapse.report.figures_voxels import VOXELS
from nd_synapse.report.plot import Plot, Subject, show
from nd_synapse.report.table import Standardised, SynapseTable, standardise
from nd_synapse.volumes import Volume

__all__ = ["Report", "draw_report", "write_report"]

_CHAPTERS: tuple[tuple[str, str, str, tuple[Plot, ...]], ...] = (
    ("detections", "Detections", "Where synapses were found, how many, and how large they are.", DETECTIONS),
    ("gallery", "Synapses one by one", "Single synapses through their sections, channel by channel.", GALLERY),
    (
        "tissue",
        "Synapses in the tissue",
        "What the synapses have to do with the images and with each other.",
        (*VOXELS, *TISSUE, *GROUPS),
    ),
    ("channels", "Brightness by channel", "How bright the synapses are in each channel: the PyMeda plots.", CHANNELS),
    (
        "clusters",
        "Clusters",
        "Whether the synapses fall into populations, and what sets those apart.",
        (*CLUSTERS, *CLUSTER_GALLERY, *CLUSTERS_IN_TISSUE),
    ),
)


@dataclass(frozen=True, slots=True)
class Report:
    """A report whose figures are drawn; its page can be written as often as there is news of the run.

    Parameters
    ----------
    title : str
        Title of the page.
    synapses : SynapseTable
        One row a synapse.
    standardised : Standardised
        Brightness of `synapses`, standardised.
    chapters : list of page.Chapter
        The figures.
    seed : int
        Seed of the random choices.
    """

    title: str
    synapses: SynapseTable
    standardised: Standardised
    chapters: list[page.Chapter]
    seed: int

    def write(self, path: Path, facts: RunFacts) -> Path:
        """Write the page, and each figure as a PNG."""
        said = alerts(self.synapses, self.standardised, facts)
        text = page.html(self.title, self.chapters, self.synapses, facts, said, self.seed)
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
) -> Report:
    """Draw the figures of a run."""
    synapses = SynapseTable.of(table)
    standardised = standardise(list(synapses.channels), synapses.brightness())
    subject = Subject(synapses, standardised, facts, overviews, mask_overviews, seed, images or {}, mask_volumes or {})
    chapters = [
        page.Chapter(slug, heading, lead, [show(plot, subject) for plot in plots])
        for slug, heading, lead, plots in _CHAPTERS
    ]
    return Report(title, synapses, standardised, chapters, seed)


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
) -> Path:
    """Write the report of a run: one HTML file, and each figure as a PNG."""
    report = draw_report(
        title=title,
        table=table,
        facts=facts,
        overviews=overviews,
        mask_overviews=mask_overviews,
        images=images,
        mask_volumes=mask_volumes,
        seed=seed,
    )
    return report.write(path, facts)
