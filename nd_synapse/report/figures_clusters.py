"""The PyMeda figures of the clusters: how the synapses fall into populations, and how those differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from nd_synapse.report import look, mixtures
from nd_synapse.report.captions import TRANSFORMED_AXIS, count, fitted_rows, left_out, listed, scale_of
from nd_synapse.report.clusters import Clusters
from nd_synapse.report.figures_pairs import PAIR_PLOT
from nd_synapse.report.look import DIVERGING, INK, MARKS, QUIET, SERIES, short, signed
from nd_synapse.report.mixtures import Node
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.populations import several
from nd_synapse.report.table import NothingToDrawError

__all__ = ["CLUSTERS"]

_INNER = "#9aa7b4"
_GAP = 0.045
_BAR = 0.035
_PALE = 0.35
_ORDINALS = ("first split", "second split", "third split")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A node of the tree with its place in the figure: its leaves are those from `first` to before `stop`."""

    node: Node
    level: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """The name of its clusters, which count from 1."""
        if self.stop - self.first == 1:
            return f"cluster {self.stop}"
        return f"clusters {self.first + 1}\N{EN DASH}{self.stop}"

    @property
    def parts(self) -> list[_Branch]:
        """The branches that it was split into."""
        found, first = [], self.first
        for part in self.node.parts:
            stop = first + len(mixtures.leaves(part))
            found.append(_Branch(part, self.level + 1, first, stop))
            first = stop
        return found

    def all(self) -> Iterator[_Branch]:
        """Yield this branch and those below it, from the root down, left before right."""
        yield self
        for part in self.parts:
            yield from part.all()


def _root(clusters: Clusters) -> _Branch:
    return _Branch(clusters.tree, 0, 0, clusters.number)


def _why_one(subject: Subject, clusters: Clusters) -> str:
    """Return why the synapses are one cluster, in sentences."""
    gain, scale = clusters.tree.gain, f"{_scales(clusters)}{left_out(subject.standardised)}"
    criterion = "" if gain is None else f" (gain in the Bayesian information criterion: {_whole(gain)})"
    return (
        f"One population: {_why_whole(clusters.tree, clusters)}{criterion}. Considered: brightness in "
        f"{count(len(clusters.names), 'channel')}, of {fitted_rows(clusters, subject.seed)}. {scale}"
    )


def _why_whole(node: Node, clusters: Clusters) -> str:
    """Return why a node was not split, without a full stop."""
    least = mixtures.smallest_part(len(clusters.names))
    if node.gain is None and node.rows < 2 * least:
        return f"a split needs {2 * least} fitted synapses, there are {node.rows:,}"
    if node.gain is not None and node.gain < mixtures.least_gain(node.rows):
        return "two Gaussians describe it no better than one"
    if node.gain is not None and node.distance_sd < mixtures.LEAST_DISTANCE_SD:
        return f"two Gaussians would differ in spread and not in mean ({node.distance_sd:.1f} sd apart)"
    if node.gain is not None and node.smaller < least:
        return f"the smaller part would have {node.smaller} fitted synapses, fewer than {least}"
    return f"there are {mixtures.MOST_LEAVES} clusters already"


def _whole(number: float) -> str:
    return f"{round(number):,}".replace("-", "\N{MINUS SIGN}")


def _colour(branch: _Branch) -> str:
    return SERIES[branch.first % len(SERIES)] if branch.stop - branch.first == 1 else _INNER


def _dendrogram(subject: Subject) -> Drawing:
    subject.standardised.need()
    clusters = subject.clusters
    if clusters.number == 1:
        raise NothingToDrawError(_why_one(subject, clusters))
    shares = clusters.sizes / len(clusters.labels)
    root = _root(clusters)
    levels = max(branch.level for branch in root.all())
    drawn = look.figure(3.3)
    axes = drawn.subplots()
    places = _places(shares)
    for branch in root.all():
        _draw_branch(axes, branch, places, levels, clusters)
    axes.set_xticks(range(levels + 1), ["all synapses", *_ORDINALS[:levels]])
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.02, levels + 0.3 * levels + 0.1), ylim=(places[-1][1] + 0.02, -0.02), yticks=[])
    look.without_frame(axes)
    alt = f"Tree of splits that ends in {clusters.number} clusters of {listed(f'{n:,}' for n in clusters.sizes)}."
    return Drawing(drawn, _tree_caption(subject, clusters), alt, _tree_numbers(clusters))


def _places(shares: Floats) -> list[tuple[float, float]]:
    """Return where each cluster starts and ends from top to bottom: as high as its share, with gaps between."""
    stops = np.cumsum(shares + _GAP) - _GAP
    return [(float(stop - share), float(stop)) for share, stop in zip(shares, stops, strict=True)]


def _draw_branch(
    axes: Axes, branch: _Branch, places: Sequence[tuple[float, float]], levels: int, clusters: Clusters
) -> None:
    """Draw a bar as high as the branch's share, and a band to each of its parts or to the right end."""
    top, height = _bar(branch, places)
    end = branch.level if branch.node.parts else levels
    width = end - branch.level - _BAR
    axes.add_patch(
        Rectangle((branch.level + _BAR, top), width, height, color=_colour(branch), alpha=_PALE, linewidth=0)
    )
    for level in {branch.level, end}:
        axes.add_patch(Rectangle((level, top), _BAR, height, color=_colour(branch), linewidth=0))
    taken = top
    for part in branch.parts:
        part_top, part_height = _bar(part, places)
        band = _band((branch.level + _BAR, taken), (part.level, part_top), part_height)
        axes.add_patch(PathPatch(band, color=_colour(part), alpha=_PALE, linewidth=0))
        taken += part_height
    size = int(clusters.sizes[branch.first : branch.stop].sum())
    share = f"{100 * size / len(clusters.labels):.3g} %"
    middle = top + height / 2
    if branch.node.parts:
        text = f"{size:,}\nBIC gain {_whole(branch.node.gain or 0)}\n{branch.node.distance_sd:.1f} sd apart"
        axes.text(branch.level + 0.06, middle, text, va="center", fontsize=8, color=INK)
    else:
        axes.text(end + 0.06, middle, f"{branch.name}: {size:,} ({share})", va="center", fontsize=8.5, weight="bold")


def _bar(branch: _Branch, places: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the upper end and the height of a branch, centred on its clusters."""
    mine = places[branch.first : branch.stop]
    height = sum(stop - start for start, stop in mine)
    return (mine[0][0] + mine[-1][1] - height) / 2, height


def _band(start: tuple[float, float], stop: tuple[float, float], height: float) -> Path:
    """Return a curved band from the upper left point `start` to the upper right point `stop`."""
    (x0, y0), (x1, y1) = start, stop
    middle = (x0 + x1) / 2
    upper = [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
    lower = [(x1, y1 + height), (middle, y1 + height), (middle, y0 + height), (x0, y0 + height)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3]
    return Path([*upper, *lower], codes)


def _tree_caption(subject: Subject, clusters: Clusters) -> str:
    least = mixtures.smallest_part(len(clusters.names))
    scale = _scales(clusters)
    return (
        f"How {count(len(clusters.labels), 'synapse')} fall into {clusters.number} populations by their brightness in "
        f"{count(len(clusters.names), 'channel')}. Read from left to right: a bar is as high as its share of the "
        "synapses. It is split in two where two Gaussians of any shape describe it better than one: the Bayesian "
        f"information criterion (BIC) gains {mixtures.LEAST_GAIN:g} or more, and {mixtures.LEAST_GAIN_PER_ROW:g} or "
        f"more a fitted synapse; the means of the parts lie {mixtures.LEAST_DISTANCE_SD:g} standard deviation (sd) or "
        f"more apart, and either part keeps at least {least} of the fitted synapses. The split that gains most comes "
        f"first, until there are {mixtures.MOST_LEAVES} clusters. Fitted to {fitted_rows(clusters, subject.seed)}; "
        f"every synapse then goes to the likelier part. {scale}{left_out(subject.standardised)}"
    )


def _scales(clusters: Clusters) -> str:
    """Return a sentence on the channels that were transformed."""
    if len(clusters.labels) < 2 * mixtures.smallest_part(len(clusters.names)):
        return "Brightness was taken as measured."
    by_log = [name for name, log in zip(clusters.names, clusters.logarithmic, strict=True) if log]
    if not by_log:
        return "Brightness was taken as measured: a logarithm improves no channel."
    which = "all channels" if len(by_log) == len(clusters.names) else ", ".join(by_log)
    return (
        f"Before, {which} were brought to a logarithmic scale with an offset of its own: a long tail of bright "
        "synapses is no population."
    )


def _tree_numbers(clusters: Clusters) -> Numbers:
    rows = []
    for branch in _root(clusters).all():
        size = int(clusters.sizes[branch.first : branch.stop].sum())
        gain = "" if branch.node.gain is None else _whole(branch.node.gain)
        parts = " and ".join(part.name for part in branch.parts)
        outcome = f"split into {parts}" if parts else f"whole: {_why_whole(branch.node, clusters)}"
        distance = "" if branch.node.gain is None else f"{branch.node.distance_sd:.2f}"
        rows.append([branch.name, f"{size:,}", f"{100 * size / len(clusters.labels):.2f}", gain, distance, outcome])
    header = ("Population", "Synapses", "Share (%)", "BIC gain of a split", "Distance of its parts (sd)", "Outcome")
    return Numbers(header, rows)


def _stacked_means(subject: Subject) -> Drawing:
    clusters = several(subject)
    branches = list(_root(clusters).all())
    levels = max(branch.level for branch in branches)
    blocks = [_at_level(branches, level) for level in range(1, levels + 1)]
    d = len(clusters.names)
    drawn = look.figure(levels * max(1.0, 0.16 * d + 0.35) + 0.6)
    grid = drawn.subplots(levels, 1, squeeze=False, sharex=True)[:, 0]
    limit = _limit(clusters.means())
    for axes, block, name in zip(grid, blocks, _ORDINALS, strict=False):
        means, sizes = _merged(clusters, block)
        edges = 100 * np.concatenate([[0], np.cumsum(sizes)]) / sizes.sum()
        mapped = axes.pcolormesh(edges, np.arange(d + 1) - 0.5, means.T, cmap=DIVERGING, vmin=-limit, vmax=limit)
        axes.invert_yaxis()
        look.name_channels(axes, clusters.names, "y")
        axes.tick_params(axis="y", length=0, labelsize=8 if d <= 16 else 7)
        axes.vlines(edges[1:-1], -0.5, d - 0.5, color="white", linewidth=1.5)
        axes.spines[:].set_visible(False)
        for branch, left, right in zip(block, edges, edges[1:], strict=False):
            if right - left > 4:
                label = branch.name if right - left > 14 else branch.name.split()[1]
                axes.text((left + right) / 2, -0.6, label, ha="center", va="bottom", fontsize=8)
        axes.set_ylabel(name, color=QUIET)
    grid[-1].set_xlabel("Share of the synapses (%)")
    look.colour_bar(drawn, mapped, list(grid), "mean (sd)")
    caption = (
        "How the populations differ, split by split: each column is a population, as wide as its share of "
        f"{count(len(clusters.labels), 'synapse')}, and its colours are the mean brightness in each channel. Red: "
        f"brighter than the mean of all synapses, blue: dimmer. {scale_of(clusters.logarithmic)}"
        f"{left_out(subject.standardised)}"
    )
    alt = f"Mean brightness of the populations after each of {count(levels, 'split')}: {_marked(clusters)}."
    return Drawing(drawn, caption, alt)


def _at_level(branches: Sequence[_Branch], level: int) -> list[_Branch]:
    """Return the populations after so many splits: branches of that level, and leaves above it."""
    found = [b for b in branches if b.level == level or (b.level < level and not b.node.parts)]
    return sorted(found, key=lambda branch: branch.first)


def _merged(clusters: Clusters, block: Sequence[_Branch]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the mean of each branch, shape (branches, channels), and its synapses, shape (branches,)."""
    sums = np.nan_to_num(clusters.means()) * clusters.sizes[:, np.newaxis]
    sizes = np.array([clusters.sizes[b.first : b.stop].sum() for b in block])
    return np.stack([sums[b.first : b.stop].sum(axis=0) for b in block]) / np.maximum(sizes, 1)[:, np.newaxis], sizes


def _limit(means: Floats) -> float:
    """Return the limit of the colours: the largest mean, rounded up to half a standard deviation."""
    return max(0.5, math.ceil(2 * float(np.nanmax(np.abs(means)))) / 2)


def _marked(clusters: Clusters) -> str:
    """Name for each cluster the channel in which it differs most from the mean of all synapses."""
    found = []
    for i, means in enumerate(np.nan_to_num(clusters.means())):
        j = int(np.abs(means).argmax())
        found.append(f"cluster {i + 1} {clusters.names[j]} {signed(float(means[j]))} sd")
    return ", ".join(found)


def _mean_numbers(clusters: Clusters) -> Numbers:
    spreads = [clusters.values[clusters.labels == i].std(axis=0) for i in range(clusters.number)]
    rows = [
        [
            name,
            *(f"{signed(mean[j])} ± {spread[j]:.2f}" for mean, spread in zip(clusters.means(), spreads, strict=True)),
        ]
        for j, name in enumerate(clusters.names)
    ]
    return Numbers(("Channel: mean ± sd", *(f"Cluster {i + 1}" for i in range(clusters.number))), rows)


def _mean_heatmap(subject: Subject) -> Drawing:
    clusters = several(subject)
    means = clusters.means()
    limit = _limit(means)
    d = len(clusters.names)
    drawn = look.figure(max(1.9, 0.22 * d + 1.0))
    axes = drawn.subplots()
    image = look.heat_map(axes, means.T, clusters.names, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    shares = 100 * clusters.sizes / len(clusters.labels)
    labels = [
        f"cluster {i + 1}\n{n:,} ({share:.3g} %)"
        for i, (n, share) in enumerate(zip(clusters.sizes, shares, strict=True))
    ]
    axes.set_xticks(range(clusters.number), labels)
    axes.vlines(np.arange(1, clusters.number) - 0.5, -0.5, d - 0.5, color="white", linewidth=1.5)
    look.write_cells(axes, image, means.T, signed)
    look.colour_bar(drawn, image, axes, "mean (sd)")
    caption = (
        f"Mean brightness of the {clusters.number} clusters in each channel, in numbers; all columns are equally wide, "
        f"so that small clusters can be read. Red: brighter than the mean of {count(len(clusters.labels), 'synapse')}, "
        f"blue: dimmer. {scale_of(clusters.logarithmic)}{left_out(subject.standardised)}"
    )
    return Drawing(drawn, caption, f"Means by channel: {_marked(clusters)}.", _mean_numbers(clusters))


def _mean_lines(subject: Subject) -> Drawing:
    clusters = several(subject)
    d = len(clusters.names)
    shares = clusters.sizes / len(clusters.labels)
    drawn = look.figure(max(2.4, 0.24 * d + 1.1))
    axes = drawn.subplots()
    for i, mean in enumerate(clusters.means()):
        label = f"cluster {i + 1} ({100 * shares[i]:.3g} %)"
        width = 0.8 + 3 * math.sqrt(shares[i])
        axes.plot(mean, range(d), color=SERIES[i], marker=MARKS[i], markersize=5.5, linewidth=width, label=label)
    axes.axvline(0, color=INK, linewidth=0.7, linestyle=":")
    axes.set_yticks(range(d), [short(name) for name in clusters.names])
    axes.set(xlabel=f"Mean {TRANSFORMED_AXIS[0].lower()}{TRANSFORMED_AXIS[1:]}", ylim=(d - 0.6, -0.4))
    axes.grid(axis="both")
    axes.tick_params(axis="y", length=0)
    look.legend_above(axes)
    caption = (
        f"The same means as lines, one for each cluster of {count(len(clusters.labels), 'synapse')}; a thicker line is "
        "a larger cluster, and the line between channels only guides the eye. Where lines are far apart, the channel "
        f"separates the clusters. {scale_of(clusters.logarithmic)}{left_out(subject.standardised)}"
    )
    return Drawing(drawn, caption, f"Means as lines: {_marked(clusters)}.", _mean_numbers(clusters))


CLUSTERS = (
    Plot("dendrogram", "Hierarchical GMM Dendrogram", _dendrogram),
    PAIR_PLOT,
    Plot("cluster-stacked-means", "Cluster Stacked Means", _stacked_means),
    Plot("cluster-mean-heatmap", "Cluster Mean Heatmap", _mean_heatmap),
    Plot("cluster-mean-lines", "Cluster Mean Lines", _mean_lines),
)
"""The figures of the clusters in the order of the page."""
