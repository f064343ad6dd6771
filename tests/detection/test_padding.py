"""Padding is found, a clipped background is not taken for it, and neither blocks nor parts show in what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection.flat import REACH, flat_pixels
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.padding import RIM
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import DataError
from nd_synapse.job import recompute
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Detected, Finding, Pipeline, Place, Summary
from nd_synapse.pipeline.roles import Role
from pipelines.nomads_unsupervised import NomadsUnsupervised
from pipelines.probabilistic import Probabilistic
from tests.detection.arrays import ROLES, VOXEL_SIZE_NM, Arrays, plan, same
from tests.detection.in_process import InProcessPool
from tests.detection.parts import Memory, in_one, in_parts

Volume = NDArray[np.uint8]


def noise(shape: tuple[int, ...] = (2, 160, 200), seed: int = 0) -> Volume:
    """Tissue with a clipped background and bright spots."""
    random = np.random.default_rng(seed)
    spots = ndimage.gaussian_filter((random.random(shape) < 0.01) * 2000.0, (0, 1.3, 1.3))
    return np.clip(random.normal(6, 8, shape) + spots, 0, 254).astype(np.uint8)


def strip(value: int, width: int) -> Volume:
    voxels = noise()
    voxels[:, :width] = value
    return voxels


def wedge() -> Volume:
    """A section that was turned: its padding is a triangle, resampled at its edge."""
    y, x = np.mgrid[:160, :200]
    voxels = noise()
    voxels[:, 6 * y + x < 150] = 0
    return voxels


def island(radius: int) -> Volume:
    y, x = np.mgrid[:160, :200]
    return np.where((y - 80) ** 2 + (x - 90) ** 2 < radius**2, noise(), 0).astype(np.uint8)


def missing_section() -> Volume:
    voxels = noise()
    voxels[1] = 0
    return voxels


def blobs(sigma: float, share: float) -> Volume:
    """Simulated puncta on an exactly black background."""
    seeds = np.random.default_rng(1).random((2, 160, 200)) < share
    seeds[0, 80, 90] = True
    smooth = ndimage.gaussian_filter(seeds.astype(np.float64), (0, sigma, sigma))
    return (smooth / smooth.max() * 200).astype(np.uint8)


def clipped(sigma: float, share: float) -> Volume:
    """Smooth noise of which most is below the black level."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(2, 160, 200)), (0, sigma, sigma))
    above = (smooth - np.quantile(smooth, share)) / smooth.std()
    return np.clip(40 * above, 0, 255).astype(np.uint8)


PADDED: dict[str, tuple[Callable[[], Volume], Callable[[Volume], NDArray[np.bool_]]]] = {
    "a strip of zeros": (lambda: strip(0, 5), lambda voxels: rows(voxels, 5)),
    "a strip of another value": (lambda: strip(37, 9), lambda voxels: rows(voxels, 9)),
    "a strip of the largest value": (lambda: strip(255, 20), lambda voxels: rows(voxels, 20)),
    "a wedge": (wedge, lambda voxels: opened(voxels == 0)),
    "all but an island": (lambda: island(60), lambda voxels: opened(voxels == 0)),
    "a section that is missing": (missing_section, lambda voxels: np.arange(2)[:, None, None] == np.ones_like(voxels)),
}
"""What has padding, and which."""

NOT_PADDED: dict[str, Callable[[], Volume]] = {
    "tissue alone": noise,
    "a strip of three pixels": lambda: strip(0, 3),
    **{f"puncta of {sigma:g} pixels on black": partial(blobs, sigma, 0.002) for sigma in (1.0, 2.0, 4.0, 8.0)},
    "one punctum on black": lambda: blobs(2, 0),
    **{
        f"{share:.0%} black, smooth over {sigma:g} pixels": partial(clipped, sigma, share)
        for sigma in (0.0, 0.7, 1.0, 2.0, 4.0)
        for share in (0.6, 0.8, 0.9, 0.97, 0.99)
    },
}


def rows(voxels: Volume, count: int) -> NDArray[np.bool_]:
    """Mark the first rows of all sections."""
    marked = np.zeros(voxels.shape, np.bool_)
    marked[:, :count] = True
    return marked


def opened(equal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark what lies in a square of marks, in sections that are mirrored at their borders."""
    padded = np.pad(equal, [(0, 0), (16, 16), (16, 16)], mode="symmetric")
    found = ndimage.binary_opening(padded, np.ones((1, 8, 8)))
    return np.asarray(found[:, 16:-16, 16:-16], np.bool_)


def grown(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the rim as well."""
    return np.asarray(ndimage.maximum_filter(marked, (1, 2 * RIM + 1, 2 * RIM + 1)), np.bool_)


@dataclass(frozen=True, slots=True)
class Everything(Pipeline):
    """Counts and detects all that is tissue; two channels, and a halo."""

    name = "everything"
    help = "all of the tissue"
    roles = (Role("presynaptic", ("pre",), ""), Role("postsynaptic", ("post",), ""))

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        return (1, 2, 3)

    def summarise(self, arrays: dict[str, NDArray[Any]], place: Place) -> Summary:  # type: ignore[override] # a dictionary, as users write
        z, y, x = (slice(h, n + h) for h, n in zip(self.halo(VOXEL_SIZE_NM), place.shape, strict=True))
        voxels = arrays["presynaptic"][z, y, x]
        return {"levels": np.bincount(voxels.ravel() if place.tissue is None else voxels[place.tissue[z, y, x]])}

    def learn(self, summary: Summary, channels: Any) -> Finding:
        return {
            "counted": int(summary["levels"].sum()),
            "sum": int(summary["levels"] @ np.arange(len(summary["levels"]))),
        }

    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        around = tuple(n + 2 * h for n, h in zip(place.shape, self.halo(VOXEL_SIZE_NM), strict=True))
        assert place.tissue is None or place.tissue.shape == around
        seen = np.full(place.shape, place.tissue is not None and not place.tissue.all(), np.uint8)
        return Detected({"All": np.ones(place.shape, np.bool_)}, {"seen": seen})


def found_in(voxels: Volume, other: Volume | None = None) -> Found:
    channels = {"pre": voxels, "post": noise(voxels.shape, 5) if other is None else other}
    return detect_arrays(Everything(), channels, VOXEL_SIZE_NM, block_size=(2, 64, 96))


@pytest.mark.parametrize("case", PADDED)
def test_padding_is_found_and_is_neither_counted_nor_detected(case: str) -> None:
    made, known = PADDED[case]
    voxels = made()
    padding = known(voxels)
    found = found_in(voxels)
    assert list(found.finding["padding"]) == ["pre"]
    assert np.array_equal(found.masks["All"] == 0, grown(padding))
    assert found.tissue.total == np.count_nonzero(~grown(padding))
    assert found.finding["counted"] == np.count_nonzero(~padding)


@pytest.mark.parametrize("case", NOT_PADDED)
def test_a_background_that_is_clipped_is_not_taken_for_padding(case: str) -> None:
    voxels = NOT_PADDED[case]()
    found = found_in(voxels)
    assert "padding" not in found.finding
    assert found.tissue.fraction == 1
    assert found.finding["counted"] == voxels.size
    assert found.masks["All"].all()


def test_padding_of_any_searched_channel_is_not_tissue() -> None:
    found = found_in(strip(0, 5), strip(255, 20))
    assert found.finding["padding"] == {"pre": [0], "post": [255]}
    assert np.array_equal(found.masks["All"] == 0, grown(rows(noise(), 20)))


def test_an_object_beside_padding_is_marked_on_the_side_that_it_touches() -> None:
    voxels = noise((6, 120, 120))
    voxels[:2, :10] = 0
    channels = {"pre": voxels, "post": noise(voxels.shape, 5)}
    found = detect_arrays(NomadsUnsupervised(), channels, VOXEL_SIZE_NM, chosen=ROLES)
    near = found.table["touches_padding"]
    assert 0 < near.sum() < len(near) / 2
    outside = np.zeros(voxels.shape, np.bool_)
    outside[:2, : 10 + RIM] = True
    labels = np.asarray(found.labels)
    beside = ndimage.binary_dilation(outside, ndimage.generate_binary_structure(3, 1)) & ~outside
    assert set(labels[beside & (labels > 0)]) == set(found.table["id"][near])


def test_windows_round_synapses_count_tissue_alone() -> None:
    voxels = strip(200, 12)
    channels = {"pre": voxels, "post": noise(seed=5)}
    found = detect_arrays(NomadsUnsupervised(), channels, VOXEL_SIZE_NM, chosen=ROLES, block_size=(2, 60, 70))
    tissue = ~grown(rows(voxels, 12))
    table = found.table
    assert table["window_fraction"].min() < 0.3
    for row in np.flatnonzero(table["centroid_y_voxel"] < 35).tolist():
        z, y, x = (int(np.floor(table[f"centroid_{axis}_voxel"][row] + 0.5)) for axis in "zyx")
        window, around = (
            tuple(slice(max(0, place - n), place + n + 1) for place, n in zip((z, y, x), reach, strict=True))
            for reach in ((2, 5, 5), (4, 10, 10))
        )
        total, count = (int(values[window].sum()) for values in (voxels * tissue, tissue))
        assert table["window_mean_pre"][row] == total / count
        assert table["window_fraction"][row] == count / (5 * 11 * 11)
        shell = (int((voxels * tissue)[around].sum()) - total) / (np.count_nonzero(tissue[around]) - count)
        assert table["contrast_pre"][row] == table["mean_pre"][row] - shell


def test_a_pipeline_that_stays_as_published_sees_no_padding_and_its_tissue_is_counted_all_the_same() -> None:
    voxels = strip(0, 20)
    found = detect_arrays(Probabilistic(), {"synapsin": voxels, "psd95": voxels}, VOXEL_SIZE_NM)
    assert found.tissue.total == np.count_nonzero(~grown(rows(voxels, 20)))


SEARCHED: list[tuple[bool, tuple[int, ...]]] = []
"""Whether there was tissue in what `Watched` searched, and its shape."""


@dataclass(frozen=True, slots=True)
class Watched(Everything):
    def detect(self, arrays: Any, finding: Finding, place: Place) -> Detected:
        SEARCHED.append((place.tissue is None or bool(place.tissue[1:-1, 2:-2, 3:-3].any()), place.shape))
        return Everything.detect(self, arrays, finding, place)


def test_of_a_block_without_tissue_a_corner_is_searched_and_blocks_do_not_show() -> None:
    SEARCHED.clear()
    source = Arrays((3, 5, 7), pre=strip(0, 70), post=noise(seed=5))
    one, many = (
        detect_arrays(Watched(), source.data, VOXEL_SIZE_NM, chosen=ROLES, block_size=size)
        for size in (source.box.shape, (2, 40, 96))
    )
    widths = {tissue: max(shape[2] for is_tissue, shape in SEARCHED if is_tissue == tissue) for tissue in (False, True)}
    assert widths == {False: 64, True: 200}
    assert np.array_equal(np.asarray(one.labels), np.asarray(many.labels))
    assert all(values.tobytes() == many.table[name].tobytes() for name, values in one.table.items())


def steep(channels: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Detect by a gradient, for which a block needs two voxels along each axis."""
    found: NDArray[np.bool_] = np.hypot.reduce(np.gradient(channels["pre"].astype(float))) > 40
    return found


def test_a_function_of_a_user_gets_no_smaller_blocks_where_there_is_no_tissue() -> None:
    source = Arrays(pre=strip(0, 70))
    pipeline = registry.build(f"{__name__}:steep", {})
    found = detect_arrays(pipeline, source.data, VOXEL_SIZE_NM, block_size=(2, 40, 96))
    assert found.masks["All"].any(axis=(0, 2)).argmax() >= 70


@st.composite
def padded(draw: st.DrawFn) -> Arrays:
    """Two channels with rectangles of one value at the borders of sections."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(20, 70)), draw(st.integers(20, 70)))
    seed = draw(st.integers(0, 99))
    channels = {}
    for name in ("pre", "post"):
        voxels = noise(shape, seed) if draw(st.booleans()) else noise(shape, seed).astype(np.uint16) * 200
        for _ in range(draw(st.integers(0, 4))):
            section, side = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, 3))
            depth, first = draw(st.integers(1, 30)), draw(st.integers(0, 30))
            stripe = np.rot90(voxels[section], side)
            stripe[:depth, first : first + draw(st.integers(1, 60))] = draw(st.sampled_from([0, 0, 7, 255]))
        channels[name] = voxels
    return Arrays((3, 5, 7), **channels)


def found_or_refused(pipeline: Pipeline, source: Arrays, size: tuple[int, int, int]) -> Found | str:
    """Return what is found in blocks of a size, or why the data cannot be used: a channel may be all of one value."""
    try:
        return detect_arrays(pipeline, source.data, VOXEL_SIZE_NM, chosen=ROLES, block_size=size)
    except DataError as error:
        return str(error)


def same_in_blocks(source: Arrays, size: tuple[int, int, int]) -> None:
    """Assert that blocks do not show."""
    for pipeline in (Everything(), NomadsUnsupervised()):
        one, many = (found_or_refused(pipeline, source, blocks) for blocks in (source.box.shape, size))
        if isinstance(one, str) or isinstance(many, str):
            assert one == many
            continue
        assert one.finding == many.finding
        assert np.array_equal(one.tissue.voxels, many.tissue.voxels)
        assert np.array_equal(np.asarray(one.labels), np.asarray(many.labels))
        assert one.table.keys() == many.table.keys()
        assert all(values.tobytes() == many.table[name].tobytes() for name, values in one.table.items())


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(padded(), st.tuples(st.integers(1, 4), st.integers(6, 40), st.integers(6, 40)))
def test_for_any_padding_and_blocks_the_result_is_that_of_one_block(source: Arrays, size: tuple[int, int, int]) -> None:
    same_in_blocks(source, size)


def test_a_region_that_winds_through_many_blocks_is_one() -> None:
    """It touches the border in a single block, and leaves and enters the others by all of their sides."""
    voxels = noise((2, 120, 130))
    voxels[0, :, :12] = voxels[0, 100:112, :90] = voxels[0, 30:112, 80:90] = voxels[0, 30:42, 40:90] = 0
    voxels[0, 60:80, 30:50] = 0  # an area of its own: it touches no border
    source = Arrays(pre=voxels, post=noise(voxels.shape, 5))
    same_in_blocks(source, (1, 17, 23))
    found = found_in(voxels)
    known = opened(voxels == 0)
    known[0, 60:80, 30:50] = False
    assert np.array_equal(found.masks["All"] == 0, grown(known))


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)), st.integers(0, 99), st.sampled_from([2, 300])
)
def test_for_any_section_flat_is_what_lies_in_a_square_of_one_value(
    shape: tuple[int, int, int], seed: int, values: int
) -> None:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, values, [n // 9 + 2 for n in shape]).astype(np.uint16)
    voxels = np.kron(coarse, np.ones((9, 9, 9), np.uint16))[tuple(slice(4, n + 4) for n in shape)]
    voxels = np.where(random.random(shape) < 0.003, 999, voxels).astype(np.uint16)
    expected = np.zeros(shape, np.bool_)
    for value in np.unique(voxels):
        expected |= opened(voxels == value)
    around = np.pad(voxels, [(0, 0), (REACH, REACH), (REACH, REACH)], mode="symmetric")
    flat = flat_pixels(around)
    assert np.array_equal(np.zeros(shape, np.bool_) if flat is None else flat, expected)


@pytest.mark.slow
def test_parts_of_a_run_find_the_same_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most parts see none of the border: what they need of others they take from there."""
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    monkeypatch.setattr("tests.detection.parts.SIZE", (2, 32, 32))
    voxels = noise((3, 100, 120))
    voxels[1, :70, :50] = voxels[2, :, 80:] = 0
    source = Arrays(pre=voxels, post=noise(voxels.shape, 5))

    parts = [Part(phase, index, 5) for phase in ("statistics", "detection") for index in range(5)]
    one, many = in_one(source), in_parts(source, parts, Memory())
    assert one.finding["padding"] == {"pre": [0]}
    assert one.tissue.fraction < 1
    same(one, many)
    assert np.array_equal(one.tissue.voxels, many.tissue.voxels)


@pytest.mark.slow
def test_what_a_part_misses_of_the_counting_is_counted_with_all_its_surroundings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The strip lies over several blocks; a part that saw its own blocks alone would mirror it at their ends."""
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    monkeypatch.setattr("tests.detection.parts.SIZE", (2, 32, 32))
    voxels = noise((2, 70, 100))
    voxels[:, :36] = 0
    source, lost = Arrays(pre=voxels, post=noise(voxels.shape, 5)), Memory()
    expected = in_parts(source, [Part("statistics", index, 4) for index in range(4)], lost)
    lost.things = {(kind, name): body for (kind, name), body in lost.things.items() if kind.startswith("sums-")}
    assert lost.things
    found = in_parts(source, [Part("detection", index, 4) for index in range(4)], lost)
    assert np.array_equal(expected.tissue.voxels, found.tissue.voxels)
    same(expected, found)


def known_of(of_run: Plan, found: Detection) -> recompute.Known:
    """Return what a run knows of itself when it is computed again."""
    return recompute.Known(
        source=of_run.source,
        pipeline=of_run.pipeline,
        roles=of_run.roles,
        finding=found.finding,
        box=of_run.box,
        measured=of_run.channels,
    )


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_a_part_that_is_computed_again_has_the_padding_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """In its window, padding ends where the window does, and what touches the border of the box may be out of sight."""
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    monkeypatch.setattr(recompute, "_PART", (3, 100, 100))
    monkeypatch.setattr(recompute, "_MARGIN", (3, 40, 40))
    voxels = noise((3, 200, 200))
    voxels[1, :90, :60] = voxels[2, :, 150:] = 0
    source = Arrays(pre=voxels, post=noise(voxels.shape, 5))
    of_run = plan(source, tmp_path, (3, 64, 64))
    found = detect(of_run, 1)
    assert found.finding["padding"] == {"pre": [0]}
    known = known_of(of_run, found)
    box = recompute.parts(source.box, ())[part]
    again = recompute.recompute(known, found.masks, box)
    assert again.masks["All"].compared > 0
    assert again.masks["All"].voxels == 0
    assert again.rows


def again_of(source: Arrays, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Detection, list[recompute.Again]]:
    """Detect, and compute some parts again, each in a window that cannot grow to all of the box."""
    patch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    patch.setattr(recompute, "_PART", (3, 100, 100))
    patch.setattr(recompute, "_MARGIN", (3, 40, 40))
    # noise alone is all chance, for which an automatic strictness would be raised
    of_run = replace(plan(source, folder, (3, 64, 64)), pipeline=NomadsUnsupervised(strictness=1.6))
    found = detect(of_run, 1)
    known = known_of(of_run, found)
    patch.setattr(recompute, "_MOST_VOXELS", 9 * 240 * 240)
    return found, [recompute.recompute(known, found.masks, part) for part in recompute.parts(source.box, ())[::4]]


def with_hole(value: int) -> Arrays:
    """A strip of padding, in another section a flat area inside of tissue, and in the last one both."""
    voxels = noise((3, 300, 300))
    voxels[:2, :, :40] = 0
    voxels[1:, 40:260, 90:230] = value
    return Arrays(pre=voxels, post=noise(voxels.shape, 5))


@pytest.mark.parametrize("value", [0, pytest.param(9, marks=pytest.mark.slow)])
def test_a_part_that_is_computed_again_takes_for_tissue_what_the_run_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: int
) -> None:
    """An area in tissue crosses the windows of all parts; whether it is padding cannot be seen in them."""
    found, again = again_of(with_hole(value), tmp_path, monkeypatch)
    assert found.finding["padding"] == {"pre": [0]}
    assert found.finding.get("flat_tissue") == ({"pre": [[1, 0], [2, 0]]} if value == 0 else None)
    assert found.tissue.total == 3 * 300 * 300 - 2 * 300 * (40 + RIM)
    assert all(part.masks["All"].voxels == 0 for part in again)
    assert all(part.masks["All"].compared > 0.98 * 3 * 100 * 100 for part in again)
    assert sum(len(part.rows) for part in again) > 20


@dataclass(frozen=True, slots=True)
class Failing(NomadsUnsupervised):
    """Fails on the second block of a row, while it is counted or in the detection."""

    step: str = "summarise"

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        if self.step == "summarise" and place.start == (0, 0, 40):
            raise ValueError("not this block")
        return NomadsUnsupervised.summarise(self, arrays, place)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        if self.step == "detect" and place.start == (0, 0, 40):
            raise ValueError("not this block")
        return NomadsUnsupervised.detect(self, arrays, finding, place)


@pytest.mark.parametrize("step", ["summarise", "detect"])
def test_a_block_that_failed_has_no_tissue_and_the_next_run_finds_its_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The run that goes on has other names for what depends on the padding, since that differs."""
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    source = Arrays(pre=strip(0, 20), post=noise(seed=5))
    whole = replace(plan(source, tmp_path, (2, 80, 40)), pipeline=Failing(step="never"), code="same")
    failed = detect(replace(whole, pipeline=Failing(step=step)), 1)
    assert [block.box.start for block in failed.failed_blocks] == [(0, 0, 40)]
    assert failed.tissue.total == 2 * (132 * 200 - 52 * 40)
    assert failed.padded == pytest.approx(28 * 160 / (160 * 200))
    seen = np.ones(source.data["pre"].shape, np.bool_)
    seen[:, :28] = seen[:, :80, 40:80] = False
    values = source.data["pre"][seen]
    assert (failed.brightness["pre"].mean, failed.brightness["pre"].sd) == pytest.approx((values.mean(), values.std()))
    found = detect(whole, 1)
    assert found.tissue.total == 2 * 132 * 200
    tissue = source.data["pre"][:, 28:]
    assert (found.brightness["pre"].mean, found.brightness["pre"].sd) == pytest.approx((tissue.mean(), tissue.std()))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert np.array_equal(
        np.asarray(found.masks["All"]), np.asarray(detect(replace(whole, folder=fresh), 1).masks["All"])
    )
