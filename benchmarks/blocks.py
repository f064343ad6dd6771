"""How busy the block engine keeps a line and the cores: its ratios to a bare loop, to itself, and to its two halves.

It measures `nd_multicore.run_parallel` with functions that cost a known time, no pipeline and no job.

Rates of pulling are those of an engine at work: of the blocks that it asks for after its first worker has begun, until
the last of them is handed to the function; rates of computing those between the first and the last block that is handed
over. The start of a run is told apart; it is in its whole time, and counts where whole runs are compared.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray

import nd_multicore
from benchmarks.cutout import image_like
from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.voxels import CHUNK
from NeuroDataResource import NeuroDataResource
from tests.fixtures_boss import BossServer, start_boss

LARGEST = (16, 4, 4)
"""Blocks along z, y, x of the whole volume; a block is a chunk of the server."""
COMMON = (4, 4, 4)
"""Blocks of most runs."""

DELAY_MS = 100
RATE_MB_S = 1.3
BOUND_S = 0.2
"""What a block costs where computing is the bound: some five times what pulling it takes."""

LOOP_ROUNDS = 3
HALF_ROUNDS = 2
SETTINGS = "ND_SYNAPSE_BENCHMARK"

SMALLEST_OF_LOOP = 0.9
SMALLEST_GAIN = {2: 1.8, 8: 6.0}
LARGEST_OF_HALF = 1.15


@dataclass(frozen=True)
class Run:
    """A run of the engine: how long it took, and when blocks were asked for and handed to the function, in seconds."""

    seconds: float
    requested: tuple[float, ...]
    handed: tuple[float, ...]

    @property
    def blocks(self) -> int:
        """How many blocks there were."""
        return len(self.handed)

    @property
    def start_s(self) -> float:
        """Seconds from the first request until the first block is handed over: of starting a worker, above all."""
        return min(self.handed) - min(self.requested)

    @property
    def computed_s(self) -> float:
        """Seconds a block from the first to the last that is handed over."""
        return (max(self.handed) - min(self.handed)) / (self.blocks - 1)

    @property
    def block_s(self) -> float:
        """Seconds a block of an engine at work; NaN if all were asked for before a worker had begun."""
        late = [when for when in self.requested if when > min(self.handed)]
        return (max(self.handed) - min(late)) / len(late) if late else math.nan


@dataclass(frozen=True)
class Ratio:
    """A ratio of two measurements of one run, and its aim."""

    what: str
    value: float
    aim: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the aim is reached."""
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def __str__(self) -> str:
        """Return a row of the table."""
        aim = f"at {'most' if self.at_most else 'least'} {self.aim}"
        return f"{self.what:70s} {self.value:6.2f}  {aim:14s} {'' if self.met else 'MISSED'}"


@dataclass(frozen=True)
class Volume:
    """A channel on a server, and where runs keep their settings."""

    server: BossServer
    channel: str
    folder: Path

    def box(self, blocks: Sequence[int] = COMMON) -> Box:
        """Return the box that holds so many blocks along z, y, x."""
        return Box.of_shape([n * size for n, size in zip(blocks, CHUNK, strict=True)])

    def config(self, box: Box) -> Path:
        """Write the neurodata.cfg of a box."""
        ranges = "".join(f"{axis}_range = {a},{b}\n" for axis, (a, b) in zip("zyx", box.ranges, strict=True))
        path = self.folder / "neurodata.cfg"
        path.write_text(
            f"[Default]\nhost = {self.server.url}\n[shared]\ncollection = bench\nexperiment = blocks\n"
            f"[Parallel]\nchannels = {self.channel}\n{ranges}resolution = 0\n"
        )
        return path


def note(_data: dict[str, NDArray[Any]]) -> None:
    """Note when a block came; what a run does that only pulls."""
    folder, _ = os.environ[SETTINGS].split(":")
    with Path(folder, f"handed-{os.getpid()}").open("a") as file:
        file.write(f"{time.monotonic()}\n")


def compute(data: dict[str, NDArray[Any]]) -> None:
    """Note when a block came, and compute for a given time of a core."""
    note(data)
    (block,) = data.values()
    _burn(block)


def _burn(block: NDArray[Any]) -> None:
    """Compute on a block, as pipelines do in numpy, for the time of a core that the settings say."""
    _, seconds = os.environ[SETTINGS].split(":")
    end = time.thread_time() + float(seconds)
    part = block[:1].astype(np.float32)
    while time.thread_time() < end:
        np.sqrt(part * part + 1, out=part)


def _burn_block(_number: int) -> None:
    """Compute for one block that need not be pulled."""
    _burn(np.ones((1, *CHUNK[1:]), np.uint8))


def settings(volume: Volume, core_s: float) -> AbstractContextManager[object]:
    """Tell worker processes, which inherit the environment, where to note blocks and how long to compute on each."""
    told = {SETTINGS: f"{volume.folder}:{core_s}", "BOSS_TOKEN": volume.server.token}
    return patch.dict(os.environ, told)


@contextmanager
def noted_requests() -> Iterator[list[float]]:
    """Note when cutouts are asked for."""
    requested: list[float] = []
    get_cutout = NeuroDataResource.get_cutout

    def noting(resource: NeuroDataResource, channel: str, *ranges: tuple[int, int]) -> NDArray[Any]:
        requested.append(time.monotonic())
        return get_cutout(resource, channel, *ranges)

    with patch.object(NeuroDataResource, "get_cutout", noting):
        yield requested


def run(volume: Volume, pulls: int, cpus: int = 1, core_s: float = 0.0, blocks: Sequence[int] = COMMON) -> Run:
    """Run the engine on so many blocks along z, y, x; without `core_s` it only pulls."""
    z, y, x = CHUNK
    with settings(volume, core_s), noted_requests() as requested:
        config = volume.config(volume.box(blocks))
        function = compute if core_s else note
        began = time.monotonic()
        nd_multicore.run_parallel(config, function, cpus=cpus, block_size=(x, y, z), pulls=pulls)
        seconds = time.monotonic() - began
    handed: list[float] = []
    for file in volume.folder.glob("handed-*"):
        handed += map(float, file.read_text().split())
        file.unlink()
    if not len(handed) == len(requested) == math.prod(blocks):
        found = f"{len(requested)} cutouts and {len(handed)} calls of the function"
        raise AssertionError(f"{found} for {math.prod(blocks)} blocks")
    return Run(seconds, tuple(requested), tuple(handed))


def loop_s(volume: Volume) -> float:
    """Return the seconds of a bare loop over the client's cutouts, of the whole volume."""
    remote = volume.server.remote()
    channel = ChannelResource(volume.channel, "bench", "blocks", "image", datatype="uint8")
    began = time.monotonic()
    for tile in volume.box(LARGEST).tiles(CHUNK):
        z, y, x = map(list, tile.ranges)
        remote.get_cutout(channel, 0, x, y, z)
    return time.monotonic() - began


def against_a_loop(volume: Volume) -> Ratio:
    """Compare whole runs of one worker, as it comes, with a bare loop, in turns, on a server as fast as it can be."""
    loops, runs = [], []
    for _ in range(LOOP_ROUNDS):
        loops.append(loop_s(volume))
        runs.append(run(volume, pulls=DEFAULT_PULLS, blocks=LARGEST))
    # the best of each: what else the machine does can only add
    whole = min(runs, key=lambda found: found.seconds)
    each = "  ".join(f"{loop:.1f}/{found.seconds:.1f}" for loop, found in zip(loops, runs, strict=True))
    print(f"{whole.blocks} blocks; a bare loop / one worker with {DEFAULT_PULLS} cutouts in flight, in seconds: {each}")
    print(f"of one worker {whole.start_s:.1f} s until its first block")
    return Ratio("one worker against a bare loop of get_cutout", min(loops) / whole.seconds, SMALLEST_OF_LOOP)


def against_one_pull(volume: Volume) -> list[Ratio]:
    """Compare more pulls in flight with one, on a slow line."""
    # more blocks where more are pulled at once, so that each run is about as long
    runs = {pulls: run(volume, pulls, blocks=(2 * pulls, 4, 4)) for pulls in (1, *SMALLEST_GAIN)}
    for pulls, found in runs.items():
        pace = f"{found.block_s * 1e3:.1f} ms a block"
        print(f"{pulls} in flight: {pace}, {found.blocks} blocks in {found.seconds:.1f} s in all")
    return [
        Ratio(f"{pulls} pulls in flight against one", runs[1].block_s / runs[pulls].block_s, aim)
        for pulls, aim in SMALLEST_GAIN.items()
    ]


def against_its_halves(volume: Volume, pulls: int = 2) -> Ratio:
    """Compare a whole run with the longer of pulling alone and computing alone, both about as long, in turns."""
    pulling, computing, whole = [], [], []
    core_s = 0.0
    for _ in range(HALF_ROUNDS):
        only_pulls = run(volume, pulls)
        core_s = core_s or only_pulls.block_s
        pulling.append(only_pulls.seconds)
        computing.append(computing_s(volume, only_pulls.blocks, core_s))
        whole.append(run(volume, pulls, core_s=core_s).seconds)
    print(f"pulling alone {min(pulling):.1f} s, computing alone {min(computing):.1f} s, both {min(whole):.1f} s")
    what = "whole run against the longer of pulling and computing alone"
    return Ratio(what, min(whole) / max(min(pulling), min(computing)), LARGEST_OF_HALF, at_most=True)


def computing_s(volume: Volume, blocks: int, core_s: float) -> float:
    """Return the seconds that a process of Python's own pool takes to compute on so many blocks."""
    with settings(volume, core_s):
        began = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_burn_block, range(blocks)))
        return time.monotonic() - began


def scaling(volume: Volume) -> None:
    """Print how a run that computes scales with worker processes, and with the size of the request."""
    print(f"computing {BOUND_S} s of a core a block, {DEFAULT_PULLS} cutouts in flight, {os.cpu_count()} cores")
    print("workers  blocks  whole run  blocks a second at work  of one worker")
    one = math.nan
    for cpus, blocks in [(1, COMMON), (2, COMMON), (4, COMMON), (2, (1, 2, 2)), (2, (1, 4, 4))]:
        found = run(volume, pulls=DEFAULT_PULLS, cpus=cpus, core_s=BOUND_S, blocks=blocks)
        one = found.computed_s if cpus == 1 else one
        pace, times = 1 / found.computed_s, one / found.computed_s
        print(f"{cpus:7d}  {found.blocks:6d}  {found.seconds:7.1f} s  {pace:23.1f}  {times:13.2f}")


def fill(data: Path) -> None:
    """Make two channels: one looks like an image; one takes its time on the line but little of the cores."""
    z, y, x = (n * size for n, size in zip(LARGEST, CHUNK, strict=True))
    sizes = {f"{axis}_start": 0 for axis in "xyz"} | {"x_stop": x, "y_stop": y, "z_stop": z}
    voxel = {"x_voxel_size": 100, "y_voxel_size": 100, "z_voxel_size": 70, "voxel_unit": "nanometers"}
    quiet = np.full(CHUNK, 7, np.uint8)
    quiet[0] = np.random.default_rng(1).integers(1, 256, CHUNK[1:], np.uint8)
    boss = Boss(data)
    boss.catalog.create(COLLECTIONS, "bench")
    boss.catalog.create(FRAMES, "bench", fields={**sizes, **voxel})
    boss.catalog.create(EXPERIMENTS, "bench", "blocks", fields={"coord_frame": "bench"})
    for name, block in {"image": image_like(CHUNK, seed=1), "quiet": quiet}.items():
        channel = boss.catalog.create(CHANNELS, "bench", "blocks", name, fields={"type": "image", "datatype": "uint8"})
        for tile in Box.of_shape((z, y, x)).tiles(CHUNK):
            boss.voxels.write(channel, 0, tile, (0, 1), block[np.newaxis])
    boss.close()


def main() -> int:
    """Measure, print the figures and the table, and return 1 if an aim is missed."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as name:
        data, folder = Path(name, "boss"), Path(name, "runs")
        folder.mkdir()
        fill(data)
        with start_boss(data) as server:
            ratios = [against_a_loop(Volume(server, "image", folder))]
        print(f"from here on each reply waits {DELAY_MS} ms and passes at {RATE_MB_S} MB/s")
        with start_boss(data, "--delay-ms", str(DELAY_MS), "--rate-mb-s", str(RATE_MB_S)) as server:
            slow = Volume(server, "quiet", folder)
            ratios += [*against_one_pull(slow), against_its_halves(slow)]
            scaling(slow)
    print(*ratios, sep="\n")
    return int(not all(ratio.met for ratio in ratios))


if __name__ == "__main__":
    raise SystemExit(main())
