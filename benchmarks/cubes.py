"""How the scores of pipelines, and of a trivial detector, agree with expert-labelled synaptograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.baselines import response
from benchmarks.steps import REAL
from nd_synapse.evaluate.metrics import Rate
from nd_synapse.evaluate.synaptograms import (
    Synaptograms,
    class_rule,
    compare,
    evaluate_synaptograms,
    read_synaptograms,
)
from nd_synapse.pipeline import registry

__all__ = ["on_cubes"]

LABELLED = REAL.parent / "kdm200_dev" / "kdm200_dev.npz"
COLUMNS = {"any": "All", "excitatory": "Glut", "inhibitory": "Gaba"}
"""Question to the mask that answers it; the only mask where a pipeline has one."""
AIMS = {"any": 0.80, "excitatory": 0.85, "inhibitory": 0.92, "type": 0.88}
"""Of ``nomads-classifier``."""
INHIBITORY = {"presynaptic": "GAD", "postsynaptic": "Gephyrin"}
PIPELINES: tuple[tuple[str, Mapping[str, str], Mapping[str, str]], ...] = (
    # name, parameters, channels by role
    ("nomads-classifier", {}, {}),
    ("nomads-unsupervised", {}, {}),
    ("nomads-unsupervised", {}, INHIBITORY),
    ("puncta", {}, {"marker": "PSD95"}),
    ("probabilistic", {}, {}),
    ("probabilistic", {"presynaptic": "synapsin:2,gad:2,vgat:2", "postsynaptic": "gephyrin:2"}, {}),
)
WIDTHS_PX = (1.0, 1.5, 2.0)


def on_cubes() -> bool:
    """Print areas under the ROC curve and the accuracy of the type; return whether all is as it should be."""
    cubes = read_synaptograms(LABELLED)
    trivial = list(_trivial(cubes))
    print("\nArea under the ROC curve, and the share of true synapses whose type is right, with 95 % intervals.\n")
    print(f"| kdm200_dev, {len(cubes)} cubes | {' | '.join(COLUMNS)} | type | |\n|---|---|---|---|---|---|")
    met = True
    for name, given, chosen in PIPELINES:
        score = evaluate_synaptograms(registry.build(name, given), cubes, chosen)
        rates = {
            answer.question: answer.area
            for answer in score.answers
            if answer.mask == COLUMNS[answer.question] or len(score.scores) == 1
        }
        if score.class_rule:
            rates["type"] = score.class_rule.accuracy
        what = name + "".join(f" {value}" for value in {**given, **chosen}.values())
        notes = _judged(rates, trivial) if name == "nomads-classifier" else ""
        print(_line(what, rates, notes))
        met &= not notes
    for width, rates in zip(WIDTHS_PX, trivial, strict=True):
        print(_line(f"Laplacian of Gaussian, sigma {width:g} px", rates))
    return met


def _trivial(cubes: Synaptograms) -> Iterator[dict[str, Rate]]:
    """Yield the figures of the Laplacian of Gaussian over the smaller of two markers, for each width.

    All cubes of a channel are standardised together: the brightness of a cube is what tells a synapse.
    """
    place = {name.lower(): row for row, name in enumerate(cubes.channels)}
    images = cubes.images.astype(np.float32)
    images /= images.std(axis=(0, 2, 3, 4), keepdims=True)
    middle = tuple(slice(n // 2 - 1, n // 2 + 2) for n in images.shape[2:])
    for width in WIDTHS_PX:
        pairs = {"Glut": ("synapsin", "psd95"), "Gaba": ("gad", "gephyrin")}
        scores = {
            mask: np.array([
                response([cube[place[name]] for name in pair], cubes.voxel_size_nm, width, 1.0)[middle].max()
                for cube in images
            ], np.float64)
            for mask, pair in pairs.items()
        }  # fmt: skip
        scores["All"] = np.maximum(scores["Glut"], scores["Gaba"])
        answers = compare(scores, cubes.kind)
        rates = {one.question: one.area for one in answers if one.mask == COLUMNS[one.question]}
        rule = class_rule(scores, cubes.kind)
        yield rates if rule is None else {**rates, "type": rule.accuracy}


def _judged(rates: Mapping[str, Rate], trivial: list[dict[str, Rate]]) -> str:
    """Say which figures of the classifier a trivial detector beats beyond the interval, and which miss their aim."""
    notes = []
    for name, rate in rates.items():
        if any(other[name].value > rate.high for other in trivial if name in other):
            notes.append(f"{name} BEATEN")
        if rate.value < AIMS[name]:
            notes.append(f"{name} BELOW {AIMS[name]:.2f}")
    return "; ".join(notes)


def _line(what: str, rates: Mapping[str, Rate], notes: str = "") -> str:
    """Return a row of the table in Markdown."""
    cells = []
    for name in (*COLUMNS, "type"):
        rate = rates.get(name)
        cells.append(f"{rate.value:.3f} ({rate.low:.2f} to {rate.high:.2f})" if rate else "")
    return f"| {' | '.join([what, *cells, notes])} |"
