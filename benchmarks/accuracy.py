"""Accuracy of the pipelines: on planted synapses, on experts' labels, and on the volume that has published results.

Nothing is fitted. ``nd-synapse evaluate`` does the same for one pipeline on any data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tifffile

from benchmarks.data_sets import SYNTHETIC, synthetic
from benchmarks.steps import CHANNELS, REAL
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.evaluate import Evaluation, Synapses, evaluate_points
from nd_synapse.evaluate.synaptograms import evaluate_synaptograms, read_synaptograms
from nd_synapse.local_boss.sample import SHAPE
from nd_synapse.local_boss.synthetic import SyntheticVolume
from nd_synapse.pipeline import registry

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
LABELLED = REAL.parent / "kdm200_dev" / "kdm200_dev.npz"
MOVED = 37
"""Pixels along x, farther than synapses are wide: what is found then is what chance brings together."""

LEAST_F1 = 0.90
LEAST_AREA = {("All", "any"): 0.75, ("Glut", "excitatory"): 0.80, ("Gaba", "inhibitory"): 0.92}
LEAST_OF_TYPES = 0.90


@dataclass(frozen=True)
class Variant:
    """A pipeline with parameters, its masks, and the planted synapses that each is for."""

    what: str
    name: str
    given: dict[str, str] = field(default_factory=dict)
    masks: tuple[tuple[str, str], ...] = (("All", "excitatory"), ("All", "all"))
    graded: bool = True


INHIBITORY = {"presynaptic": "synapsin:2,gad:2", "postsynaptic": "gephyrin:2"}
VARIANTS = (
    Variant("nomads-unsupervised", "nomads-unsupervised"),
    Variant(
        "nomads-classifier",
        "nomads-classifier",
        masks=(("All", "all"), ("Glut", "excitatory"), ("Gaba", "inhibitory")),
    ),
    Variant("probabilistic", "probabilistic"),
    Variant("probabilistic, synapsin and GAD beside gephyrin", "probabilistic", INHIBITORY, (("All", "inhibitory"),)),
    Variant("nomads-2018, synapsin", "nomads-2018", graded=False),
    Variant("nomads-2018, PSD95", "nomads-2018", {"marker": "postsynaptic"}, graded=False),
)


def matched(volume: SyntheticVolume, found: Found, mask: str, planted: str) -> Evaluation:
    """Match the detections of a mask with the planted synapses of a type."""
    rows = found.table.get(f"in_{mask}", np.ones(len(found.table["id"]), np.bool_))
    places = np.stack([found.table[f"centroid_{axis}_um"][rows] for axis in "zyx"], axis=1)
    kinds = np.array(volume.synapses.types)
    truth = volume.synapses.centre_um[(kinds == planted) | (planted == "all")]
    return evaluate_points(Synapses(truth), Synapses(places))


def on_planted() -> bool:
    """Print precision, recall and F1 on the synthetic sample; return whether the default keeps its bar."""
    volumes = [synthetic(name) for name in SYNTHETIC]
    print(f"planted synapses, {' x '.join(map(str, SHAPE))} voxels, one to one within 300 nm")
    print(f"{'':50s} {'mask':5s} {'against':11s} {'  '.join(f'{name:>20s}' for name in SYNTHETIC)}")
    print(f"{'':68s} {'  '.join(['   prec.  recall  F1'] * len(SYNTHETIC))}")
    met = True
    for variant in VARIANTS:
        pipeline = registry.build(variant.name, variant.given)
        found = [detect_arrays(pipeline, volume.channels, volume.voxel_size_nm) for volume in volumes]
        for mask, planted in variant.masks:
            each = [matched(v, f, mask, planted) for v, f in zip(volumes, found, strict=True)]
            text = "  ".join(f"{e.precision.value:8.3f} {e.recall.value:5.3f} {e.f1.value:5.3f}" for e in each)
            print(f"{variant.what:50s} {mask:5s} {planted:11s} {text}")
            met &= variant is not VARIANTS[0] or planted == "all" or each[0].f1.value >= LEAST_F1
    return met


def on_labels() -> bool:
    """Print how scores agree with the labels of an expert; return whether the classifier keeps its bars."""
    met = True
    cubes = read_synaptograms(LABELLED)
    print(f"\nexpert-labelled synaptograms ({len(cubes)} cubes), area under the ROC curve and its 95 % interval")
    inhibitory = {"presynaptic": "synapsin:2,gad:2,vgat:2", "postsynaptic": "gephyrin:2"}
    for variant in VARIANTS:
        if not variant.graded:
            continue
        given, what = variant.given, variant.what
        if given:
            given, what = inhibitory, "probabilistic, synapsin, GAD, VGAT beside gephyrin"
        evaluation = evaluate_synaptograms(registry.build(variant.name, given), cubes)
        for answer in evaluation.answers:
            area = f"{answer.area.value:.3f} ({answer.area.low:.2f} to {answer.area.high:.2f})"
            least = LEAST_AREA.get((answer.mask, answer.question)) if variant.name == "nomads-classifier" else None
            print(f"{what:50s} {answer.mask:5s} {answer.question:11s} {area}{_held(answer.area.value, least)}")
            met &= least is None or answer.area.value >= least
        if evaluation.class_rule:
            rule = evaluation.class_rule.accuracy
            right = f"{rule.value:.3f} ({rule.low:.2f} to {rule.high:.2f}) right{_held(rule.value, LEAST_OF_TYPES)}"
            print(f"{what:50s} {'type':5s} {'':11s} {right}")
            met &= rule.value >= LEAST_OF_TYPES
    return met


def _held(value: float, least: float | None) -> str:
    """Say whether a figure keeps its bar, if it has one."""
    return "" if least is None else f"  at least {least:.2f}: {'met' if value >= least else 'MISSED'}"


def on_published() -> None:
    """Print what is found in the volume that was published with a detection."""
    volume = {name: tifffile.imread(REAL / f"{name}.tif") for name in CHANNELS}
    two = {name: volume[name] for name in ("PSD95", "SYNAPSIN")}
    theirs = tifffile.imread(REAL / "published_detections_mask.tif") > 0
    print("\nthe published volume")
    for variant in _of_two_markers():
        found = detect_arrays(registry.build(variant.name, variant.given), two, VOXEL_SIZE_NM)
        mask = found.masks["All"] > 0
        cubic_um = mask.size * np.prod(VOXEL_SIZE_NM) / 1e9
        counted = f"{len(found.table['id']):6,d} objects {np.count_nonzero(mask):10,d} voxels"
        density = f"{len(found.table['id']) / cubic_um:5.2f} / um3"
        differing = f"{np.count_nonzero(mask != theirs):,d} voxels differ from the published mask"
        print(f"{variant.what:50s} {counted} {density}{'; ' + differing if variant.name == 'probabilistic' else ''}")

    moved = two | {"SYNAPSIN": np.roll(two["SYNAPSIN"], MOVED, 2)}
    by_chance = detect_arrays(registry.build("nomads-unsupervised", {}), moved, VOXEL_SIZE_NM)
    print(f"{f'nomads-unsupervised, synapsin moved by {MOVED} pixels':50s} {len(by_chance.table['id']):6,d} objects")


def _of_two_markers() -> Iterator[Variant]:
    """Return the variants that need no more than synapsin and PSD95."""
    for variant in VARIANTS:
        if variant.name != "nomads-classifier" and variant.given is not INHIBITORY:
            yield variant


def main() -> int:
    """Print the tables; return 1 if the default pipeline or the classifier misses a bar."""
    met = on_planted()
    if REAL.is_dir():
        met &= on_labels()
        on_published()
    else:
        print(f"no {REAL.parent}: no comparison with labels and published results")
    return int(not met)


if __name__ == "__main__":
    raise SystemExit(main())
