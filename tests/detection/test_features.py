"""Features of synapses are those of each by itself, whichever blocks measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.cli.run_options import job_from, parser
from nd_synapse.detection import objects
from nd_synapse.detection.blocks import detect as detect_block
from nd_synapse.detection.blocks import write_masks
from nd_synapse.detection.features import measure
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Brightness, Detection
from nd_synapse.detection.plan import Plan
from nd_synapse.detection.shape import elongation
from nd_synapse.detection.windows import WINDOW_NM, surroundings, voxels_round, window, window_sums
from nd_synapse.detection.workspace import Workspace
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.job.job import Job
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Place
from nd_synapse.pipeline.function import FunctionPipeline
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection import by_object
from tests.detection.arrays import ROLES, VOXEL_SIZE_NM, Arrays, same
from tests.detection.given import Given
from tests.detection.hostile import SIZE, background, dense
from tests.pipelines.variants import built


def bright(data_dict: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Everything above the middle of the first channel's type."""
    voxels = next(iter(data_dict.values()))
    found: NDArray[np.bool_] = voxels > np.iinfo(voxels.dtype).max // 2
    return found


BRIGHT = FunctionPipeline(f"{__name__}:bright")


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, Box]:
    """Return a volume and a box in it."""
    volume = Box.of_shape(draw(st.tuples(*[st.integers(1, 14)] * 3)), draw(st.tuples(*[st.integers(0, 9)] * 3)))
    ranges = []
    for start, stop in volume.ranges:
        first = draw(st.integers(start, stop - 1))
        ranges.append((first, draw(st.integers(first + 1, stop))))
    return volume, Box(*ranges)


@settings(max_examples=200, deadline=None)
@given(boxes(), st.tuples(*[st.integers(0, 6)] * 3), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_for_any_points_the_sums_are_those_of_the_boxes_round_them(
    case: tuple[Box, Box], reach: tuple[int, int, int], n: int, seed: int
) -> None:
    """Whatever part of the volume is given, as long as it holds what the windows reach to."""
    volume, box = case
    rng = np.random.default_rng(seed)
    voxels = rng.integers(0, 65536, volume.shape, dtype=np.uint16)
    points = np.stack([rng.integers(start, stop, n) for start, stop in box.ranges])
    reaches = [reach, surroundings(reach)]
    region = box.grown(reaches[1], volume)
    (found,) = window_sums([voxels[region.slices(volume.start)]], region, points, reaches)
    for extent, sums in zip(reaches, found, strict=True):
        counts = voxels_round(points, extent, volume)
        for place, point in enumerate(points.T):
            centre = [int(p - start) for p, start in zip(point, volume.start, strict=True)]
            inside = voxels[by_object.box_round(centre, extent, volume.shape)]
            assert (sums[place], counts[place]) == (inside.sum(), inside.size)


@settings(max_examples=100, deadline=None)
@given(
    dtypes=st.lists(st.sampled_from([np.bool_, np.uint8, np.uint16]), max_size=7),
    reach=st.tuples(*[st.integers(0, 4)] * 3),
    seed=st.integers(0, 2**32 - 1),
    are_absent=st.booleans(),
    columns=st.sampled_from([18, 270]),
)
def test_for_any_images_the_sums_are_those_of_each_alone_without_absent_voxels(
    dtypes: list[type], reach: tuple[int, int, int], seed: int, are_absent: bool, columns: int
) -> None:
    """Several are summed in one number, also where all of their voxels are as bright as can be."""
    rng, box = np.random.default_rng(seed), Box.of_shape((4, 15, columns))
    images: list[NDArray[Any]] = [
        np.full(box.shape, 1 if dtype == np.bool_ else np.iinfo(dtype).max, dtype) for dtype in dtypes
    ]
    for image in images[::2]:
        image[rng.random(box.shape) < 0.5] = 0
    absent = rng.random(box.shape) < 0.3 if are_absent else None
    points = np.stack([rng.integers(0, n, 9) for n in box.shape])
    reaches = [reach, surroundings(reach)]
    found = window_sums(iter(images), box, points, reaches, absent)
    assert len(found) == len(images)
    for image, by_reach in zip(images, found, strict=True):
        there = image.astype(np.int64) if absent is None else np.where(absent, 0, image.astype(np.int64))
        for extent, sums in zip(reaches, by_reach, strict=True):
            for total, point in zip(sums.tolist(), points.T.tolist(), strict=True):
                assert total == there[by_object.box_round(point, extent, box.shape)].sum()


@pytest.mark.parametrize("reach", [(0, 3, 5), (1, 200, 150)])
def test_sums_are_exact_where_those_of_a_plane_need_more_than_32_bits(reach: tuple[int, int, int]) -> None:
    voxels = np.full((2, 300, 310), 65535, np.uint16)
    voxels[1, 150, 160] = 1
    box = Box.of_shape(voxels.shape)
    points = np.array([[0, 1, 1], [0, 150, 299], [0, 160, 309]])
    ((sums,),) = window_sums([voxels], box, points, [reach])
    for place, point in enumerate(points.T):
        assert sums[place] == voxels[by_object.box_round(point.tolist(), reach, voxels.shape)].sum(dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 16), st.integers(1, 16)),
    size=st.tuples(st.integers(1, 8), st.integers(2, 17), st.integers(2, 17)),
    voxel_size_nm=st.sampled_from([(70.0, 100.0, 100.0), (50.0, 300.0, 300.0), (500.0, 1200.0, 90.0)]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    share=st.sampled_from([0.02, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_for_any_volume_and_blocks_the_features_are_those_of_each_synapse_by_itself(
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    dtype: type[np.unsignedinteger[Any]],
    share: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    one = np.where(rng.random(shape) < share, top, rng.integers(0, top // 2, shape)).astype(dtype)
    channels = {"one": one, "two": rng.integers(0, top, shape, dtype=dtype)}
    found = detect_arrays(BRIGHT, channels, voxel_size_nm, block_size=size, threads=1)
    by_object.compare(found.table, by_object.rows(np.asarray(found.labels), channels, (0, 0, 0), voxel_size_nm))


def measured(mask: NDArray[np.bool_], origin: tuple[int, int, int] = (0, 0, 0)) -> objects.Parts:
    box = Box.of_shape(mask.shape, origin)
    found, _ = objects.join([objects.measure(objects.label(mask, box, box), box, [])], [])
    return found


def ball(radius: Sequence[float]) -> NDArray[np.bool_]:
    """Return an ellipsoid."""
    grid = np.indices([2 * int(r) + 3 for r in radius])
    distance = sum(((axis - int(r) - 1) / r) ** 2 for axis, r in zip(grid, radius, strict=True))
    return np.asarray(distance <= 1)


SHAPES = {
    "one voxel": (np.ones((1, 1, 1), np.bool_), (100.0, 100.0, 100.0), 1.0),
    "one flat voxel": (np.ones((1, 1, 1), np.bool_), (50.0, 100.0, 100.0), 1.0),
    "one tall voxel": (np.ones((1, 1, 1), np.bool_), (300.0, 100.0, 100.0), 3.0),
    "rod": (np.ones((1, 1, 12), np.bool_), (100.0, 100.0, 100.0), 12.0),
    "rod across": (np.ones((6, 1, 1), np.bool_), (200.0, 100.0, 100.0), 12.0),
    "plate": (np.ones((1, 9, 9), np.bool_), (70.0, 100.0, 100.0), 1.0),
    "ball": (ball((9, 9, 9)), (100.0, 100.0, 100.0), 1.0),
    "ball in flat voxels": (ball((18, 9, 9)), (50.0, 100.0, 100.0), 1.0),
    "egg": (ball((8, 8, 16)), (100.0, 100.0, 100.0), 2.0),
}


@pytest.mark.parametrize(("mask", "voxel_size_nm", "expected"), SHAPES.values(), ids=SHAPES)
def test_elongation_is_how_much_longer_than_wide(
    mask: NDArray[np.bool_], voxel_size_nm: tuple[float, float, float], expected: float
) -> None:
    (found,) = elongation(measured(mask), np.array([0]), voxel_size_nm)
    assert found == pytest.approx(expected, rel=0.02)


def test_a_synapse_far_from_the_origin_has_the_shape_of_one_at_it() -> None:
    """Products of such coordinates do not fit 63 bits; sums of them wrap round, and come back."""
    mask = np.random.default_rng(0).random((20, 40, 40)) < 0.4
    near, far = measured(mask), measured(mask, (999_999_000, 999_998_000, 999_997_000))
    rows = np.arange(len(near["id"]))
    assert np.array_equal(elongation(near, rows, VOXEL_SIZE_NM), elongation(far, rows, VOXEL_SIZE_NM))


def test_an_object_too_large_to_be_exact_has_no_elongation() -> None:
    found = measured(np.ones((1, 1, 3), np.bool_))
    found |= {"voxels": np.array([10**12]), "stop_x": np.array([10**5])}
    assert np.isnan(elongation(found, np.array([0]), VOXEL_SIZE_NM)).all()


def test_the_window_is_that_of_the_first_pymeda_made_symmetric() -> None:
    """It had slices c-2:c+2, c-5:c+5, c-5:c+5, which lie half a voxel off."""
    assert window(WINDOW_NM, (70.0, 100.0, 100.0)) == (2, 5, 5)
    assert window(WINDOW_NM, (50.0, 4.0, 4.0)) == (3, 125, 125)
    assert window(WINDOW_NM, (400.0, 2000.0, 2000.0)) == (0, 0, 0)
    assert surroundings((0, 5, 1)) == (1, 10, 2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(12, 48, 48), (3, 60, 17)], ids=str)
def test_another_window_is_another_measure(tmp_path: Path, size: tuple[int, int, int]) -> None:
    """A run that goes on in the same folder does not take the one for the other."""
    source = Arrays((3, 5, 7), pre=dense(), post=background())
    plan = Plan(
        source, source.box, BRIGHT, BRIGHT.choose(["pre", "post"], {}), ("pre", "post"), VOXEL_SIZE_NM, size, tmp_path
    )
    for window_nm in ((140.0, 500.0, 500.0), (210.0, 100.0, 300.0)):
        found = detect(replace(plan, window_nm=window_nm), 2)
        labels = np.asarray(found.labels)
        by_object.compare(found.table, by_object.rows(labels, source.data, source.box.start, VOXEL_SIZE_NM, window_nm))


def test_only_the_channels_that_were_asked_for_are_measured(tmp_path: Path) -> None:
    source = Arrays(pre=dense(), post=dense(), other=background())
    plan = Plan(source, source.box, built("nomads-unsupervised"), ROLES, ("other",), VOXEL_SIZE_NM, SIZE, tmp_path)
    found = detect(plan, 1)
    assert {name for name in found.table if name.startswith(("mean_", "sum_", "window_", "contrast_"))} == {
        "mean_other",
        "sum_other",
        "window_mean_other",
        "window_sum_other",
        "window_fraction",
        "contrast_other",
    }


def job(*words: str) -> Job:
    """Return the job of a command line."""
    ranges = [word for axis in "zyx" for word in (f"--{axis}-range", "0,8")]
    line = ["--host", "boss.example", "--col", "c", "--exp", "e", *ranges, *words]
    return job_from(parser().parse_args(line), {"BOSS_TOKEN": "a-token-of-a-test"})


def test_channels_to_measure_are_among_those_that_the_job_looks_at() -> None:
    assert job().measured(["PSD95", "SYNAPSIN"]) == ("PSD95", "SYNAPSIN")
    chosen = job("--feature-channels", "SYNAPSIN,GABA")
    assert chosen.measured(["GABA", "PSD95", "SYNAPSIN"]) == ("SYNAPSIN", "GABA")
    assert chosen.requested()["feature_channels"] == ["SYNAPSIN", "GABA"]
    with pytest.raises(UnknownNameError, match="'GABA' in --feature-channels"):
        chosen.measured(["PSD95", "SYNAPSIN"])


@pytest.mark.parametrize("text", ["", "a,", "a,,b", "a,a"])
def test_a_list_of_channels_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a name is empty, or given twice"):
        job("--feature-channels", text)


def test_the_brightness_of_a_channel_is_that_of_all_its_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = {name: rng.integers(0, 2**16, (12, 48, 48), dtype=np.uint16) for name in ("pre", "post")}
    voxels["post"][:] = 65535
    source = Arrays(**voxels)
    plan = Plan(source, source.box, BRIGHT, BRIGHT.choose(["pre", "post"], {}), ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path)
    found = detect(plan, 1)
    for name, image in voxels.items():
        assert found.brightness[name].mean == pytest.approx(image.mean(), rel=1e-12)
        assert found.brightness[name].sd == pytest.approx(image.std(), rel=1e-12)
    # a volume of 2**45 saturated voxels: sums of squares beyond 64 bits
    assert Brightness.of_sums(2**45, 65535 * 2**45, 65535**2 * 2**45) == Brightness(65535.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("keep_bytes", [20 * int(np.prod(SIZE)), 0])
def test_images_are_read_from_tiles_and_what_the_cache_let_go_from_the_source(tmp_path: Path, keep_bytes: int) -> None:
    source = Arrays((3, 5, 7), pre=dense(), post=background())
    pipeline = built("nomads-unsupervised")
    plan = Plan(source, source.box, pipeline, ROLES, ("pre", "post"), VOXEL_SIZE_NM, SIZE, tmp_path)
    found = detect(plan, 1, pulls=1, keep_bytes=keep_bytes)
    before = sorted(tmp_path.glob("tiles-*/*.npy"))
    rng = np.random.default_rng(0)
    for name, voxels in source.data.items():
        image = found.images[name]
        assert (image.shape, image.dtype) == (voxels.shape, voxels.dtype)
        for _ in range(20):
            start = [int(rng.integers(0, n)) for n in voxels.shape]
            part = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(start, voxels.shape, strict=True))
            assert np.array_equal(image[part[0], part[1], part[2]], voxels[part])
    assert sorted(tmp_path.glob("tiles-*/*.npy")) == before


def failing(workspace: Workspace, box: Box, **names: Any) -> None:
    """Measure, but for one block."""
    if box == FAILS:
        raise ValueError("no windows here")
    measure(workspace, box, **names)


FAILS = Box((4, 8), (16, 32), (16, 32))


def spots() -> NDArray[np.uint8]:
    """Return a volume with a spot in each block and one that reaches into two."""
    voxels = background()
    for box in Box.of_shape(voxels.shape).tiles(SIZE):
        z, y, x = box.start
        voxels[z + 1 : z + 3, y + 6 : y + 9, x + 6 : x + 9] = 220
    voxels[5, 20, 29:34] = 220
    return voxels


def undetected(workspace: Workspace, box: Box, finding: Finding) -> None:
    """Detect, but in one block."""
    if box == FAILS:
        raise ValueError("nothing here")
    detect_block(workspace, box, finding)


def unwritten(workspace: Workspace, box: Box, **names: Any) -> None:
    """Write masks, but of one block."""
    if box == FAILS:
        raise ValueError("no masks here")
    write_masks(workspace, box, **names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "function", "broken"),
    [("features", "features.measure", failing), ("masks", "blocks.write_masks", unwritten)],
    ids=["features", "masks"],
)
def test_a_block_that_fails_when_objects_are_joined_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, function: str, broken: Any
) -> None:
    """Its neighbours have parts of objects in it: a table without them would contradict the masks."""
    source = Arrays(pre=spots(), post=spots())

    def run(folder: str) -> Detection:
        (tmp_path / folder).mkdir(exist_ok=True)
        roles = BRIGHT.choose(["pre", "post"], {})
        return detect(Plan(source, source.box, BRIGHT, roles, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path / folder), 2)

    clean = run("clean")
    with monkeypatch.context() as patch:
        patch.setattr(f"nd_synapse.detection.{function}", broken)
        with pytest.raises(
            DataError, match=f"step {step}, block z 4:8 y 16:32 x 16:32 and those around it: ValueError"
        ):
            run("late")
    mended = run("late")
    assert mended.resumed["detect"] == mended.resumed["objects"] == clean.blocks
    same(mended, clean)


@pytest.mark.slow
def test_what_reaches_into_a_failed_block_is_cut_in_the_table_as_in_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nd_synapse.detection.blocks.detect", undetected)
    roles = BRIGHT.choose(["pre", "post"], {})
    source = Arrays(pre=spots(), post=spots())
    found = detect(Plan(source, source.box, BRIGHT, roles, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path), 2)
    assert [(failed_block.box, failed_block.step) for failed_block in found.failed_blocks] == [(FAILS, "detect")]
    mask = np.asarray(found.masks["All"])
    assert not mask[FAILS.slices()].any()
    assert np.count_nonzero(mask) == found.table["voxels"].sum() == found.mask_voxels["All"]
    assert mask[5, 20, 32:34].all(), "what lies outside of the failed block stays"


class Broken(NomadsUnsupervised):
    """Detects what is bright, and fails on one block."""

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        if place.start == FAILS.start:
            raise ValueError("not here")
        return self.bright(arrays, place)

    def bright(self, arrays: Any, place: Place) -> Detected:
        inside = tuple(
            slice(halo, halo + n) for halo, n in zip(self.halo(place.voxel_size_nm), place.shape, strict=True)
        )
        return Detected({"All": arrays["presynaptic"][inside] > 127})

    def select(self, objects: Any, finding: Finding) -> Chosen:
        return Chosen({"All": objects["voxels"] > 0})


class Whole(Broken):
    """The same after it was mended."""

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        return self.bright(arrays, place)


@pytest.mark.slow
def test_a_synapse_whose_centroid_lies_in_a_failed_block_is_left_out(tmp_path: Path) -> None:
    """A ring round a block that failed: its parts in other blocks are whole, its windows are not to be had."""
    voxels = background()
    voxels[6, 14:34, 14:34] = 220
    voxels[6, 16:32, 16:32] = 10
    voxels[1, 1, 1] = 220
    source = Arrays(pre=voxels, post=voxels)

    def run(pipeline: Broken, folder: str) -> Detection:
        (tmp_path / folder).mkdir(exist_ok=True)
        return detect(Plan(source, source.box, pipeline, ROLES, ("pre",), VOXEL_SIZE_NM, SIZE, tmp_path / folder), 1)

    holed = run(Broken(), "a")
    assert [(failed_block.box, failed_block.step) for failed_block in holed.failed_blocks] == [(FAILS, "detect")]
    assert (holed.candidates, holed.table["voxels"].tolist()) == (2, [1])
    assert np.count_nonzero(holed.masks["All"]) == 1
    mended = run(Whole(), "a")
    assert mended.table["voxels"].tolist() == [1, 20 * 20 - 16 * 16]
    same(mended, run(Whole(), "b"))


@pytest.mark.slow
def test_on_the_real_volume_the_features_are_those_of_each_synapse_by_itself(shared_data: Path) -> None:
    files = {"mask": "published_detections_mask", "pre": "SYNAPSIN", "post": "PSD95"}
    # a quarter of it: looking for each synapse in all of it takes sixteen times as long
    channels = {
        name: tifffile.imread(shared_data / "at_example" / f"{file}.tif")[:, :512, :672] for name, file in files.items()
    }
    found = detect_arrays(Given(), channels, VOXEL_SIZE_NM)
    assert len(found.table["id"]) > 400
    labels: Any = np.asarray(found.labels).astype(np.uint16)
    by_object.compare(found.table, by_object.rows(labels, channels, (0, 0, 0), VOXEL_SIZE_NM))
