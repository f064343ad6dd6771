"""The figures of the detections: masks on the images, sizes, depth, density map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nd_synapse.detection.density import Count
from nd_synapse.report import look
from nd_synapse.report.captions import count, listed, quantile_rows
from nd_synapse.report.depth import Layers, layers
from nd_synapse.report.fields import grey_range
from nd_synapse.report.figures_map import MAP
from nd_synapse.report.look import ACCENT, INK, SERIES, WIDTH_IN, short
from nd_synapse.report.outlines import enlarged, grey, paint_outlines
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["DETECTIONS", "IMAGES"]

_MOST_DEPTH_BINS = 60
_DETAIL_SHARE = 5  # the side of the projection over that of the detail
_ENLARGED = 3  # pixels a pixel of the detail, between which its outlines run
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)

Extent = tuple[float, float, float, float]
Part = tuple[slice, slice]


def _image_extent(subject: Subject, shape: tuple[int, ...]) -> tuple[Extent, str]:
    """Return left, right, bottom, top of a projection, and their unit."""
    for unit in ("µm", "voxels"):
        x, y = subject.facts.extent("x", unit), subject.facts.extent("y", unit)
        if x and y:
            return (*x, y[1], y[0]), unit
    return (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), "pixels of the projection"


def _grid(panels: int, aspect: float, extra_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of equal panels of this height per width."""
    rows, columns = look.panel_grid(panels)
    panel_in = (WIDTH_IN - 0.5) / columns
    drawn = look.figure(rows * (panel_in * min(max(aspect, 0.2), 2.0) + 0.28) + extra_in, square_pixels=True)
    grid = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[panels:]:
        axes.set_axis_off()
    return drawn, list(grid.flat[:panels])


def _first(subject: Subject) -> NDArray[Any]:
    """Return the first projection (y, x)."""
    if not subject.overviews:
        raise NothingToDrawError("The report was drawn without projections of the images.")
    return next(iter(subject.overviews.values()))


def _panels(subject: Subject, part: Part, by: int) -> tuple[Figure, list[Axes], str]:
    """Draw a part of each projection in grey with the outlines; return figure, panels and the unit of the axes."""
    first = _first(subject)
    extent, unit = _image_extent(subject, first.shape)
    extent = _extent_of(part, extent, first.shape)
    aspect = abs((extent[2] - extent[3]) / (extent[1] - extent[0]))
    drawn, panels = _grid(len(subject.overviews), aspect, extra_in=0.75)
    masks = [enlarged(np.asarray(mask[part]) != 0, (by, by)) for mask in subject.masks.values()]
    colours = [subject.group_colours[name] for name in subject.masks]
    for axes, (name, image) in zip(panels, subject.overviews.items(), strict=True):
        shown = enlarged(grey(image[part], *grey_range(image, 0.005, 0.998)), (by, by))
        paint_outlines(shown, masks, colours)
        axes.imshow(shown, extent=extent, interpolation="antialiased")
        axes.set_title(short(name, 30))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=2)
        for ticks in (axes.xaxis, axes.yaxis):
            ticks.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.label_outer()
    drawn.supxlabel(f"x ({unit})")
    drawn.supylabel(f"y ({unit})")
    handles = [
        Line2D([], [], color=colour, linewidth=2.5, label=short(name, 40))
        for name, colour in zip(subject.masks, colours, strict=True)
    ]
    if handles:
        columns = look.legend_columns([short(name, 40) for name in subject.masks])
        drawn.legend(handles=handles, loc="outside upper left", ncols=columns, labelcolor=INK)
    return drawn, panels, unit


def _extent_of(part: Part, extent: Extent, shape: tuple[int, ...]) -> Extent:
    """Return the extent of a part (y, x) of a projection of this extent and shape."""
    left, right, bottom, top = extent
    x = [left + (right - left) * edge / shape[1] for edge in (part[1].start, part[1].stop)]
    y = [top + (bottom - top) * edge / shape[0] for edge in (part[0].stop, part[0].start)]
    return (x[0], x[1], y[0], y[1])


def _masks_in_words(subject: Subject) -> str:
    names = [f"“{short(name, 40)}”" for name in subject.masks]
    return f"Mask outlines: {', '.join(names)}." if names else "There is no mask."


def _objects(subject: Subject) -> str:
    """Return how many objects there are, and of which masks."""
    masks = f" in the masks {listed(subject.masks)}" if len(subject.masks) > 1 else ""
    return f"{count(subject.table.whole.n, 'object')}{masks}"


def _by_chance(subject: Subject) -> str:
    """Return how many detections are expected by chance, in words; empty where that is not known."""
    chance = subject.facts.chance
    return "" if chance.reason else f" {chance.words(subject.table.whole.n)} {chance.limits}"


def _whole_field(subject: Subject) -> Drawing:
    height, width = _first(subject).shape
    drawn, panels, unit = _panels(subject, (slice(0, height), slice(0, width)), by=1)
    caption = (
        f"{count(len(panels), 'channel')} of the searched box seen from above: at each pixel the brightest voxel of "
        f"all sections (maximum projection over z). {_masks_in_words(subject)} Masks are projected in the same way, so "
        "objects above each other merge. Grey runs from the channel's 0.5 % to its 99.8 % quantile; axes are absolute "
        f"positions in {unit}.{_by_chance(subject)}"
    )
    alt = f"Grey projections of {listed(subject.overviews)}, with the outlines of {_objects(subject)}."
    return Drawing(drawn, caption, alt)


def _typical_tile(mask: NDArray[Any]) -> Part:
    """Return the tile (y, x) whose mask area is the median of those with any; the central tile without a mask."""
    height, width = (max(n // _DETAIL_SHARE, min(n, 32)) for n in mask.shape)
    tiles = [
        (slice(y, y + height), slice(x, x + width))
        for y in range(0, mask.shape[0] - height + 1, height)
        for x in range(0, mask.shape[1] - width + 1, width)
    ]
    areas = [int(np.count_nonzero(mask[tile])) for tile in tiles]
    some = sorted((area, i) for i, area in enumerate(areas) if area)
    return tiles[some[len(some) // 2][1] if some else len(tiles) // 2]


def _detail(subject: Subject) -> Drawing:
    first = _first(subject)
    mask = next(iter(subject.masks.values()), np.zeros(first.shape, dtype=np.uint8))
    part = _typical_tile(mask)
    drawn, _, unit = _panels(subject, part, _ENLARGED)
    caption = (
        "A part of the projections above, enlarged: of all tiles of a fifth of the projection's width, the one whose "
        f"mask area is the median of those with any. {_masks_in_words(subject)} A good detection lies on puncta: "
        f"compact spots, bright in the channels that were searched. Grey as above; absolute positions in {unit}."
    )
    area = float(np.count_nonzero(mask[part]) / mask[part].size)
    alt = f"An enlarged part of {listed(subject.overviews)}; outlined objects cover {100 * area:.2g} % of it."
    return Drawing(drawn, caption, alt)


def _sizes(subject: Subject) -> Drawing:
    name, unit = subject.table.size_column()
    sizes = subject.table.column(name)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        raise NothingToDrawError("No synapse has a size above 0.")
    drawn = look.figure(2.9)
    spanned = subject.table.has("slices")
    panels = drawn.subplots(1, 1 + spanned, squeeze=False, width_ratios=[3, 2][: 1 + spanned]).flat
    cut = _cut(subject, name)
    _size_histogram(panels[0], sizes, unit, cut, _smallest_step(subject, name))
    words = (
        f"How large the detected synapses are ({len(sizes):,}), in {unit} on a logarithmic axis; the dashed line is "
        f"the median{_cut_in_words(cut, name, unit, subject)}"
    )
    single = ""
    if spanned:
        single = f"; {100 * (subject.table.column('slices') == 1).mean():.0f} % lie in a single section"
        _span_bars(panels[1], subject.table.column("slices"))
        words = (
            f"Left: {words[0].lower()}{words[1:]} Right: how many sections an object spans. One that lies in a single "
            "section (orange) may be noise, since most synapses are thicker than a section."
        )
    low, middle, high = np.quantile(sizes, (0.05, 0.5, 0.95))
    alt = f"Histogram of sizes: median {middle:,.3g} {unit}, 90 % between {low:,.3g} and {high:,.3g}{single}."
    return Drawing(drawn, words, alt, Numbers(("Quantile", f"Size ({unit})"), quantile_rows(_QUANTILES, sizes)))


def _cut(subject: Subject, name: str) -> float | None:
    """Return the pipeline's parameter for the smallest size, None if it has none."""
    try:
        cut = float(subject.facts.parameters.get(f"min_{name}", ""))
    except ValueError:
        return None
    return cut if 0 < cut < math.inf else None


def _cut_in_words(cut: float | None, name: str, unit: str, subject: Subject) -> str:
    if cut is None:
        return "."
    below = subject.table.total(lambda piece: int((piece.columns[name] < cut).sum()))
    smaller = f"{below:,} are smaller, so it was not the limit" if below else "none is smaller"
    return (
        f", the dotted one the parameter min_{name} of {subject.facts.pipeline or 'the pipeline'} ({cut:g} {unit}; "
        f"{smaller}). A peak right at this limit means that it removes part of a population, of noise or of synapses."
    )


def _smallest_step(subject: Subject, name: str) -> float | None:
    """Return the size of one voxel in the unit of a column, None where it is unknown."""
    if name == "voxels":
        return 1.0
    size = subject.facts.voxel_size_nm
    return None if size is None else math.prod(size) * 1e-9


def size_edges(low: float, high: float, bins: int, step: float | None) -> NDArray[np.float64]:
    """Return edges of bins that are equally wide on a logarithmic axis, but at least one `step` (a voxel)."""
    if math.log10(high / low) < 0.1:
        low, high = low / 3, high * 3
    edges = np.logspace(math.log10(low), math.log10(high), bins + 1)
    if step is None:
        return edges
    whole = np.unique(np.floor(edges / step + 1e-6))
    return (np.append(whole, whole[-1] + 1) - 0.5) * step


def _size_histogram(axes: Axes, sizes: NDArray[np.float64], unit: str, cut: float | None, step: float | None) -> None:
    most = min(40, max(6, round(2 * len(sizes) ** (1 / 3))))
    bins = size_edges(float(sizes.min()), float(sizes.max()), most, step)
    bins = bins[bins > 0] if (bins > 0).sum() > 1 else np.array([bins[-1] / 2, bins[-1]])
    axes.hist(sizes, bins=bins.tolist(), color=ACCENT, edgecolor="white", linewidth=0.4)
    look.label_log_axis(axes, min(bins[0], cut or math.inf) / 1.1, bins[-1] * 1.1)
    median = float(np.median(sizes))
    axes.axvline(median, color=INK, linewidth=1, linestyle="--", label=f"median {median:,.3g} {unit}")
    if cut is not None:
        axes.axvline(cut, color=SERIES[1], linewidth=1.4, linestyle=":", label=f"limit {cut:,.3g} {unit}")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=2, handlelength=1.6, fontsize=7.5)
    axes.set(xlabel=f"Size ({unit}, log scale)", ylabel="Synapses", title="Size")


def _span_bars(axes: Axes, spans: NDArray[np.float64]) -> None:
    values, shares = _span_shares(spans)
    axes.bar(values, 100 * shares, color=[SERIES[1] if value == 1 else ACCENT for value in values], width=0.8)
    axes.set(xlabel="Sections spanned", ylabel="Share of synapses (%)", title="Thickness")
    labelled = values[:: 1 if len(values) < 9 else 2] if values[-1] < _LONGEST_SPAN else values[1::2]
    axes.set_xticks(labelled, [f"{value}+" if value == _LONGEST_SPAN else str(value) for value in labelled])


_LONGEST_SPAN = 12


def _span_shares(spans: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the numbers of sections and the share of synapses of each; the last one includes all above it."""
    whole = np.clip(spans.astype(np.int64), 1, _LONGEST_SPAN)
    counted = np.bincount(whole)[1:]
    return np.arange(1, len(counted) + 1), counted / len(spans)


def _depth(subject: Subject) -> Drawing:
    cut = layers(subject.table, subject.facts, _MOST_DEPTH_BINS)
    edges, unit, counts = cut.edges, cut.unit, cut.counts_of_all(subject.table, subject.facts)
    slabs = _slabs(subject, cut)
    drawn = look.figure(2.5 if slabs is None else 4.1)
    panels = drawn.subplots(1 if slabs is None else 2, 1, squeeze=False, sharex=True).flat
    panels[0].stairs(counts, edges, fill=True, color=ACCENT, edgecolor="white", linewidth=0.6)
    panels[0].set(ylabel="Synapses", title="Count", xlim=(edges[0], edges[-1]))
    panels[-1].set_xlabel(f"Depth z ({unit})")
    header, columns = ["From", f"to ({unit})", "Synapses"], [edges[:-1], edges[1:], counts]
    words = ""
    if slabs is not None:
        words = _density_band(panels[1], edges, counts, slabs)
        if subject.facts.density is not None and subject.facts.density.brick.per_um3:
            words += f" The density to report is that of the counting brick, {subject.facts.density.brick}."
        header, columns = [*header, "Per µm³"], [*columns, _per_um3(counts, slabs)]
    caption = (
        f"Where along z the synapses lie ({counts.sum():,}), by their centroids: number in each {cut.name}.{words} "
        "Check a section that differs much from its neighbours: it may be folded, out of focus, or stained differently."
    )
    rows = [[f"{value:,.5g}" for value in row] for row in zip(*columns, strict=True)]
    ends = [f"{counts[i]:,} at {cut.middles[i]:.3g} {unit}" for i in (counts.argmin(), counts.argmax())]
    alt = f"Counts along z in {len(counts)} layers: from {ends[0]} to {ends[1]}, median {np.median(counts):,.0f}."
    return Drawing(drawn, caption, alt, Numbers(header, rows))


def _slabs(subject: Subject, cut: Layers) -> NDArray[np.float64] | None:
    """Return the cubic micrometres of tissue in each layer; None where they are unknown."""
    density, volume = subject.facts.density, subject.facts.volume_um3
    if volume is None or cut.sections is None:
        return None
    if density is None:
        by_layer: NDArray[np.float64] = volume * np.diff(cut.edges) / (cut.edges[-1] - cut.edges[0])
    else:
        starts = np.arange(0, len(density.sections_um3), cut.sections)
        by_layer = np.add.reduceat(density.sections_um3, starts)
    return by_layer if by_layer.any() else None


def _per_um3(values: NDArray[Any], slabs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by volumes; nothing lies where there is no tissue."""
    found: NDArray[np.float64] = np.divide(values, slabs, out=np.zeros(len(slabs)), where=slabs > 0)
    return found


def _density_band(axes: Axes, edges: NDArray[np.float64], counts: NDArray[np.int64], slabs: NDArray[np.float64]) -> str:
    """Draw the density with the band of chance, and return the sentences that explain it."""
    density, band = _per_um3(counts, slabs), _per_um3(2 * np.sqrt(counts), slabs)
    mean = Count(float(counts.sum()), float(slabs.sum()))
    upper = density + band
    axes.stairs(upper, edges, baseline=np.maximum(density - band, 0), fill=True, color=ACCENT, alpha=0.25, linewidth=0)
    axes.stairs(density, edges, baseline=None, color=ACCENT, linewidth=1.4, label="density")
    axes.axhline(mean.per_um3 or 0, color=INK, linewidth=1, linestyle="--", label=f"mean {mean}")
    axes.set(ylabel="Synapses per µm³", title="Density", ylim=(0, float(upper.max()) * 1.08 or 1))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return (
        " Below: the same per µm³ of tissue, with a band of ± 2 √n, the scatter of a count n by chance alone; dashed: "
        f"the mean of the box, {mean} per µm³, with the objects that its border cuts, many of which lie in the "
        "first and the last section. Mammalian cortex holds about 1 per µm³."
    )


IMAGES = (
    Plot("outlines", "Masks on the channels", _whole_field),
    Plot("outlines-detail", "A closer look", _detail),
)
"""The images with the outlines of the masks."""

DETECTIONS = (
    Plot("depth", "Count and density by depth", _depth),
    MAP,
    Plot("sizes", "Sizes", _sizes),
)
"""The figures of the detections in the order of the page."""
