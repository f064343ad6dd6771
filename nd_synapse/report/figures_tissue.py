"""The figures of synapses among synapses: co-localisation at them, and their neighbours.

They take the table alone; figures that need voxels are in `figures_voxels`.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nd_synapse.report.canvas import ACCENT, DIVERGING, INK, QUIET, figure, name_channels
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject, count
from nd_synapse.report.table import NothingToDrawError

__all__ = ["TISSUE"]

_TOP = 0.25
_FEWEST_TO_RANK = 8
_MOST_IN_CELLS = 14
_MOST_ASKED = 20_000
_CHANCE_POINTS = 20_000

Floats = NDArray[np.float64]


def shared_tops(values: Floats) -> tuple[Floats, Floats]:
    """Return how often the brightest in one channel are among the brightest in another."""
    top = (values > np.quantile(values, 1 - _TOP, axis=0)).astype(np.float32)
    both = (top.T @ top).astype(np.float64)
    sizes = np.diag(both)[:, np.newaxis]
    return np.divide(both, sizes, out=np.full_like(both, np.nan), where=sizes > 0), np.diag(both) / len(values)


def _at_synapses(subject: Subject) -> Drawing:
    subject.standardised.need(channels=2, rows=_FEWEST_TO_RANK)
    names, values = subject.standardised.names, subject.standardised.values
    shares, tops = shared_tops(values)
    shown = 100 * np.where(np.eye(len(names), dtype=bool), np.nan, shares)
    drawn = figure(min(5.6, 0.5 * len(names) + 1.7), square_pixels=True)
    axes = drawn.subplots()
    image = axes.imshow(shown, cmap=DIVERGING, norm=TwoSlopeNorm(25, 0, 100))
    name_channels(axes, names, "x")
    name_channels(axes, names, "y")
    axes.set(xlabel="… are also among the brightest quarter in", ylabel="Of the brightest quarter in …")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) <= _MOST_IN_CELLS:
        for (row, column), value in np.ndenumerate(shown):
            if np.isfinite(value):
                dark = value > 75 or value < 5
                axes.text(
                    column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color="white" if dark else INK
                )
    bar = drawn.colorbar(image, ax=axes, label="% of synapses", pad=0.02, aspect=18, ticks=[0, 25, 50, 75, 100])
    bar.outline.set_visible(False)
    tied = [name for name, top in zip(names, tops, strict=True) if abs(top - _TOP) > 0.02]
    ties = (
        f" Many synapses are equally bright in {', '.join(tied)}; chance is less there, as told below." if tied else ""
    )
    caption = (
        f"Do the same synapses shine in two channels? Of the quarter of the {count(len(values), 'synapse')} that is "
        "brightest in the row's channel, the share that is also in the brightest quarter of the column's. Chance "
        f"gives 25 % (white); red is more than chance, blue less.{ties} Unlike a correlation, it asks about bright "
        "synapses only and does not mind a few extreme values."
    )
    rows = [
        [name, f"{100 * top:.1f}", *("" if not np.isfinite(v) else f"{v:.1f}" for v in row)]
        for name, top, row in zip(names, tops, shown, strict=True)
    ]
    return Drawing(
        drawn, caption, f"Matrix of {len(names)} channels.", Numbers(("Of the brightest in", "By chance", *names), rows)
    )


def nearest(positions: Floats, requested: NDArray[np.intp]) -> Floats:
    """Return the distance from some positions to the nearest other one."""
    found: Floats = cKDTree(positions).query(positions[requested], k=2)[0][:, 1]
    return found


def _distances_by_chance(n: int, faces: list[tuple[float, float]], random: np.random.Generator) -> Floats:
    """Return nearest distances of `n` positions drawn uniformly, as often as it takes for a smooth curve."""
    low, high = np.array(faces).T
    found: list[Floats] = []
    while sum(map(len, found)) < _CHANCE_POINTS and len(found) < 200:
        drawn = random.uniform(low, high, (n, len(faces)))
        found.append(nearest(drawn, np.arange(min(n, _MOST_ASKED))))
    return np.concatenate(found)


def _neighbours(subject: Subject) -> Drawing:
    positions, unit = subject.table.positions("zyx")
    n = len(positions)
    if n < 2:
        raise NothingToDrawError("It needs at least 2 synapses.")
    random = np.random.default_rng(subject.seed)
    requested = np.arange(n) if n <= _MOST_ASKED else np.sort(random.choice(n, _MOST_ASKED, replace=False))
    faces = [
        subject.facts.extent(axis, unit) or (float(positions[:, i].min()), float(positions[:, i].max()))
        for i, axis in enumerate("zyx")
    ]
    found, chance = nearest(positions, requested), _distances_by_chance(n, faces, random)
    ratio = float(found.mean() / chance.mean()) if chance.mean() > 0 else math.nan
    high = float(np.quantile(np.concatenate([found, chance]), 0.995)) or 1.0
    edges = np.linspace(0, high, 1 + min(60, max(8, round(2 * len(requested) ** (1 / 3)))))
    drawn = figure(2.7)
    axes = drawn.subplots()
    share = [100 * np.histogram(values, edges)[0] / len(values) for values in (chance, found)]
    axes.stairs(share[0], edges, fill=True, color="#c9d1d9", label="positions drawn at random")
    axes.stairs(share[1], edges, color=ACCENT, linewidth=1.6, label="detected synapses")
    for values, colour, style in ((chance, QUIET, ":"), (found, ACCENT, "--")):
        axes.axvline(float(np.median(values)), color=colour, linewidth=1, linestyle=style)
    axes.set(xlabel=f"Distance to the nearest other synapse ({unit})", ylabel="Share (%)", xlim=(0, high))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    of = f"{len(requested):,} of the {n:,} synapses, drawn at random" if len(requested) < n else f"{n:,} synapses"
    box = "the searched box" if subject.facts.extent("z", unit) else "the space between the outermost ones"
    caption = (
        f"How far it is from the centroid of one synapse to the next ({of}), in space; grey: the same for as many "
        f"positions drawn at random in {box}. Vertical lines are medians. The mean distance is {ratio:.2f} times "
        "that of chance (Clark and Evans' ratio): below 1 synapses cluster, above 1 they keep apart. Two objects "
        "cannot overlap, so that the shortest distances are always rarer than chance; many of them can mean that "
        "one synapse was found in two pieces."
    )
    quantiles = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    rows = [
        [f"{100 * q:g} %", *(f"{float(np.quantile(values, q)):,.4g}" for values in (found, chance))] for q in quantiles
    ]
    middle = f"{np.median(found):.3g} {unit}, by chance {np.median(chance):.3g}"
    alt = f"Histogram of nearest distances; the median is {middle}."
    return Drawing(drawn, caption, alt, Numbers(("Quantile", f"Detected ({unit})", f"Random ({unit})"), rows))


TISSUE = (
    Plot("colocalisation", "Co-localisation at the synapses", _at_synapses),
    Plot("neighbours", "Nearest neighbours", _neighbours),
)
"""The figures of synapses among synapses in the order of the page."""
