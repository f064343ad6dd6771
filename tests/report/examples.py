"""Tables, images and facts that reports are drawn from in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.detection.registration import BEYOND, UNSURE, WITHIN, Pair, Registration
from nd_synapse.geometry import Box
from nd_synapse.report.checks import Check, checks
from nd_synapse.report.look import house_style
from nd_synapse.report.plot import Drawing, Numbers, Subject
from nd_synapse.report.report import CHAPTERS
from nd_synapse.report.table import SynapseTable, standardise
from pymeda_driver import Report, RunFacts, draw_report

BOX = Box(z=(100, 112), y=(1000, 1200), x=(2000, 2300))
VOXEL_NM = (70.0, 100.0, 100.0)
CHANNELS = ("SYNAPSIN", "PSD95", "GABA")
MANY = tuple(f"CHANNEL {i} with a rather long name" for i in range(17))
ROOT = Path(__file__).parents[2]
PLOTS = {plot.slug: plot for *_, plots in CHAPTERS for plot in plots}
REGISTERED = Registration(
    limit_nm=300.0,
    farthest_px=(50, 64),
    sections=3,
    of_sections=12,
    pairs=(
        Pair(("SYNAPSIN", "PSD95"), (100, 100), WITHIN, (0, 1), 100, 141, 0.4, 0.3, 7, 9),
        Pair(("PSD95", "PSD95"), (100, 101), BEYOND, (14, -19.5), 2360, 3581, 0.41, 0.01, 7, 9),
        Pair(("SYNAPSIN", "PSD95"), (101, 101), UNSURE, fields=9),
        Pair(("PSD95", "PSD95"), (101, 102), BEYOND, (4, 0), 400, 400, 0.41, 0.01, 0, 9),
    ),
)
FACTS = RunFacts(
    requested={"collection": "col", "experiment": "exp"},
    box=BOX,
    voxel_size_nm=VOXEL_NM,
    pipeline="nomads-unsupervised",
    parameters={"smallest": "31 voxels"},
    times_s={"read": 1.5, "detect": 2.25},
    registration=REGISTERED,
    counts={"blocks done": 4},
    versions={"numpy": "2"},
    links={"BOSS": "https://boss.example/channel", "S3": "s3://bucket/key", "odd": "javascript:alert(1)"},
)

Table = dict[str, NDArray[Any]]


def synapses(n: int, channels: Sequence[str] = CHANNELS, seed: int = 1) -> Table:
    """Return a table of n synapses with all columns of a detection; brightness is log-normal."""
    random = np.random.default_rng(seed)
    table: Table = {"id": np.arange(1, n + 1)}
    for axis, (start, stop), size in zip("zyx", BOX.ranges, VOXEL_NM, strict=True):
        table[f"centroid_{axis}_voxel"] = random.uniform(start - 0.5, stop - 0.5, n)
        table[f"centroid_{axis}_um"] = table[f"centroid_{axis}_voxel"] * size / 1000
    table["voxels"] = random.lognormal(4, 0.6, n).astype(np.int64) + 1
    table["volume_um3"] = table["voxels"] * 7e-4
    table["slices"] = random.poisson(2.5, n) + 1
    table["touches_border"] = random.random(n) < 0.1
    shared = random.normal(size=n)
    for channel in channels:
        table[f"mean_{channel}"] = np.exp(3 + 0.3 * shared + 0.4 * random.normal(size=n))
    table["score"] = 4 + random.exponential(3, n)
    return table


def two_populations(n: int) -> Table:
    """Return a table whose last third is brighter in one channel and in a further mask."""
    table = synapses(n)
    table["mean_PSD95"][-n // 3 :] *= 12
    return {**table, "in_Gaba": np.arange(n) >= n - n // 3}


def volumes(table: Table, channels: Sequence[str] = CHANNELS) -> tuple[Table, Table]:
    """Return images (z, y, x) in which every synapse is a bright dot, and the mask of the dots."""
    random = np.random.default_rng(4)
    places = np.rint(np.stack([table[f"centroid_{axis}_voxel"] for axis in "zyx"], axis=1) - BOX.start).astype(int)
    mask = np.zeros(BOX.shape, dtype=np.uint8)
    mask[tuple(np.clip(places, 0, np.array(BOX.shape) - 1).T)] = 255
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), (0.5, 1.5, 1.5))
    noise = {name: random.integers(0, 12, BOX.shape) for name in channels}
    return {name: (blurred * 8 + noise[name]).clip(0, 255).astype(np.uint8) for name in channels}, {"synapses": mask}


def drawn(
    table: Mapping[str, Any], channels: Sequence[str] = CHANNELS, projections: bool = True, facts: RunFacts = FACTS
) -> Report:
    """Return the report of a table with images."""
    images, masks = volumes(dict(table), channels)
    return draw_report(
        title="PyMeda Plots",
        table=table,
        facts=facts,
        overviews={name: image.max(axis=0) for name, image in images.items() if projections},
        mask_overviews={name: mask.max(axis=0) for name, mask in masks.items() if projections},
        images=images,
        mask_volumes=masks,
    )


def whole() -> Report:
    """Return a report with every figure."""
    return drawn(two_populations(1500))


def subject(
    table: Mapping[str, Any],
    facts: RunFacts = FACTS,
    images: Mapping[str, Any] | None = None,
    masks: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Subject:
    """Return what the plots of a table are drawn from."""
    known = SynapseTable.of(table).drawn()
    standardised = standardise(list(known.channels), known.brightness())
    return Subject(known, standardised, facts, {}, {}, seed, images or {}, masks or {})


def checked(of: Subject, facts: RunFacts | None = None) -> dict[str, Check]:
    """Return the checks of a report by name."""
    return {check.name: check for check in checks(of.table, of.standardised, facts or of.facts)}


def said(of: Subject, facts: RunFacts | None = None) -> str:
    """Return all that the checks of a report say."""
    return "\n".join("\n".join((f"{check.name}: {check.reason}", *check.more)) for check in checked(of, facts).values())


def draw(slug: str, of: Subject) -> Drawing:
    """Draw one plot."""
    with house_style():
        return PLOTS[slug].draw(of)


def numbers(slug: str, of: Subject) -> Numbers:
    """Draw one plot, and return the numbers behind it."""
    found = draw(slug, of).numbers
    assert found is not None
    return found
