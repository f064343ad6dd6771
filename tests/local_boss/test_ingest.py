"""Ingest: a channel holds what the file holds, and what does not belong is refused before a voxel is written."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import CoordinateFrameResource

from nd_synapse.errors import DataError, NDSynapseError, RangeError, UsageError
from nd_synapse.files.slabs import Stack
from nd_synapse.files.stacks import open_stack, stack_of_array
from nd_synapse.geometry import Box
from nd_synapse.local_boss import ingest as module
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.ingest import ingest
from tests.fixtures_boss import start_boss

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "at_example"
SIZE = (70, 100, 100)


@pytest.fixture
def boss(tmp_path):
    opened = Boss(tmp_path / "data")
    yield opened
    opened.close()


def grey(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def stack(volume):
    return stack_of_array(volume, "a test stack")


def held(boss, channel, box):
    return boss.voxels.read(channel, 0, box, (0, 1))[0]


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 36), st.integers(1, 30), st.integers(1, 30)),
    origin=st.tuples(st.integers(0, 40), st.integers(0, 600), st.integers(0, 600)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    slab=st.integers(5_000, 60_000),
    seed=st.integers(0, 9),
)
def test_for_any_stack_and_origin_the_channel_equals_the_file(tmp_path, shape, origin, dtype, slab, seed):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLAB_BYTES", slab)
        volume = grey(shape, dtype, seed)
        path = Path(folder) / "stack.npy"
        np.save(path, volume)
        boss = Boss(Path(folder) / "data")
        slices: list[int] = []
        done = ingest(boss, "col", "exp", "chan", open_stack([path]), SIZE, origin=origin, progress=slices.append)
        assert done.box == Box.of_shape(shape, origin)
        assert np.array_equal(held(boss, done.channel, done.box), volume)
        assert sum(slices) == shape[0]
        frame = boss.catalog.get(FRAMES, "col_exp")
        assert (frame.start, frame.stop) == (done.box.start, done.box.stop)
        assert (frame.voxel_size, frame.voxel_unit) == (SIZE, "nanometers")
        boss.close()


@pytest.mark.parametrize(
    ("slice_bytes", "depth"),
    [(2**20, 64), (3 * 2**20, 16), (4 * 2**20, 16), (5 * 2**20, 8), (60 * 2**20, 1), (2**30, 1)],
)
def test_slabs_are_whole_chunks_or_even_parts_of_one(slice_bytes, depth):
    large = Stack("large", (999, 1024, slice_bytes // 1024), np.dtype(np.uint8), lambda a, b: np.zeros(0))
    assert module._slab_depth(large) == depth


@pytest.mark.parametrize(
    ("dtype", "kind", "expected"),
    [
        (np.uint8, None, "image"),
        (np.uint16, None, "image"),
        (np.uint64, None, "annotation"),
        (np.uint8, "annotation", "annotation"),
    ],
)
def test_the_type_of_a_channel_follows_its_voxels(boss, dtype, kind, expected):
    done = ingest(boss, "c", "e", "h", stack(grey((2, 3, 4), dtype)), SIZE, kind=kind)
    assert (done.channel.type, done.channel.datatype) == (expected, np.dtype(dtype).name)


def test_channels_gather_in_one_experiment(boss):
    for name, seed in (("PSD95", 1), ("GABA", 2)):
        ingest(boss, "c", "e", name, stack(grey((3, 4, 5), seed=seed)), SIZE)
    part = ingest(boss, "c", "e", "part", stack(grey((1, 2, 2))), SIZE, origin=(2, 2, 3))
    assert [channel.name for channel in boss.catalog.listed(CHANNELS, "c", "e")] == ["PSD95", "GABA", "part"]
    whole = held(boss, part.channel, Box.of_shape((3, 4, 5)))
    assert np.array_equal(whole[2:, 2:, 3:], grey((1, 2, 2)))
    assert whole[:2].sum() == 0


def test_a_stack_goes_into_an_experiment_measured_in_micrometres(boss):
    fields: dict[str, object] = {
        f"{axis}_{edge}": value for axis in "xyz" for edge, value in (("start", 0), ("stop", 9))
    }
    fields |= {"x_voxel_size": 0.1, "y_voxel_size": 0.1, "z_voxel_size": 0.07, "voxel_unit": "micrometers"}
    boss.catalog.create(COLLECTIONS, "c")
    boss.catalog.create(FRAMES, "frame", fields=fields)
    boss.catalog.create(EXPERIMENTS, "c", "e", fields={"coord_frame": "frame"})
    volume = grey((2, 3, 4))
    done = ingest(boss, "c", "e", "h", stack(volume), SIZE)
    assert np.array_equal(held(boss, done.channel, done.box), volume)


def test_public_is_asked_for_in_so_many_words(boss):
    done = ingest(boss, "c", "e", "h", stack(grey((2, 3, 4))), SIZE)
    assert not done.channel.public
    related = ingest(boss, "c", "e", "other", stack(grey((2, 3, 4))), SIZE)
    boss.catalog.update(CHANNELS, "c", "e", "h", fields={"related": ["other"]})
    ingest(boss, "c", "e", "h", stack(grey((2, 3, 4))), SIZE, public=True, overwrite=True)
    channel = boss.catalog.get(CHANNELS, "c", "e", "h")
    assert channel.public
    assert channel.related == ("other",)
    assert boss.catalog.get(COLLECTIONS, "c").public
    assert boss.catalog.get(EXPERIMENTS, "c", "e").public
    assert not boss.catalog.get(CHANNELS, "c", "e", related.channel.name).public


def test_a_channel_that_holds_data_is_refused_and_left_as_it_was(boss):
    before = grey((2, 3, 4), seed=1)
    done = ingest(boss, "c", "e", "h", stack(before), SIZE)
    with pytest.raises(UsageError, match=r"holds data already\. Use --overwrite"):
        ingest(boss, "c", "e", "h", stack(grey((2, 3, 4), seed=2)), SIZE)
    assert np.array_equal(held(boss, done.channel, done.box), before)


def test_overwrite_makes_the_channel_equal_to_the_stack(boss):
    """Writing merges: without erasing, the old voxels would shine through the new zeros."""
    ingest(boss, "c", "e", "h", stack(np.full((20, 3, 4), 9, np.uint8)), SIZE)
    small = np.zeros((2, 3, 4), np.uint8)
    small[1, 1, 1] = 7
    done = ingest(boss, "c", "e", "h", stack(small), SIZE, overwrite=True)
    whole = held(boss, done.channel, Box.of_shape((20, 3, 4)))
    assert np.array_equal(whole[:2], small)
    assert whole[2:].sum() == 0


def test_an_ingest_that_was_stopped_half_way_can_be_repeated(boss, monkeypatch):
    volume = grey((40, 3, 4)) + np.uint8(1)

    def fetch(start, stop):
        if start >= 16:
            raise DataError("slice 16", "it is damaged", "Write it anew")
        return volume[start:stop]

    monkeypatch.setattr(module, "SLAB_BYTES", 16 * 12)
    damaged = dataclasses.replace(stack(volume), fetch=fetch)
    with pytest.raises(DataError, match="damaged"):
        ingest(boss, "c", "e", "h", damaged, SIZE)
    with pytest.raises(UsageError, match="--overwrite"):
        ingest(boss, "c", "e", "h", stack(volume), SIZE)
    done = ingest(boss, "c", "e", "h", stack(volume), SIZE, overwrite=True)
    assert np.array_equal(held(boss, done.channel, done.box), volume)


def test_a_frame_that_was_left_without_its_experiment_is_used(boss):
    box = Box.of_shape((2, 3, 4))
    boss.catalog.create(FRAMES, "c_e", fields=module._frame_fields(box, SIZE))
    assert ingest(boss, "c", "e", "h", stack(grey((2, 3, 4))), SIZE).box == box
    boss.catalog.create(FRAMES, "c_other", fields=module._frame_fields(box, SIZE))
    with pytest.raises(RangeError, match="coordinate frame c_other exists"):
        ingest(boss, "c", "other", "h", stack(grey((9, 3, 4))), SIZE)


SMALL = grey((2, 3, 4))
REFUSED = {
    "a larger stack": ({"stack": stack(grey((5, 9, 4)))}, RangeError, "exists and extends over z 0:5 y 0:6 x 0:7"),
    "a stack that sticks out": ({"origin": (4, 0, 0)}, RangeError, "--origin"),
    "another voxel size": ({"size": (50, 100, 100)}, DataError, r"voxels of 70,100,100 nm.*--voxel-size-nm 70,100,100"),
    "another datatype": ({"stack": stack(SMALL.astype(np.uint16))}, DataError, "exists as image of uint8"),
    "another type": ({"kind": "annotation"}, DataError, "exists as image of uint8"),
    "uint64 as image": (
        {"stack": stack(SMALL.astype(np.uint64)), "kind": "image"},
        DataError,
        "annotation channels only",
    ),
    "a negative origin": ({"origin": (-1, 0, 0)}, RangeError, "count from 0"),
    "an origin beyond BOSS": ({"origin": (2**31, 0, 0)}, RangeError, "count from 0"),
    "a voxel without size": ({"size": (70, 0, 100)}, RangeError, "positive"),
    "a voxel size that is no number": ({"size": (70, float("nan"), 100)}, RangeError, "positive"),
    "an illegal name": ({"chan": "dot.name"}, UsageError, "letters, digits"),
    "an empty name": ({"chan": ""}, UsageError, "letters, digits"),
    "names too long together": ({"chan": "c" * 253}, UsageError, "257 characters together"),
    "a deleted channel": ({"chan": "gone"}, UsageError, "deletion.*stays taken"),
}


@pytest.mark.parametrize(("given", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_belong_is_refused_and_changes_nothing(boss, given, kind, words):
    first = ingest(boss, "c", "e", "h", stack(grey((5, 6, 7))), SIZE)
    boss.catalog.create(CHANNELS, "c", "e", "gone", fields={"type": "image", "datatype": "uint8"})
    boss.catalog.delete(CHANNELS, "c", "e", "gone")
    before = held(boss, first.channel, first.box)
    with pytest.raises(kind, match=words):
        ingest(
            boss,
            "c",
            "e",
            given.get("chan", "h"),
            given.get("stack", stack(SMALL)),
            given.get("size", SIZE),
            origin=given.get("origin", (0, 0, 0)),
            kind=given.get("kind"),
            overwrite=True,
        )
    assert np.array_equal(held(boss, first.channel, first.box), before)
    assert [channel.name for channel in boss.catalog.listed(CHANNELS, "c", "e")] == ["h"]


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "nd_synapse", "boss", "ingest", *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_command_stores_a_stack_and_says_how_to_read_it(tmp_path):
    volume = grey((20, 30, 40), np.uint16)
    for z, one in enumerate(volume):
        tifffile.imwrite(tmp_path / f"s{z}.tif", one, photometric="minisblack")
    options = ["--data", tmp_path / "data", "--col", "c", "--exp", "e", "--chan", "h", "--voxel-size-nm", "70,100,100"]
    files = sorted(tmp_path.glob("*.tif"))
    done = command(*options, "--origin", "1,2,3", "--public", *files)
    assert done.returncode == 0, done.stderr
    assert "Stored 20 x 30 x 40 voxels (z, y, x) of uint16 as image c/e/h, z 1:21 y 2:32 x 3:43." in done.stdout
    assert "/v1/cutout/c/e/h/0/3:43/2:32/1:21/" in done.stdout
    assert "h: 20 of 20 slices stored" in done.stderr
    boss = Boss(tmp_path / "data")
    channel = boss.catalog.get(CHANNELS, "c", "e", "h")
    assert np.array_equal(held(boss, channel, Box.of_shape(volume.shape, (1, 2, 3))), volume)
    boss.close()
    again = command(*options, "--origin", "1,2,3", *files)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].endswith("Use --overwrite to make it equal to the stack, or another --chan.")


@pytest.mark.slow
def test_the_real_client_reads_what_was_ingested_while_the_server_ran(tmp_path):
    data, volume = tmp_path / "data", grey((20, 30, 40), np.uint16)
    np.save(tmp_path / "stack.npy", volume)
    with start_boss(data) as server:
        done = command(
            *("--data", data, "--col", "c", "--exp", "e", "--chan", "h"),
            *("--voxel-size-nm", "70,100,100", "--origin", "0,5,0", tmp_path / "stack.npy"),
        )
        assert done.returncode == 0, done.stderr
        remote = server.remote()
        channel = remote.get_channel("h", "c", "e")
        assert np.array_equal(remote.get_cutout(channel, 0, [0, 40], [5, 35], [0, 20]), volume)
        frame = remote.get_project(CoordinateFrameResource("c_e"))
        assert (frame.y_start, frame.y_stop, frame.z_voxel_size, frame.voxel_unit) == (5, 35, 70, "nanometers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--voxel-size-nm", "70,100", "notes.tif"], 2, "is not three numbers Z,Y,X"),
        (["--voxel-size-nm", "70,100,100", "--origin", "0,0,0.5", "notes.tif"], 2, "is not three whole numbers"),
        (["--voxel-size-nm", "70,100,100", "nope.tif"], 2, "there is no such file"),
        (["--voxel-size-nm", "70,100,100", "notes.tif"], 65, "not a TIFF"),
    ],
    ids=["two sizes", "half a voxel", "a missing file", "notes"],
)
def test_the_command_ends_bad_input_in_one_sentence(tmp_path, words, code, said):
    (tmp_path / "notes.tif").write_text("my notes")
    words = [str(tmp_path / word) if word.endswith(".tif") else word for word in words]
    done = command("--data", tmp_path / "data", "--col", "c", "--exp", "e", "--chan", "h", *words)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_progress_is_a_line_for_each_tenth_where_there_is_no_terminal(caplog):
    caplog.set_level(logging.INFO)
    with module._shown(95, "PSD95") as progress:
        for _ in range(95):
            progress(1)
    assert len(caplog.messages) == 10
    assert caplog.messages[-1] == "PSD95: 95 of 95 slices stored"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real volume lies beside the repository, and is not there")
def test_a_real_channel_is_stored_as_it_is(boss):
    path = REAL / "PSD95.tif"
    started = time.monotonic()
    done = ingest(boss, "at", "example", "PSD95", open_stack([path]), SIZE)
    assert done.box.shape == (8, 1024, 1344)
    assert np.array_equal(held(boss, done.channel, done.box), tifffile.imread(path))
    assert time.monotonic() - started < 30


def test_every_refusal_is_one_of_ours():
    assert all(issubclass(kind, NDSynapseError) for _, kind, _ in REFUSED.values())
