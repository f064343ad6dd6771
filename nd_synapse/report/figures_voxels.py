"""The figures that compare synapses and channels with the voxels of the images, in random fields."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nd_synapse.geometry import nearest_voxel
from nd_synapse.report import look
from nd_synapse.report.captions import TIMES, count, listed
from nd_synapse.report.fields import Field
from nd_synapse.report.look import ACCENT, MARKS, QUIET, SERIES, short
from nd_synapse.report.plot import Drawing, Numbers, Plot, Subject
from nd_synapse.report.table import NothingToDrawError

__all__ = ["VOXELS"]

_RANDOM_PLACES = 4000
_MOST_DETECTED = 4000
_REACH_UM = 0.2
_MOST_SHIFT_UM = 1.5
_SHIFTS = 16
_MOST_CORRELATED = 12
_EVERY_ROW = 4  # of a field: neighbouring rows show the same puncta
_MOST_LINES = 6
_TITLE_LETTERS = {1: 40, 2: 24, 3: 14, 4: 9}

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def _reach(subject: Subject) -> tuple[int, int]:
    """Return how far the window of a place extends along y and x, in voxels on each side."""
    size = subject.facts.voxel_size_nm
    if size is None:
        return 2, 2
    y, x = (min(max(round(_REACH_UM * 1000 / nm), 1), 8) for nm in size[1:])
    return y, x


def _detected_in(subject: Subject, field: Field, reach: tuple[int, int]) -> Places:
    """Return the centroids whose window lies in a field, int64 (up to n, 3), from the field's first voxel."""
    margin, found = (0, *reach), [np.empty((0, 3), np.int64)]
    for piece in subject.table.pieces():
        centroids, _ = piece.centroids(units=("voxel",))
        inside = centroids - subject.facts.origin - field.box.start
        places: Places = nearest_voxel(np.where(np.isfinite(inside), inside, -1)).astype(np.int64)
        found.append(places[((places >= margin) & (places < np.subtract(field.box.shape, margin))).all(axis=1)])
    return np.concatenate(found)


def _random_in(field: Field, reach: tuple[int, int], places: int, random: np.random.Generator) -> Places:
    """Return places whose window lies in a field, drawn uniformly, int64 (places, 3)."""
    drawn = [
        random.integers(margin, max(length - margin, margin + 1), places)
        for length, margin in zip(field.box.shape, (0, *reach), strict=True)
    ]
    return np.stack(drawn, axis=1)


def _means(voxels: NDArray[np.generic], places: Places, reach: tuple[int, int]) -> Floats:
    """Return the mean of the window around each place in its section, float64 (places,)."""
    y, x = (np.arange(-r, r + 1) for r in reach)
    rows = np.clip(places[:, 1, None, None] + y[None, :, None], 0, voxels.shape[1] - 1)
    columns = np.clip(places[:, 2, None, None] + x[None, None, :], 0, voxels.shape[2] - 1)
    found: Floats = voxels[places[:, 0, None, None], rows, columns].astype(np.float64).mean(axis=(1, 2))
    return found


def _sampled(subject: Subject) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the brightness at detected and at random places, by channel."""
    fields, reach = subject.fields.all, _reach(subject)
    random = np.random.default_rng(subject.seed)
    each = math.ceil(_RANDOM_PLACES / len(fields))
    most = math.ceil(_MOST_DETECTED / len(fields))
    detected: dict[str, list[Floats]] = {name: [] for name in subject.images}
    by_chance: dict[str, list[Floats]] = {name: [] for name in subject.images}
    for field in fields:
        found = _detected_in(subject, field, reach)
        if len(found) > most:
            found = found[np.sort(random.choice(len(found), most, replace=False))]
        anywhere = _random_in(field, reach, each, random)
        for name, voxels in field.voxels.items():
            detected[name].append(_means(voxels, found, reach))
            by_chance[name].append(_means(voxels, anywhere, reach))
    first = next(iter(detected.values()))
    if not sum(map(len, first)):
        raise NothingToDrawError("No synapse lies in the fields that were sampled from the images.")
    return (
        {name: np.concatenate(parts) for name, parts in detected.items()},
        {name: np.concatenate(parts) for name, parts in by_chance.items()},
    )


def brighter_share(values: Floats, others: Floats) -> float:
    """Return the chance that one of `values` exceeds one of `others`, ties by half: the area under the ROC curve."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return float(below.mean() / (2 * len(others)))


def _against_random(subject: Subject) -> Drawing:
    detected, by_chance = _sampled(subject)
    names = list(detected)
    rows, columns = look.panel_grid(len(names))
    drawn = look.figure((1.35 if rows < 5 else 1.1) * rows + 0.75)
    panels = list(drawn.subplots(rows, columns, squeeze=False).flat)
    numbers = []
    for axes, name in zip(panels, names, strict=False):
        share = brighter_share(detected[name], by_chance[name])
        _two_histograms(axes, detected[name], by_chance[name])
        axes.set_title(f"{short(name, _TITLE_LETTERS[columns])}: {100 * share:.0f} %")
        middles = [f"{np.median(part):,.4g}" for part in (detected[name], by_chance[name])]
        numbers.append([name, *middles, f"{100 * share:.1f} %"])
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    drawn.supxlabel("Brightness (grey values)")
    drawn.supylabel("Share of places")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper left", ncols=2)
    n = len(next(iter(detected.values())))
    y, x = (2 * r + 1 for r in _reach(subject))
    size = subject.facts.voxel_size_nm
    window = f"{x} {TIMES} {y} voxels" + (
        "" if size is None else f" ({x * size[2]:,.0f} {TIMES} {y * size[1]:,.0f} nm)"
    )
    fields = subject.fields.all
    caption = (
        "Is the tissue brighter where synapses were detected? In each channel, the brightness at "
        f"{count(n, 'synapse')} (blue) and at {len(next(iter(by_chance.values()))):,} places drawn at random from "
        f"the same tissue (grey): the mean of {window} in the section of the place. The number in a title is the "
        "chance that a detected place is brighter than a random one: 50 % means that the channel is unrelated to "
        f"the synapses, 100 % that it always marks them. Sampled in {count(len(fields), 'field')} of "
        f"{_shape(fields[0])} voxels."
    )
    header = ("Channel", "Median, detected", "Median, random", "Detected brighter")
    alt = f"Detected places are brighter than random ones: {listed(f'{row[0]} {row[-1]}' for row in numbers)}."
    return Drawing(drawn, caption, alt, Numbers(header, numbers))


def _shape(field: Field) -> str:
    return f" {TIMES} ".join(f"{n:,}" for n in field.box.shape)


def _two_histograms(axes: Axes, detected: Floats, by_chance: Floats) -> None:
    both = np.concatenate([detected, by_chance])
    both = both[np.isfinite(both)]
    low, high = (float(edge) for edge in np.quantile(both, (0.002, 0.995))) if len(both) else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 41)
    shares = [np.histogram(np.clip(v, low, high), edges)[0] / max(len(v), 1) for v in (by_chance, detected)]
    axes.stairs(shares[0], edges, fill=True, color="#b9c2cb", label="random places")
    axes.stairs(shares[1], edges, color=ACCENT, linewidth=1.4, label="detected synapses")
    axes.set(xlim=(low, high), yticks=[])
    axes.tick_params(length=2)


def _shift_steps(subject: Subject, width: int) -> list[int]:
    """Return by how many voxels along x the channels are shifted."""
    size = subject.facts.voxel_size_nm
    most = 15 if size is None else round(_MOST_SHIFT_UM * 1000 / size[2])
    most = max(1, min(most, width // 4))
    return list(range(0, most + 1, math.ceil(most / _SHIFTS)))


def shifted_correlation(fields: Sequence[Field], names: Sequence[str], steps: Sequence[int]) -> Floats:
    """Return Pearson's r of channels, one shifted along x against the other, float64 (steps, channels, channels)."""
    d, most = len(names), max(steps)
    products, squares, others = (np.zeros(shape) for shape in ((len(steps), d, d), (d,), (len(steps), d)))
    for field in fields:
        stack = np.stack([field.voxels[name][:, ::_EVERY_ROW] for name in names]).astype(np.float32)
        stack -= stack.mean(axis=(2, 3), keepdims=True)
        width = stack.shape[-1] - most
        fixed = stack[..., :width].reshape(d, -1)
        of_columns = np.square(stack).sum(axis=(1, 2), dtype=np.float64)
        squares += of_columns[:, :width].sum(axis=1)
        for i, step in enumerate(steps):
            products[i] += fixed @ stack[..., step : step + width].reshape(d, -1).T
            others[i] += of_columns[:, step : step + width].sum(axis=1)
    norms = np.sqrt(squares[np.newaxis, :, np.newaxis] * others[:, np.newaxis, :])
    r = np.divide(products, norms, out=np.full_like(products, np.nan), where=norms > 0)
    return (r + r.transpose(0, 2, 1)) / 2


def _cross_correlation(subject: Subject) -> Drawing:
    subject.fields.need()
    names = list(subject.images)[:_MOST_CORRELATED]
    if len(names) < 2:
        raise NothingToDrawError("It needs at least 2 channels.")
    fields = subject.fields.all
    steps = _shift_steps(subject, fields[0].box.shape[2])
    r = shifted_correlation(fields, names, steps)
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names)) if np.isfinite(r[:, a, b]).all()]
    if not pairs:
        raise NothingToDrawError("No two channels vary in the fields that were sampled.")
    pairs.sort(key=lambda pair: -(r[0, pair[0], pair[1]] - r[-1, pair[0], pair[1]]))
    size = subject.facts.voxel_size_nm
    unit, scale = ("voxels", 1.0) if size is None else ("µm", size[2] / 1000)
    x = np.array(steps) * scale
    drawn = look.figure(3.1)
    axes = drawn.subplots()
    for a, b in pairs[_MOST_LINES:]:
        axes.plot(x, r[:, a, b], color="#c6ced6", linewidth=0.8, zorder=1)
    for i, (a, b) in enumerate(pairs[:_MOST_LINES]):
        label = f"{short(names[a], 14)} and {short(names[b], 14)}"
        (line,) = axes.plot(x, r[:, a, b], label=label, color=SERIES[i], linewidth=1.3, zorder=9 - i)
        line.set(marker=MARKS[i], markersize=3.5)
    axes.axhline(0, color=QUIET, linewidth=0.7)
    axes.set(xlabel=f"Shift of one channel along x ({unit})", ylabel="Pearson's r of voxels", xlim=(0, x[-1] or 1))
    drawn.legend(loc="outside right upper")
    grey = f" The other {len(pairs) - _MOST_LINES} pairs are grey." if len(pairs) > _MOST_LINES else ""
    caption = (
        "Do two channels label the same places? Pearson's correlation of their voxels when one image is shifted "
        "against the other along x. Co-localised channels correlate at shift 0 and lose it within the width of a "
        "punctum; a flat curve means common background or no relation. The pairs that lose most "
        f"are named.{grey} Computed on every fourth row of voxels, synapse or not, of {count(len(fields), 'field')} of "
        f"{_shape(fields[0])}, each section's mean taken out."
    )
    header = ("Channels", "r at shift 0", f"r at {x[-1]:.3g} {unit}", "Difference")
    rows = [
        [f"{names[a]}, {names[b]}", *(f"{v:.3f}" for v in (r[0, a, b], r[-1, a, b], r[0, a, b] - r[-1, a, b]))]
        for a, b in pairs
    ]
    lost = listed(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
    alt = f"Pearson's r over a shift of up to {x[-1]:.3g} {unit}: {lost}."
    return Drawing(drawn, caption, alt, Numbers(header, rows))


VOXELS = (
    Plot("against-random", "Detected against random places", _against_random),
    Plot("cross-correlation", "Co-localisation in the images", _cross_correlation),
)
"""The figures that need voxels, in the order of the page."""
