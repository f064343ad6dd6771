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
from nd_synapse.volumes.volume import Volume

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
        """Write the page, and each figure as a PNG.

        Parameters
        ----------
        path : Path
            The folder; made where it is missing.
        facts : RunFacts
            The run, as far as it is known by now.

        Returns
        -------
        Path
            The HTML file. The same input gives the same bytes.

        Raises
        ------
        StorageError
            If the folder cannot be written.
        """
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
    """Draw the figures of a run.

    Parameters
    ----------
    title : str
        Title of the page; the file is called after it.
    table : mapping of str to array_like, shape (n,)
        See `write_report`.
    facts : RunFacts
        The run; the figures need its box and voxel size.
    overviews : mapping of str to ndarray, shape (y, x)
        See `write_report`.
    mask_overviews : mapping of str to ndarray, shape (y, x)
        See `write_report`.
    images : mapping of str to Volume, optional
        See `write_report`. They are read while this runs, and not kept.
    mask_volumes : mapping of str to Volume, optional
        See `write_report`.
    seed : int
        Seed of every random choice.

    Returns
    -------
    Report
        Ready to be written.

    Raises
    ------
    DataError
        If the columns are neither numbers nor text, or differ in length.
    """
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
    """Write the report of a run: one HTML file, and each figure as a PNG.

    Parameters
    ----------
    path : Path
        The folder; made where it is missing.
    title : str
        Title of the page; the file is called after it.
    table : mapping of str to array_like, shape (n,)
        One row a synapse. Known columns: ``id``, ``centroid_z_voxel`` (absolute; the middle of voxel i is i) and
        ``centroid_z_um`` (that times the voxel size), so for y and x, ``voxels``, ``volume_um3``, ``slices``,
        ``touches_border``, and ``mean_<channel>`` for each channel; without any ``mean_`` column, every other column
        of numbers counts as a channel; ``in_<mask>`` and ``class`` make groups of synapses to compare. None is
        required: a figure whose columns are missing says so in its place.
    facts : RunFacts
        The run.
    overviews : mapping of str to ndarray, shape (y, x)
        Maximum projection over z of each channel, real numbers, binned to about 1024 pixels a side.
    mask_overviews : mapping of str to ndarray, shape (y, x)
        The same of each mask, over the same field; non-zero is synapse.
    images : mapping of str to Volume, shape (z, y, x), optional
        The voxels of each channel in the box of `facts`; without them, figures that show or sample voxels say so.
    mask_volumes : mapping of str to Volume, shape (z, y, x), optional
        The same of each mask; non-zero is synapse.
    seed : int
        Seed of every random choice.

    Returns
    -------
    Path
        The HTML file. The same input gives the same bytes.

    Raises
    ------
    DataError
        If the columns are neither numbers nor text, or differ in length.
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
    )
    return report.write(path, facts)
