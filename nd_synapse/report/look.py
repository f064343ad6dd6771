"""The look of all figures: colours, fonts, the parts that several figures share, and the way to PNG bytes."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ACCENT", "ALONE", "DIVERGING", "DPI", "GROUPS", "INK", "MARKS", "PALE", "QUIET"]
__all__ += ["SEQUENTIAL", "SERIES", "WIDTH_IN"]
__all__ += ["colour_bar", "figure", "heat_map", "house_style", "label_log_axis", "legend_above"]
__all__ += ["legend_columns", "name_channels"]
__all__ += ["panel_grid", "png", "short", "signed", "svg", "to_png", "without_frame", "write_cells"]

WIDTH_IN = 6.2
DPI = 195
_PAPER = 248

INK = "#1d2733"
QUIET = "#6b7785"
ACCENT = "#0072b2"
# Okabe and Ito's colours, which colour-blind readers can distinguish; yellow is last, being faint on white
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#f0e442")
MARKS = ("o", "s", "D", "^", "v", "P", "X")
# masks and classes: bright enough for outlines on grey images, dark enough for bars on white
GROUPS = ("#ffb000", "#56b4e9", "#ff6fb5", "#00b585", "#b08cff", "#e8602c")
PALE = "#d4dae0"
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"
_DARK = 0.55
_LEGEND_LETTERS, _HANDLE_LETTERS = 76, 8
"""What fits beside each other in a legend: letters in all, of which a handle and the space after it take some."""

_LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "figure.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "image.interpolation": "nearest",
    # a channel may be called "$x_"; it is a name, not a formula
    "text.parse_math": False,
    "svg.fonttype": "none",
    # else ids are random
    "svg.hashsalt": "nd-synapse",
}


ALONE = threading.RLock()
"""Held while settings of the whole process are others: two threads would each restore what the other had set."""


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the report's look, whatever the user's matplotlib settings are."""
    with ALONE, matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        # a channel name in a script that the font lacks shows boxes in the figure and its letters in the text
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(height_in: float, square_pixels: bool = False) -> Figure:
    """Return an empty figure of the page's width; with `square_pixels`, its panels keep their proportions."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="compressed" if square_pixels else "constrained")


def png(drawn: Figure) -> bytes:
    """Return the figure as a PNG of at most 256 colours; the same figure gives the same bytes."""
    drawn.set_dpi(DPI)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()  # type: ignore[no-untyped-call] # no types there
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call] # no types there
    image = Image.fromarray(pixels).convert("RGB")
    out = io.BytesIO()
    image.quantize(palette=_palette(pixels), dither=Image.Dither.NONE).save(out, "PNG", compress_level=4)
    return out.getvalue()


def svg(drawn: Figure) -> bytes:
    """Return the figure as an SVG whose text can be edited; the same figure gives the same bytes."""
    out = io.BytesIO()
    FigureCanvasSVG(drawn).print_svg(out, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call] # no types there
    return out.getvalue()


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 (y, x, 3) as a PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=6)
    return out.getvalue()


def _palette(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return an image whose palette covers all colours of `pixels`, uint8 RGBA (y, x, 4), including the rare ones."""
    # weights are logarithmic: by area, the background would leave no entries for colour bars and thin lines
    whole = np.ascontiguousarray(pixels).view("<u4").ravel()
    found = np.bincount((whole >> 2 & 63) << 12 | (whole >> 10 & 63) << 6 | whole >> 18 & 63)
    codes = np.flatnonzero(found)
    colours = np.stack([codes >> 12, codes >> 6 & 63, codes & 63], axis=-1) * 255 // 63
    tinted = colours.min(axis=1) < _PAPER
    often = 1 + np.log2(found[codes[tinted]]).astype(np.int64)
    strip = Image.fromarray(np.repeat(colours[tinted], often, axis=0).astype(np.uint8)[np.newaxis])
    # white has an entry of its own and no near-white beside it, or the median cut would average them
    cut = strip.quantize(255, method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *cut])
    return palette


def short(name: str, most: int = 18) -> str:
    """Return a name in one line of at most `most` characters."""
    line = " ".join(name.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def name_channels(axes: Axes, names: tuple[str, ...], axis: str) -> None:
    """Write channel names along the ``x`` or ``y`` axis, rotated where they would overlap."""
    labels = [short(name) for name in names]
    if axis == "y":
        axes.set_yticks(range(len(names)), labels)
        return
    crowded = sum(len(label) + 2 for label in labels) > 62
    axes.set_xticks(range(len(names)), labels, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    if crowded:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def label_log_axis(axes: Axes, low: float, high: float) -> None:
    """Make x logarithmic from `low` to `high`, with plain numbers instead of powers of ten."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def without_frame(axes: Axes) -> None:
    """Remove the frame and the tick marks, but not the tick labels."""
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def heat_map(
    axes: Axes, shown: NDArray[Any], rows: tuple[str, ...] = (), columns: tuple[str, ...] = (), **options: Any
) -> AxesImage:
    """Draw an array (rows, columns) without a frame; `rows` and `columns` name them, `options` go to imshow."""
    image = axes.imshow(shown, **options)
    for names, axis in ((rows, "y"), (columns, "x")):
        if names:
            name_channels(axes, names, axis)
    without_frame(axes)
    return image


def colour_bar(drawn: Figure, mapped: ScalarMappable, axes: Axes | Sequence[Axes], label: str, **options: Any) -> None:
    """Add a colour bar beside `axes`, equally wide for tall and flat figures."""
    aspect = 18 * max(1.0, drawn.get_figheight() / 2.7)
    bar = drawn.colorbar(mapped, ax=axes, label=label, **{"pad": 0.015, "aspect": aspect, **options})
    bar.outline.set_visible(False)


def write_cells(axes: Axes, mapped: ScalarMappable, shown: NDArray[np.float64], form: Callable[[float], str]) -> None:
    """Write each finite number into its cell of an image of shape (rows, columns): white on dark, black on light."""
    colours = mapped.to_rgba(shown)
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            luminance = colours[row, column, :3] @ (0.3, 0.59, 0.11)
            colour = "white" if luminance < _DARK else INK
            axes.text(column, row, form(value), ha="center", va="center", fontsize=7.5, color=colour)


def signed(number: float) -> str:
    """Return a number with two digits and a true minus sign; zero has no sign."""
    return f"{number:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


def legend_columns(labels: Sequence[str]) -> int:
    """Return in how many columns a legend of these labels fits the width of a figure."""
    longest = max(map(len, labels), default=0) + _HANDLE_LETTERS
    return max(1, min(len(labels), _LEGEND_LETTERS // longest))


def legend_above(axes: Axes) -> None:
    """Add a legend above the upper left corner of the axes."""
    columns = legend_columns(axes.get_legend_handles_labels()[1])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, columnspacing=1.2)


def panel_grid(panels: int) -> tuple[int, int]:
    """Return how many rows and columns of panels a figure gets."""
    columns = 1 if panels == 1 else 2 if panels <= 4 else 3 if panels <= 15 else 4
    return math.ceil(panels / columns), columns
