"""A job that is stopped, or loses blocks, goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from nd_synapse.files.stacks import stack_of_array
from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.ingest import ingest
from tests.conftest import REPOSITORY
from tests.driver.runs import PREDICTIONS, drive, where
from tests.fixtures_boss import BossServer, fill, spots, start_boss

SHAPE = (12, 96, 96)
VOLUME = Box.of_shape(SHAPE)
BLOCKS = ["--block-size", "4,32,32", "--cpus", "2", "--no-push", "--no-plots"]
SAME = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with a small volume of spots where two markers meet."""
    data = tmp_path_factory.mktemp("resume")
    fill(data, "resume", "spots", spots(SHAPE, 11))
    with start_boss(data) as running:
        yield running


def command(server: BossServer, path: Path, *extra: str) -> tuple[list[str], dict[str, str]]:
    arguments = [sys.executable, "driver.py", "--path", str(path), *where(server, "resume", "spots", VOLUME), *BLOCKS]
    return [*arguments, *extra], {**os.environ, "BOSS_TOKEN": server.token}


def results(path: Path) -> dict[str, bytes]:
    (folder,) = path.iterdir()
    return {name: (folder / name).read_bytes() for name in SAME}


@pytest.fixture(scope="module")
def clean(server: BossServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """Results of a run that nobody disturbed, and how long it took."""
    path = tmp_path_factory.mktemp("clean")
    started = time.monotonic()
    run = drive(server, path, *where(server, "resume", "spots", VOLUME), *BLOCKS)
    assert run.code == 0, run.stderr
    return results(path), time.monotonic() - started


def kill_and_go_on(server: BossServer, path: Path, delays: list[float], victim: str) -> None:
    """Start the job again and again, each time killing it, or one of its workers, after a while; then let it end."""
    line, environment = command(server, path)
    for delay in delays:
        process = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        if victim == "worker":
            workers = [
                w for w in psutil.Process(process.pid).children() if "nd_synapse.blocks.worker" in " ".join(w.cmdline())
            ]
            for worker in workers[:1]:
                worker.kill()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
        else:
            process.kill()
            process.communicate(timeout=60)
    subprocess.run(line, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    server: BossServer, clean: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    chance = random.Random(1)
    kill_and_go_on(server, tmp_path, [chance.uniform(0.1, clean[1] * 1.1) for _ in range(8)], "parent")
    assert results(tmp_path) == clean[0]


def started(line: list[str], environment: dict[str, str], folder: Path, files: str, least: int = 1) -> Any:
    """Start a job, and return its process when it has made so many files below a folder."""
    process = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob(files))) < least:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    return process


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_forty_instants_it_ends_with_the_same_bytes(
    server: BossServer, clean: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """Parent and workers, five jobs of eight kills each."""
    chance = random.Random(2)
    for number in range(5):
        path = tmp_path / str(number)
        victim = "worker" if number == 4 else "parent"
        kill_and_go_on(server, path, [chance.uniform(0.1, clean[1] * 1.1) for _ in range(8)], victim)
        assert results(path) == clean[0]


@pytest.mark.slow
def test_no_finished_block_is_computed_again(
    server: BossServer, clean: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """Files that were committed before the kill are the same files after it."""
    line, environment = command(server, tmp_path)
    process = started(line, environment, tmp_path, "*/.work/parts-*/*.npz", 5)
    process.kill()
    process.communicate(timeout=60)
    log = next(tmp_path.glob("*/job.log"))
    kept = [*tmp_path.glob("*/.work/statistics-*/*.npz"), *tmp_path.glob("*/.work/parts-*/*.npz")]
    kept = [path for path in kept if not path.name.startswith(".")]
    before = len(log.read_text())
    subprocess.run(line, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)
    assert results(tmp_path) == clean[0]
    manifest = json.loads(next(tmp_path.glob("*/run.json")).read_text())
    parts = [path for path in kept if path.parent.name.startswith("parts-")]
    assert manifest["resumed_blocks"]["statistics"] == len(kept) - len(parts) == manifest["counts"]["blocks"]
    assert manifest["resumed_blocks"]["detect"] == len(parts) >= 5
    done_again = re.findall(r"detect: block z (\d+):\d+ y (\d+):\d+ x (\d+):\d+ in", log.read_text()[before:])
    assert not {"_".join(start) for start in done_again} & {path.stem for path in parts}


@pytest.mark.slow
def test_fresh_starts_over_and_other_parameters_recompute_what_they_must(server: BossServer, tmp_path: Path) -> None:
    line, environment = command(server, tmp_path)
    process = started(line, environment, tmp_path, "*/.work/parts-*/*.npz", 3)
    process.kill()
    process.communicate(timeout=60)
    other, _ = command(server, tmp_path, "--param", "min_voxels=9")
    subprocess.run(other, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)
    manifest = json.loads(next(tmp_path.glob("*/run.json")).read_text())
    assert manifest["resumed_blocks"] == {}
    fresh, _ = command(server, tmp_path, "--fresh")
    subprocess.run(fresh, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)
    assert json.loads(next(tmp_path.glob("*/run.json")).read_text())["resumed_blocks"] == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_stops_it_in_time_leaves_no_process_and_the_job_goes_on(
    server: BossServer, clean: tuple[dict[str, bytes], float], tmp_path: Path, number: signal.Signals
) -> None:
    line, environment = command(server, tmp_path)
    process = started(line, environment, tmp_path, "*/.work/statistics-*/*.npz")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    stopped = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - stopped < 10
    assert process.returncode == 75, errors
    assert "goes on" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    subprocess.run(line, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)
    assert results(tmp_path) == clean[0]


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(server: BossServer, tmp_path: Path) -> None:
    line, environment = command(server, tmp_path)
    process = started(line, environment, tmp_path, "*/.work/statistics-*/*.npz")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.slow
def test_two_jobs_do_not_share_a_folder(
    server: BossServer, clean: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    line, environment = command(server, tmp_path)
    first = started(line, environment, tmp_path, "*/.work/*")
    second = subprocess.run(line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert "another job is at work" in second.stderr
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert results(tmp_path) == clean[0]


@pytest.mark.slow
def test_a_failing_second_run_keeps_the_results_of_the_first(server: BossServer, tmp_path: Path) -> None:
    line, environment = command(server, tmp_path)
    subprocess.run(line, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=60)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "job.log"}
    wrong = {**environment, "BOSS_TOKEN": "0123456789abcdef0123456789abcdef01234567"}
    assert subprocess.run(line, cwd=REPOSITORY, env=wrong, capture_output=True, timeout=60).returncode == 77
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_data_that_changed_in_between_are_pulled_again(
    server: BossServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What an earlier run pulled is compared with BOSS before it is used."""
    boss = Boss(server.data)
    rng = np.random.default_rng(5)
    names = ("SYNAPSIN", "PSD95")

    def fill(overwrite: bool) -> None:
        for name in names:
            voxels = np.where(rng.random(SHAPE) < 0.02, 200, rng.poisson(10, SHAPE)).astype(np.uint8)
            stack = stack_of_array(voxels, name)
            ingest(boss, "resume", "changing", name, stack, (70.0, 100.0, 100.0), overwrite=overwrite)

    fill(overwrite=False)
    arguments = [*where(server, "resume", "changing", VOLUME), *BLOCKS]
    line = [sys.executable, "driver.py", "--path", str(tmp_path), *arguments]
    environment = {**os.environ, "BOSS_TOKEN": server.token}
    process = started(line, environment, tmp_path, "*/.work/statistics-*/*.npz", 20)
    process.kill()
    process.communicate(timeout=60)
    fill(overwrite=True)
    boss.close()
    resumed = subprocess.run(line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert resumed.returncode == 0
    assert "changed since an earlier run" in resumed.stderr
    anew = tmp_path_factory.mktemp("anew")
    assert drive(server, anew, *arguments).code == 0
    assert results(tmp_path) == results(anew)


def hears_signals(process: subprocess.Popen[Any]) -> bool:
    """Tell whether Python has put handlers in place, or the process has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return True
    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status)[1], 16)  # type: ignore[index] # Linux has the line
    return process.poll() is not None or bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("said", ["", "presynaptic", "statistics: ", "detect: "])
def test_signals_that_come_again_and_again_end_it_as_one_does(server: BossServer, tmp_path: Path, said: str) -> None:
    """While it imports, while it works, and while it stops: 75, and no traceback."""
    chance = random.Random(said)
    line, environment = command(server, tmp_path / "results")
    told = tmp_path / "told"
    with told.open("w") as stream:
        process = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stderr=stream)
    while not hears_signals(process) or (said not in told.read_text() and process.poll() is None):
        time.sleep(0.001)
    began = time.monotonic()
    while process.poll() is None:
        assert time.monotonic() - began < 15
        process.send_signal(chance.choice([signal.SIGTERM, signal.SIGINT]))
        time.sleep(chance.uniform(0.01, 0.05))
    assert process.returncode == 75, told.read_text()
    assert "Traceback" not in told.read_text()
