"""The gallery: single synapses as synaptograms, channels by sections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nd_synapse.geometry import nearest_voxel
from nd_synapse.report.captions import TIMES, count
from nd_synapse.report.look import INK, QUIET, WIDTH_IN, short
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError
from nd_synapse.volumes import Volume

__all__ = ["CLUSTER_GALLERY", "GALLERY"]

_REACH_UM = 0.85
_REACH_VOXELS = (6, 14)
_SECTIONS_EACH_SIDE = 2
_MOST_CHANNELS = 12
_A_ROW = 3
_RANDOM = 6
_OUTSIDE = 0.86
_OUTLINE = "#ffb000"
_GAP = 1
_HEAD_IN = 0.36

Segments = list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Shot:
    """A synapse to show: its row in the table, and why it was chosen."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class Window:
    """What is cut out around a centroid: sections on each side, and voxels on each side along y and x."""

    sections: int
    y: int
    x: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent along z, y, x."""
        return 2 * self.sections + 1, 2 * self.y + 1, 2 * self.x + 1


def window_of(subject: Subject) -> Window:
    """Return the window: about 0.85 µm to each side (8 voxels without a voxel size), two sections above and below."""
    size = subject.facts.voxel_size_nm
    low, high = _REACH_VOXELS
    y, x = (8, 8) if size is None else (min(max(round(_REACH_UM * 1000 / nm), low), high) for nm in size[1:])
    return Window(_SECTIONS_EACH_SIDE, y, x)


def cut_out(volume: Volume, centre: Sequence[int], window: Window) -> NDArray[np.float32]:
    """Return the voxels around a place (z, y, x), float32 of the window's shape, NaN outside of the volume."""
    found = np.full(window.shape, np.nan, dtype=np.float32)
    there, here = [], []
    for at, extent, length in zip(centre, window.shape, volume.shape, strict=True):
        first = at - extent // 2
        start, stop = min(max(first, 0), length), min(max(first + extent, 0), length)
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first))
    if all(part.stop > part.start for part in there):
        found[tuple(here)] = volume[there[0], there[1], there[2]]
    return found


def edges_of(mask: NDArray[np.bool_]) -> Segments:
    """Return the borders of a mask, bool (y, x), along the edges of pixels, in (x, y); pixel i spans i to i + 1."""
    padded = np.pad(mask, 1)
    lines: Segments = []
    for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist():
        lines.append([(x, y), (x + 1, y)])
    for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist():
        lines.append([(x, y), (x, y + 1)])
    return lines


def _centres(subject: Subject) -> NDArray[np.float64]:
    """Return the centroids in voxels, float64 (n, 3), NaN where missing."""
    subject.table.need_rows()
    return subject.table.centroids(units=("voxel",))[0]


def _random(subject: Subject) -> list[Shot]:
    n = subject.table.n
    picked = np.random.default_rng(subject.seed).choice(n, min(_RANDOM, n), replace=False)
    return [Shot(int(row), "") for row in np.sort(picked)]


def _extreme(subject: Subject) -> list[Shot]:
    """Return the two brightest, dimmest and largest synapses, without repetition."""
    ranked: list[tuple[str, NDArray[np.intp]]] = []
    if len(subject.standardised.names) and len(subject.standardised.values):
        rows = subject.standardised.rows
        order = rows[np.argsort(subject.standardised.values.mean(axis=1), kind="stable")]
        ranked += [("brightest", order[::-1]), ("dimmest", order)]
    if subject.table.has("voxels"):
        ranked.append(("largest", np.argsort(-subject.table.columns["voxels"].astype(np.float64), kind="stable")))
    shots: list[Shot] = []
    for why, order in ranked:
        taken = {shot.row for shot in shots}
        fresh = [row for row in order[:8].tolist() if row not in taken]
        shots += [Shot(row, why) for row in fresh[:2]]
    if not shots:
        raise NothingToDrawError("The table has neither brightness nor size to order the synapses by.")
    return shots


def _draw(subject: Subject, shots: Sequence[Shot], words: str, brief: bool = True) -> Drawing:
    """Draw synaptograms of some synapses; `words` say which they are."""
    subject.fields.need()
    centres = _centres(subject)
    shots = [shot for shot in shots if np.isfinite(centres[shot.row]).all()]
    if not shots:
        raise NothingToDrawError("No synapse has a position.")
    window = window_of(subject)
    names = list(subject.images)[:_MOST_CHANNELS]
    start = subject.facts.origin
    mask = next(iter(subject.mask_volumes.values()), None)
    left_in, right_in, gap_in = 0.72, 0.02, 0.14
    wide = (WIDTH_IN - left_in - right_in - gap_in * (_A_ROW - 1)) / _A_ROW
    depth, height, width = window.shape
    _, y_nm, x_nm = subject.facts.voxel_size_nm or (1, 1, 1)
    mosaic_x = depth * (width + _GAP) - _GAP
    mosaic_y = len(names) * (height + _GAP) - _GAP
    tall = wide * mosaic_y * (y_nm / x_nm) / mosaic_x
    rows = math.ceil(len(shots) / _A_ROW)
    total = rows * (tall + _HEAD_IN + 0.16) + 0.02
    drawn = Figure(figsize=(WIDTH_IN, total))
    for i, shot in enumerate(shots):
        row, column = divmod(i, _A_ROW)
        bottom = total - (row + 1) * (tall + _HEAD_IN + 0.16) + 0.16
        axes = drawn.add_axes(
            ((left_in + column * (wide + gap_in)) / WIDTH_IN, bottom / total, wide / WIDTH_IN, tall / total)
        )
        place = [int(nearest_voxel(c)) - s for c, s in zip(centres[shot.row].tolist(), start, strict=True)]
        _synaptogram(axes, subject, names, place, window, mask)
        _label(axes, subject, shot, centres[shot.row], names if column == 0 else [], window)
    caption = _caption(subject, words, window, len(names), mask is not None, brief)
    alt = f"Synaptograms of {count(len(shots), 'synapse')}: {len(names)} channels by {depth} sections each."
    return Drawing(drawn, caption, alt, _numbers(subject, shots, centres, names))


def _synaptogram(
    axes: Axes,
    subject: Subject,
    names: Sequence[str],
    place: Sequence[int],
    window: Window,
    mask: Volume | None,
) -> None:
    """Draw channels by sections as one image, and the mask's outline on each tile."""
    depth, height, width = window.shape
    mosaic = np.ones((len(names) * (height + _GAP) - _GAP, depth * (width + _GAP) - _GAP, 3), dtype=np.float32)
    corners = [
        (row * (height + _GAP), column * (width + _GAP), row, column)
        for row in range(len(names))
        for column in range(depth)
    ]
    tiles = []
    for name in names:
        low, high = subject.fields.contrast[name]
        tiles.append(np.clip((cut_out(subject.images[name], place, window) - low) / (high - low), 0, 1))
    for top, left, row, column in corners:
        tile = tiles[row][column]
        mosaic[top : top + height, left : left + width] = np.where(np.isnan(tile), _OUTSIDE, tile)[..., np.newaxis]
    axes.imshow(mosaic, extent=(0, mosaic.shape[1], mosaic.shape[0], 0), aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    if mask is not None:
        found = np.nan_to_num(cut_out(mask, place, window)) != 0
        edges = [edges_of(section) for section in found]
        lines = [[(x + left, y + top) for x, y in line] for top, left, _, column in corners for line in edges[column]]
        axes.add_collection(LineCollection(lines, colors=_OUTLINE, linewidths=0.7), autolim=False)


def _label(
    axes: Axes, subject: Subject, shot: Shot, centre: NDArray[Any], names: Sequence[str], window: Window
) -> None:
    """Write id, reason and position above, section numbers below, channel names beside."""
    depth, height, width = window.shape
    why = f" \N{MIDDLE DOT} {shot.why}" if shot.why else ""
    where = "  ".join(f"{axis} {value:,.0f}" for axis, value in zip("zyx", centre, strict=True))
    for text, above, size, colour, weight in (
        (f"{_name(subject, shot.row)}{why}", 12, 7.5, INK, "bold"),
        (where, 3, 7, QUIET, "normal"),
    ):
        axes.annotate(
            text,
            (0, 1),
            (0, above),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=size,
            color=colour,
            weight=weight,
        )
    for column in range(depth):
        offset = column - window.sections
        text = "0" if offset == 0 else f"{offset:+d}".replace("-", "\N{MINUS SIGN}")
        x = (column * (width + _GAP) + width / 2) / (depth * (width + _GAP) - _GAP)
        axes.text(x, -0.01, text, transform=axes.transAxes, ha="center", va="top", fontsize=6.5, color=QUIET)
    for row, name in enumerate(names):
        y = row * (height + _GAP) + height / 2
        axes.text(-2, y, short(name, 11), ha="right", va="center", fontsize=7, color=INK, clip_on=False)


def _name(subject: Subject, row: int) -> str:
    columns = subject.table.columns
    known = "id" in columns and np.isfinite(columns["id"][row])
    return f"synapse {int(columns['id'][row])}" if known else f"row {row + 1}"


def _caption(subject: Subject, words: str, window: Window, channels: int, outlined: bool, brief: bool) -> str:
    size = subject.facts.voxel_size_nm
    _, height, width = window.shape
    side = (
        f"{width} {TIMES} {height} voxels"
        if size is None
        else f"{width * size[2] / 1000:.3g} {TIMES} {height * size[1] / 1000:.3g} µm"
    )
    of = f" the first {channels} of {len(subject.images)}" if channels < len(subject.images) else ""
    outline = f" Orange: outline of the mask “{short(next(iter(subject.mask_volumes)), 40)}”." if outlined else ""
    if brief:
        return f"{words} Layout and contrast are those of the random synapses above."
    return (
        f"{words} Each block is one synapse: channels{of} from top to bottom, consecutive sections from left to "
        f"right (0 is the section of its centroid), centred on the centroid, {side} a tile.{outline} Pale tiles lie "
        "outside of the searched box. Grey is the same for all tiles of a channel, so that brightness can be compared: "
        "black is its 1 % quantile, white its 99.5 % quantile; the grey values are in the numbers. Positions are in "
        "voxels, from the origin of the experiment."
    )


def _numbers(subject: Subject, shots: Sequence[Shot], centres: NDArray[np.float64], names: Sequence[str]) -> Numbers:
    """Return a row for each synapse, then one for each channel."""
    rows = []
    for shot in shots:
        place = ", ".join(f"{value:,.1f}" for value in centres[shot.row])
        voxels = subject.table.columns.get("voxels")
        rows.append([_name(subject, shot.row), shot.why, place, "" if voxels is None else f"{voxels[shot.row]:,}"])
    for name in names:
        low, high = subject.fields.contrast[name]
        rows.append([f"channel {name}", "grey range", f"black {low:,.4g}, white {high:,.4g}", ""])
    return Numbers(("Shown", "Why", "Centroid z, y, x (voxels)", "Voxels"), rows)


def _random_gallery(subject: Subject) -> Drawing:
    _centres(subject)
    shots = _random(subject)
    return _draw(subject, shots, f"{len(shots)} of {count(subject.table.n, 'synapse')}, drawn at random.", brief=False)


def _extreme_gallery(subject: Subject) -> Drawing:
    _centres(subject)
    words = (
        f"The extremes of {count(subject.table.n, 'synapse')}: the brightest and the dimmest over all channels (mean "
        "of the standardised channels), and those with the most voxels. Errors of a detection show here."
    )
    return _draw(subject, _extreme(subject), words)


def _cluster_gallery(subject: Subject) -> Drawing:
    _centres(subject)
    subject.standardised.need()
    found = subject.clusters
    if found.number < 2:
        raise NothingToDrawError("One population was found; random synapses are typical of it.")
    shots = [Shot(int(row), f"cluster {i + 1}") for i, rows in enumerate(found.typical(_A_ROW)) for row in rows]
    words = (
        f"What the clusters look like: for each of the {found.number} clusters, the {_A_ROW} synapses nearest to its "
        "mean, one cluster a row. The clusters were found by mean brightness alone, not from the images."
    )
    return _draw(subject, shots, words)


GALLERY = (
    Plot("synaptograms-random", "Synaptograms: random synapses", _random_gallery),
    Plot("synaptograms-extreme", "Synaptograms: extreme synapses", _extreme_gallery),
)
"""The galleries that need no clusters, in the order of the page."""

CLUSTER_GALLERY = (Plot("synaptograms-clusters", "Synaptograms: typical of each cluster", _cluster_gallery),)
"""What the clusters look like; it follows the figures that explain them."""
