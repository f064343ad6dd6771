"""The figures of synapses among synapses, from the table alone: co-localisation and nearest neighbours."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nd_synapse.report import look
from nd_synapse.report.captions import count, quantile_rows, strongest
from nd_synapse.report.look import ACCENT, DIVERGING, QUIET
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["TISSUE"]

_TOP = 0.25
_FEWEST_TO_RANK = 8
_MOST_IN_CELLS = 14
_MOST_QUERIED = 20_000
_CHANCE_POINTS = 20_000
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

Floats = NDArray[np.float64]


def shared_tops(values: Floats) -> tuple[Floats, Floats]:
    """Return the share of the brightest in the row's channel that are bright in the column's too, and those by chance.

    Float64 (channels, channels) and (channels,); `values` are (rows, channels).
    """
    top = (values > np.quantile(values, 1 - _TOP, axis=0)).astype(np.float32)
    both = (top.T @ top).astype(np.float64)
    sizes = np.diag(both)[:, np.newaxis]
    return np.divide(both, sizes, out=np.full_like(both, np.nan), where=sizes > 0), np.diag(both) / len(values)


def _at_synapses(subject: Subject) -> Drawing:
    subject.standardised.need(channels=2, rows=_FEWEST_TO_RANK)
    names, values = subject.standardised.names, subject.standardised.values
    shares, tops = shared_tops(values)
    shown = 100 * np.where(np.eye(len(names), dtype=bool), np.nan, shares)
    drawn = look.figure(min(5.6, 0.5 * len(names) + 1.7), square_pixels=True)
    axes = drawn.subplots()
    image = look.heat_map(axes, shown, names, names, cmap=DIVERGING, norm=TwoSlopeNorm(25, 0, 100))
    axes.set(xlabel="… are also among the brightest quarter in", ylabel="Of the brightest quarter in …")
    if len(names) <= _MOST_IN_CELLS:
        look.write_cells(axes, image, shown, lambda value: f"{value:.0f}")
    look.colour_bar(drawn, image, axes, "% of synapses", ticks=[0, 25, 50, 75, 100])
    tied = [name for name, top in zip(names, tops, strict=True) if abs(top - _TOP) > 0.02]
    ties = (
        f" Many synapses are equally bright in {', '.join(tied)}; chance is less there: see the numbers."
        if tied
        else ""
    )
    caption = (
        f"Are the same synapses bright in two channels? Of the quarter of the {count(len(values), 'synapse')} that is "
        "brightest in the row's channel, the share that is also in the brightest quarter of the column's. Chance "
        f"gives 25 % (white); red is more than chance, blue less.{ties} Unlike a correlation, this considers bright "
        "synapses only and is robust against a few extreme values."
    )
    rows = [
        [name, f"{100 * top:.1f}", *("" if not np.isfinite(v) else f"{v:.1f}" for v in row)]
        for name, top, row in zip(names, tops, shown, strict=True)
    ]
    alt = f"Shares in percent of the brightest that two channels have in common: {strongest(names, shown)}."
    return Drawing(drawn, caption, alt, Numbers(("Of the brightest in", "By chance", *names), rows))


def nearest(positions: Floats, queried: NDArray[np.intp]) -> Floats:
    """Return the distance to the nearest other position, float64 (queried,); `queried` are rows of `positions`."""
    found: Floats = cKDTree(positions).query(positions[queried], k=2)[0][:, 1]
    return found


def _distances_by_chance(n: int, faces: list[tuple[float, float]], random: np.random.Generator) -> Floats:
    """Return nearest distances of `n` positions drawn uniformly, repeated until the curve is smooth."""
    low, high = np.array(faces).T
    found: list[Floats] = []
    while sum(map(len, found)) < _CHANCE_POINTS and len(found) < 200:
        drawn = random.uniform(low, high, (n, len(faces)))
        found.append(nearest(drawn, np.arange(min(n, _MOST_QUERIED))))
    return np.concatenate(found)


def _in_the_middle(
    subject: Subject, sample: Floats, faces: list[tuple[float, float]]
) -> tuple[Floats, list[tuple[float, float]]]:
    """Return all positions in a box about the median one, float64 (m, 3), as many as the sample has, and its faces.

    A sample lacks the neighbours of what is in it.
    """
    low, high = np.array(faces).T
    middle, sides = np.median(sample, axis=0), np.maximum(high - low, 1e-12)
    away = np.sort((np.abs(sample - middle) / sides).max(axis=1))
    reach = away[len(away) // subject.table.step] * sides
    low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
    found = []
    for piece in subject.table.pieces():
        centroids, _ = piece.centroids("zyx")
        found.append(centroids[((centroids >= low) & (centroids <= high)).all(axis=1)])
    return np.concatenate(found), list(zip(low.tolist(), high.tolist(), strict=True))


def _neighbours(subject: Subject) -> Drawing:
    positions, unit = subject.table.positions("zyx")
    faces = [
        subject.facts.extent(axis, unit) or (float(positions[:, i].min()), float(positions[:, i].max()))
        for i, axis in enumerate("zyx")
    ]
    if subject.table.step > 1:
        positions, faces = _in_the_middle(subject, positions, faces)
    n = len(positions)
    if n < 2:
        raise NothingToDrawError("It needs at least 2 synapses.")
    random = np.random.default_rng(subject.seed)
    queried = np.arange(n) if n <= _MOST_QUERIED else np.sort(random.choice(n, _MOST_QUERIED, replace=False))
    found, chance = nearest(positions, queried), _distances_by_chance(n, faces, random)
    ratio = float(found.mean() / chance.mean()) if chance.mean() > 0 else math.nan
    high = float(np.quantile(np.concatenate([found, chance]), 0.995)) or 1.0
    edges = np.linspace(0, high, 1 + min(60, max(8, round(2 * len(queried) ** (1 / 3)))))
    drawn = look.figure(2.7)
    axes = drawn.subplots()
    share = [100 * np.histogram(values, edges)[0] / len(values) for values in (chance, found)]
    axes.stairs(share[0], edges, fill=True, color="#c9d1d9", label="positions drawn at random")
    axes.stairs(share[1], edges, color=ACCENT, linewidth=1.6, label="detected synapses")
    for values, colour, style in ((chance, QUIET, ":"), (found, ACCENT, "--")):
        axes.axvline(float(np.median(values)), color=colour, linewidth=1, linestyle=style)
    axes.set(xlabel=f"Distance to the nearest other synapse ({unit})", ylabel="Share (%)", xlim=(0, high))
    look.legend_above(axes)
    of = f"{len(queried):,} of the {n:,} synapses, drawn at random" if len(queried) < n else f"{n:,} synapses"
    box = "the searched box" if subject.facts.extent("z", unit) else "the space between the outermost ones"
    box = box if subject.table.step == 1 else f"the middle of {box}, where all of these lie"
    caption = (
        f"How far it is from the centroid of one synapse to the nearest other one ({of}), in space; grey: the same for "
        f"as many positions drawn at random in {box}. Vertical lines are medians. The mean distance is {ratio:.2f} "
        "times that of chance (Clark and Evans' ratio): below 1 synapses cluster, above 1 they keep apart. Two objects "
        "cannot overlap, so that the shortest distances are always rarer than chance; many of them can mean that "
        "one synapse was found in two pieces."
    )
    rows = quantile_rows(_QUANTILES, found, chance)
    middle = f"{np.median(found):.3g} {unit}, by chance {np.median(chance):.3g}"
    alt = f"Histogram of nearest distances; the median is {middle}; the mean is {ratio:.2f} times that of chance."
    return Drawing(drawn, caption, alt, Numbers(("Quantile", f"Detected ({unit})", f"Random ({unit})"), rows))


TISSUE = (
    Plot("colocalisation", "Co-localisation at the synapses", _at_synapses),
    Plot("neighbours", "Nearest neighbours", _neighbours),
)
"""The figures of synapses among synapses in the order of the page."""
