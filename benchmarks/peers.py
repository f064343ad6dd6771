"""Our commands beside programs of others that do the same work: in turns, processor seconds of all processes.

The others run in the environment of `make peers`; what each of them does is in `benchmarks.peer_work`. Ours writes more
than they do: masks, labels in OME-Zarr with their levels, windows round each object, digests of all of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import tifffile
import zarr

import nd_multicore
from benchmarks.cutout import image_like
from benchmarks.peer_work import BLOCK, CHANNELS, CHUNK, contrast
from benchmarks.places import CHANNELS as REAL_CHANNELS
from benchmarks.places import REAL
from benchmarks.processes import Cost, in_turns, medians
from tests.conftest import REPOSITORY
from tests.fixtures_boss import fill, start_boss
from tests.volumes_on_disk import write

PEERS = REPOSITORY / ".venv" / "peers" / "bin" / "python"
SMALL, LARGE, LARGEST = (16, 512, 512), (64, 1024, 1024), (64, 2048, 2048)
"""Of two channels: 8, 128 and 512 MiB."""
ROUNDS = 5
DELAY_MS, RATE_MB_S = 100, 5

JOB = ["--no-push", "--no-plots", "--quiet", "--cpus", "2", "--path", "out"]
IN_MEMORY = """
import sys, tifffile, nd_synapse
channels = {name: tifffile.imread(f"{sys.argv[1]}/{name}.tif") for name in sys.argv[2:]}
nd_synapse.detect(channels, voxel_size_nm=(70, 100, 100))
"""

Command = Sequence[str | Path]


def _ours(*words: str | Path) -> Command:
    return [sys.executable, "-m", "nd_synapse", *words]


def _theirs(work: str, volume: Path, out: Path) -> Command:
    return [PEERS, REPOSITORY / "benchmarks" / "peer_work.py", work, volume, out / f"{work}.npy"]


class Table:
    """Rows of work with what it costs; `missed` says whether one missed its aim."""

    def __init__(self) -> None:
        self.missed = False
        print("| work | ours | peer | | ratio | aim | s, ours and theirs | MiB, ours and theirs |")
        print("|---|--:|---|--:|--:|--:|---|---|", flush=True)

    def alone(self, work: str, command: Command, aim: float | None = None, rounds: int = ROUNDS) -> Cost:
        """Measure a command by itself."""
        (costs,) = in_turns(rounds, command)
        cost = medians(costs)
        self._print(work, [cost], "", "processor_s", cost.processor_s, aim)
        return cost

    def beside(
        self,
        work: str,
        ours: Command,
        peer: str,
        theirs: Command,
        aim: float,
        rounds: int = ROUNDS,
        unit: Literal["processor_s", "wall_s"] = "processor_s",
    ) -> None:
        """Measure a command and that of a peer in turns; the ratio is the median over the pairs."""
        both = in_turns(rounds, ours, theirs)
        ratio = median(getattr(one, unit) / getattr(other, unit) for one, other in zip(*both, strict=True))
        self._print(work, list(map(medians, both)), peer, unit, ratio, aim)

    def _print(self, work: str, costs: list[Cost], peer: str, unit: str, found: float, aim: float | None) -> None:
        late = aim is not None and found > aim
        self.missed |= late
        ours, *theirs = (f"{getattr(cost, unit):.2f}" for cost in costs)
        ratio = f"{found:.2f}" if theirs else ""
        walls, peaks = (
            ", ".join(each) for each in ([f"{c.wall_s:.2f}" for c in costs], [f"{c.peak_mib:.0f}" for c in costs])
        )
        wanted = "" if aim is None else f"{aim:g}{' (missed)' if late else ''}"
        print(f"| {work} | {ours} | {peer} | {''.join(theirs)} | {ratio} | {wanted} | {walls} | {peaks} |", flush=True)


def volume(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write two channels that look like images, and share their puncta."""
    tile = (shape[0], min(1024, shape[1]), min(1024, shape[2]))
    first = image_like(tile, 1)
    noise = np.random.default_rng(2).integers(-8, 9, tile, np.int16)
    voxels = dict(zip(CHANNELS, (first, np.clip(first + noise, 0, 255).astype(np.uint8)), strict=True))
    group = zarr.open_group(path, mode="w")
    for name, each in voxels.items():
        array = group.create_array(name, shape=shape, dtype=np.uint8, chunks=CHUNK)
        for y in range(0, shape[1], tile[1]):
            for x in range(0, shape[2], tile[2]):
                array[:, y : y + tile[1], x : x + tile[2]] = each
        array.attrs.update(axis_names=["z", "y", "x"], voxel_size=[70, 100, 100], units=["nm"] * 3)
    return path


def config(folder: Path, text: str) -> Path:
    """Write a neurodata.cfg."""
    path = folder / "neurodata.cfg"
    path.write_text(text)
    return path


def fixed_costs(table: Table, folder: Path) -> None:
    """Measure what every run costs, whatever it reads."""
    table.alone("`nd-synapse --help`", _ours("--help"), 0.3)
    table.alone("`nd-synapse run --help`", _ours("run", "--help"), 0.3)
    small = {name: image_like((8, 64, 64), seed) for seed, name in enumerate(("SYNAPSIN", "PSD95"))}
    write("zarr3.zarr", folder / "small.zarr", small)
    table.alone("8 x 64 x 64 voxels, no figures", _ours("run", "--source", folder / "small.zarr", *JOB), 0.8)
    if not REAL.is_dir():
        print(f"no {REAL}: the published volume is left out")
        return
    voxels = {name: tifffile.imread(REAL / f"{name}.tif") for name in REAL_CHANNELS}
    write("zarr3.zarr", folder / "real.zarr", voxels)
    table.alone("published volume, no figures", _ours("run", "--source", folder / "real.zarr", *JOB), 1.8)
    table.alone("its arrays in memory", [sys.executable, "-c", IN_MEMORY, REAL, *REAL_CHANNELS])


def _function(folder: Path, source: Path) -> Command:
    file = config(folder, f"[source]\nuri = {source}\n")
    size = ",".join(map(str, BLOCK))
    words = ["--cpus", "2", "--block-size", size, "--quiet"]
    return _ours("multicore", file, "benchmarks.peer_work:contrast", *words)


def _objects(source: Path) -> Command:
    return _ours("run", "--source", source, "--pipeline", "benchmarks.peer_work:bright", *JOB)


def check_equal(folder: Path, source: Path) -> None:
    """Refuse to compare programs that find different things."""
    file = config(folder, f"[source]\nuri = {source}\n")
    z, y, x = BLOCK
    found = nd_multicore.run_parallel(file, contrast, cpus=2, block_size=(x, y, z)).volumes["result"]
    for work in ("pool", "map_overlap"):
        in_turns(1, _theirs(work, source, folder))
        np.testing.assert_array_equal(np.load(folder / f"{work}.npy"), np.asarray(found), err_msg=work)


def throughput(table: Table, folder: Path) -> None:
    """Measure work on many blocks beside the programs of others, and on larger volumes."""
    sources = {shape: volume(folder / f"{shape[0]}-{shape[1]}.zarr", shape) for shape in (SMALL, LARGE, LARGEST)}
    check_equal(folder, sources[SMALL])
    source = sources[LARGE]

    def beside(work: str, ours: Command, peer: str, name: str, aim: float, rounds: int = ROUNDS) -> None:
        table.beside(work, ours, peer, _theirs(name, source, folder), aim, rounds)

    function, objects = "function with a halo", "objects and table"
    beside(function, _function(folder, source), "Pool(2)", "pool", 1.0)
    beside(function, _function(folder, source), "dask map_overlap", "map_overlap", 1.1)
    beside(objects, _objects(source), "patchworks", "patchworks", 0.7)
    beside(objects, _objects(source), "cc3d in memory", "in_memory", 1.1)
    for work in (function, objects):
        costs = []
        for shape, place in sources.items():
            command = _function(folder, place) if work == function else _objects(place)
            costs.append(table.alone(f"{work}, {_mib(shape)} MiB", command, rounds=1).processor_s)
        print(f"{work}: {costs[1] / costs[0] / 16:.2f} and {costs[2] / costs[0] / 64:.2f} of linear")
    # it takes minutes
    beside(objects, _objects(source), "dask-image", "dask_image", 0.3, rounds=1)


def _mib(shape: tuple[int, int, int]) -> int:
    return int(np.prod(shape)) * len(CHANNELS) >> 20


def pulling(table: Table, folder: Path) -> None:
    """Measure pulling through BOSS over a slow line beside a loop over the client."""
    fill(folder / "boss", "bench", "peers", {name: image_like(LARGE, seed) for seed, name in enumerate(CHANNELS)})
    line = ("--delay-ms", str(DELAY_MS), "--rate-mb-s", str(RATE_MB_S))
    z, y, x = BLOCK
    with start_boss(folder / "boss", *line) as server, _token(server.token):
        ranges = "".join(f"{axis}_range = 0,{n}\n" for axis, n in zip("zyx", LARGE, strict=True))
        file = config(
            folder,
            f"[Default]\nhost = {server.url}\n[shared]\ncollection = bench\nexperiment = peers\n[Parallel]\n{ranges}",
        )
        ours = _ours(
            "multicore", file, "benchmarks.peer_work:nothing", "--cpus", "2", "--block-size", f"{z},{y},{x}", "--quiet"
        )
        loop = [sys.executable, "-c", LOOP, server.url, server.token, *CHANNELS]
        table.beside("pull by BOSS, seconds of the clock", ours, "loop of intern", loop, 0.3, 3, "wall_s")


@contextmanager
def _token(token: str) -> Iterator[None]:
    os.environ["BOSS_TOKEN"] = token
    yield
    del os.environ["BOSS_TOKEN"]


LOOP = f"""
import sys
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource
url, token, *channels = sys.argv[1:]
protocol, host = url.split("://")
remote = BossRemote({{"protocol": protocol, "host": host, "token": token}})
for name in channels:
    channel = ChannelResource(name, "bench", "peers", "image", datatype="uint8")
    for z in range(0, {LARGE[0]}, {BLOCK[0]}):
        for y in range(0, {LARGE[1]}, {BLOCK[1]}):
            for x in range(0, {LARGE[2]}, {BLOCK[2]}):
                remote.get_cutout(channel, 0, [x, x + {BLOCK[2]}], [y, y + {BLOCK[1]}], [z, z + {BLOCK[0]}])
"""


def main() -> int:
    """Measure, print the table, and return 1 if an aim is missed."""
    if not PEERS.exists():
        raise SystemExit("the programs of others are not there: make peers")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    table = Table()
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    # what is installed is compiled, in the image too: the first round compiles a clone
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        for part in (fixed_costs, throughput, pulling):
            part(table, Path(folder))
    print(f"load {os.getloadavg()[0]:.1f} after")
    return int(table.missed)
