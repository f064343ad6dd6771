"""The figures of groups of synapses: masks and classes side by side, clusters by depth."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nd_synapse.detection.density import Count
from nd_synapse.report import look
from nd_synapse.report.captions import count, listed
from nd_synapse.report.depth import layers
from nd_synapse.report.look import INK, MARKS, QUIET, SERIES, short
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.populations import MOST_LAYERS, several, uneven
from nd_synapse.report.table import NothingToDrawError, SynapseTable

__all__ = ["CLUSTERS_IN_TISSUE", "GROUPS"]

_MOST_GROUPS = 6
_FEWEST_IN_GROUP = 20

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def _has_depths(table: SynapseTable) -> bool:
    try:
        return len(table.positions("z")[0]) > 0
    except NothingToDrawError:
        return False


def _groups(subject: Subject) -> Drawing:
    table = subject.table
    table.need_rows()
    # one that holds all synapses is no other group
    others = [(name, rows) for name, rows in table.groups.items() if table.group_sizes[name] < table.whole.n]
    groups = dict(others[: _MOST_GROUPS - 1])
    if not groups:
        raise NothingToDrawError("All synapses are in one mask and of one class; there is nothing to compare.")
    whole = "all" if len(subject.masks) < 2 else next(iter(subject.masks))
    groups = {whole: np.ones(table.n, dtype=bool), **{name: rows for name, rows in groups.items() if name != whole}}
    sized, deep = table.has("voxels") or table.has("volume_um3"), _has_depths(table)
    bright = bool(len(subject.standardised.names)) and len(subject.standardised.values) > 1
    heights = [0.9 + 0.3 * len(groups), 2.6][: 2 if deep or bright else 1]
    drawn = look.figure(sum(heights))
    figures = drawn.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    upper = list(figures[0].subplots(1, 1 + sized, squeeze=False).flat)
    _group_counts(upper[0], subject, groups)
    if sized:
        _group_sizes(upper[1], subject, groups)
    if deep or bright:
        lower = iter(figures[1].subplots(1, deep + bright, squeeze=False).flat)
        if deep:
            _group_depths(next(lower), subject, groups)
        if bright:
            _group_brightness(next(lower), subject, groups)
    caption = _group_caption(subject, sized, deep, bright, len(_drawn(groups)) < len(groups))
    alt = f"Groups side by side: {listed(f'{name} {n:,}' for name, n in _sizes(subject, groups).items())}."
    return Drawing(drawn, caption, alt, _group_numbers(subject, groups))


def _group_caption(subject: Subject, sized: bool, deep: bool, bright: bool, small: bool) -> str:
    density = ", and per µm³ of the box" if subject.facts.volume_um3 else ""
    words = (
        f"The masks and classes of {count(subject.table.whole.n, 'synapse')} side by side. Number: how many belong to "
        f"each (a synapse may belong to several){density}."
    )
    if sized:
        words += " Size: median (mark), middle half (thick line) and 5 to 95 % (thin line)."
    if deep:
        words += " Depth: where along z each group lies, every curve summing to 100 %."
    if bright:
        words += (
            " Brightness: mean of each group in each channel, in standard deviations from the mean of all synapses "
            "(0); lines span the 95 % confidence interval."
        )
    if small:
        words += f" Groups of fewer than {_FEWEST_IN_GROUP} synapses are counted only."
    return words


def _drawn(groups: dict[str, Bools]) -> list[tuple[int, Bools]]:
    """Return index and rows of the first group, and of all others that are large enough to be drawn."""
    return [(i, rows) for i, rows in enumerate(groups.values()) if i == 0 or int(rows.sum()) >= _FEWEST_IN_GROUP]


def _sizes(subject: Subject, groups: dict[str, Bools]) -> dict[str, int]:
    """Return how many rows of the whole table are in each group, of which the first is all."""
    table = subject.table
    return {name: table.group_sizes[name] if i else table.whole.n for i, name in enumerate(groups)}


def _styles(subject: Subject, groups: dict[str, Bools]) -> list[dict[str, str]]:
    """Return colour and mark of each group; all synapses together are no mask or class, and black."""
    return [
        {"color": subject.group_colours.get(name, INK), "marker": mark}
        for name, mark in zip(groups, MARKS, strict=False)
    ]


def _group_counts(axes: Axes, subject: Subject, groups: dict[str, Bools]) -> None:
    counts = list(_sizes(subject, groups).values())
    axes.barh(range(len(counts)), counts, color=[style["color"] for style in _styles(subject, groups)], height=0.62)
    volume = subject.facts.volume_um3
    for i, n in enumerate(counts):
        text = f" {n:,}" if volume is None else f" {n:,}  ({Count(n, volume)} per µm³)"
        axes.text(n, i, text, va="center", fontsize=7.5)
    axes.set_yticks(range(len(groups)), [short(name, 14) for name in groups])
    axes.set(title="Number", xlabel="Synapses", xlim=(0, 1.9 * max(*counts, 1)), ylim=(len(groups) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _group_sizes(axes: Axes, subject: Subject, groups: dict[str, Bools]) -> None:
    styles = _styles(subject, groups)
    name, unit = subject.table.size_column()
    sizes = subject.table.columns[name].astype(np.float64)
    low, high = math.inf, 0.0
    for i, rows in _drawn(groups):
        found = sizes[rows & np.isfinite(sizes) & (sizes > 0)]
        if len(found):
            q05, q25, q50, q75, q95 = np.quantile(found, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
            low, high = min(low, q05), max(high, q95)
            colour = styles[i]["color"]
            axes.plot([q05, q95], [i, i], color=colour, linewidth=1)
            axes.plot([q25, q75], [i, i], color=colour, linewidth=4, solid_capstyle="butt")
            axes.plot(q50, i, marker=styles[i]["marker"], color=colour, markersize=6, markeredgecolor="white")
    if high > 0:
        look.label_log_axis(axes, low / 1.3, high * 1.3)
    axes.set(title="Size", xlabel=f"Size ({unit}, log scale)", yticks=[], ylim=(len(groups) - 0.4, -0.6))


def _group_depths(axes: Axes, subject: Subject, groups: dict[str, Bools]) -> None:
    styles = _styles(subject, groups)
    cut = layers(subject.table, subject.facts, MOST_LAYERS)
    for i, rows in _drawn(groups):
        found = cut.counts(rows)
        share = 100 * found / max(int(found.sum()), 1)
        colour, mark = styles[i]["color"], styles[i]["marker"]
        axes.plot(cut.middles, share, color=colour, marker=mark, markersize=3.2, linewidth=1.2)
    axes.set(title="Depth", xlabel=f"Depth z ({cut.unit})", ylabel="Share of the group (%)")
    axes.set_xlim(cut.edges[0], cut.edges[-1])
    axes.set_ylim(0)


def _group_brightness(axes: Axes, subject: Subject, groups: dict[str, Bools]) -> None:
    styles = _styles(subject, groups)
    names, values = subject.standardised.names, subject.standardised.values
    x = np.arange(len(names))
    for i, rows in _drawn(groups):
        found = values[rows[subject.standardised.rows]]
        if len(found):
            error = 1.96 * found.std(axis=0) / math.sqrt(len(found))
            shift = (i - (len(groups) - 1) / 2) * 0.6 / len(groups)
            axes.errorbar(
                x + shift, found.mean(axis=0), error, fmt=styles[i]["marker"], color=styles[i]["color"], markersize=4
            )
    axes.axhline(0, color=QUIET, linewidth=0.7)
    axes.set(title="Brightness", ylabel="sd from the mean of all", xlim=(-0.5, len(names) - 0.5))
    look.name_channels(axes, names, "x")
    if len(names) > 6:
        axes.tick_params(axis="x", labelrotation=90, labelsize=max(4.5, 8 - len(names) / 8))


def _group_numbers(subject: Subject, groups: dict[str, Bools]) -> Numbers:
    volume, channels = subject.facts.volume_um3, subject.standardised.names
    rows = []
    for (name, members), n in zip(groups.items(), _sizes(subject, groups).values(), strict=True):
        row = [name, f"{n:,}", f"{100 * n / subject.table.whole.n:.1f} %"]
        if volume is not None:
            row.append(str(Count(n, volume)))
        found = subject.standardised.values[members[subject.standardised.rows]]
        row += [f"{mean:+.3f}" for mean in found.mean(axis=0)] if len(found) else [""] * len(channels)
        rows.append(row)
    density = [] if volume is None else ["Per µm³"]
    return Numbers(("Group", "Synapses", "Share", *density, *(f"{channel} (sd)" for channel in channels)), rows)


def _ends(shares: Floats) -> list[tuple[float, float]]:
    """Return the least and the largest of each row; NaN counts as nothing."""
    return [(float(np.nanmin(row)), float(np.nanmax(row))) for row in shares]


def _clusters_by_depth(subject: Subject) -> Drawing:
    subject.table.need_rows()
    subject.table.positions("z")
    clusters = several(subject)
    labels = clusters.of_all_rows()
    cut = layers(subject.table, subject.facts, MOST_LAYERS)
    counts = np.stack([cut.counts(labels == i) for i in range(clusters.number)])
    together = counts.sum(axis=0)
    shares = np.divide(counts, together, out=np.full(counts.shape, np.nan), where=together > 0)
    band = 2 * np.sqrt(shares * (1 - shares) / np.maximum(together, 1))
    drawn = look.figure(2.9)
    axes = drawn.subplots()
    for i, (share, wide) in enumerate(zip(100 * shares, 100 * band, strict=True)):
        colour = SERIES[i % len(SERIES)]
        axes.fill_between(cut.middles, share - wide, share + wide, color=colour, alpha=0.18, linewidth=0)
        mark = MARKS[i % len(MARKS)]
        axes.plot(cut.middles, share, color=colour, marker=mark, markersize=4, linewidth=1.2, label=f"cluster {i + 1}")
    axes.set(xlabel=f"Depth z ({cut.unit})", ylabel="Share of the synapses there (%)")
    axes.set_xlim(cut.edges[0], cut.edges[-1])
    odd = listed(str(i + 1) for i in np.flatnonzero(uneven(counts)))
    verdict = f" Cluster {odd} differs too much to be a kind of synapse." if odd else " None differs too much."
    axes.set_ylim(0, min(105, float(np.nanmax(100 * (shares + band))) * 1.08))
    look.legend_above(axes)
    caption = (
        "Whether the clusters are equally frequent at all depths: their shares of the "
        f"{count(int(together.sum()), 'synapse')} in each {cut.name}, with a band of ± 2 standard errors, the scatter "
        "by chance alone. Populations of synapses seldom depend on depth within a few micrometres; staining, "
        f"focus and the border of the box do.{verdict}"
    )
    rows = [
        [f"{low:,.5g}", f"{high:,.5g}", *(f"{n:,}" for n in column)]
        for low, high, column in zip(cut.edges[:-1], cut.edges[1:], counts.T, strict=True)
    ]
    header = ("From", f"to ({cut.unit})", *(f"cluster {i + 1}" for i in range(clusters.number)))
    of = (f"cluster {i + 1} {low:.0f} to {high:.0f} %" for i, (low, high) in enumerate(_ends(100 * shares)))
    alt = f"Shares of the clusters along z: {listed(of)}."
    return Drawing(drawn, caption, alt, Numbers(header, rows))


GROUPS = (Plot("groups", "Masks and classes side by side", _groups),)
"""The figures of the groups in the table."""

CLUSTERS_IN_TISSUE = (Plot("clusters-by-depth", "Clusters by depth", _clusters_by_depth),)
"""Where the clusters lie; it follows the figures that explain them."""
