"""Pictures of an evaluation: hits, misses and false alarms over the image, and precision against recall.

Importing it loads matplotlib.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.evaluate.evaluation import Evaluation
from nd_synapse.evaluate.strictness import Advice, Marked
from nd_synapse.report.look import QUIET, SERIES, WIDTH_IN, figure, house_style, png, short
from nd_synapse.text import written

__all__ = ["matches", "over_strictness", "precision_recall"]

_BRIGHTEST = 99.8  # percentile that is white: a few bright objects would leave all else black
_MOST_PIXELS = 2048


def matches(
    evaluation: Evaluation,
    shown: tuple[str, NDArray[Any]] | None,
    voxel_size_nm: tuple[float, float, float] | None,
) -> bytes:
    """Draw where hits, misses and false alarms lie, seen along z: a PNG.

    `shown` is the name of a channel and its largest values along z, shape (y, x); None draws the marks alone.
    """
    found = evaluation.truth.centre_um[evaluation.pairs[:, 0]]
    missed = evaluation.truth.centre_um[evaluation.missed]
    false = evaluation.detections.centre_um[evaluation.false_alarms]
    projection = None if shown is None else shown[1]
    everything = np.concatenate([found, missed, false])[:, 1:]
    with house_style():
        height = _height(projection, voxel_size_nm, everything)
        drawn = figure(height, square_pixels=True)
        axes = drawn.add_subplot()
        if shown is not None and voxel_size_nm is not None:
            axes.set_title(f"brightest voxel of {short(shown[0])} along z")
            _show(axes, shown[1], voxel_size_nm)
        else:
            axes.invert_yaxis()
        size = float(np.clip(4000 / max(len(everything), 1), 3, 30))
        _mark(axes, found, f"{len(found):,} hits", SERIES[4], "o", size)
        _mark(axes, missed, f"{len(missed):,} misses", SERIES[5], "s", size)
        _mark(axes, false, f"{len(false):,} false alarms", SERIES[3], "^", size)
        axes.set_aspect("equal")
        axes.set_xlabel("x (um)")
        axes.set_ylabel("y (um)")
        drawn.legend(loc="outside upper center", ncols=3, markerscale=1.5)
        return png(drawn)


def _show(axes: Axes, projection: NDArray[Any], voxel_size_nm: tuple[float, float, float]) -> None:
    """Draw the image; a voxel's index is its centre."""
    y, x = (size / 1000 for size in voxel_size_nm[1:])
    step = max(1, -(-max(projection.shape) // _MOST_PIXELS))
    white = max(float(np.percentile(projection, _BRIGHTEST)), float(projection.min()) + 1)
    extent = (-x / 2, (projection.shape[1] - 0.5) * x, (projection.shape[0] - 0.5) * y, -y / 2)
    axes.imshow(projection[::step, ::step], cmap="gray", vmin=projection.min(), vmax=white, extent=extent)


def _mark(axes: Axes, centre_um: NDArray[np.float64], label: str, colour: str, form: str, size: float) -> None:
    axes.scatter(
        centre_um[:, 2], centre_um[:, 1], s=size, marker=form, facecolors="none", edgecolors=colour, linewidths=0.7,
        label=label,
    )  # fmt: skip


def _height(
    projection: NDArray[Any] | None, voxel_size_nm: tuple[float, float, float] | None, points: NDArray[np.float64]
) -> float:
    """Return the height in inches that suits the proportions of what is drawn."""
    if projection is not None and voxel_size_nm is not None:
        tall, wide = projection.shape[0] * voxel_size_nm[1], projection.shape[1] * voxel_size_nm[2]
    else:
        tall, wide = np.maximum(np.ptp(points, axis=0), 1e-9)
    return float(np.clip(WIDTH_IN * tall / wide, 2, 2 * WIDTH_IN)) + 0.8


def precision_recall(evaluation: Evaluation) -> bytes:
    """Draw precision against recall over the scores."""
    curve = evaluation.curve
    if curve is None:
        raise DataError("a precision-recall curve", "detections have no scores", "Take a pipeline that has scores")
    with house_style():
        drawn = figure(3.6)
        axes = drawn.add_subplot()
        for level in (0.2, 0.4, 0.6, 0.8):
            recall = np.linspace(level / (2 - level), 1, 200)
            axes.plot(recall, level * recall / (2 * recall - level), color=QUIET, linewidth=0.5, linestyle=":")
            axes.annotate(f"F1 {level:g}", (1, level / (2 - level)), fontsize=7, color=QUIET)
        axes.plot(curve.recall, curve.precision, color=SERIES[0], drawstyle="steps-pre")
        axes.plot(curve.recall[-1:], curve.precision[-1:], "o", color=SERIES[1], label="all detections")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.set_title(f"average precision {curve.average_precision:.3f}")
        axes.legend(loc="lower left")
        return png(drawn)


def over_strictness(marked: Marked, advice: Advice) -> bytes:
    """Draw precision, recall and F1 over the strictness, and the one to use with its interval: a PNG."""
    score, f1, _ = marked.curve()
    order = np.argsort(-marked.score, kind="stable")
    right = marked.right[order]
    hits, found = np.cumsum(right), np.arange(1, len(right) + 1)
    with house_style():
        drawn = figure(3.6)
        axes = drawn.add_subplot()
        for values, name, colour in (
            (hits / found, "precision", SERIES[0]),
            (hits / marked.synapses.sum(), "recall", SERIES[1]),
        ):
            axes.plot(marked.score[order], values, color=colour, label=name)
        axes.plot(score, f1[0], color=SERIES[2], label="F1")
        axes.axvspan(advice.strictness.low, advice.strictness.high, color=QUIET, alpha=0.25, linewidth=0)
        axes.axvline(advice.strictness.value, color=QUIET, label=f"to use: {written(advice.strictness.value)}")
        axes.set(ylim=(0, 1.02), xlabel="strictness", ylabel="share")
        axes.legend(loc="lower right")
        return png(drawn)
