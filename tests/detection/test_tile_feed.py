"""A feed pulls every tile in time, keeps within its room on disk, and closes at once."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.blocks import tile_feed
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.pool import Done
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tile_feed import TileFeed
from nd_synapse.blocks.tiles import Image, Tiles
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import DataError, UsageError
from nd_synapse.geometry import Box, Range
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import ROLES, VOXEL_SIZE_NM, Arrays
from tests.detection.hostile import SIZE, Counting, dense
from tests.detection.in_process import InProcessPool

ROW = Box.of_shape((1, 2, 60))
TILE = (1, 2, 3)
TILE_BYTES = 6


def fed(
    folder: Path,
    reach: tuple[int, int, int],
    keep_bytes: int,
    pulls: int = 2,
    pulled: Callable[[Box], None] | None = None,
    source: Arrays | None = None,
) -> TileFeed:
    """Return a feed of blocks in a row."""
    source = source or Arrays(pre=np.ones(ROW.shape, np.uint8))
    tiles = Tiles(Store(folder), "tiles", source.box, TILE, {name: source.dtype(name) for name in source.channels})
    return TileFeed(tiles, source, {tile: (tile,) for tile in source.box.tiles(TILE)}, reach, pulls, keep_bytes, pulled)


def take_all(feed: TileFeed) -> None:
    """Take every block, and close the feed."""
    try:
        while feed.remaining:
            if feed.take() is None:
                time.sleep(0.001)
    finally:
        feed.close()


def on_disk(folder: Path) -> int:
    """Return the voxels of the tiles that lie there."""
    return TILE_BYTES * sum(1 for _ in folder.rglob("*.npy"))


@pytest.mark.parametrize("reach", [(0, 0, 0), (0, 0, 1)], ids=["alone", "with-neighbours"])
def test_a_feed_that_nobody_takes_from_pulls_no_more_than_there_is_room_for(
    tmp_path: Path, reach: tuple[int, int, int]
) -> None:
    """Pulling is often faster than computing; it would fill the disk."""
    feed = fed(tmp_path, reach, keep_bytes=5 * TILE_BYTES)
    try:
        assert feed.wakes is not None
        assert feed.wakes.poll(30)
        deadline = time.monotonic() + 30
        while on_disk(tmp_path) < 5 * TILE_BYTES and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert on_disk(tmp_path) == 5 * TILE_BYTES
    finally:
        feed.close()


@given(
    reach=st.integers(0, 2),
    keep=st.integers(0, 8),
    pulls=st.integers(1, 4),
    cpus=st.integers(1, 3),
    seed=st.integers(0),
)
@settings(max_examples=30, deadline=None)
def test_for_any_room_every_block_comes_and_no_more_lies_on_disk_than_is_used(
    reach: int, keep: int, pulls: int, cpus: int, seed: int
) -> None:
    """Also where the room is too small for what one block needs: nothing hangs."""
    InProcessPool.seed = seed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        feed = fed(folder, (0, 0, reach), keep * TILE_BYTES, pulls)
        try:
            pool = InProcessPool(cpus, lambda: None, ())
            most, done = 0, []
            for outcome in pool.run(lambda box: on_disk(folder), feed):
                assert isinstance(outcome, Done)
                most = max(most, outcome.result)
                done.append(outcome.box)
        finally:
            feed.close()
    assert sorted(done) == list(ROW.tiles(TILE))
    # the room, and what those at work and the next block need
    assert most <= (keep + (cpus + 1) * (2 * reach + 1)) * TILE_BYTES


def test_a_tile_that_is_refused_is_never_computed_on(tmp_path: Path) -> None:
    """It was handed out first, and compared then."""

    def refuse(tile: Box) -> None:
        time.sleep(0.1)
        raise DataError("a tile", "it changed", "Start over")

    feed = fed(tmp_path, (0, 0, 0), 2**20, pulled=refuse)
    try:
        with pytest.raises(DataError, match="it changed"):  # noqa: PT012 - it is raised where somebody asks
            while feed.take() is None:
                time.sleep(0.001)
    finally:
        feed.close()


class Together(Arrays):
    """A source that answers when all its channels are asked for at the same time."""

    meeting: threading.Barrier

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        self.meeting.wait(30)
        return super().get_cutout(channel, z_range, y_range, x_range)


def test_the_channels_of_a_volume_of_one_block_are_pulled_at_the_same_time(tmp_path: Path) -> None:
    """One thread pulled all channels of a block: over a slow line a small volume waited for each of them."""
    source = Together(**{name: np.ones(TILE, np.uint8) for name in ("a", "b", "c")})
    source.meeting = threading.Barrier(3)
    feed = fed(tmp_path, (0, 0, 0), 2**20, pulls=3, source=source)
    try:
        assert feed.wakes is not None
        assert feed.wakes.poll(60)
        assert feed.take() == source.box
    finally:
        feed.close()


@pytest.mark.parametrize("pulls", [1, 2, 5])
def test_a_tile_is_looked_at_once_when_all_its_channels_are_there(tmp_path: Path, pulls: int) -> None:
    """Several threads pull one tile."""
    names = ("a", "b", "c")
    looked: list[Box] = []

    def look(tile: Box) -> None:
        for number in range(len(names)):
            assert (tmp_path / "tiles" / f"{number}_{key_of(tile)}.npy").exists()
        looked.append(tile)

    source = Arrays(**{name: np.ones(ROW.shape, np.uint8) for name in names})
    take_all(fed(tmp_path, (0, 0, 0), 2**20, pulls, look, source))
    assert sorted(looked) == list(ROW.tiles(TILE))


def killed(tile: Box) -> None:
    """End a thread as a kill would, with what is on disk by then."""
    raise KeyboardInterrupt


def test_a_tile_that_a_killed_run_did_not_look_at_is_looked_at_by_the_next(tmp_path: Path) -> None:
    """It lay there as if it had been: whatever its voxels were, they were computed on."""
    feed = fed(tmp_path, (0, 0, 0), 2**20, pulls=1, pulled=killed)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised where somebody asks
        while feed.take() is None:
            time.sleep(0.001)
    feed.close()
    assert on_disk(tmp_path) == TILE_BYTES

    looked: list[Box] = []
    for looks in (20, 20):  # the first run after it looks at all of them, the one after that has nothing to look at
        take_all(fed(tmp_path, (0, 0, 0), 2**20, pulled=looked.append))
        assert len(looked) == looks
    assert sorted(looked) == list(ROW.tiles(TILE))
    assert not list(tmp_path.rglob("*.npz"))


class Watched(Counting):
    """A source that looks how many tiles lie on disk whenever it is asked."""

    folder: Path
    seen: list[int]

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        self.seen.append(sum(1 for _ in self.folder.glob("tiles-*/[!.]*.npy")))
        return super().get_cutout(channel, z_range, y_range, x_range)


class _WithoutNull(NomadsUnsupervised):
    """Samples no field: one would need every tile of a small volume at once."""

    null = None  # type: ignore[assignment] # None in the place of a method


def test_a_detection_never_has_more_on_disk_than_it_may_keep(tmp_path: Path) -> None:
    voxels = np.tile(dense(), (1, 1, 5))[:4, :16]
    source = Watched(pre=voxels, post=voxels)
    source.requested, source.folder, source.seen = [], tmp_path, []
    plan = Plan(source, source.box, _WithoutNull(), ROLES, ("pre", "post"), VOXEL_SIZE_NM, SIZE, tmp_path)
    keep, reserve = 6, 2
    detect(plan, 1, pulls=1, keep_bytes=2 * keep * int(np.prod(SIZE)))
    assert len(source.requested) > 2 * 15
    # three blocks in a row may need what lies there beside the kept: one that is let go of, one at work, the next one
    needed = 3 + 2
    assert max(source.seen) <= 2 * (keep - reserve + needed)


@pytest.mark.parametrize("kind", ["stored", "pulled"])
def test_a_volume_answers_three_slices_as_an_array_does_and_refuses_all_else(tmp_path: Path, kind: str) -> None:
    """A step was passed over in silence, and an empty slice was an error of its own."""
    voxels = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    source = Arrays((3, 4, 5), pre=voxels)
    tiles = Tiles(Store(tmp_path), "tiles", source.box, (2, 3, 4), {"pre": voxels.dtype})
    if kind == "stored":
        for tile in source.box.tiles((2, 3, 4), aligned=True):
            tiles.pull(source, tile, "pre")
    volume: Any = tiles.channel("pre") if kind == "stored" else Image(tiles, source, "pre")
    for index in (np.s_[:, :, :], np.s_[1:3, -2:, ::1], np.s_[2:2, :, 3:], np.s_[4:1, 9:, :], np.s_[:99, :5, 6:]):
        assert volume[index].dtype == voxels.dtype
        assert volume[index].shape == voxels[index].shape
        assert np.array_equal(volume[index], voxels[index])
    refused: tuple[Any, ...] = (
        np.s_[::2, :, :],
        np.s_[:, :, ::-1],
        1,
        np.s_[0, :, :],
        np.s_[:, :],
        np.s_[..., 0],
        np.s_[None, :, :],
    )
    for index in refused:
        with pytest.raises(UsageError, match=r"^voxels \[.*\]: a volume is read by three slices without a step"):
            volume[index]


def test_arrays_of_any_names_are_saved(tmp_path: Path) -> None:
    """Numpy saves by keywords, and has some of its own."""
    store = Store(tmp_path)
    names = ["file", "allow_pickle", "args", "names", "arr_0", "min:image", "a/b", "größe"]
    store.save("rows", "0_0_0", {name: np.array([number]) for number, name in enumerate(names)})
    assert {name: int(values[0]) for name, values in store.load("rows", "0_0_0").items()} == {
        name: number for number, name in enumerate(names)
    }
    store.save("rows", "0_0_1", {})
    assert store.load("rows", "0_0_1") == {}


class Stalled(Arrays):
    """A source that answers once the event is set."""

    answers: threading.Event

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        self.answers.wait(30)
        return super().get_cutout(channel, z_range, y_range, x_range)


def test_a_feed_closes_at_once_however_many_cutouts_are_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped has ten seconds for all that it ends."""
    source = Stalled(pre=np.ones(ROW.shape, np.uint8))
    source.answers = threading.Event()
    monkeypatch.setattr(tile_feed, "_CLOSE_S", 1.0)
    feed = fed(tmp_path, (0, 0, 0), 2**20, pulls=20, source=source)
    started = time.monotonic()
    feed.close()
    taken_s = time.monotonic() - started
    source.answers.set()
    # one second for each of 20 threads would be too long
    assert taken_s < 10
