"""The PyMeda figures without clusters: how bright the synapses are, channel by channel, under PyMeda's names."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from nd_synapse.report import look
from nd_synapse.report.captions import STANDARDISED, count, left_out, listed, strongest
from nd_synapse.report.look import ACCENT, DIVERGING, INK, QUIET, SEQUENTIAL, SERIES, short, signed
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.spectrum import elbow, principal_axes
from nd_synapse.report.table import NothingToDrawError

__all__ = ["CHANNELS"]

_REPRESENTATIVES = 1000
_LIMIT_SD = 3.0
_RANGE_SD = 5.0
_MOST_IN_CELLS = 14

Floats = NDArray[np.float64]


def _representative(subject: Subject) -> Drawing:
    subject.standardised.need(rows=1)
    names, values = subject.standardised.names, subject.standardised.values
    clusters = subject.clusters
    rows = np.arange(len(values))
    if len(values) > _REPRESENTATIVES:
        rows = np.sort(np.random.default_rng(subject.seed).choice(len(values), _REPRESENTATIVES, replace=False))
    along = values[rows] @ principal_axes(values)[1][:, 0]
    rows = rows[np.lexsort((along, clusters.labels[rows]))]
    sample = values[rows]
    clipped = float((np.abs(sample) > _LIMIT_SD).mean())
    drawn = look.figure(max(1.9, 0.21 * len(names) + 1.1))
    axes = drawn.subplots()
    image = look.heat_map(axes, sample.T, names, cmap=DIVERGING, vmin=-_LIMIT_SD, vmax=_LIMIT_SD, aspect="auto")
    axes.set_xticks([])
    by = "by cluster, then along" if clusters.number > 1 else "along"
    axes.set_xlabel(f"{count(len(sample), 'synapse')}, ordered {by} the first principal component")
    look.colour_bar(drawn, image, axes, "sd from the mean")
    if clusters.number > 1:
        _cluster_strip(axes, clusters.labels[rows], clusters.number)
    whose = "All" if len(sample) == len(values) else f"A uniform random sample of {len(sample):,} of the"
    caption = (
        f"{whose} {count(len(values), 'synapse')}, one a column, one channel a row. {STANDARDISED} Columns are ordered "
        f"{by} the first principal component, so that similar synapses are neighbours. Colours end at ± {_LIMIT_SD:g} "
        f"sd; {100 * clipped:.2g} % of the cells lie beyond.{left_out(subject.standardised)}"
    )
    return Drawing(drawn, caption, _spread(names, sample))


def _spread(names: tuple[str, ...], sample: Floats) -> str:
    """Say in which channels synapses are far brighter than the mean."""
    shares = 100 * (sample > 1).mean(axis=0)
    far = listed(f"{name} {share:.0f} %" for name, share in zip(names, shares, strict=True))
    return f"Heat map of {len(sample):,} synapses; brighter than the mean by more than 1 sd: {far}."


def _cluster_strip(axes: Axes, labels: NDArray[np.int8], number: int) -> None:
    """Mark above a heat map the cluster of its columns, which are ordered by cluster."""
    ends = np.searchsorted(labels, np.arange(number + 1)) - 0.5
    above = axes.get_xaxis_transform()
    for i, (start, stop) in enumerate(pairwise(ends)):
        strip = Rectangle((start, 1.02), stop - start, 0.03, transform=above, color=SERIES[i], linewidth=0)
        strip.set_clip_on(False)
        axes.add_patch(strip)
        if stop - start > len(labels) / 10:
            axes.text((start + stop) / 2, 1.06, f"cluster {i + 1}", transform=above, ha="center", va="bottom")


def _ridge_lines(subject: Subject) -> Drawing:
    subject.standardised.need()
    names, values = subject.standardised.names, subject.standardised.values
    low, high, beyond = _range(values)
    bandwidth = len(values) ** -0.2
    drawn = look.figure(0.42 * len(names) + 1.3)
    axes = drawn.subplots()
    x = np.linspace(low, high, 512)
    peaks = []
    for i, column in enumerate(values.T):
        curve = _smooth_density(column, x, bandwidth)
        peaks.append(f"{names[i]} {signed(float(x[curve.argmax()]))}")
        base, top = -i, 1.45 * curve / curve.max()
        axes.fill_between(x, base, base + top, facecolor=ACCENT, alpha=0.55, linewidth=0, zorder=i)
        axes.plot(x, base + top, color="white", linewidth=2.2, zorder=i)
        axes.plot(x, base + top, color=INK, linewidth=0.9, zorder=i)
        axes.axhline(base, color=QUIET, linewidth=0.5, zorder=i)
    axes.set_yticks([-i for i in range(len(names))], [short(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlabel="Brightness (sd from the channel's mean)", xlim=(low, high), ylim=(-len(names) + 0.85, 1.6))
    axes.axvline(0, color=INK, linewidth=0.7, linestyle=":")
    caption = (
        f"How the brightness of {count(len(values), 'synapse')} is distributed in each channel: Gaussian kernel "
        f"densities of bandwidth {bandwidth:.2g} sd (Scott's rule), each scaled to the same height, so shapes compare "
        f"and heights do not. {STANDARDISED} Two humps hint at two kinds of synapses. {beyond}"
        f"{left_out(subject.standardised)}"
    )
    return Drawing(drawn, caption, f"Density curves, one a channel; they peak at (sd): {listed(peaks)}.")


def _range(values: Floats) -> tuple[float, float, str]:
    """Return the range of brightness that is shown, and a sentence on what lies beyond."""
    low, high = max(-_RANGE_SD, math.floor(values.min())), min(_RANGE_SD, math.ceil(values.max()))
    beyond = 100 * float(((values < low) | (values > high)).mean())
    return low, high, f"Values beyond ± {_RANGE_SD:g} sd ({beyond:.2g} %) are not shown."


def _smooth_density(column: Floats, x: Floats, bandwidth: float) -> Floats:
    """Return the Gaussian kernel density of `column` at the evenly spaced `x`, up to a factor: a smoothed histogram."""
    step = x[1] - x[0]
    pad = math.ceil(4 * bandwidth / step)
    edges = np.arange(-pad, len(x) + pad + 1) * step + x[0] - step / 2
    counts, _ = np.histogram(column, edges)
    smooth: Floats = gaussian_filter1d(counts.astype(np.float64), bandwidth / step, mode="constant", truncate=4)
    return smooth[pad : pad + len(x)]


def _locations(subject: Subject) -> tuple[tuple[str, ...], Floats]:
    """Return the channels with values, and n, mean, standard error, median and MAD, float64 (5, channels)."""
    names, found = [], []
    for name, column in zip(subject.table.channels, subject.table.brightness().T, strict=True):
        values = column[np.isfinite(column)]
        if len(values):
            median = np.median(values)
            error = values.std() / math.sqrt(len(values))
            names.append(name)
            found.append((len(values), values.mean(), error, median, np.median(np.abs(values - median))))
    if not names:
        subject.table.need_rows()
        raise NothingToDrawError("The table has no channel with values.")
    return tuple(names), np.array(found, dtype=np.float64).T


def _location_numbers(names: tuple[str, ...], found: Floats) -> Numbers:
    header = ("Channel", "Synapses", "Mean", "± 1.96 SE", "Median", "± MAD")
    rows = [
        [name, f"{int(n):,}", f"{mean:,.5g}", f"{1.96 * error:,.3g}", f"{median:,.5g}", f"{mad:,.3g}"]
        for name, (n, mean, error, median, mad) in zip(names, found.T, strict=True)
    ]
    return Numbers(header, rows)


def _middles(names: tuple[str, ...], found: Floats) -> str:
    return listed(f"{name} {a:,.3g} and {b:,.3g}" for name, a, b in zip(names, found[1], found[3], strict=True))


def _location_heatmap(subject: Subject) -> Drawing:
    names, found = _locations(subject)
    shown = found[[1, 3]]
    drawn = look.figure(2.1)
    axes = drawn.subplots()
    image = look.heat_map(axes, shown, ("mean", "median"), names, cmap=SEQUENTIAL, aspect="auto")
    if len(names) <= _MOST_IN_CELLS:
        look.write_cells(axes, image, shown, lambda value: f"{value:,.3g}")
    look.colour_bar(drawn, image, axes, "grey values")
    caption = (
        f"Mean and median brightness of {count(subject.table.n, 'synapse')} in each channel, as measured: not "
        "standardised, in the grey values of the images. A mean well above the median means that few "
        "synapses are very bright."
    )
    return Drawing(drawn, caption, f"Mean and median: {_middles(names, found)}.", _location_numbers(names, found))


def _location_lines(subject: Subject) -> Drawing:
    names, found = _locations(subject)
    _, mean, error, median, mad = found
    drawn = look.figure(2.9)
    axes = drawn.subplots()
    x = np.arange(len(names))
    lines = (
        (-0.06, mean, 1.96 * error, "o-", SERIES[0], "mean ± 95 % confidence"),
        (0.06, median, mad, "s--", SERIES[1], "median ± MAD"),
    )
    for shift, middle, spread, form, colour, label in lines:
        axes.errorbar(
            x + shift, middle, spread, fmt=form, color=colour, label=label, linewidth=1.2, markersize=4.5, capsize=2.5
        )
    look.name_channels(axes, names, "x")
    axes.set(ylabel="Brightness (grey values)", xlim=(-0.5, len(names) - 0.5))
    axes.grid(axis="y")
    look.legend_above(axes)
    caption = (
        f"The same numbers as lines, for {count(subject.table.n, 'synapse')}: the mean with its 95 % confidence "
        "interval (1.96 standard errors), which shrinks with the number of synapses, and the median with the median "
        "absolute deviation (MAD), which shows how much synapses differ. Grey values as measured; the line between "
        "channels only guides the eye."
    )
    alt = f"Mean and median as lines: {_middles(names, found)}."
    return Drawing(drawn, caption, alt, _location_numbers(names, found))


def _correlation(subject: Subject) -> Drawing:
    subject.standardised.need(channels=2)
    names, values = subject.standardised.names, subject.standardised.values
    found = np.clip(values.T @ values / len(values), -1, 1)
    d = len(names)
    side = min(5.6, 0.5 * d + 1.5)
    drawn = look.figure(side, square_pixels=True)
    axes = drawn.subplots()
    image = look.heat_map(axes, found, names, names, cmap=DIVERGING, vmin=-1, vmax=1)
    if d <= _MOST_IN_CELLS:
        look.write_cells(axes, image, found, signed)
    look.colour_bar(drawn, image, axes, "Pearson's r")
    caption = (
        "How the brightness in two channels correlates over the synapses: Pearson's r of "
        f"{count(len(values), 'synapse')}, from -1 to 1. Channels in the order of the table."
        f"{left_out(subject.standardised)}"
    )
    numbers = Numbers(
        ("Channel", *names), [[n, *(f"{r:.3f}" for r in row)] for n, row in zip(names, found, strict=True)]
    )
    return Drawing(drawn, caption, f"Correlations of {d} channels: {strongest(names, found)}.", numbers)


def _scree(subject: Subject) -> Drawing:
    subject.standardised.need()
    values = subject.standardised.values
    squares, _ = principal_axes(values)
    shares = 100 * squares / squares.sum()
    together = np.cumsum(shares)
    before = elbow(squares)
    components = np.arange(1, len(shares) + 1)
    drawn = look.figure(2.9)
    axes = drawn.subplots()
    axes.bar(
        components, shares, color=[ACCENT if i <= before else "#9fb8cc" for i in components], width=0.72, label="each"
    )
    axes.plot(components, together, "o-", color=SERIES[1], linewidth=1.2, markersize=3.5, label="sum")
    axes.set(xlabel="Principal component", ylabel="Variance (%)", ylim=(0, 105), xlim=(0.4, len(shares) + 0.6))
    axes.set_xticks(components[:: math.ceil(len(shares) / 16)])
    axes.grid(axis="y")
    look.legend_above(axes)
    words = f" Dark bars come before the elbow ({count(before, 'component')}, by profile likelihood)." if before else ""
    caption = (
        f"How many independent directions {count(len(values), 'synapse')} vary in: share of the variance along each "
        "principal component of the standardised channels (squared singular values over their sum), and their running "
        f"sum.{words}{left_out(subject.standardised)}"
    )
    rows = [[str(i), f"{a:.2f}", f"{b:.2f}"] for i, a, b in zip(components, shares, together, strict=True)]
    alt = f"Variance along each principal component: {listed(f'{share:.0f} %' for share in shares)}."
    return Drawing(drawn, caption, alt, Numbers(("Component", "Variance (%)", "Sum (%)"), rows))


CHANNELS = (
    Plot("representative-heatmap", "Representative Heatmap", _representative),
    Plot("ridge-line", "Ridge Line Plot", _ridge_lines),
    Plot("location-heatmap", "Location Heatmap", _location_heatmap),
    Plot("location-lines", "Location Lines", _location_lines),
    Plot("correlation-matrix", "Correlation Matrix", _correlation),
    Plot("scree", "Scree Plot", _scree),
)
"""The figures of the channels in the order of the page."""
