"""How fast the pipelines are, from arrays in memory to masks and table, and how fast their published procedures were.

It measures neither BOSS nor files, and starts no workers: `benchmarks.steps` does.

The floor is the time that copying one float32 channel takes, into fresh memory, on the same machine in the same run.
Times are those of a processor, of one thread: of several the best, since whatever else the machine does can only add to
it. Each pipeline runs on tissue alone, and on the published volume, which has padding in every block.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Any

import cc3d
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage, special

from benchmarks.steps import CHANNELS, REAL
from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection import objects
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.geometry import Box
from nd_synapse.local_boss.synthetic import generate
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline, Place
from tests.fixtures_boss import REPOSITORY

Channels = Mapping[str, NDArray[Any]]

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
REAL_SHAPE = (8, 1024, 1344)
LARGER = 4
"""How often the volume is repeated along y, and along x, for the larger one."""

BLOCK = (32, 512, 512)
"""The block whose memory is measured."""

ROUNDS = 8
ROUNDS_OF_LARGER = 3
COPIES = 20
MOST_SECONDS = 1.5
MOST_BYTES = 16
MOST_OF_LINEAR = 1.25
"""Time a voxel of the larger volume against that of the real one, times what a plain copy grows by: the larger volume
overflows every cache, and the smaller one does not."""

CROPS = {"nomads-2018": (8, 256, 336), "probabilistic": (8, 128, 168)}
"""On how much the published procedures run: the size filter of the one looks at every voxel once an object."""


@dataclass(frozen=True)
class Case:
    """A pipeline, the channels that it gets, and how many copies of a channel it may take."""

    name: str
    channels: tuple[str, ...] = ("SYNAPSIN", "PSD95")
    chosen: dict[str, str] = field(default_factory=dict)
    most_copies: float = math.inf
    """Of tissue alone."""
    most_padded: float = math.inf
    """Where every block has padding."""

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline with its defaults; a run is given one, and does not look for it among all that is installed."""
        return registry.build(self.name, {})

    def run(self, volume: Channels) -> Found:
        """Run it on arrays."""
        voxels = {name: volume[name] for name in self.channels}
        return detect_arrays(self.pipeline, voxels, VOXEL_SIZE_NM, chosen=self.chosen, threads=1)


CASES = (
    Case("nomads-unsupervised", most_copies=40, most_padded=100),
    Case("probabilistic", most_copies=60, most_padded=90),
    # the real volume has no inhibitory markers: these stand in for them, and what is found means nothing
    Case("nomads-classifier", CHANNELS, {"gaba": "LY", "gephyrin": "GLUR1"}, 75, 160),
)
TABLE_COPIES = 30


@dataclass(frozen=True)
class Measured:
    """A figure and its bar."""

    what: str
    value: float
    unit: str
    most: float = math.inf

    @property
    def met(self) -> bool:
        """Whether the bar is kept."""
        return self.value <= self.most

    def __str__(self) -> str:
        """Return a row of the table."""
        bar, word = (f"{self.most:.3g}", "met" if self.met else "MISSED") if math.isfinite(self.most) else ("", "")
        return f"{self.what:58s} {self.value:8.2f} {self.unit:13s} {bar:>5s}  {word}".rstrip()


def tissue() -> dict[str, NDArray[Any]]:
    """Return a synthetic volume of the shape of the real one, with the names of its channels."""
    made = generate(REAL_SHAPE).channels
    return dict(zip(CHANNELS, (made["PSD95"], made["Synapsin"], made["GluN1"], made["GAD"]), strict=True))


def best_s(measure: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the shortest time of some rounds, in seconds of a processor, of child processes as well."""
    seconds = []
    for _ in range(rounds):
        began = _processor_s()
        measure()
        seconds.append(_processor_s() - began)
    return min(seconds)


def _processor_s() -> float:
    """Return the seconds of a processor that this process has used, and its child processes."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def copy_s(volume: Channels, rounds: int = COPIES) -> float:
    """Return the time of copying one float32 channel, and print that of copying into memory that is there already."""
    channel = next(iter(volume.values())).astype(np.float32)
    warm = channel.copy()
    fresh_s, warm_s = best_s(channel.copy, rounds), best_s(lambda: np.copyto(warm, channel), rounds)
    what = f"one copy of a float32 channel of {channel.size / 1e6:.0f} million voxels"
    print(f"{what}: {fresh_s * 1e3:.1f} ms; into warm memory: {warm_s * 1e3:.1f} ms")
    return fresh_s


def speed(case: Case, volume: Channels, padded: Channels, copy: float) -> list[Measured]:
    """Time a pipeline on tissue alone, on volumes of two sizes, and beside padding where there is such a volume."""
    larger = {name: np.tile(volume[name], (1, LARGER, LARGER)) for name in case.channels}
    growth = copy_s(larger, ROUNDS_OF_LARGER) / copy / LARGER**2
    one, size = best_s(partial(case.run, volume)), LARGER**2
    large = best_s(partial(case.run, larger), ROUNDS_OF_LARGER)
    print(f"{case.name}: {one:.3f} s; {size} times larger: {large:.2f} s, and a copy {growth:.2f} of linear")
    rows = [
        Measured(f"{case.name}, tissue alone", one / copy, "copies", case.most_copies),
        Measured(
            f"{case.name}, {size} times larger", large / one / size, "of linear", MOST_OF_LINEAR * max(1.0, growth)
        ),
    ]
    if padded:
        seconds = best_s(partial(case.run, padded))
        rows.append(Measured(f"{case.name}, padding in every block", seconds / copy, "copies", case.most_padded))
    return rows


def table(volume: Channels, copy: float) -> list[Measured]:
    """Time the object table alone: centroids, volumes and sums of two channels, of the default pipeline's objects."""
    case = CASES[0]
    marks = case.run(volume).masks["All"] > 0
    box = Box.of_shape(marks.shape)
    images = [(f"intensity:{name}", volume[name]) for name in case.channels]

    def made() -> dict[str, NDArray[Any]]:
        parts = objects.measure(objects.label(marks, box, box), box, images)
        joined, _ = objects.join([parts], [])
        return dict(objects.table(joined, box, VOXEL_SIZE_NM))

    labelled_s = best_s(lambda: objects.label(marks, box, box))
    all_s = best_s(made)
    print(
        f"table of {len(made()['id'])} objects, 1 thread: {all_s * 1e3:.0f} ms, labels {labelled_s * 1e3:.0f} ms of it"
    )
    return [Measured("table of the objects, 1 thread", all_s / copy, "copies", TABLE_COPIES)]


def cold_start() -> Measured:
    """Time a process that finds nothing, against one that imports NumPy."""
    detecting = (
        "import numpy; from nd_synapse.pipeline import registry; "
        "from nd_synapse.detection.in_memory import detect_arrays; "
        "voxels = numpy.random.default_rng(0).integers(0, 9, (4, 16, 16), numpy.uint8); "
        "detect_arrays(registry.build('nomads-unsupervised', {}), {'psd': voxels, 'synapsin': voxels}, (70, 100, 100))"
    )
    bare, whole = (
        best_s(partial(subprocess.run, [sys.executable, "-c", text], cwd=REPOSITORY, check=True))
        for text in ("import numpy", detecting)
    )
    return Measured("cold start beside that of NumPy", whole - bare, "s", MOST_SECONDS)


def memory(case: Case, volume: Channels) -> Measured:
    """Measure the peak memory of one block above its input."""
    pipeline = case.pipeline
    repeats = [math.ceil(n / m) for n, m in zip(BLOCK, next(iter(volume.values())).shape, strict=True)]
    box, halo = Box.of_shape(BLOCK), pipeline.halo(VOXEL_SIZE_NM)
    roles = pipeline.choose(case.channels, case.chosen)
    arrays = {role: mirrored(np.tile(volume[name], repeats)[box.slices()], box, halo) for role, name in roles.items()}
    place = Place(box.start, box.shape, box.shape, VOXEL_SIZE_NM)
    tracemalloc.start()
    try:
        finding = pipeline.learn(pipeline.summarise(arrays, place), roles)
        pipeline.detect(arrays, finding, place)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Measured(f"{case.name}, peak memory of a block", peak / box.voxels, "bytes a voxel", MOST_BYTES)


def historical(channel: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Detect as NOMADS did in 2018: z-scores, means of 3 x 3 x 3, Otsu's threshold; return the labels and how many."""
    scores = (channel - channel.mean()) / channel.std()
    means = 2 * ndimage.convolve(scores, np.full((3, 3, 3), 1 / 27), mode="reflect")
    counts, edges = np.histogram(means, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = total / below - (total[-1] - total) / (below[-1] - below)
        between = below * (below[-1] - below) * apart**2
    labels, count = cc3d.connected_components(means > middles[np.nanargmax(between)], connectivity=26, return_N=True)
    return labels, int(count)


def without_small(labels: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Drop objects of 30 voxels and fewer as NOMADS did: by looking at the whole volume for each."""
    kept = labels.copy()
    for number in range(1, count + 1):
        inside = labels == number
        if np.count_nonzero(inside) <= 30:
            kept[inside] = 0
    large: NDArray[np.bool_] = kept > 0
    return large


def published(presynaptic: NDArray[Any], postsynaptic: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probabilities of Simhal et al. (2017) for the default query, looking beside one voxel at a time."""
    base, beside = (_two_slices(channel) for channel in (postsynaptic, presynaptic))
    depth = len(base)
    result = np.zeros(base.shape)
    candidates = np.argwhere(base[:, 3:-3, 3:-3] >= 0.5)
    for z, y, x in np.add(candidates, (0, 3, 3)):
        slices = range(max(z - 1, 0), min(z + 2, depth))
        corners = product(slices, (y - 2, y, y + 2), (x - 2, x, x + 2))
        result[z, y, x] = base[z, y, x] * max(beside[k, r : r + 2, c : c + 2].mean() for k, r, c in corners)
    return result


def _two_slices(channel: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of a punctum of 2 x 2 pixels that spans two slices."""
    means, deviations = (f(channel, axis=(1, 2), keepdims=True, dtype=np.float64) for f in (np.mean, np.std))
    logs = np.pad(special.log_ndtr((channel - means) / deviations), ((0, 0), (0, 1), (0, 1)))
    flat = np.exp((logs[:, :-1, :-1] + logs[:, 1:, :-1] + logs[:, :-1, 1:] + logs[:, 1:, 1:]) / 4)
    other = np.concatenate([flat[1:], flat[-2:-1]])
    spanning: NDArray[np.float64] = flat * np.exp(-((flat - other) ** 2))
    return spanning


def against_published(volume: Channels, copy: float) -> list[Measured]:
    """Time the procedures as they were published on crops, scaled to the volume, and compare what they find."""
    pipeline = registry.build("nomads-2018", {})
    crop, larger = cropped(volume, "nomads-2018")
    began = _processor_s()
    labels, count = historical(crop["SYNAPSIN"])
    labelled = _processor_s()
    theirs = without_small(labels, count)
    done = _processor_s()
    compare("nomads-2018", pipeline, crop, theirs, done - began)
    # as many more objects as voxels, and a look at all of the voxels for each
    historical_s = (labelled - began) * larger + (done - labelled) * larger**2

    crop, larger = cropped(volume, "probabilistic")
    began = _processor_s()
    theirs = published(crop["SYNAPSIN"], crop["PSD95"]) > 0.9
    seconds = _processor_s() - began
    compare("probabilistic", registry.build("probabilistic", {}), crop, theirs, seconds)
    return [
        Measured("nomads-2018 as published, scaled", historical_s / copy, "copies"),
        Measured("probabilistic as published, scaled", seconds * larger / copy, "copies"),
    ]


def cropped(volume: Channels, name: str) -> tuple[dict[str, NDArray[Any]], float]:
    """Return a part of both channels, and how much larger the volume is."""
    window = Box.of_shape(CROPS[name])
    crop = {channel: np.ascontiguousarray(volume[channel][window.slices()]) for channel in CASES[0].channels}
    return crop, volume["PSD95"].size / window.voxels


def compare(name: str, pipeline: Pipeline, crop: Channels, theirs: NDArray[np.bool_], seconds: float) -> None:
    """Print how long a published procedure took, and in how many voxels our result is another."""
    ours = detect_arrays(pipeline, crop, VOXEL_SIZE_NM).masks["All"] > 0
    shape = " x ".join(map(str, theirs.shape))
    differing = np.count_nonzero(ours != theirs)
    print(f"{name} as published: {seconds:.1f} s for {shape} voxels; {differing} voxels of the mask differ from ours")


def main() -> int:
    """Measure, print the figures and the table, and return 1 if a bar is missed."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print(f"the best of {ROUNDS} rounds, of {ROUNDS_OF_LARGER} where the volume is larger")
    volume = tissue()
    padded = {name: tifffile.imread(REAL / f"{name}.tif") for name in CHANNELS} if REAL.is_dir() else {}
    copy = copy_s(volume)
    rows = [row for case in CASES for row in speed(case, volume, padded, copy)]
    rows += table(volume, copy)
    rows.append(cold_start())
    rows += [memory(case, volume) for case in CASES]
    rows += against_published(padded or volume, copy)
    print(f"{'':58s} {'measured':>8s} {'':13s} {'bar':>5s}")
    print(*rows, sep="\n")
    print(f"load {os.getloadavg()[0]:.1f} after")
    return int(not all(row.met for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
