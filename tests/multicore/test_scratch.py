"""With a scratch folder no finished block runs again, however often the run was stopped."""

from __future__ import annotations

import importlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import nd_multicore
from nd_synapse.errors import UsageError
from NeuroDataResource import get_boss_resource
from tests.conftest import REPOSITORY
from tests.multicore.ramps import ramp

COUNTING = """
import os, time
from pathlib import Path

FOLDER = Path(os.environ["ND_MULTICORE_TEST_FOLDER"])

def count(data_dict):
    block = data_dict["ramp"]
    with (FOLDER / "calls").open("a") as file:
        file.write(f"{block.min()}\\n")
    time.sleep(float(os.environ.get("ND_MULTICORE_TEST_S", "0")))
    if (FOLDER / f"fail-{block.min()}").exists():
        raise RuntimeError("not this one")
    return {"twice": 2 * block, "lowest": [block.min()]}
"""
"""A function that records which blocks came, slowly enough to be killed at it, in a module that is soon imported."""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the module of `COUNTING`, which lies in the test's folder."""
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.setenv("ND_MULTICORE_TEST_FOLDER", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("counting")
    del sys.modules["counting"]


COUNTED: dict[str, Any] = {"cpus": 2, "block_size": (10, 8, 3)}


def calls(folder: Path) -> Counter[str]:
    file = folder / "calls"
    return Counter(file.read_text().split()) if file.exists() else Counter()


@pytest.mark.slow
def test_a_finished_block_is_not_run_again(config: Path, tmp_path: Path, counting: Any) -> None:
    """Where it is kept; a block that failed is, and so are all with other blocks or another halo."""
    scratch = tmp_path / "scratch"
    lowest = int(ramp()[3, 8, 10])
    (tmp_path / f"fail-{lowest}").touch()
    first = nd_multicore.run_parallel(config, counting.count, scratch=scratch, **COUNTED)
    assert first.failed.keys() == {"3_8_10"}
    assert not np.asarray(first.volumes["twice"])[2:, 8:16, 7:17].any()
    (tmp_path / f"fail-{lowest}").unlink()
    second = nd_multicore.run_parallel(config, counting.count, scratch=scratch, **COUNTED)
    assert calls(tmp_path) == {**dict.fromkeys(map(str, second.rows["lowest"]), 1), str(lowest): 2}
    assert len(second) == len(second.rows["lowest"]) == 18
    assert np.array_equal(np.asarray(second.volumes["twice"]), 2 * ramp()[1:5, :, 3:30])
    nd_multicore.run_parallel(config, counting.count, scratch=scratch, halo=(1, 0, 0), **COUNTED)
    assert calls(tmp_path).total() == 19 + 18
    nd_multicore.run_parallel(config, counting.count, scratch=scratch, block_size=(30, 20, 5))
    assert calls(tmp_path).total() == 19 + 18 + 1


@pytest.mark.slow
def test_a_function_that_was_changed_runs_again(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def total(data_dict):\n    return {'total': [int(data_dict['ramp'].sum())]}\n")
    words = [sys.executable, "-m", "nd_multicore", str(config), "mine:total", "--scratch", "kept", "--cpus", "1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    for told in (False, True, False):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "1_0_3\n"), done.stderr
        assert ("1 of 1 blocks were finished before" in done.stderr) == told
        if told:
            (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "# another\n")


def test_functions_that_cannot_be_identified_are_not_kept(config: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="top level of a file"):
        nd_multicore.run_parallel(config, lambda data_dict: None, scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def start(config: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run `counting` from the shell."""
    words = ["counting:count", "--block-size", "3,8,10", "--cpus", "2", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "nd_multicore", str(config), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ND_MULTICORE_TEST_S": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def committed(scratch: Path) -> dict[str, tuple[int, int]]:
    """Name the files of finished blocks, with what distinguishes a file from one that was written anew."""
    finished = {file.stem for file in scratch.glob("blocks-*/done/*.npz")}
    files = [file for file in scratch.glob("blocks-*/*/*.np?") if file.stem in finished]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on_and_runs_no_finished_block_again(
    config: Path, tmp_path: Path, counting: Any
) -> None:
    scratch = tmp_path / "scratch"
    chance = random.Random(3)
    kept: dict[str, tuple[int, int]] = {}
    for _ in range(3):
        running = start(config, tmp_path, "--scratch", str(scratch))
        deadline = time.monotonic() + 60
        while len(committed(scratch)) < len(kept) + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        running.kill()
        running.communicate(timeout=60)
        now = committed(scratch)
        assert len(now) > len(kept)
        assert kept.items() <= now.items()
        kept = now
    last = start(config, tmp_path, "--scratch", str(scratch))
    printed, errors = last.communicate(timeout=60)
    assert (last.returncode, len(printed.split())) == (0, 18), errors
    assert kept.items() <= committed(scratch).items()
    # two workers at three kills lose what they are at, and nothing else
    assert calls(tmp_path).total() <= 18 + 2 * 3
    assert len(calls(tmp_path)) == 18
    results = nd_multicore.run_parallel(config, counting.count, scratch=scratch, **COUNTED)
    assert np.array_equal(np.asarray(results.volumes["twice"]), 2 * ramp()[1:5, :, 3:30])
    blocks = nd_multicore.compute_blocks(get_boss_resource(config), (10, 8, 3))
    assert results.rows["lowest"].tolist() == [int(ramp()[block.box.start]) for block in blocks]


def hears_signals(process: subprocess.Popen[str]) -> bool:
    """Tell whether Python has begun to listen; what is sent before ends any program, by the kernel's hand."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.usefixtures("counting")
def test_signals_that_come_again_and_again_end_it_as_one_does(config: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    running = start(config, tmp_path)
    family = psutil.Process(running.pid)
    while not hears_signals(running):
        time.sleep(0.001)
    time.sleep(chance.choice([0.0, 0.2, chance.uniform(0.3, 2.0)]))
    children = family.children(recursive=True)
    began = time.monotonic()
    while running.poll() is None:
        assert time.monotonic() - began < 10
        running.send_signal(chance.choice([signal.SIGTERM, signal.SIGINT]))
        time.sleep(chance.uniform(0.01, 0.05))
    printed, errors = running.communicate(timeout=60)
    assert (running.returncode, printed) == (75, ""), errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


@pytest.mark.slow
def test_a_second_run_in_a_scratch_folder_is_refused_while_the_first_is_at_work(
    config: Path, tmp_path: Path, counting: Any
) -> None:
    """The two would remove each other's pulled blocks."""
    scratch = tmp_path / "scratch"
    running = start(config, tmp_path, "--scratch", str(scratch))
    while not committed(scratch):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGSTOP)
    with pytest.raises(UsageError, match="another run is at work in it"):
        nd_multicore.run_parallel(config, counting.count, scratch=scratch, **COUNTED)
    running.send_signal(signal.SIGCONT)
    printed, errors = running.communicate(timeout=60)
    assert (running.returncode, len(printed.split())) == (0, 18), errors
    half = next(scratch.glob("blocks-*/done")) / ".0_0_0.npz.1.part"
    half.touch()
    assert len(nd_multicore.run_parallel(config, counting.count, scratch=scratch, **COUNTED)) == 18
    assert not half.exists()
    assert calls(tmp_path).total() == 18
