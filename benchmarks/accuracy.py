"""Accuracy of every pipeline and of trivial detectors, on planted synapses and on the labels of experts.

Nothing is fitted. ``nd-synapse evaluate`` does the same for one pipeline on any data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.baselines import BASELINES, maxima, response, thresholds
from benchmarks.cubes import on_cubes
from benchmarks.data_sets import DataSet, Labelled, data_sets
from benchmarks.steps import CHANNELS, REAL
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.errors import DataError, NDSynapseError
from nd_synapse.evaluate import Evaluation, Synapses, evaluate_points
from nd_synapse.evaluate.detections import is_adjustable, objects_of, permissive
from nd_synapse.evaluate.metrics import Rate, bootstrap
from nd_synapse.evaluate.strictness import Marked, advise, ratio_of_sums
from nd_synapse.evaluate.synapses import Extent
from nd_synapse.geometry import Box
from nd_synapse.local_boss.synthetic import SyntheticVolume
from nd_synapse.pipeline import registry

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
MOVED = 37
"""Pixels along x, farther than synapses are wide: what is found then is what chance brings together."""
RESAMPLES = 300
HEADINGS = "| precision | recall | F1 | best F1 | at score | average precision | |\n|---|---|---|---|---|---|---|---|"
IN_SHORT = (
    "| data set: markers (* a trivial detector is above the interval) | nomads-unsupervised; by one marker puncta"
    " | nomads-classifier | best trivial |\n|---|---|---|---|"
)
"""F1 at the default with its interval, best F1, average precision."""
LABELLED, DRAWS = 20, 25
"""Images from which a strictness is taken, and how often they are drawn."""
MOST_BELOW = 0.05
"""By which the F1 of a pipeline of ours may be below that of the best trivial detector."""
OURS = ("nomads-unsupervised", "nomads-classifier", "puncta")
"""The others are as they were published."""


@dataclass(frozen=True)
class Entry:
    """A pipeline as it is run on a data set."""

    name: str
    mask: str = "All"
    given: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What the table calls it."""
        chosen = [channel or f"without {role}" for role, channel in self.chosen.items()]
        return " ".join([self.name, self.mask, *self.given.values(), *chosen])


@dataclass(frozen=True)
class Task:
    """Synapses of one type, the pipelines that look for them, and the markers of the trivial detectors."""

    truth: str
    markers: tuple[str, ...]
    entries: tuple[Entry, ...]


BOTH = Task(
    "excitatory",
    ("Synapsin", "PSD95"),
    (
        Entry("nomads-unsupervised"),
        Entry("nomads-classifier", "Glut"),
        Entry("probabilistic"),
        Entry("nomads-2018"),
    ),
)
ALONE = Task(
    "excitatory",
    ("PSD95",),
    (Entry("puncta", chosen={"marker": "PSD95"}), Entry("nomads-2018", given={"marker": "postsynaptic"})),
)
TWICE = {"presynaptic": "PSD95", "postsynaptic": "again"}
TASKS = {
    "synthetic": (
        BOTH,
        ALONE,
        Task(
            "inhibitory",
            ("GAD", "gephyrin"),
            (
                Entry("nomads-unsupervised", chosen={"presynaptic": "GAD", "postsynaptic": "gephyrin"}),
                Entry("nomads-classifier", "Gaba"),
                Entry("probabilistic", given={"presynaptic": "synapsin:2,gad:2", "postsynaptic": "gephyrin:2"}),
            ),
        ),
        Task("every", ("Synapsin",), (Entry("nomads-classifier"),)),
    ),
    "weiler_dev": (replace(BOTH, entries=tuple(
        # by the markers of the others; terminals from the thalamus have VGlut2, which was not stained
        replace(entry, chosen={"vglut1": ""}) if entry.name == "nomads-classifier" else entry for entry in BOTH.entries
    )), ALONE),
    "psd95_dev": (
        Task("excitatory", ("PSD95",), (*ALONE.entries, Entry("probabilistic", chosen=TWICE))),
    ),
}  # fmt: skip

AIMS: dict[tuple[str, str], dict[str, float]] = {
    ("sample", "nomads-unsupervised All"): {"F1": 0.93, "best F1": 0.95},
    ("half the signal", "nomads-unsupervised All"): {"F1": 0.89, "best F1": 0.92},
    ("dim partners", "nomads-unsupervised All"): {"F1": 0.78, "best F1": 0.82},
    ("weiler_dev", "nomads-unsupervised All"): {"F1": 0.78, "best F1": 0.85},
    ("psd95_dev", "puncta All PSD95"): {"best F1": 0.71, "AP": 0.72},
    ("psd95_dev below 600", "puncta All PSD95"): {"F1": 0.60},
    ("psd95_dev from 628", "puncta All PSD95"): {"F1": 0.68},
}


@dataclass(frozen=True)
class Figures:
    """A row of the table."""

    precision: float
    recall: float
    at: float
    """The score at which F1 is best; NaN without scores."""
    rates: dict[str, Rate]
    """``F1`` at the default, and with scores ``best F1`` and ``AP``."""


def matched(volume: SyntheticVolume, found: Found, mask: str, planted: str) -> Evaluation:
    """Match the detections of a mask with the planted synapses of a type."""
    kinds = np.array(volume.synapses.types)
    truth = volume.synapses.centre_um[(kinds == planted) | (planted == "all")]
    return evaluate_points(Synapses(truth), objects_of(found, mask).synapses)


def detections(entry: Entry, images: list[Labelled], given: Mapping[str, str]) -> list[dict[str, Synapses]]:
    """Run a pipeline on images; return the objects of each of its masks, an image each."""
    pipeline = registry.build(entry.name, given)
    pipeline.choose(list(images[0].channels), entry.chosen)
    found = []
    for image in images:
        try:
            one = detect_arrays(
                pipeline, image.channels, image.voxel_size_nm, chosen=entry.chosen, scores=not is_adjustable(pipeline)
            )
            found.append({mask: objects_of(one, mask).synapses for mask in one.masks})
        except DataError:  # an image in which nothing stands out
            nothing = Synapses(np.empty((0, 3)), score=np.empty(0))
            found.append(dict.fromkeys(pipeline.masks, nothing))
    return found


def marked(data: DataSet, truth: str, found: list[Synapses]) -> Marked:
    """Match the detections of each image with its synapses."""
    evaluations, extents = [], []
    for image, synapses in zip(data.images, found, strict=True):
        shape = next(iter(image.channels.values())).shape
        extents.append(Extent(Box.of_shape(shape), image.voxel_size_nm))
        evaluations.append(evaluate_points(Synapses(image.truth_um[truth]), synapses, data.distance_nm))
    return Marked.of(evaluations, extents)


def of_pipelines(data: DataSet, task: Task, cache: dict) -> Iterator[tuple[str, Marked, Marked | None]]:
    """Yield what a pipeline is called, what it marks by default, and all that has a score."""
    for entry in task.entries:
        runs = []
        for given in (dict(entry.given), permissive(entry.name, entry.given)):
            key = (entry.name, *sorted(given.items()), *sorted(entry.chosen.items()))
            try:
                if key not in cache:
                    cache[key] = detections(entry, data.images, given)
            except NDSynapseError as error:
                print(f"{entry.what} does not run: {error.found}")
                break
            runs.append([by_mask[entry.mask] for by_mask in cache[key]])
        else:
            has_scores = all(synapses.score is not None for synapses in runs[1])
            marks = [marked(data, task.truth, run) for run in runs]
            yield entry.what, marks[0], marks[1] if has_scores else None


def of_baselines(data: DataSet, task: Task) -> Iterator[tuple[str, Marked, Marked]]:
    """Yield what a trivial detector is called, what it marks, and what it marks with a quarter of its threshold."""
    names = [next(name for name in data.images[0].channels if name.startswith(marker)) for marker in task.markers]
    for what, sigma, rule in BASELINES:
        kept: list[list[Synapses]] = [[], []]
        for image in data.images:
            responses = response([image.channels[name] for name in names], image.voxel_size_nm, sigma)
            places, values = maxima(responses)
            least = thresholds(responses, values, rule)
            centres = places * (np.array(image.voxel_size_nm) / 1000)
            for into, threshold in zip(kept, (least, least / 4), strict=True):
                enough = values >= threshold
                into.append(Synapses(centres[enough], score=values[enough]))
        default, everything = (marked(data, task.truth, run) for run in kept)
        yield what, default, everything


def figures(default: Marked, everything: Marked | None) -> Figures:
    """Return the figures of a row, with intervals over tiles or images."""
    hits, found, synapses = default.counts()
    rates = {"F1": ratio_of_sums(2 * hits, found + synapses, RESAMPLES, 0)}
    row = Figures(hits.sum() / max(found.sum(), 1), hits.sum() / synapses.sum(), np.nan, rates)
    if everything is None or not len(everything.score):
        return row
    at = float(everything.best()[0])
    hits, found, synapses = everything.counts(at)
    rates["best F1"] = ratio_of_sums(2 * hits, found + synapses, RESAMPLES, 0)
    every = np.ones(len(synapses), np.bool_)
    rates["AP"] = bootstrap(lambda weight: everything.curve(weight)[2], every, RESAMPLES, 0, len(everything.score))
    return replace(row, at=at)


def judged(row: Figures, trivial: list[Figures], aims: Mapping[str, float]) -> str:
    """Say which figures a trivial detector beats beyond the interval, and which are below their aim."""
    notes = []
    best = max(other.rates["F1"].value for other in trivial)
    if row.rates["F1"].value < best - MOST_BELOW:
        notes.append(f"F1 {best - row.rates['F1'].value:.2f} BELOW TRIVIAL")
    for name, rate in row.rates.items():
        if any(name in other.rates and other.rates[name].value > rate.high for other in trivial):
            notes.append(f"{name} BEATEN")
        if rate.value < aims.get(name, 0):
            notes.append(f"{name} BELOW {aims[name]:.2f}")
    return "; ".join(notes)


def print_rows(name: str, rows: list[tuple], trivial: list[tuple]) -> tuple[bool, dict[str, Figures], list[Figures]]:
    """Print the rows of a task; return whether ours are neither beaten nor below an aim, ours, and the trivial ones."""
    known = {what: figures(*runs) for what, *runs in trivial}
    met, ours = True, {}
    for what, *runs in rows:
        row, notes = figures(*runs), ""
        if what.split()[0] in OURS:
            ours[what] = row
            notes = judged(row, list(known.values()), AIMS.get((name, what), {}))
        print(_line(what, row, notes), flush=True)
        met &= not notes
    for what, row in known.items():
        print(_line(what, row))
    return met, ours, list(known.values())


def in_short(name: str, ours: dict[str, Figures], trivial: list[Figures]) -> str:
    """Return the row of a task in the short table; of ours the first use of the classifier and of another pipeline."""
    best = {of: max(row.rates[of].value for row in trivial) for of in trivial[0].rates}
    cells = {True: "", False: ""}
    for what, row in reversed(ours.items()):
        figures = [f"{rate.value:.3f}{'*' if best[of] > rate.high else ''}" for of, rate in row.rates.items()]
        figures[0] += f" ({row.rates['F1'].low:.3f} to {row.rates['F1'].high:.3f})"
        pipeline, mask = what.split()[:2]
        cells[pipeline == "nomads-classifier"] = " ".join([*figures, *([mask] if mask != "All" else [])])
    return f"| {name} | {cells[False]} | {cells[True]} | {' '.join(f'{one:.3f}' for one in best.values())} |"


def _line(what: str, row: Figures, notes: str = "") -> str:
    """Return a row of a table in Markdown."""
    cells = {name: f"{rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f})" for name, rate in row.rates.items()}
    at = "" if np.isnan(row.at) else f"{row.at:.3g}"
    rates = [cells.get("F1", ""), cells.get("best F1", ""), at, cells.get("AP", "")]
    return f"| {' | '.join([what, f'{row.precision:.3f}', f'{row.recall:.3f}', *rates, notes])} |"


def all_ran(task: Task, rows: Iterable[tuple]) -> bool:
    """Return whether every pipeline of ours has its row; print those that lack it."""
    there = {what for what, *_ in rows}
    lacking = [entry.what for entry in task.entries if entry.name in OURS and entry.what not in there]
    for what in lacking:
        print(f"{what}: NO FIGURES")
    return not lacking


def on_points(sets: Iterable[DataSet]) -> bool:
    """Print the tables of data sets with points; return whether all is as it should be."""
    met, short = True, []
    for data in sets:
        cache: dict = {}
        for task in TASKS.get(data.name, TASKS["synthetic"]):
            rows, trivial = list(of_pipelines(data, task, cache)), list(of_baselines(data, task))
            met &= all_ran(task, rows)
            for stratum, left_out in {"": np.empty(0, np.int64), **data.strata}.items():
                name = f"{data.name} {stratum}".strip()
                print(f"\n| {name}: {task.truth}, by {' and '.join(task.markers)} {HEADINGS}")
                good, ours, others = print_rows(name, _part(rows, left_out), _part(trivial, left_out))
                short.append(in_short(f"{name}: {', '.join(task.markers)}", ours, others))
                met &= good
            if len(data.images) > LABELLED:
                by_labels(data.name, [*rows, *trivial])
    print(f"\n{IN_SHORT}", *short, sep="\n")
    return met


def by_labels(name: str, rows: list[tuple]) -> None:
    """Print what twenty labelled images give on the others, in the mean of many draws."""
    print(f"\n| {name}: {LABELLED} labelled images | F1 on the others | best F1 there | precision held | recall held |")
    print("|---|---|---|---|---|")
    for what, _, everything in rows:
        if everything is None:
            continue
        rng, drawn = np.random.default_rng(0), []
        for _ in range(DRAWS):
            order = rng.permutation(len(everything.synapses))
            others = everything.without(order[:LABELLED])
            advice = advise(everything.without(order[LABELLED:]), RESAMPLES)
            if advice is None:
                continue
            hits, found, synapses = others.counts(advice.strictness.value).sum(axis=1)
            held = [
                rate.low <= hits / whole <= rate.high
                for rate, whole in ((advice.precision, found), (advice.recall, synapses))
            ]
            drawn.append([2 * hits / (found + synapses), others.curve()[1].max(), *held])
        print(f"| {what} | {' | '.join(f'{figure:.3f}' for figure in np.mean(drawn, axis=0))} |", flush=True)


def _part(rows: list[tuple], left_out: NDArray[np.int64]) -> list[tuple]:
    return [(what, *(one and one.without(left_out) for one in runs)) for what, *runs in rows]


def on_published() -> None:
    """Print what is found in the volume that was published with a detection."""
    volume = {name: tifffile.imread(REAL / f"{name}.tif") for name in CHANNELS}
    two = {name: volume[name] for name in ("PSD95", "SYNAPSIN")}
    theirs = tifffile.imread(REAL / "published_detections_mask.tif") > 0
    print("\nthe published volume")
    for entry in (*BOTH.entries, *ALONE.entries):
        if entry.name == "nomads-classifier" or entry.name not in registry.names():
            continue
        found = detect_arrays(registry.build(entry.name, entry.given), two, VOXEL_SIZE_NM, chosen=entry.chosen)
        mask = found.masks["All"] > 0
        cubic_um = mask.size * np.prod(VOXEL_SIZE_NM) / 1e9
        counted = f"{len(found.table['id']):6,d} objects {np.count_nonzero(mask):10,d} voxels"
        density = f"{len(found.table['id']) / cubic_um:5.2f} / um3"
        differing = f"{np.count_nonzero(mask != theirs):,d} voxels differ from the published mask"
        print(f"{entry.what:50s} {counted} {density}{'; ' + differing if entry.name == 'probabilistic' else ''}")

    moved = two | {"SYNAPSIN": np.roll(two["SYNAPSIN"], MOVED, 2)}
    by_chance = detect_arrays(registry.build("nomads-unsupervised", {}), moved, VOXEL_SIZE_NM)
    print(f"{f'nomads-unsupervised, synapsin moved by {MOVED} pixels':50s} {len(by_chance.table['id']):6,d} objects")


def main() -> int:
    """Print the tables; return 1 if a pipeline of ours is beaten by a trivial detector or below an aim."""
    print("One to one; F1 at the default and at the best score of the set; 95 % intervals over images or tiles.")
    print("BEATEN: a trivial detector lies above the interval; BELOW: a figure is below its aim.")
    met = on_points(data_sets())
    if REAL.is_dir():
        met &= on_cubes()
        on_published()
    else:
        print(f"no {REAL.parent}: no comparison with labels and published results")
    return int(not met)


if __name__ == "__main__":
    raise SystemExit(main())
