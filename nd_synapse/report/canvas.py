"""The canvas: one look for all figures, and their way to PNG bytes.

It knows no table and no figure in particular.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ACCENT", "DIVERGING", "INK", "QUIET", "SEQUENTIAL", "SERIES", "WIDTH_IN"]
__all__ += ["figure", "house_style", "label_log_axis", "name_channels", "png", "short"]

WIDTH_IN = 6.2
_DPI = 195
_PAPER = 248

INK = "#1d2733"
QUIET = "#6b7785"
ACCENT = "#0072b2"
# Okabe & Ito's colours, told apart by colour-blind readers; yellow comes last, being faint on white.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#f0e442")
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"

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
    # A channel may be called "$x_"; it is a name, not a formula.
    "text.parse_math": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the report's look, whatever the user's matplotlib settings are."""
    with matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        # A channel name in a script that the font lacks shows boxes in the figure and its letters in the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(height_in: float, square_pixels: bool = False) -> Figure:
    """Return an empty figure of the page's width, its parts kept apart; say so if its panels keep their proportions."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="compressed" if square_pixels else "constrained")


def png(drawn: Figure) -> bytes:
    """Return the figure as a PNG of at most 256 colours; the same figure gives the same bytes."""
    drawn.set_dpi(_DPI)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    out = io.BytesIO()
    image.quantize(palette=_palette(pixels), dither=Image.Dither.NONE).save(out, "PNG", compress_level=6)
    return out.getvalue()


def _palette(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return an image whose palette stands for all colours of `pixels`, shape (y, x, 3), the rare ones too.

    A palette by area would spend itself on the background and dull what covers little: colour bars, thin lines.
    """
    kept = (pixels >> 2).astype(np.int32)
    found = np.bincount(((kept[..., 0] << 12) | (kept[..., 1] << 6) | kept[..., 2]).ravel())
    codes = np.flatnonzero(found)
    colours = np.stack([codes >> 12, codes >> 6 & 63, codes & 63], axis=-1) * 255 // 63
    tinted = colours.min(axis=1) < _PAPER
    often = 1 + np.log2(found[codes[tinted]]).astype(np.int64)
    strip = Image.fromarray(np.repeat(colours[tinted], often, axis=0).astype(np.uint8)[np.newaxis])
    # The paper has its own entry and no near-white beside it, or it would turn into a mean of them.
    cut = strip.quantize(255, method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *cut])
    return palette


def short(name: str, most: int = 18) -> str:
    """Return a name that fits beside an axis: one line, at most `most` letters."""
    line = " ".join(name.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def name_channels(axes: Axes, names: tuple[str, ...], axis: str) -> None:
    """Write channel names along the ``x`` or ``y`` axis, turned where they would run into each other."""
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
    """Make x logarithmic from `low` to `high`, with plain numbers: 0.05 is clearer to most than a power of ten."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
