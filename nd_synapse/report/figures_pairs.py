"""The pair plot: channels two by two, all synapses as densities and some as points, coloured by cluster."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy.linalg import qr

from nd_synapse.report.captions import TRANSFORMED_AXIS, count, left_out, scale_of, strongest
from nd_synapse.report.clusters import Clusters
from nd_synapse.report.look import ACCENT, INK, PALE, SEQUENTIAL, SERIES, WIDTH_IN, short
from nd_synapse.report.plot import Drawing, Plot, Subject
from nd_synapse.report.spectrum import principal_axes

__all__ = ["PAIR_PLOT"]

_MOST_PAIRED = 6
_MOST_POINTS = 1000
_QUANTILES = (0.002, 0.998)
_MARGIN = 0.03
_LABEL_LETTERS = 66  # bold ones that fit beside each other
_POINT_SIZE = 15.0

Floats = NDArray[np.float64]


def _paired(values: Floats) -> NDArray[np.int64]:
    """Return which columns are shown: all, or the pivots of a QR decomposition of the leading principal axes."""
    # the largest loadings would be columns that correlate with each other
    if values.shape[1] <= _MOST_PAIRED:
        return np.arange(values.shape[1])
    squares, axes = principal_axes(values)
    leading = (axes * np.sqrt(squares))[:, :_MOST_PAIRED].T
    _, pivots = qr(leading, mode="r", pivoting=True)
    return np.sort(pivots[:_MOST_PAIRED]).astype(np.int64)


def _pair_plot(subject: Subject) -> Drawing:
    subject.standardised.need(channels=2)
    clusters = subject.clusters
    chosen = _paired(clusters.values)
    values = clusters.values[:, chosen]
    names = [clusters.names[i] for i in chosen]
    limits = [_limits(column) for column in values.T]
    bins = int(np.clip(round(2 * len(values) ** (1 / 3)), 8, 48))
    places = np.stack([_bins(column, limit, bins) for column, limit in zip(values.T, limits, strict=True)], axis=1)
    shown = _points(clusters, subject.seed)
    colours = _colours(clusters)
    d = len(names)
    # 36 panels are laid out by hand: constrained layout takes seconds for them
    drawn = Figure(figsize=(WIDTH_IN, WIDTH_IN + 0.25))
    grid = drawn.subplots(d, d, squeeze=False)
    top = 0.95 if clusters.number > 1 else 0.99
    drawn.subplots_adjust(left=0.07, right=0.99, bottom=0.08, top=top, wspace=0.08, hspace=0.08)
    for (row, column), axes in np.ndenumerate(grid):
        axes.set_xlim(limits[column])
        if row == column:
            _histograms(axes, places[:, row], clusters, limits[row], bins)
            axes.text(
                0.05,
                0.96,
                short(names[row], _LABEL_LETTERS // d),
                transform=axes.transAxes,
                va="top",
                fontsize=8,
                weight="bold",
            )
        elif row > column:
            _scatter(axes, values[shown][:, [column, row]], clusters.labels[shown], colours, _POINT_SIZE / d)
            axes.set_ylim(limits[row])
        else:
            counts = _counts(places[:, row], places[:, column], bins)
            density = np.where(counts > 0, np.log1p(counts), np.nan)
            extent = (*limits[column], *limits[row])
            axes.imshow(density, cmap=SEQUENTIAL, origin="lower", aspect="auto", extent=extent)
        _ticks(axes, row, column, d)
    drawn.supxlabel(TRANSFORMED_AXIS, y=0.008)
    if clusters.number > 1:
        _legend(drawn, clusters)
    r = np.asarray(np.corrcoef(values.T))
    alt = f"{count(len(values), 'synapse')} in {len(names)} channels, two by two; Pearson's r: {strongest(names, r)}."
    return Drawing(drawn, _caption(subject, d, len(shown)), alt)


def _limits(column: Floats) -> tuple[float, float]:
    low, high = (float(limit) for limit in np.quantile(column, _QUANTILES))
    # values on a limit, such as many zeros, must not be cut by the frame
    margin = _MARGIN * (high - low) if high - low > 1e-9 else 1
    return low - margin, high + margin


def _bins(column: Floats, limits: tuple[float, float], bins: int) -> NDArray[np.int64]:
    """Return the bin of each value between the limits; `bins` for those beyond."""
    low, high = limits
    place = np.floor((column - low) / (high - low) * bins)
    place[column == high] = bins - 1
    return np.where((place >= 0) & (place < bins), place, bins).astype(np.int64)


def _counts(rows: NDArray[np.int64], columns: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Return how many values lie in each cell, shape (bins, bins); several times faster than numpy.histogram2d."""
    side = bins + 1
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)[:bins, :bins]


def _points(clusters: Clusters, seed: int) -> NDArray[np.int64]:
    """Return the rows that are shown as points, in random order so that no cluster hides another."""
    rows = len(clusters.labels)
    return np.random.default_rng(seed).choice(rows, min(rows, _MOST_POINTS), replace=False)


def _colours(clusters: Clusters) -> list[str]:
    return [ACCENT] if clusters.number == 1 else [SERIES[i % len(SERIES)] for i in range(clusters.number)]


def _histograms(
    axes: Axes, place: NDArray[np.int64], clusters: Clusters, limits: tuple[float, float], bins: int
) -> None:
    """Draw the histogram of all synapses in grey, and that of each cluster as a line."""
    edges = np.linspace(*limits, bins + 1)
    every = np.bincount(place, minlength=bins + 1)[:bins]
    axes.stairs(every, edges, fill=True, color=PALE if clusters.number > 1 else ACCENT)
    for i, colour in enumerate(_colours(clusters) if clusters.number > 1 else []):
        mine = np.bincount(place[clusters.labels == i], minlength=bins + 1)[:bins]
        axes.stairs(mine, edges, color=colour, linewidth=1.2)
    axes.set_ylim(0, max(1, every.max()) * 1.3)


def _scatter(axes: Axes, points: Floats, labels: NDArray[np.int8], colours: list[str], size: float) -> None:
    """Draw points of shape (points, 2), x first, in the order of the rows."""
    size *= 1 if len(points) > 200 else 2
    axes.scatter(points[:, 0], points[:, 1], s=size, c=np.array(colours)[labels], alpha=0.8, linewidths=0)


def _legend(drawn: Figure, clusters: Clusters) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=colour, label=f"cluster {i}")
        for i, colour in enumerate(_colours(clusters), 1)
    ]
    drawn.legend(handles=handles, loc="upper left", ncols=len(handles), bbox_to_anchor=(0.06, 1), labelcolor=INK)


def _ticks(axes: Axes, row: int, column: int, d: int) -> None:
    """Show numbers at the left and lower borders only; a histogram's height has no axis."""
    axes.tick_params(length=2, labelsize=7.5)
    axes.spines[:].set_color(PALE)
    for ticks, shown in ((axes.xaxis, row == d - 1), (axes.yaxis, column == 0 and row > 0)):
        ticks.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]) if shown else NullLocator())


def _caption(subject: Subject, d: int, points: int) -> str:
    clusters = subject.clusters
    n = len(clusters.labels)
    of = "All channels"
    if d < len(clusters.names):
        of = f"The {d} of {len(clusters.names)} channels that together show most of how synapses differ"
    some = f"{points:,} of them, drawn at random," if points < n else "the synapses"
    coloured = ", coloured by cluster" if clusters.number > 1 else ""
    lines = " (grey) and of each cluster (lines)" if clusters.number > 1 else ""
    return (
        f"{of}, two by two, for {count(n, 'synapse')}. Below the diagonal: {some} as points{coloured}. Above it: how "
        "many of all synapses lie where (brighter colour: more, on a logarithmic scale; white: none). On it: the "
        f"histogram of all synapses{lines}. {scale_of(clusters.logarithmic)} Axes span little more than the "
        f"0.2 to 99.8 % quantiles.{left_out(subject.standardised)}"
    )


PAIR_PLOT = Plot("pair-plot", "Pair Plot", _pair_plot)
