"""Memory is bounded by the blocks in flight, not by the request."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.blocks.pool import BlockPool, Boxes, Done
from nd_synapse.cli.run_options import job_from, parser
from nd_synapse.detection.budget import check_memory, needs_of, writer_bytes, writers
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import UsageError
from nd_synapse.files.multiscale import Labelled, Pyramid
from nd_synapse.geometry import Box
from nd_synapse.job import steps
from nd_synapse.job.folder import ResultFolder
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.pipeline import registry
from tests.conftest import REPOSITORY
from tests.detection.arrays import Arrays, noisy
from tests.fixtures_boss import start_boss
from tests.memory_limit import Completed, demand_memory_limit, run_limited

GIB = 2**30
WHOLE = Box((0, 192), (0, 4096), (0, 2048))
"""1.5 GiB of voxels a channel, in two channels."""

FIFTH = Box((0, 192), (0, 1024), (0, 1638))
"""As deep as the whole, so that its blocks are as large."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that is removed at once: what lies in it takes tens of GiB."""
    path = Path(tempfile.mkdtemp(prefix="nd-synapse-memory-"))
    yield path
    shutil.rmtree(path)


def fill(data: Path, box: Box, channels: tuple[str, str]) -> None:
    """Make an experiment with puncta in every eighth chunk and an even background elsewhere, which costs no time."""
    boss = Boss(data)
    z, y, x = box.stop
    frame = {"x_start": 0, "x_stop": x, "y_start": 0, "y_stop": y, "z_start": 0, "z_stop": z}
    sizes = {"x_voxel_size": 100, "y_voxel_size": 100, "z_voxel_size": 70, "voxel_unit": "nanometers"}
    boss.catalog.create(COLLECTIONS, "large")
    boss.catalog.create(FRAMES, "large", fields={**frame, **sizes})
    boss.catalog.create(EXPERIMENTS, "large", "two", fields={"coord_frame": "large"})
    rng = np.random.default_rng(3)
    chunk = rng.poisson(10, (1, 16, 512, 512)).astype(np.uint8)
    chunk[0][rng.random((16, 512, 512)) < 0.0005] = 200
    for name in channels:
        channel = boss.catalog.create(CHANNELS, "large", "two", name, fields={"type": "image", "datatype": "uint8"})
        for number, tile in enumerate(box.tiles((16, 512, 512))):
            voxels = chunk if number % 8 == 0 else np.full_like(chunk, 10)
            boss.voxels.write(channel, 0, tile, (0, 1), voxels[:, : tile.shape[0]])
    boss.close()


def run(url: str, token: str, box: Box, path: Path, limit_bytes: int, *extra: str) -> Completed:
    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    where = ["--host", url, "--col", "large", "--exp", "two", *ranges, "--path", str(path)]
    command = [sys.executable, "driver.py", *where, "--no-push", "--no-plots", "--cpus", "2", *extra]
    environment = {**os.environ, "BOSS_TOKEN": token}
    return run_limited(command, limit_bytes, timeout_s=1500, cwd=REPOSITORY, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_three_gibibytes_finish_within_one_and_five_times_the_request_takes_no_more(folder: Path) -> None:
    demand_memory_limit()
    fill(folder / "boss", WHOLE, ("SYNAPSIN", "PSD95"))
    with start_boss(folder / "boss") as server:
        peaks: dict[str, int] = {}
        # two workers are seldom at their peaks at once: a short run has fewer chances, so there are three of it
        for name, box in (("whole", WHOLE), *[("fifth", FIFTH)] * 3):
            path = folder / name
            done = run(server.url, server.token, box, path, GIB)
            assert done.returncode == 0, done.stderr[-3000:]
            peaks[name] = max(done.peak_bytes, peaks.get(name, 0))
            manifest = json.loads(next(path.glob("*/run.json")).read_text())
            print(
                f"{name}: {2 * box.voxels / GIB:.1f} GiB, peak {done.peak_bytes / 2**20:.0f} MiB, {manifest['seconds']}"
            )
            assert manifest["counts"]["synapses"] > 100
            shutil.rmtree(path)
    assert peaks["whole"] < GIB
    assert peaks["whole"] < 1.2 * peaks["fifth"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_plan_states_the_peak_of_a_worker_before_the_run(tmp_path: Path, dtype: type) -> None:
    """What was computed holds, and not by far too much."""
    source = noisy((32, 256, 512), dtype, 1)
    pipeline = registry.build("nomads-unsupervised", {})
    roles = {"presynaptic": "pre", "postsynaptic": "post"}
    plan = Plan(source, source.box, pipeline, roles, ("pre", "post"), (70.0, 100.0, 100.0), (32, 256, 256), tmp_path)
    worker = needs_of(plan, 1, 1).worker_bytes
    with pytest.MonkeyPatch.context() as patch:
        peaks: list[int] = []
        patch.setattr(
            "nd_synapse.detection.on_disk.PoolRunner._report",
            lambda self, step, outcome, pull_s: peaks.append(outcome.peak_bytes),
        )
        detect(plan, 1)
    assert max(peaks) < worker < 2 * max(peaks)


@pytest.mark.slow
def test_the_plan_states_the_peak_of_a_process_that_writes_labels(tmp_path: Path) -> None:
    source = noisy((32, 600, 520), np.uint8, 1)
    pipeline = registry.build("nomads-unsupervised", {"min_voxels": "2"})
    roles = {"presynaptic": "pre", "postsynaptic": "post"}
    plan = Plan(source, source.box, pipeline, roles, ("pre", "post"), (70.0, 100.0, 100.0), (32, 512, 512), tmp_path)
    found = detect(plan, 1)
    image = Labelled(tmp_path / "x.zarr", ("synapses",), found.labels.dtype, Pyramid(plan.box, plan.voxel_size_nm))
    image.create("x")
    write = partial(image.write_finest, masks={"synapses": found.masks["All"]}, ids=found.labels)
    with BlockPool(1) as pool:
        done = [outcome for outcome in pool.run(write, Boxes(image.shards(0))) if isinstance(outcome, Done)]
        done += [
            one for one in pool.run(partial(image.write_coarser, 1), Boxes(image.shards(1))) if isinstance(one, Done)
        ]
    assert len(done) == 5
    peak = max(outcome.peak_bytes for outcome in done)
    assert peak < writer_bytes(plan) < 2.5 * peak


@pytest.mark.parametrize("cpus", [1, 2, 7])
@pytest.mark.parametrize("size", [(32, 512, 512), (8, 64, 64)])
def test_no_more_processes_write_files_than_fit_what_the_detection_takes(
    tmp_path: Path, cpus: int, size: tuple[int, int, int]
) -> None:
    source = noisy((2, 8, 8), np.uint8, 1)
    pipeline = registry.build("nomads-unsupervised", {})
    roles, names, box = {"presynaptic": "pre", "postsynaptic": "post"}, ("pre", "post"), Box.of_shape((64, 2048, 2048))
    plan = Plan(source, box, pipeline, roles, names, (70.0, 100.0, 100.0), size, tmp_path)
    count = writers(plan, cpus, 8)
    assert (1 if size == (8, 64, 64) else 0.8 * cpus) <= count <= cpus
    assert count == 1 or count * writer_bytes(plan) < needs_of(plan, cpus, 8).memory_bytes


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, "400,000,000"), (np.uint64, "250,000,000")])
def test_blocks_whose_labels_or_voxels_cannot_be_packed_are_refused_before_the_run(
    tmp_path: Path, dtype: type, most: str
) -> None:
    source = Arrays(**dict.fromkeys(("pre", "post"), np.zeros((2, 8, 8), dtype)))
    pipeline = registry.build("nomads-unsupervised", {})
    roles, names, box = {"presynaptic": "pre", "postsynaptic": "post"}, ("pre", "post"), Box.of_shape((900, 900, 900))
    plan = Plan(source, box, pipeline, roles, names, (70.0, 100.0, 100.0), box.shape, tmp_path)
    with pytest.raises(UsageError, match=f"{most} voxels, whatever the memory"):
        check_memory(plan, 1, 1, 2**50)


def test_a_block_size_that_makes_too_many_blocks_is_refused_with_one_that_does_not_before_any_is_made(
    tmp_path: Path,
) -> None:
    source = noisy((2, 8, 8), np.uint8, 1)
    pipeline = registry.build("nomads-unsupervised", {})
    roles, names, box = (
        {"presynaptic": "pre", "postsynaptic": "post"},
        ("pre", "post"),
        Box.of_shape((1, 1, 99_999_999)),
    )
    plan = Plan(source, box, pipeline, roles, names, (70.0, 100.0, 100.0), (1, 1, 1), tmp_path)
    with pytest.raises(UsageError, match=r"are 99,999,999, a run has 1,000,000 at most. Give --block-size") as refused:
        check_memory(plan, 1, 1, GIB)
    size: Any = tuple(map(int, refused.value.remedy.split()[-1].split(",")))
    check_memory(replace(plan, block_size=size), 1, 1, GIB)
    with pytest.raises(UsageError, match=r"a run has 1,000,000 at most. Give --block-size 1,1,128"):
        plan.blocks()
    with pytest.raises(UsageError, match=r"too many for 1,000,000 blocks.* Take a smaller box"):
        check_memory(replace(plan, box=Box.of_shape((999_999_999,) * 3)), 1, 1, GIB)


def test_blocks_are_charged_for_their_number_not_for_their_voxels_alone(tmp_path: Path) -> None:
    source = noisy((2, 8, 8), np.uint8, 1)
    pipeline = registry.build("nomads-unsupervised", {})
    roles, names, box = {"presynaptic": "pre", "postsynaptic": "post"}, ("pre", "post"), Box.of_shape((1, 1000, 1000))
    plan = Plan(source, box, pipeline, roles, names, (70.0, 100.0, 100.0), (1, 1, 2), tmp_path)
    many, one = needs_of(plan, 1, 1), needs_of(replace(plan, block_size=(1, 1000, 1000)), 1, 1)
    assert (many.blocks, one.blocks) == (500_000, 1)
    assert many.memory_bytes > one.memory_bytes + 500_000 * 1024
    assert many.disk_bytes > one.disk_bytes + 500_000 * 4096
    assert many.files == 500_000 * one.files
    assert many.seconds(1, 1)[0] > 1000 > one.seconds(1, 1)[1]
    with pytest.raises(UsageError, match="they need --memory"):
        check_memory(plan, 1, 1, GIB)


@pytest.mark.slow
def test_a_block_size_that_does_not_fit_is_refused_with_one_that_does(folder: Path) -> None:
    data = folder / "small"
    fill(data, Box((0, 64), (0, 1024), (0, 1024)), ("SYNAPSIN", "PSD95"))
    with start_boss(data) as server:
        arguments = ["--host", server.url, "--token", server.token, "--col", "large", "--exp", "two", "--no-push"]
        arguments += ["--z-range", "0,64", "--y-range", "0,1024", "--x-range", "0,1024", "--path", str(folder / "r")]
        options = parser().parse_args([*arguments, "--block-size", "64,1024,1024", "--memory", "1"])
        job = job_from(options, {})
        with pytest.raises(UsageError, match=r"Give --block-size (\d+,\d+,\d+)") as refused:
            steps.run(job, ResultFolder(job.path, job.results_key), lambda *_: None)
        size = str(refused.value.remedy).split()[-1]
        fits = job_from(parser().parse_args([*arguments, "--block-size", size, "--memory", "1"]), {})
        steps.run(fits, ResultFolder(fits.path, fits.results_key), lambda *_: None)
        nothing = job_from(parser().parse_args([*arguments, "--memory", "0.1"]), {})
        with pytest.raises(UsageError, match="whatever the size of blocks"):
            steps.run(nothing, ResultFolder(nothing.path, nothing.results_key), lambda *_: None)
