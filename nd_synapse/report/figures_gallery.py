"""The gallery: single synapses as synaptograms, channels by sections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nd_synapse.geometry import nearest_voxel
from nd_synapse.report.captions import TIMES, count, listed
from nd_synapse.report.look import DPI, INK, QUIET, SERIES, WIDTH_IN, short, to_png
from nd_synapse.report.outlines import enlarged, grey, paint_outlines
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.populations import surviving
from nd_synapse.report.table import NothingToDrawError
from nd_synapse.volumes import Volume

__all__ = ["CLUSTER_GALLERY", "GALLERY", "Samples", "draw_samples"]

_REACH_UM = 0.85
_REACH_VOXELS = (6, 14)
_SECTIONS_EACH_SIDE = 2
_MOST_CHANNELS = 12
_A_ROW = 3
_RANDOM = 6
_MOST_SAMPLED = 4
_SAMPLE_PIXELS = 380  # twice as wide as on the page, for dense screens
_GAP = 2
_BETWEEN = 150  # grey of the gaps: seen beside black tiles and white ones
_BAR_UM = 0.5
_HEAD_IN = 0.36


@dataclass(frozen=True, slots=True)
class Shot:
    """A synapse to show: its row in the table, why it was chosen, and the colour of its name."""

    row: int
    why: str
    colour: str = INK


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


def _centres(subject: Subject) -> NDArray[np.float64]:
    """Return the centroids in voxels, float64 (n, 3), NaN where missing."""
    subject.table.need_rows()
    return subject.table.centroids(units=("voxel",))[0]


def _random(subject: Subject) -> list[int]:
    n = subject.table.n
    picked = np.random.default_rng(subject.seed).choice(n, min(_RANDOM, n), replace=False)
    return [int(row) for row in np.sort(picked)]


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
    left_in, right_in, gap_in, foot_in = 0.62, 0.02, 0.1, 0.16
    wide = (WIDTH_IN - left_in - right_in - gap_in * (_A_ROW - 1)) / _A_ROW
    tiles = _Tiles.of(subject, window, names, round(wide * DPI))
    tall = tiles.shape[0] / DPI
    rows = math.ceil(len(shots) / _A_ROW)
    total = math.ceil((rows * (tall + _HEAD_IN + foot_in) + 0.02) * DPI) / DPI
    drawn = Figure(figsize=(WIDTH_IN, total), dpi=DPI)
    for i, shot in enumerate(shots):
        row, column = divmod(i, _A_ROW)
        left, bottom = left_in + column * (wide + gap_in), total - (row + 1) * (tall + _HEAD_IN + foot_in) + foot_in
        place = [int(nearest_voxel(c)) - s for c, s in zip(centres[shot.row].tolist(), start, strict=True)]
        # pixel by pixel: an outline of one pixel would not survive another scale
        corner = round(left * DPI), round(bottom * DPI)
        drawn.figimage(tiles.draw(subject, place), *corner, origin="upper")
        _label(drawn, subject, shot, centres[shot.row], names if column == 0 else [], tiles, corner)
    caption = _caption(subject, words, window, len(names), brief)
    shown = listed(" ".join((_name(subject, shot.row), shot.why)).strip() for shot in shots)
    alt = f"Synaptograms, {len(names)} channels by {window.shape[0]} sections: {shown}."
    return Drawing(drawn, caption, alt, _numbers(subject, shots, centres, names))


@dataclass(frozen=True, slots=True)
class _Tiles:
    """How a synaptogram is laid out in pixels: channels from top to bottom, sections from left to right."""

    names: Sequence[str]
    window: Window
    by: tuple[int, int]
    """Pixels of a voxel along y and x."""
    bar: int
    """Pixels of the scale bar; 0 without a voxel size."""

    @classmethod
    def of(cls, subject: Subject, window: Window, names: Sequence[str], width: int) -> _Tiles:
        """Return the largest tiles of which a row fits into so many pixels."""
        depth, _, across = window.shape
        _, y_nm, x_nm = subject.facts.voxel_size_nm or (1, 1, 1)
        x = max(1, (width - (depth - 1) * _GAP) // (depth * across))
        bar = 0 if subject.facts.voxel_size_nm is None else round(_BAR_UM * 1000 / x_nm * x)
        return cls(names, window, (max(1, round(x * y_nm / x_nm)), x), bar)

    @property
    def tile(self) -> tuple[int, int]:
        """Pixels of a tile along y and x."""
        return self.window.shape[1] * self.by[0], self.window.shape[2] * self.by[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the whole along y and x."""
        height, width = self.tile
        return len(self.names) * (height + _GAP) - _GAP, self.window.shape[0] * (width + _GAP) - _GAP

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the first pixel (y, x) of a tile."""
        return row * (self.tile[0] + _GAP), column * (self.tile[1] + _GAP)

    def draw(self, subject: Subject, place: Sequence[int]) -> NDArray[np.uint8]:
        """Return the synaptogram of a place as uint8 (y, x, 3), with outlines and the scale bar."""
        shown = np.full((*self.shape, 3), _BETWEEN, dtype=np.uint8)
        found = {
            name: np.nan_to_num(cut_out(mask, place, self.window)) != 0
            for name, mask in islice(subject.mask_volumes.items(), 1)
        }
        height, width = self.tile
        for row, name in enumerate(self.names):
            low, high = subject.fields.contrast[name]
            for column, section in enumerate(cut_out(subject.images[name], place, self.window)):
                tile = enlarged(grey(section, low, high), self.by)
                for mask, inside in found.items():
                    paint_outlines(tile, [enlarged(inside[column], self.by)], [subject.group_colours[mask]])
                top, left = self.corner(row, column)
                shown[top : top + height, left : left + width] = tile
        if self.bar:
            top, left = self.corner(len(self.names) - 1, self.window.sections)
            bottom, end = top + height - 4, left + width - 4
            shown[bottom - 4 : bottom + 1, end - self.bar - 1 : end + 1] = 0
            shown[bottom - 3 : bottom, end - self.bar : end] = 255
        return shown


def _label(
    drawn: Figure,
    subject: Subject,
    shot: Shot,
    centre: NDArray[Any],
    names: Sequence[str],
    tiles: _Tiles,
    corner: tuple[int, int],
) -> None:
    """Write id, reason and position above, section numbers below, channel names beside; `corner` is the lower left."""

    def write(x: float, y: float, text: str, **options: Any) -> None:
        """Write at a pixel, counted from the upper left corner of the tiles."""
        drawn.text((corner[0] + x) / size_x, (corner[1] + tiles.shape[0] - y) / size_y, text, **options)

    size_x, size_y = drawn.get_size_inches() * DPI
    why = f" \N{MIDDLE DOT} {shot.why}" if shot.why else ""
    where = "  ".join(f"{axis} {value:,.0f}" for axis, value in zip("zyx", centre, strict=True))
    point = DPI / 72
    write(0, -12 * point, f"{_name(subject, shot.row)}{why}", fontsize=7.5, color=shot.colour, weight="bold")
    write(0, -3 * point, where, fontsize=7, color=QUIET)
    height, width = tiles.tile
    for column in range(tiles.window.shape[0]):
        offset = column - tiles.window.sections
        text = "0" if offset == 0 else f"{offset:+d}".replace("-", "\N{MINUS SIGN}")
        x = tiles.corner(0, column)[1] + width / 2
        write(x, tiles.shape[0] + point, text, ha="center", va="top", fontsize=6.5, color=QUIET)
    for row, name in enumerate(names):
        y = tiles.corner(row, 0)[0] + height / 2
        write(-2 * point, y, short(name, 10), ha="right", va="center", fontsize=7, color=INK)


def _name(subject: Subject, row: int) -> str:
    columns = subject.table.columns
    known = "id" in columns and np.isfinite(columns["id"][row])
    return f"synapse {int(columns['id'][row])}" if known else f"row {row + 1}"


def _caption(subject: Subject, words: str, window: Window, channels: int, brief: bool) -> str:
    size = subject.facts.voxel_size_nm
    _, height, width = window.shape
    side = (
        f"{width} {TIMES} {height} voxels"
        if size is None
        else f"{width * size[2] / 1000:.3g} {TIMES} {height * size[1] / 1000:.3g} µm"
    )
    of = f" the first {channels} of {len(subject.images)}" if channels < len(subject.images) else ""
    outline = (
        f" Coloured: outline of the mask “{short(next(iter(subject.mask_volumes)), 40)}”."
        if subject.mask_volumes
        else ""
    )
    bar = "" if size is None else f" The bar is {_BAR_UM:g} µm."
    if brief:
        return f"{words} Layout and contrast are those of the extreme synapses above."
    return (
        f"{words} Each block is one synapse: channels{of} from top to bottom, consecutive sections from left to "
        f"right (0 is the section of its centroid), centred on the centroid, {side} a tile.{bar}{outline} Pale tiles "
        "lie outside of the searched box. Grey is the same for all tiles of a channel, so that they can be compared: "
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


@dataclass(frozen=True, slots=True)
class Samples:
    """Synaptograms of synapses drawn at random."""

    channels: tuple[str, ...] = ()
    """From top to bottom."""
    of_channels: int = 0
    """How many there are in all."""
    images: tuple[tuple[str, str, bytes], ...] = ()
    """Name and place of a synapse, and its PNG."""
    reason: str = ""
    """Why there is none, as a sentence."""


def draw_samples(subject: Subject) -> Samples:
    """Draw the synaptograms of six random synapses."""
    try:
        subject.fields.need()
        centres = _centres(subject)
        names = tuple(subject.images)[:_MOST_SAMPLED]
        tiles = _Tiles.of(subject, window_of(subject), names, _SAMPLE_PIXELS)
        found = []
        for row in _random(subject):
            if np.isfinite(centres[row]).all():
                place = (nearest_voxel(centres[row]) - subject.facts.origin).astype(int).tolist()
                where = ", ".join(f"{axis} {value:,.0f}" for axis, value in zip("zyx", centres[row], strict=True))
                found.append((_name(subject, row), where, to_png(tiles.draw(subject, place))))
    except NothingToDrawError as why:
        return Samples(reason=str(why))
    return Samples(names, len(subject.images), tuple(found), "" if found else "No synapse has a position.")


def _extreme_gallery(subject: Subject) -> Drawing:
    _centres(subject)
    words = (
        f"The extremes of {count(subject.table.n, 'synapse')}: the brightest and the dimmest over all channels (mean "
        "of the standardised channels), and those with the most voxels. Errors of a detection show here."
    )
    return _draw(subject, _extreme(subject), words, brief=False)


def _cluster_gallery(subject: Subject) -> Drawing:
    _centres(subject)
    kept, others = surviving(subject)
    typical = subject.clusters.typical(_A_ROW)
    shots = [Shot(int(row), f"cluster {i + 1}", SERIES[i]) for i in kept for row in typical[i]]
    which = f"the {len(kept)}" if len(kept) == len(typical) else f"{len(kept)} of the {len(typical)}"
    words = (
        f"What the clusters look like: for each of {which} clusters, the {_A_ROW} synapses nearest to its "
        f"mean, one cluster a row.{others} They were found by mean brightness alone, not from the "
        "images; the appendix has their brightness."
    )
    return _draw(subject, shots, words)


GALLERY = (Plot("synaptograms-extreme", "Synaptograms: extreme synapses", _extreme_gallery),)
"""The gallery that needs no clusters."""

CLUSTER_GALLERY = (Plot("synaptograms-clusters", "Synaptograms: typical of each cluster", _cluster_gallery),)
"""What the clusters look like; it follows the figures that explain them."""
