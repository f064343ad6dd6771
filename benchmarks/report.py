"""Time, memory and page size of the report against their limits; each case runs in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nd_synapse.geometry import Box

REPOSITORY = Path(__file__).parents[1]
REAL = REPOSITORY.parent / "shared" / "data" / "at_example"
CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")
VOXEL_NM = (70.0, 100.0, 100.0)
MB = 1_000_000
RUNS = 3


@dataclass(frozen=True)
class Case:
    """What is measured, and its limits: processor seconds, size of the page in MB, peak memory in GB."""

    name: str
    arguments: tuple[str, ...]
    seconds: float
    page_mb: float = 6
    memory_gb: float = 1.0


@dataclass(frozen=True)
class Seconds:
    """A time by the clock, and the time of the cores in it."""

    clock: float
    cores: float


CASES = (
    Case("real volume, 8 x 1024 x 1344 x 4 channels, 2,477 synapses", ("real",), 5),
    Case("table 100,000 x 12", ("table", "100000"), 6),
    Case("table 1,000,000 x 12", ("table", "1000000"), 12),
    Case("table 20,000,000 x 12 in mapped files, its own memory", ("long", "20000000"), 40),
    Case("CSV file of 1,000,000 x 12", ("csv", "1000000"), 20),
)


def synthetic_table(n: int) -> dict[str, NDArray[Any]]:
    """Return a table as a run has it: four populations in 12 channels, with positions and sizes."""
    random = np.random.default_rng(1)
    box = Box((0, 50), (0, 10_000), (0, 10_000))
    table: dict[str, NDArray[Any]] = {"id": np.arange(1, n + 1)}
    for axis, stop, size in zip("zyx", box.stop, VOXEL_NM, strict=True):
        table[f"centroid_{axis}_voxel"] = random.uniform(-0.5, stop - 0.5, n)
        table[f"centroid_{axis}_um"] = table[f"centroid_{axis}_voxel"] * (size / 1000)
    table["voxels"] = random.lognormal(4, 0.6, n).astype(np.int64) + 1
    table["volume_um3"] = table["voxels"] * 7e-4
    table["slices"] = random.poisson(2.5, n) + 1
    table["touches_border"] = random.random(n) < 0.1
    kind = random.integers(0, 4, n)
    table["in_Gaba"] = kind == 0
    means = random.normal(0, 1.2, (4, 12))
    for i in range(12):
        table[f"mean_C{i}"] = np.exp(3 + means[kind, i] + 0.4 * random.normal(size=n))
    return table


def report_of_table(folder: Path, n: int) -> Seconds:
    """Write the report of a table in memory; return how long it takes."""
    table = synthetic_table(n)

    def write() -> None:
        from pymeda_driver import RunFacts, write_report

        facts = RunFacts(box=Box((0, 50), (0, 10_000), (0, 10_000)), voxel_size_nm=VOXEL_NM)
        write_report(folder, title="t", table=table, facts=facts, overviews={}, mask_overviews={})

    return seconds_of(write)


def report_of_long(folder: Path, n: int) -> Seconds:
    """Write the report of a table in mapped files, as a job has it; return how long it takes."""
    held = folder.parent / f"columns-{n}"
    columns: dict[str, NDArray[Any]] = {}
    if not held.is_dir():
        # in a process of its own, whose memory is not that of the report
        subprocess.run([sys.executable, "-m", "benchmarks.report", "make-columns", str(held), str(n)], check=True)
    for file in sorted(held.iterdir()):
        columns[file.stem.partition(" ")[2]] = np.load(file, mmap_mode="r")

    def write() -> None:
        from pymeda_driver import RunFacts, write_report

        facts = RunFacts(box=Box((0, 50), (0, 10_000), (0, 10_000)), voxel_size_nm=VOXEL_NM)
        write_report(folder, title="t", table=columns, facts=facts, overviews={}, mask_overviews={})

    return seconds_of(write)


def make_columns(folder: Path, n: int) -> None:
    """Write the columns of a table as files, each of the same million rows again and again but for the ids."""
    folder.mkdir(parents=True)
    piece = synthetic_table(min(n, MB))
    for number, (name, values) in enumerate(piece.items()):
        column = np.lib.format.open_memmap(folder / f"{number:02} {name}.npy", "w+", values.dtype, (n,))
        for start in range(0, n, len(values)):
            column[start : start + len(values)] = values[: n - start]
            if name == "id":
                column[start : start + len(values)] += start


def own_bytes() -> int:
    """Return the memory of this process without pages of files (RssAnon)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@contextmanager
def watched() -> Iterator[list[int]]:
    """Look at the memory of this process every 20 ms; what is looked at is in the list."""
    seen, done = [own_bytes()], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            seen.append(own_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def report_of_csv(folder: Path, n: int) -> Seconds:
    """Write the report of a file by the command line; return how long it takes."""
    file = folder.parent / f"{n}.csv"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.report", "make-csv", str(file), str(n)], check=True)

    def write() -> None:
        import pymeda_driver

        pymeda_driver.main([str(file), "--out", str(folder)])

    return seconds_of(write)


def make_csv(file: Path, n: int) -> None:
    """Write the 12 channels of a table as CSV."""
    columns = {name: values for name, values in synthetic_table(n).items() if name.startswith("mean_")}
    rows = np.stack(list(columns.values()), axis=1)
    np.savetxt(file, rows, fmt="%.5g", delimiter=",", header=",".join(columns), comments="")


def report_of_real(folder: Path) -> Seconds:
    """Write the report of the real volume and its published mask; return how long it takes."""
    images = {name: tifffile.imread(REAL / f"{name}.tif") for name in CHANNELS}
    mask = tifffile.imread(REAL / "published_detections_mask.tif")

    def write() -> None:
        from pymeda_driver import pymeda_pipeline

        pymeda_pipeline({"published": mask}, images, "t", folder, voxel_size_nm=VOXEL_NM)

    return seconds_of(write)


def seconds_of(function: Callable[[], object]) -> Seconds:
    """Return how long a call takes, imports included, by the clock and of the cores."""
    started, computing = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - started, time.process_time() - computing)


def peak_bytes() -> int:
    """Return the peak memory of this process (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def child(arguments: list[str]) -> None:
    """Run one case and print its measurements as JSON."""
    folder, kind, *rest = arguments
    makers: dict[str, Callable[..., Seconds]] = {
        "table": report_of_table,
        "long": report_of_long,
        "csv": report_of_csv,
        "real": report_of_real,
    }
    with watched() as seen:
        took = makers[kind](Path(folder), *map(int, rest))
    (page,) = Path(folder).glob("*.html")
    found = {
        "seconds": took.clock,
        "cpu": took.cores,
        "bytes": page.stat().st_size,
        "peak": max(seen) if kind == "long" else peak_bytes(),
    }
    print(json.dumps({**found, "digest": hashlib.sha256(page.read_bytes()).hexdigest()}))


def measure(case: Case, folder: Path, hash_seed: str = "1") -> dict[str, float]:
    """Run a case as a process, and return its measurements."""
    command = [sys.executable, "-m", "benchmarks.report", "child", str(folder), *case.arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure each case three times, print the best, and return 1 if a limit is exceeded or pages differ."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; the best of {RUNS} runs, (limit)")
    print("| report of | processor (s) | clock (s) | page (MB) | peak memory (GB) | the same bytes |")
    print("|---|---:|---:|---:|---:|---|")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            if case.arguments == ("real",) and not REAL.is_dir():
                print(f"| {case.name}: left out, there is no {REAL} | | | | | |")
                continue
            runs = [measure(case, Path(name, case.arguments[0], str(i)), hash_seed=str(i)) for i in range(RUNS)]
            best = min(runs, key=lambda run: run["cpu"])
            size, peak = best["bytes"] / MB, max(run["peak"] for run in runs) / 1e9
            same = len({run["digest"] for run in runs}) == 1
            missed |= best["cpu"] > case.seconds or size > case.page_mb or peak > case.memory_gb or not same
            measured = f"{best['cpu']:.1f} ({case.seconds:g}) | {best['seconds']:.1f} | {size:.1f} ({case.page_mb:g})"
            memory = f"{peak:.2f} ({case.memory_gb:g})"
            print(f"| {case.name} | {measured} | {memory} | {'yes' if same else 'NO'} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2:])
    elif sys.argv[1:2] == ["make-csv"]:
        make_csv(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["make-columns"]:
        make_columns(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
