"""The map: the density of synapses in the plane, without padding."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nd_synapse.report import look
from nd_synapse.report.captions import TIMES, count, quantile_rows
from nd_synapse.report.look import PALE, SEQUENTIAL
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["MAP"]

_MOST_MAP_BINS = 72
_LEAST_TISSUE = 0.1  # of a bin whose density is shown
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def _map_bins(n: int, height: float, width: float) -> tuple[int, int]:
    """Return numbers of square bins (y, x): about eight synapses in each, within limits."""
    along = int(np.clip(math.sqrt(n / 8), 6, _MOST_MAP_BINS))
    longest = max(height, width)
    return max(1, round(along * height / longest)), max(1, round(along * width / longest))


def _tissue_shares(subject: Subject, bins: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of tissue in each bin (y, x): that of its tiles; none where all projections are black."""
    tissue = subject.facts.tissue
    if tissue is None or tissue.fraction == 1:
        return np.ones(bins)
    sides = np.multiply.outer(np.diff(tissue.y_edges), np.diff(tissue.x_edges)) * len(tissue.voxels)
    tiles = tissue.voxels.sum(axis=0) / sides
    y, x = (_overlaps(n, edges) for n, edges in zip(bins, (tissue.y_edges, tissue.x_edges), strict=True))
    shares: NDArray[np.float64] = y @ tiles @ x.T
    if subject.overviews:
        lit = np.any([image != 0 for image in subject.overviews.values()], axis=0)
        y, x = (np.arange(n) * length // n for n, length in zip(bins, lit.shape, strict=True))
        inside = np.add.reduceat(np.add.reduceat(lit.astype(np.float64), y, axis=0), x, axis=1)
        pixels = np.multiply.outer(np.diff(np.append(y, lit.shape[0])), np.diff(np.append(x, lit.shape[1])))
        shares = np.where(inside < pixels / 2, 0, shares)
    return shares


def _overlaps(bins: int, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much of each of equal bins lies in each tile, shape (bins, tiles)."""
    ends = np.linspace(edges[0], edges[-1], bins + 1)
    low, high = np.maximum.outer(ends[:-1], edges[:-1]), np.minimum.outer(ends[1:], edges[1:])
    found: NDArray[np.float64] = np.maximum(high - low, 0) / (ends[1] - ends[0])
    return found


def _masked(known: NDArray[np.bool_]) -> str:
    """Say how many bins hold too little tissue to be shown."""
    if known.all():
        return ""
    return f" Pale: {100 * (1 - known.mean()):.2g} % of the bins hold little or no tissue."


def _map(subject: Subject) -> Drawing:
    positions, unit = subject.table.positions("yx")
    faces = []
    for i, axis in enumerate("yx"):
        extent = subject.facts.extent(axis, unit)
        faces.append(extent or (positions[:, i].min() - 0.5, positions[:, i].max() + 0.5))
    (y0, y1), (x0, x1) = faces
    bins, n = _map_bins(len(positions), y1 - y0, x1 - x0), 0
    counts = np.zeros(bins)
    for piece in subject.table.pieces():
        centroids, _ = piece.centroids("yx")
        known = np.isfinite(centroids).all(axis=1)
        counts += np.histogram2d(centroids[known, 0], centroids[known, 1], bins=bins, range=faces)[0]
        n += int(known.sum())
    volume, tissue = subject.facts.volume_um3, _tissue_shares(subject, bins)
    known = tissue >= _LEAST_TISSUE
    whole = tissue if volume is None else tissue * volume / counts.size
    shown = np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=known)
    if not known.any():
        raise NothingToDrawError("No bin holds enough tissue.")
    label = "Synapses per bin" if volume is None else "Synapses per µm³"
    height = min(max(4.8 * (y1 - y0) / (x1 - x0), 1.6), 8.5)
    drawn = look.figure(height + 0.4, square_pixels=True)
    axes = drawn.subplots()
    image = axes.imshow(
        shown, cmap=SEQUENTIAL, extent=(x0, x1, y1, y0), vmin=0, vmax=max(float(np.nanmax(shown)), 1e-12)
    )
    axes.set_facecolor(PALE)
    look.colour_bar(drawn, image, axes, label)
    axes.set(xlabel=f"x ({unit})", ylabel=f"y ({unit})")
    side = f"{(x1 - x0) / bins[1]:.3g} {TIMES} {(y1 - y0) / bins[0]:.3g} {unit}"
    caption = (
        f"Where in the plane the {count(n, 'synapse')} lie, seen from above, all depths together: "
        f"{'synapses' if volume is None else 'synapses per µm³ of tissue'} in bins of {side}, by their centroids. "
        f"Axes are absolute positions in {unit}. Dark spots are often nuclei and vessels.{_masked(known)}"
    )
    least, middle, most = (f"{value:.3g}" for value in np.nanquantile(shown, (0, 0.5, 1)))
    alt = f"Map of {n:,} synapses, {label[0].lower()}{label[1:]}: median {middle}, {least} to {most}."
    some = counts[known]
    rows = quantile_rows(_QUANTILES, shown[known], of=" of the bins")
    rows.append(["variance over mean of the counts (chance: 1)", f"{some.var() / max(some.mean(), 1e-12):.3g}"])
    return Drawing(drawn, caption, alt, Numbers(("At most in", label), rows))


MAP = Plot("density-map", "Density in the plane", _map)
"""The figure, in the section of the quality."""
