"""The density is that of the tissue, whatever its border cuts, and its interval holds it as often as it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection import objects
from nd_synapse.detection.brick import excluded, weights
from nd_synapse.detection.density import Count, Counts, Density, density
from nd_synapse.detection.flags import bright_everywhere
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Brightness
from nd_synapse.detection.padding import RIM
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.tissue import Tissue, lost_to_padding
from nd_synapse.geometry import Box
from nd_synapse.local_boss import synthetic
from nd_synapse.pipeline.contract import Detected, Finding, Null, Pipeline, Place
from nd_synapse.pipeline.roles import Role
from tests.detection.arrays import Arrays
from tests.detection.given import Given
from tests.detection.in_process import InProcessPool
from tests.detection.test_features import BRIGHT
from tests.pipelines.variants import built

SIZE_NM = (70.0, 100.0, 100.0)
UM = np.array(SIZE_NM) / 1000
Points = NDArray[np.float64]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)


def dense(
    found: Mapping[str, NDArray[Any]],
    tissue: Tissue,
    box: Box,
    bright: NDArray[np.bool_] | None = None,
    size_nm: tuple[float, float, float] = SIZE_NM,
) -> Density:
    """Return the density of objects, counted in two portions as blocks are."""
    n = len(found["voxels"])

    def counts(some: NDArray[np.bool_]) -> Counts:
        columns = {name: values[some] for name, values in found.items()}
        return Counts.of(columns, tissue, box, None if bright is None else bright[some])

    third = np.arange(n) % 3 == 0
    return density(counts(third) + counts(~third), tissue, box, size_nm)


def of_mask(mask: NDArray[np.bool_], box: Box, size_nm: tuple[float, float, float] = SIZE_NM) -> Density:
    parts, _ = objects.join([objects.measure(objects.label(mask, box, box), box, [])], [])
    return dense(parts, Tissue.of_blocks(box, [box]), box, size_nm=size_nm)


def plates(shape: tuple[int, int, int], apart: tuple[int, int, int], extent: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return a lattice of cuboids."""
    along = [np.arange(n) % a < e for n, a, e in zip(shape, apart, extent, strict=True)]
    return np.logical_and.outer(np.logical_and.outer(along[0], along[1]), along[2])


@pytest.mark.parametrize(("synapses", "words"), [(0, "0"), (2, "0.0004"), (12, "0.0024"), (123, "0.0246")])
def test_a_density_has_the_digits_that_its_count_carries(synapses: int, words: str) -> None:
    assert str(Count(synapses, 5000.0)) == words


@pytest.mark.parametrize("extent", [(1, 1, 1), (3, 4, 6), (4, 8, 2)])
def test_over_all_places_of_the_box_the_mean_density_is_that_of_the_lattice(extent: tuple[int, int, int]) -> None:
    """Whatever the objects' size; a count of all that show something is too high by more, the larger they are."""
    apart, shape = (5, 9, 8), (7, 24, 25)
    whole = plates((12, 33, 33), apart, extent)
    true = 1 / (math.prod(apart) * math.prod(UM))
    found: dict[str, list[float | None]] = {"brick": [], "without_low": [], "without_high": [], "every": []}
    for start in np.ndindex(apart):
        mask = whole[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]
        one = of_mask(mask, Box.of_shape(shape, start))
        for name, values in found.items():
            values.append(getattr(one, name).per_um3)
    means = {name: np.mean(np.array(values, float)) for name, values in found.items()}
    for name in ("brick", "without_low", "without_high"):
        assert means[name] == pytest.approx(true, rel=1e-9), name
    naive = math.prod((n + e - 1) / n for n, e in zip(shape, extent, strict=True))
    assert means["every"] == pytest.approx(true * naive, rel=1e-9)


def test_each_object_counts_by_the_sides_that_it_touches() -> None:
    box = Box.of_shape((4, 10, 10), (3, 5, 7))
    found = {
        "start_z": np.array([4, 3, 4, 3, 4, 4]),
        "stop_z": np.array([5, 5, 7, 7, 5, 5]),
        "rim_low": np.array([0, 0, 0, 0, 1, 1]),
        "rim_high": np.array([0, 0, 0, 0, 0, 1]),
    }
    for axis, start in (("y", 6), ("x", 8)):
        found |= {f"start_{axis}": np.full(6, start), f"stop_{axis}": np.full(6, start + 1)}
    assert weights(*excluded(found, box)).tolist() == [1, 0.5, 0.5, 0, 0.5, 0]


def test_the_column_adds_up_to_the_count_of_the_brick_and_any_blocks_give_the_same() -> None:
    rng = np.random.default_rng(5)
    voxels = np.where(rng.random((9, 160, 200)) < 0.03, 255, 0).astype(np.uint8)
    one, other = (
        detect_arrays(BRIGHT, {"one": voxels}, SIZE_NM, block_size=size) for size in ((9, 160, 200), (4, 37, 64))
    )
    found = of_mask(voxels > 0, Box.of_shape(voxels.shape))
    assert one.table["counted"].sum() == found.brick.synapses
    assert np.array_equal(one.table["counted"], other.table["counted"])
    assert found.every.synapses == len(one.table["id"]) == found.sections.sum()
    assert np.array_equal(np.bincount(one.table["section"], minlength=9), found.sections)
    assert found.cut == np.count_nonzero(one.table["counted"] < 1)
    assert found.interval is not None
    assert found.interval[0] < found.brick.synapses / found.brick.um3 < found.interval[1]
    shown = found.as_json()
    assert shown["by_section"]["synapses"] == found.sections.tolist()
    assert shown["per_um3"] == pytest.approx(shown["synapses"] / shown["tissue_um3"])


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 400, 400), "one section alone"),
        ((9, 1, 400), "holds no tissue"),
        ((9, 100, 400), "tiles of 1.25 x 5 µm"),
        ((3, 200, 200), "counted synapses are too few"),
    ],
)
def test_a_box_too_small_for_an_interval_says_why(shape: tuple[int, int, int], reason: str) -> None:
    mask = np.zeros(shape, np.bool_)
    mask[shape[0] // 2, :100:9, 50] = True
    found = of_mask(mask, Box.of_shape(shape))
    assert found.interval is None
    assert reason in found.no_interval
    assert reason in str(found) or "no interval" in str(found)
    assert found.every.per_um3


def test_a_box_without_synapses_has_the_density_0() -> None:
    found = of_mask(np.zeros((4, 200, 200), np.bool_), Box.of_shape((4, 200, 200)))
    assert (found.brick.per_um3, found.interval, found.cut) == (0.0, None, 0)


def test_tiles_without_tissue_take_no_part() -> None:
    """Half of the box failed: its density is that of the other half."""
    box, half = Box.of_shape((6, 400, 400)), Box.of_shape((6, 400, 200))
    mask = plates(box.shape, (3, 10, 10), (1, 2, 2))
    mask[:, :, 200:] = False
    parts, _ = objects.join([objects.measure(objects.label(mask, box, box), box, [])], [])
    found = dense(parts, Tissue.of_blocks(box, [half]), box)
    assert found.tiles == 32
    assert found.brick.per_um3 == pytest.approx(of_mask(mask[:, :, :200], half).brick.per_um3, rel=0.005)


def test_padding_at_a_face_ends_the_data_as_a_face_does() -> None:
    """The density beside it is that of a box without it, exactly."""
    box, part = Box.of_shape((6, 200, 240)), Box.of_shape((6, 200, 210), (0, 0, 30))
    mask = np.random.default_rng(2).random(box.shape) < 0.02
    mask[:, :, :30] = False
    outside = np.zeros(box.shape, np.bool_)
    outside[:, :, :30] = True
    rims = [np.zeros(box.shape, np.bool_) for _ in range(2)]
    rims[0][:, :, 30] = True
    measured = list(zip(objects.RIMS, rims, strict=True))
    parts, _ = objects.join([objects.measure(objects.label(mask, box, box), box, measured)], [])
    tissue = Tissue.of_blocks(box, [box])
    tissue.without(box, box, lost_to_padding(outside, rims, box, box))
    found = dense(parts, tissue, box)
    expected = of_mask(mask[:, :, 30:], part)
    assert (found.brick, found.without_low, found.without_high, found.cut) == (
        expected.brick, expected.without_low, expected.without_high, expected.cut,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken(Given):
    """Fails on some blocks, by where they start."""

    starts: tuple[tuple[int, int, int], ...] = ()

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        if place.start in self.starts:
            raise ValueError("not this block")
        return Given.detect(self, arrays, finding, place)


def broken(mask: NDArray[np.bool_], folder: Path, size: tuple[int, int, int], *starts: tuple[int, int, int]) -> Any:
    source = Arrays(mask=mask.astype(np.uint8))
    plan = Plan(source, source.box, Broken(starts), {"mask": "mask"}, (), SIZE_NM, size, folder)
    return detect(plan, 1)


def test_a_failed_block_at_a_face_ends_the_data_as_a_face_does(tmp_path: Path, in_process: None) -> None:
    """The density beside it is that of a box without it, exactly."""
    mask = np.random.default_rng(2).random((6, 200, 240)) < 0.02
    found = broken(mask, tmp_path, (6, 200, 40), (0, 0, 0))
    expected = of_mask(mask[:, :, 40:], Box.of_shape((6, 200, 200), (0, 0, 40)))
    assert found.failed_blocks[0].box == Box.of_shape((6, 200, 40))
    for name in ("brick", "without_low", "without_high", "every", "cut"):
        assert getattr(found.density, name) == getattr(expected, name), name
    assert found.table["counted"].sum() == expected.brick.synapses
    assert not found.table["touches_padding"].any()


def test_around_a_failed_block_the_brick_has_neither_what_it_cuts_nor_the_planes_beside_it(
    tmp_path: Path, in_process: None
) -> None:
    """Also where two failed blocks meet at an edge, and beside padding."""
    mask = np.random.default_rng(3).random((8, 90, 120)) < 0.05
    box, size = Box.of_shape(mask.shape), (4, 30, 40)
    failed = [(4, 30, 40), (4, 60, 80), (0, 30, 80)]
    found = broken(mask, tmp_path, size, *failed)
    gone = np.zeros(mask.shape, np.bool_)
    for start in failed:
        gone[Box.of_shape(size, start).slices()] = True
    rims = []
    for step in (1, -1):
        rim = np.zeros(mask.shape, np.bool_)
        for axis in range(3):
            beside = np.roll(gone, step, axis)
            np.moveaxis(beside, axis, 0)[0 if step > 0 else -1] = False
            rim |= beside
        rims.append(rim & ~gone)
    objects_there = objects.label(mask & ~gone, box, box)
    parts, _ = objects.join([objects.measure(objects_there, box, list(zip(objects.RIMS, rims, strict=True)))], [])
    tissue = Tissue.of_blocks(box, [box])
    tissue.without(box, box, lost_to_padding(gone, rims, box, box))
    expected = dense(parts, tissue, box)
    assert found.density.as_json() == expected.as_json()


@dataclass(frozen=True, slots=True)
class Bright(Pipeline):
    """All that is bright in its channel, in padding or not."""

    tissue_only: bool = True  # type: ignore[misc] # a field in the place of a constant
    name = "bright"
    help = "what is bright"
    roles = (Role("image", ("image",), "where there is padding"), Role("mask", ("mask",), "what is to be found"))
    null = Null(("mask",))

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        return Detected({"All": arrays["mask"] > 250})


def test_a_pipeline_that_searches_padding_as_well_has_the_density_of_tissue() -> None:
    """Objects in padding and its rim are in its masks and table, and count nothing; chance is that of all of them."""
    rng = np.random.default_rng(4)
    image, mask = (rng.integers(1, 100, (6, 120, 128)).astype(np.uint8) for _ in range(2))
    image[:2, :30] = 0
    mask[1::4, 2::9, 2::9] = mask[1::4, 3::9, 2::9] = mask[1::4, 2::9, 3::9] = 255
    channels = {"image": image, "mask": mask}
    one, whole = (detect_arrays(Bright(only), channels, SIZE_NM, sampled=True) for only in (True, False))
    assert one.finding["padding"] == whole.finding["padding"] == {"image": [0]}
    outside = np.zeros(mask.shape, np.bool_)
    outside[:2, : 30 + RIM] = True
    labels = np.asarray(whole.labels)
    inside = np.unique(labels[~outside & (labels > 0)])
    assert len(inside) < len(whole.table["id"])
    for name in ("brick", "without_low", "without_high", "every", "cut"):
        assert getattr(one.density, name) == getattr(whole.density, name), name
    counted = whole.table["counted"]
    assert counted.sum() == whole.density.brick.synapses
    without_tissue = ~np.isin(whole.table["id"], inside)
    assert (counted[without_tissue] == 0).all()
    assert whole.table["touches_padding"][without_tissue].all()
    assert whole.density.every.synapses == len(inside)
    assert whole.chance.detections == len(whole.table["id"])
    assert whole.chance.voxels == mask.size
    assert one.chance.voxels == one.tissue.total


FIELD = Box.of_shape((30, 640, 640))
MARGIN = 12


def poisson(rng: np.random.Generator, extent: Points, per_um3: float) -> Points:
    return rng.random((rng.poisson(per_um3 * float(np.prod(extent))), 3)) * extent


def clustered(spread_um: float) -> Callable[[np.random.Generator, Points, float], Points]:
    """Return a field of clusters: parents at random, ten synapses round each."""

    def field(rng: np.random.Generator, extent: Points, per_um3: float) -> Points:
        room = np.full(3, 4 * spread_um)
        parents = poisson(rng, extent + 2 * room, per_um3 / 10) - room
        children = np.repeat(parents, rng.poisson(10, len(parents)), axis=0)
        points = children + rng.normal(0, spread_um, children.shape)
        inside = ((points >= 0) & (points < extent)).all(axis=1)
        return np.asarray(points[inside])

    return field


def observed(points: Points, rng: np.random.Generator) -> Density:
    """Return the density of cuboids of two to five voxels round some points, as far as they show in the field."""
    first = np.floor(points / UM).astype(np.int64) - MARGIN
    extents = rng.integers(2, 6, first.shape)
    starts, stops = np.maximum(first, 0), np.minimum(first + extents, FIELD.shape)
    seen = (stops > starts).all(axis=1)
    starts, stops = starts[seen], stops[seen]
    found: dict[str, NDArray[Any]] = {"voxels": np.full(len(starts), 2)}
    for number, axis in enumerate("zyx"):
        found |= {f"start_{axis}": starts[:, number], f"stop_{axis}": stops[:, number]}
        found[f"sum_{axis}"] = starts[:, number] + stops[:, number] - 1
    found |= {name: np.zeros(len(starts), np.int64) for name in objects.RIMS}
    return dense(found, Tissue.of_blocks(FIELD, [FIELD]), FIELD)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "per_um3", "low", "high"),
    [
        (poisson, 1.0, 0.93, 0.97),
        (poisson, 0.02, 0.92, 0.97),
        (clustered(0.5), 1.0, 0.92, 0.97),
        (clustered(2.0), 1.0, 0.84, 0.93),
        (clustered(5.0), 0.2, 0.80, 0.91),
    ],
    ids=["poisson", "few", "clusters of 0.5 um", "of 2 um", "of 5 um"],
)
def test_the_interval_holds_the_planted_density_as_often_as_it_says(
    field: Callable[[np.random.Generator, Points, float], Points], per_um3: float, low: float, high: float
) -> None:
    """In 95 of 100 fields where clusters are small against a tile (8 um); less often the larger they are."""
    rng = np.random.default_rng(11)
    extent = (np.array(FIELD.shape) + 2 * MARGIN) * UM
    held, densities = [], []
    for _ in range(600):
        found = observed(field(rng, extent, per_um3), rng)
        assert found.interval is not None
        held.append(found.interval[0] <= per_um3 <= found.interval[1])
        densities.append(found.brick.per_um3 or 0.0)
    error = np.std(densities) / math.sqrt(len(densities))
    print(f"{np.mean(held):.3f} of the intervals hold it; mean {np.mean(densities):.4f} ± {error:.4f}")
    assert low <= np.mean(held) <= high
    assert abs(np.mean(densities) - per_um3) < 4 * error


@pytest.mark.slow
@pytest.mark.parametrize("sections", [4, 8, 16])
def test_of_thin_boxes_the_brick_finds_the_density_of_the_tissue_that_they_are_cut_from(sections: int) -> None:
    """To 6 %: beyond the faces the volume is mirrored, so what they cut is found a little more or less often."""
    whole = synthetic.generate((32, 512, 512), seed=3)
    channels = {name: whole.channels[name] for name in ("Synapsin", "PSD95")}
    table = detect_arrays(built("nomads-unsupervised"), channels, whole.voxel_size_nm).table
    middle = Box((4, 28), (20, 492), (20, 492))
    inside = np.ones(len(table["id"]), np.bool_)
    for axis, (start, stop) in zip("zyx", middle.ranges, strict=True):
        inside &= (table[f"centroid_{axis}_voxel"] >= start) & (table[f"centroid_{axis}_voxel"] < stop)
    true = float(inside.sum()) / (middle.voxels * math.prod(UM))
    shares = []
    for start in range(4, 28 - sections + 1, 4):
        part = {name: voxels[start : start + sections] for name, voxels in channels.items()}
        found = detect_arrays(built("nomads-unsupervised"), part, whole.voxel_size_nm).density
        shares.append([found.brick.per_um3 or 0, found.every.per_um3 or 0])
    brick, every = np.mean(shares, axis=0) / true
    print(f"{sections} sections: the brick finds {brick:.3f} of {true:.3f} per um3, all objects {every:.3f}")
    assert abs(brick - 1) < 0.06
    assert abs(brick - 1) < (every - 1) / 2


def test_an_object_is_flagged_if_it_is_bright_in_each_channel_and_one_was_not_searched() -> None:
    brightness = {"pre": Brightness(10.0, 2.0), "other": Brightness(5.0, 1.0)}
    means = {"pre": np.array([20.0, 20.0, 16.0]), "other": np.array([9.0, 8.0, 9.0])}
    found = bright_everywhere(list(means), means.__getitem__, brightness, ["pre"])
    assert found is not None
    assert found.tolist() == [True, False, False]
    assert bright_everywhere(list(means), means.__getitem__, brightness, ["pre", "other"]) is None
    assert bright_everywhere(list(means), means.__getitem__, {"pre": brightness["pre"]}, ["pre"]) is None


def test_without_flagged_objects_the_density_is_lower_by_their_share() -> None:
    mask = plates((6, 200, 200), (3, 10, 10), (1, 2, 2))
    box = Box.of_shape(mask.shape)
    parts, _ = objects.join([objects.measure(objects.label(mask, box, box), box, [])], [])
    n = len(parts["id"])
    flagged = np.arange(n) % 4 == 0
    found = dense(parts, Tissue.of_blocks(box, [box]), box, bright=flagged)
    counted = weights(*excluded(parts, box))
    assert found.without_bright is not None
    assert found.without_bright.synapses == counted[~flagged].sum()
    assert found.without_bright.um3 == found.brick.um3
