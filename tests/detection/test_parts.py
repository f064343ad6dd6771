"""A detection in parts is the detection in one, whichever parts were done, in any order, once, twice or never."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks.shared_store import Part
from nd_synapse.blocks.shared_tiles import SharedTiles
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import DataError, StoppedError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Detected, Finding, Place, Summary
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import Arrays, noisy, plan, same
from tests.detection.in_process import InProcessPool
from tests.detection.parts import BLOCKS, BOX, PHASES, SIZE, Memory, Watching, every_part, in_one, in_parts, loaded
from tests.pipelines.variants import built, volume


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_in_any_number_of_parts_the_result_is_that_of_one_job(count: int) -> None:
    source = Arrays(**volume(built("nomads-unsupervised"), BOX.shape, np.uint8, "spots", 3))
    shared_store = Memory()
    alone, together = in_one(source), in_parts(source, every_part(count), shared_store)
    same(alone, together)
    assert len(alone.table["id"]) > 0
    # the last job has nothing to find, to join or to measure
    assert {step: together.resumed[step] for step in ("statistics", "detect", "objects")} == dict.fromkeys(
        ("statistics", "detect", "objects"), BLOCKS
    )
    assert together.resumed["features"] > 0
    assert len(shared_store.left) == len(set(shared_store.left))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(1, 7),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 1000),
    shuffled=st.booleans(),
    data=st.data(),
)
def test_for_any_parts_done_in_any_order_the_result_is_that_of_one_job(
    count: int, dtype: type[np.uint8 | np.uint16], seed: int, shuffled: bool, data: st.DataObject
) -> None:
    source = noisy(BOX.shape, dtype, seed)
    # some are never done, some twice
    parts = [part for part in every_part(count) for _ in range(data.draw(st.integers(0, 2)))]
    if shuffled:
        random.Random(seed).shuffle(parts)
    same(in_one(source), in_parts(source, parts, Memory()))


@pytest.mark.slow
def test_each_block_is_computed_once_by_the_parts_and_not_again_by_the_job_that_ends_the_run() -> None:
    source, shared_store = Arrays(**volume(built("nomads-unsupervised"), BOX.shape, np.uint8, "spots", 3)), Memory()
    parts = [Part(phase, index, 3) for phase in ("statistics", "detection") for index in range(3)]
    found = in_parts(source, parts, shared_store)
    assert len(shared_store.left) == len(set(shared_store.left))
    kinds = [kind.split("-")[0] for kind, _ in shared_store.left]
    for kind in ("statistics", "parts"):
        assert kinds.count(kind) == BLOCKS
    assert "features" in kinds
    assert found.resumed["statistics"] == found.resumed["detect"] == BLOCKS
    # a second attempt of the last job measures nothing again either
    with tempfile.TemporaryDirectory() as folder:
        again = loaded(detect(plan(source, Path(folder), SIZE), 2, shared_store=shared_store))
    same(found, again)
    assert again.resumed["features"] > 0
    assert len(shared_store.left) == len(set(shared_store.left))


def test_a_part_that_is_done_already_computes_nothing() -> None:
    source, shared_store = noisy(BOX.shape, np.uint8, 3), Memory()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            detect_part(plan(source, Path(folder), SIZE), Part("statistics", 1, 3), shared_store, 1)
    assert 0 < len(shared_store.left) == len(shared_store.things) < BLOCKS


@pytest.mark.slow
def test_a_part_pulls_its_blocks_and_their_halo_and_learns_from_the_sums_of_all() -> None:
    shape = (2, 120, 14)
    source, shared_store = Watching(**noisy(shape, np.uint8, 3).data), Memory()
    source.requested = []
    for phase in ("statistics", "detection"):
        for index in range(4):
            source.requested.clear()
            with tempfile.TemporaryDirectory() as folder:
                whole = plan(source, Path(folder), SIZE)
                part = Part(phase, index, 4)
                detect_part(whole, part, shared_store, 1)
                first, *_, last = part.of(whole.blocks())
            halo = (whole.counted_halo if phase == "statistics" else whole.halo)[1]
            low, high = first.start[1] - halo, last.stop[1] + halo
            assert min(box.start[1] for box in source.requested) == max(0, low)
            assert max(box.stop[1] for box in source.requested) == min(shape[1], high)


@dataclass(frozen=True, slots=True)
class Wayward(NomadsUnsupervised):
    """Fails on one block: while it is counted, or in the detection; a file says how often it was tried."""

    step: str = "summarise"
    tried: str = ""

    def _fail(self, step: str, place: Place) -> None:
        if step == self.step and place.start == (2, 6, 7):
            with Path(self.tried).open("a") as file:
                file.write("x")
            raise ValueError("not this block")

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        self._fail("summarise", place)
        return NomadsUnsupervised.summarise(self, arrays, place)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        self._fail("detect", place)
        return NomadsUnsupervised.detect(self, arrays, finding, place)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "tries"), [("summarise", 1), ("detect", 2)])
def test_a_block_that_fails_in_a_part_is_missing_in_the_whole_run(tmp_path: Path, step: str, tries: int) -> None:
    """One that could not be counted is not tried again: all parts have to learn from the same blocks."""
    source, shared_store = noisy(BOX.shape, np.uint8, 3), Memory()
    tried = tmp_path / "tried"

    def failing(folder: str, name: str) -> Plan:
        return replace(plan(source, Path(folder), SIZE), pipeline=Wayward(step=step, tried=str(tmp_path / name)))

    failed = []
    for phase in ("statistics", "detection"):
        for index in range(3):
            with tempfile.TemporaryDirectory() as folder:
                part = Part(phase, index, 3)
                failed += detect_part(failing(folder, "tried"), part, shared_store, 1)
    with tempfile.TemporaryDirectory() as folder:
        found = loaded(detect(failing(folder, "tried"), 2, shared_store=shared_store))
    assert len(tried.read_text()) == tries
    assert {failed_block.box.start for failed_block in failed} == {(2, 6, 7)}
    (failed_block,) = found.failed_blocks
    assert (failed_block.box.start, "not this block" in failed_block.reason) == ((2, 6, 7), True)
    assert "Traceback" in failed_block.traceback
    # what was found in the parts is used, all of it
    assert found.resumed["detect"] == BLOCKS - 1
    with tempfile.TemporaryDirectory() as folder:
        alone = failing(folder, "alone")
        # the same fingerprints for the same pipeline
        same(loaded(detect(replace(alone, pipeline=replace(alone.pipeline)), 2)), found)  # type: ignore[type-var] # a pipeline is a dataclass here


def test_what_two_attempts_made_of_a_block_is_never_mixed() -> None:
    """A function may find something else each time; what is shared of a block is of one attempt."""
    shared_store = Memory()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for attempt in (1, 2):
            for kind in ("labels", "faces", "parts"):
                store.save(kind, "0_0_0", {"attempt": np.array([attempt])})
            Exchange(store, shared_store, 2**20).leave(("labels", "faces", "parts"), "0_0_0")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        block = Box.of_shape((1, 1, 1))
        assert Exchange(store, shared_store, 2**20).unfinished(("labels", "faces", "parts"), [block], wanted=True) == []
        assert {kind: int(store.load(kind, "0_0_0")["attempt"][0]) for kind in ("labels", "faces", "parts")} == {
            "labels": 1,
            "faces": 1,
            "parts": 1,
        }


@pytest.mark.parametrize(
    "body",
    [b"", b"\x09", (3).to_bytes(8, "little") + b"ab", (1).to_bytes(8, "little") + b"abc", bytes(2**21)],
    ids=["empty", "one-byte", "short", "long", "too-large-to-be-fetched"],
)
def test_what_is_no_finished_block_counts_as_absent_and_is_replaced(tmp_path: Path, body: bytes) -> None:
    shared_store, store = Memory(), Store(tmp_path)
    shared_store.put("parts", "0_0_0.npz", body)
    exchange = Exchange(store, shared_store, 2**20)
    block = Box.of_shape((1, 1, 1))
    assert exchange.unfinished(("parts",), [block], wanted=True) == [block]
    assert not exchange.fetch_all("parts", ["0_0_0"])
    store.save("parts", "0_0_0", {"a": np.zeros(1)})
    exchange.leave(("parts",), "0_0_0")
    assert shared_store.things["parts", "0_0_0.npz"] != body


def test_voxels_that_changed_between_the_parts_end_the_run() -> None:
    source, shared_store = noisy(BOX.shape, np.uint8, 3), Memory()
    with tempfile.TemporaryDirectory() as folder:
        detect_part(plan(source, Path(folder), SIZE), Part("statistics", 0, 1), shared_store, 1)
    source = noisy(BOX.shape, np.uint8, 4)
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError, match="changed"):
        detect_part(plan(source, Path(folder), SIZE), Part("detection", 0, 1), shared_store, 1)
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError, match="another --shared"):
        detect(plan(source, Path(folder), SIZE), 1, shared_store=shared_store)


def test_voxels_that_changed_before_the_objects_were_measured_end_the_run() -> None:
    source, shared_store = Arrays(**volume(built("nomads-unsupervised"), BOX.shape, np.uint8, "spots", 3)), Memory()
    before = [part for part in every_part(2) if part.phase != "objects"]
    for part in before:
        with tempfile.TemporaryDirectory() as folder:
            detect_part(plan(source, Path(folder), SIZE), part, shared_store, 1)
    other = Arrays(**{name: voxels // 2 for name, voxels in source.data.items()})
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError, match="changed while the job was running"):
        detect_part(plan(other, Path(folder), SIZE), Part("objects", 0, 2), shared_store, 1)


class Ending(Memory):
    """A shared block store whose job ends when it leaves something of a kind, before it is there."""

    ends_at = ""

    def put(self, kind: str, name: str, body: bytes, *, replaces: bool = False) -> None:
        if self.ends_at and kind.startswith(self.ends_at):
            raise StoppedError("the job", "it was stopped", "Begin it again")
        super().put(kind, name, body, replaces=replaces)


@pytest.mark.parametrize("kind", ["statistics", "parts", "contacts", "joined", "objects", "features"])
def test_what_a_stopped_attempt_did_not_leave_the_next_one_in_its_folder_leaves(tmp_path: Path, kind: str) -> None:
    source, shared_store = Arrays(**volume(built("nomads-unsupervised"), BOX.shape, np.uint8, "spots", 3)), Ending()
    for part in every_part(1):
        folder = tmp_path / part.phase
        folder.mkdir()
        shared_store.ends_at = kind
        with suppress(StoppedError):
            detect_part(plan(source, folder, SIZE), part, shared_store, 1)
        shared_store.ends_at = ""
        detect_part(plan(source, folder, SIZE), part, shared_store, 1)
    left = [of.split("-")[0] for of, _ in shared_store.things]
    assert {of: left.count(of) for of in ("statistics", "parts", "contacts", "joined", "objects")} == dict.fromkeys(
        ("statistics", "parts", "contacts", "joined", "objects"), BLOCKS
    )


@given(count=st.integers(1, 40), blocks=st.integers(0, 60))
def test_for_any_number_of_parts_each_block_is_in_one_and_they_are_of_one_size(count: int, blocks: int) -> None:
    every = list(Box.of_shape((max(1, blocks), 1, 1)).tiles((1, 1, 1)))[:blocks]
    parts = [Part("statistics", index, count).of(every) for index in range(count)]
    assert [block for part in parts for block in part] == every
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("index", "count"), [(3, 3), (-1, 3), (0, 0)])
def test_a_part_that_is_none_is_refused(index: int, count: int) -> None:
    with pytest.raises(UsageError, match="counted from 0"):
        Part("detection", index, count)


def in_parts_that_share(source: Watching, shared_store: Memory) -> Detection:
    """Do a detection in parts that leave what they pull for each other."""
    for part in (Part(phase, index, 2) for phase in PHASES for index in range(2)):
        with tempfile.TemporaryDirectory() as folder:
            whole = plan(source, Path(folder), SIZE)
            assert detect_part(whole, part, shared_store, 1, pulls=1, shares_tiles=True) == []
    with tempfile.TemporaryDirectory() as folder:
        whole = plan(source, Path(folder), SIZE)
        return loaded(detect(whole, 1, pulls=1, shared_store=shared_store, shares_tiles=True))


def tiles_in(shared_store: Memory) -> list[tuple[str, str]]:
    """Return what was left of tiles."""
    return sorted(thing for thing in shared_store.things if thing[0].startswith("tiles-"))


def test_parts_that_share_their_tiles_read_every_voxel_of_the_source_once() -> None:
    source, shared_store = Watching(**noisy(BOX.shape, np.uint8, 3).data), Memory()
    source.requested = []
    alone = in_one(source)
    source.requested.clear()

    together = in_parts_that_share(source, shared_store)

    same(alone, together)
    assert len(tiles_in(shared_store)) == BLOCKS * len(source.channels)
    # the blocks that the last job compares with the source, to see whether it changed, come on top
    once = BOX.voxels * len(source.channels)
    compared = sum(box.voxels for box in source.requested) - once
    assert 0 <= compared <= 9 * SIZE[0] * SIZE[1] * SIZE[2] * len(source.channels)


TILE = Box.of_shape((16, 256, 256))
"""Large enough that what is beside its voxels does not count."""


def shared_tiles_of(folder: str, source: Arrays, shared_store: Memory) -> tuple[SharedTiles, Tiles]:
    """Return a source whose tiles go through a shared block store, and how they are cut."""
    tiles = plan(source, Path(folder), TILE.shape).tiles()
    return SharedTiles(source, shared_store, tiles), tiles


def test_leaving_and_fetching_a_shared_tile_take_the_memory_that_the_plan_counts(tmp_path: Path) -> None:
    """Noise does not pack: each form of a tile is as large as its voxels, and three at a time are counted."""
    shared_store = Memory()
    source = noisy(TILE.shape, np.uint8, 3)
    shared, tiles = shared_tiles_of(str(tmp_path), source, shared_store)
    channel = tiles.channels[0]
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        voxels = shared.get_cutout(channel, *TILE.ranges)
        peaks.append(tracemalloc.get_traced_memory()[1] / voxels.nbytes)
        tracemalloc.stop()
        assert np.array_equal(voxels, source.data[channel])
    assert len(tiles_in(shared_store)) == 1
    assert max(peaks) < 3.3, peaks


def test_voxels_that_are_not_what_was_promised_are_not_left_for_other_parts(tmp_path: Path) -> None:
    shared_store = Memory()
    shared, tiles = shared_tiles_of(str(tmp_path), noisy(TILE.shape, np.uint8, 3), shared_store)
    other = noisy(TILE.shape, np.uint16, 3)
    shared._source = other
    with pytest.raises(DataError, match="promised"):
        shared.get_cutout(tiles.channels[0], *TILE.ranges)
    assert tiles_in(shared_store) == []


@pytest.mark.slow
def test_a_shared_tile_that_is_damaged_or_of_another_place_is_pulled_again() -> None:
    source, shared_store = Watching(**noisy(BOX.shape, np.uint8, 3).data), Memory()
    source.requested = []
    alone = in_parts_that_share(source, shared_store)
    first, second, third, *_ = tiles_in(shared_store)
    things = shared_store.things
    whole = {name: things[name] for name in (first, second, third)}
    things[first] = things[first][:-1]
    things[second], things[third] = things[third], things[second]
    for name in [name for name in things if not name[0].startswith("tiles-")]:
        del things[name]

    same(alone, in_parts_that_share(source, shared_store))
    assert {name: things[name] for name in whole} == whole
