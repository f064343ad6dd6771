"""The cells of a heat map: their numbers and the bar that explains their colours.

They are not the heat maps, whose axes differ from figure to figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nd_synapse.report.canvas import INK

__all__ = ["colour_bar", "signed", "write_cells"]

_DARK = 0.55
_ASPECT = 18.0
_HEIGHT_IN = 2.7


def colour_bar(drawn: Figure, mapped: ScalarMappable, axes: Axes | Sequence[Axes], label: str) -> None:
    """Explain the colours of `mapped` beside `axes`."""
    # the bar is as wide beside a tall figure as beside a flat one
    aspect = max(_ASPECT, _ASPECT / _HEIGHT_IN * drawn.get_figheight())
    bar = drawn.colorbar(mapped, ax=axes, label=label, pad=0.015, aspect=aspect)
    bar.outline.set_visible(False)


def write_cells(
    axes: Axes, mapped: ScalarMappable, shown: NDArray[np.float64], form: Callable[[float], str], size: float = 7.5
) -> None:
    """Write the number into each cell of an image of shape (rows, columns): white on dark, black on light."""
    colours = mapped.to_rgba(shown)
    for (row, column), value in np.ndenumerate(shown):
        red, green, blue, _ = colours[row, column]
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < _DARK
        axes.text(column, row, form(value), ha="center", va="center", fontsize=size, color="white" if dark else INK)


def signed(number: float) -> str:
    """Return a number with two digits and a true minus sign; zero has no sign."""
    return f"{number:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
