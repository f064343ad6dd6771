"""Any function on every block of a BOSS volume, with the historical names."""

from __future__ import annotations

import importlib
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nd_multicore
from nd_synapse.blocks.grid import blocks_of
from nd_synapse.errors import DataError, RangeError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.multicore.memory import Load
from nd_synapse.multicore.results import _common_dtype
from nd_synapse.multicore.run import _declared, _working_bytes
from NeuroDataResource import get_boss_resource
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, fill
from tests.in_process import main, restored

SHAPE = (5, 20, 30)


def save(data_dict: dict[str, NDArray[Any]]) -> None:
    """Save a block under a name that its voxels give: what a user's function would do."""
    block = data_dict["ramp"]
    folder = Path(os.environ["ND_MULTICORE_TEST_FOLDER"])
    np.save(folder / f"{int(block.min())}.npy", np.stack([data_dict["ramp"], data_dict["twice"]]))


def break_down(data_dict: dict[str, NDArray[Any]]) -> None:
    raise RuntimeError(f"no such synapse{'' if data_dict else ' and no data'}")


def ramp() -> NDArray[np.uint16]:
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


@pytest.fixture(scope="module")
def config(boss_server: BossServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fill(boss_server.data, "multicore", "ramps", {"ramp": ramp(), "twice": 2 * ramp()})
    path = tmp_path_factory.mktemp("config") / "neurodata.cfg"
    path.write_text(
        f"[Default]\ntoken = {boss_server.token}\nhost = {boss_server.url}\n"
        "[shared]\ncollection = multicore\nexperiment = ramps\n"
        "[Parallel]\nchannels = ramp,twice\nx_range = 3,30\ny_range = 0,20\nz_range = 1,5\nresolution = 0\n"
    )
    return path


@pytest.mark.parametrize("cpus", [1, 2, None])
def test_a_function_runs_once_on_every_block(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int | None
) -> None:
    monkeypatch.setenv("ND_MULTICORE_TEST_FOLDER", str(tmp_path))
    keys = nd_multicore.run_parallel(config, save, cpus, block_size=(10, 8, 3))
    assert keys == [f"{z}_{y}_{x}" for z in (1, 3) for y in (0, 8, 16) for x in (3, 10, 20)]
    seen = np.zeros(SHAPE, np.int64)
    for path in tmp_path.iterdir():
        block, twice = np.load(path)
        assert np.array_equal(twice, 2 * block)
        seen.ravel()[block.ravel()] += 1
    expected = np.zeros(SHAPE, np.int64)
    expected[1:5, :, 3:30] = 1
    assert np.array_equal(seen, expected)


def test_companions_have_the_historical_names_and_results(config: Path) -> None:
    resource = get_boss_resource(config)
    blocks = nd_multicore.compute_blocks(resource, (30, 20, 3))
    assert [(b.z_start, b.z_end, b.y_start, b.y_end, b.x_start, b.x_end) for b in blocks] == [
        (1, 3, 0, 20, 3, 30),
        (3, 5, 0, 20, 3, 30),
    ]
    filled = nd_multicore.get_data(resource, blocks[1])
    assert filled is blocks[1]
    assert filled.data is not None
    assert np.array_equal(filled.data["ramp"], ramp()[3:5, :, 3:30])
    assert nd_multicore.job(blocks[0], resource, lambda _: None) == "1_0_3"
    assert nd_multicore.job(blocks[0], resource) == "1_0_3"


def test_a_function_that_raises_is_logged_with_its_block_and_gives_none(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = get_boss_resource(config)
    block = nd_multicore.Block((1, 5), (0, 20), (3, 30))
    assert nd_multicore.job(block, resource, break_down) is None
    assert "break_down on block z 1:5" in caplog.text
    assert "RuntimeError: no such synapse" in caplog.text


def test_data_that_cannot_be_pulled_are_an_error_of_a_job(config: Path) -> None:
    with pytest.raises(RangeError):
        nd_multicore.job(nd_multicore.Block((1, 500), (0, 20), (3, 30)), get_boss_resource(config))


def test_wrong_blocks_are_refused(config: Path) -> None:
    resource = get_boss_resource(config)
    wrong: list[Any] = [(10, 10), (10, 0, 10), (10, 1.7, 10), "123", (10, math.inf, 10), 10, None]
    for size in wrong:
        with pytest.raises(UsageError, match=r"three whole numbers from 1 upwards. Give x, y, z"):
            nd_multicore.compute_blocks(resource, size)
    with pytest.raises(UsageError, match=r"a run has 1,000,000 at most. Give --block-size \d+,\d+,\d+"):
        blocks_of(Box.of_shape((1, 1, 99_999_999)), (1, 1, 1))
    for halo in [(1, 1), (0, -1, 0), (1.7, 0, 0), "123", (0, math.inf, 0), 1]:
        with pytest.raises(UsageError, match=r"halo .* three whole numbers from 0 upwards. Give z, y, x"):
            nd_multicore.run_parallel(config, save, halo=halo)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^cpus: 0"):
        nd_multicore.run_parallel(config, save, 0)


def shell(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nd_multicore", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ND_MULTICORE_TEST_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def command(*words: str) -> int:
    """Run the command in this process."""
    with restored():
        return main("nd_multicore", *words)


@pytest.mark.slow
def test_from_the_shell_the_keys_are_printed(config: Path, tmp_path: Path) -> None:
    done = shell(
        str(config),
        "tests.test_nd_multicore:save",
        "--block-size",
        "5,20,30",
        "--cpus",
        "1",
        "--verbose",
        folder=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "1_0_3\n")
    assert len(list(tmp_path.iterdir())) == 1
    line = r"DEBUG block z 1:5 y 0:20 x 3:30 pull_s=\d+\.\d{3} compute_s=\d+\.\d{3} write_s=\d+\.\d{3} peak_mib=\d+$"
    assert len(re.findall(line, done.stderr, re.MULTILINE)) == 1
    assert "blocks: 1 of 1 blocks" in done.stderr


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nowhere:save", "nowhere"),
        ("tests.test_nd_multicore:nothing", "nothing"),
        ("save", "package.module:function"),
        ("tests.test_nd_multicore:SHAPE", "it is tuple, not a function"),
        ("slip:save", "importing slip ended with SyntaxError: "),
        ("part:save", "importing part ended with ZeroDivisionError: division by zero"),
        ("quit:save", "importing quit ended with SystemExit: 0"),
    ],
)
def test_a_wrong_function_is_one_sentence(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    function: str,
    words: str,
) -> None:
    for name, text in {"slip": "def save(", "part": "1 / 0", "quit": "raise SystemExit(0)"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert command(str(config), function) == 2
    error = capfd.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("size", ["1,1", "0,1,1", "1,1,1.5", "a"])
def test_a_wrong_block_size_is_refused(config: Path, capfd: pytest.CaptureFixture[str], size: str) -> None:
    assert command(str(config), "tests.test_nd_multicore:save", "--block-size", size) == 2
    error = capfd.readouterr().err
    assert "--block-size" in error
    assert error.endswith("is not three whole numbers from 1 upwards. Give Z,Y,X, such as 32,512,512.\n")


def smooth(data_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sum over three slices, with a halo of one slice; and one row a block."""
    ramp_ = data_dict["ramp"].astype(np.int64)
    summed = ramp_[:-2] + ramp_[1:-1] + ramp_[2:]
    return {"summed": summed, "whole": ramp_, "lowest": np.array([ramp_[1:-1].min()])}


smooth.halo = (1, 0, 0)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(30, 20, 5), (7, 8, 1), (10, 20, 2)])
def test_arrays_are_assembled_and_rows_concatenated(config: Path, size: tuple[int, int, int]) -> None:
    """With a declared halo the blocks do not show; beyond the box the volume is mirrored."""
    results = nd_multicore.run_parallel(config, smooth, 2, block_size=size, pulls=3)
    inside = ramp()[1:5, :, 3:30].astype(np.int64)
    padded = np.pad(inside, ((1, 1), (0, 0), (0, 0)), mode="symmetric")
    assert np.array_equal(np.asarray(results.volumes["summed"]), padded[:-2] + padded[1:-1] + padded[2:])
    assert np.array_equal(np.asarray(results.volumes["whole"]), inside)
    blocks = nd_multicore.compute_blocks(get_boss_resource(config), size)
    assert results.rows["lowest"].tolist() == [int(ramp()[block.box.start]) for block in blocks]
    assert not results.failed


def smooth_more(data_dict: dict[str, NDArray[Any]], times: int) -> dict[str, NDArray[Any]]:
    return {"summed": times * smooth(data_dict)["summed"]}


smooth_more.halo = (1, 0, 0)  # type: ignore[attr-defined]
smooth_more.working_bytes = 40  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_partial_function_declares_what_its_function_does(config: Path) -> None:
    twice = partial(partial(smooth_more), times=2)
    assert _working_bytes(twice) == 40
    plain = nd_multicore.run_parallel(config, smooth, 1, (30, 20, 2)).volumes["summed"]
    assert np.array_equal(
        np.asarray(nd_multicore.run_parallel(config, twice, 1, (30, 20, 2)).volumes["summed"]), 2 * np.asarray(plain)
    )
    twice.halo = (0, 2, 0)  # type: ignore[attr-defined]
    assert _declared(twice, "halo", None) == (0, 2, 0)


def fail_at_the_second(data_dict: dict[str, NDArray[Any]]) -> NDArray[Any]:
    block = data_dict["ramp"]
    if block.min() == int(ramp()[3, 0, 3]):
        raise ValueError("the second block")
    return block


@pytest.mark.slow
def test_a_block_that_fails_is_in_the_results_with_its_traceback(config: Path) -> None:
    results = nd_multicore.run_parallel(config, fail_at_the_second, 1, block_size=(30, 20, 3))
    assert results == ["1_0_3"]
    assert results.failed.keys() == {"3_0_3"}
    assert "ValueError: the second block" in results.failed["3_0_3"].traceback
    assembled = np.asarray(results.volumes["result"])
    assert np.array_equal(assembled[:2], ramp()[1:3, :, 3:30])
    assert not assembled[2:].any()


def test_a_script_without_a_guard_and_its_own_functions_work(config: Path, tmp_path: Path) -> None:
    """The historical way to use it; workers do not run the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "import nd_multicore\n"
        "print('started')\n"
        "def total(data_dict):\n"
        "    return {'total': [int(data_dict['ramp'].sum())]}\n"
        f"print(nd_multicore.run_parallel({str(config)!r}, total, 2, (10, 20, 3)).rows['total'].sum())\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"started\n{ramp()[1:5, :, 3:30].sum()}\n"


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
def test_blocks_that_do_not_fit_the_memory_are_refused_with_a_size_that_does(config: Path, tmp_path: Path) -> None:
    words = ["tests.test_nd_multicore:save", "--block-size", "5,20,30", "--cpus", "1"]
    refused = shell(str(config), *words, "--memory", "0.01", folder=tmp_path)
    assert refused.returncode == 2
    assert "fewer --cpus or --pulls, or more --memory" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert shell(str(config), *words, "--memory", "none", folder=tmp_path).returncode == 2
    assert shell(str(config), *words, "--memory", "0.5", folder=tmp_path).returncode == 0


@pytest.mark.slow
@given(
    size=st.tuples(*[st.integers(1, 2000)] * 3),
    halo=st.tuples(*[st.integers(0, 20)] * 3),
    itemsizes=st.lists(st.sampled_from([1, 2, 8]), min_size=1, max_size=4),
    cpus=st.integers(1, 64),
    pulls=st.integers(1, 32),
    limit_mib=st.integers(100, 50_000),
)
@settings(max_examples=200, deadline=None)
def test_for_any_limit_the_size_that_is_named_fits(
    size: tuple[int, int, int],
    halo: tuple[int, int, int],
    itemsizes: list[int],
    cpus: int,
    pulls: int,
    limit_mib: int,
) -> None:
    load = Load(Box.of_shape((500, 3000, 3000)), halo, itemsizes, 16, cpus, pulls)
    try:
        load.check(size, limit_mib * 2**20)
    except UsageError as refusal:
        if refusal.remedy.startswith("Give --block-size"):
            named = tuple(map(int, refusal.remedy.split()[-1].split(",")))
            assert len(named) == 3
            assert named != size
            load.check(named, limit_mib * 2**20)
        else:
            with pytest.raises(UsageError):
                load.check((1, 1, 1), limit_mib * 2**20)


class Unloadable:
    """What can be pickled here, and cannot be loaded in a worker."""

    def __call__(self, data_dict: dict[str, NDArray[Any]]) -> None: ...

    def __reduce__(self) -> Any:
        return int, ("no number",)


unloadable = Unloadable()


@pytest.mark.slow
def test_from_the_shell_a_function_that_workers_cannot_load_is_reported_with_its_traceback(
    config: Path, tmp_path: Path
) -> None:
    done = shell(str(config), "tests.test_nd_multicore:unloadable", "--cpus", "1", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("Traceback") == 1
    assert "loading the function in a worker process: ValueError: invalid literal" in done.stderr.splitlines()[-1]


def objects_come(data_dict: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return np.full(data_dict["ramp"].shape, None)


@pytest.mark.slow
def test_an_array_of_objects_is_a_failure_of_its_block(config: Path) -> None:
    results = nd_multicore.run_parallel(config, objects_come, 1, (30, 20, 5))
    assert "holds objects" in results.failed["1_0_3"].reason


def types_by_block(data_dict: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return small numbers in a small type where there are no others; and no rows from the second block."""
    block = data_dict["ramp"]
    first = block.min() < int(ramp()[3, 0, 0])
    return {
        "voxels": np.full(block.shape, 200, np.uint8) if first else block,
        "rows": np.array([2**60 + 1]) if first else [],
    }


@pytest.mark.slow
def test_blocks_of_several_types_are_assembled_in_one_that_holds_them_all(config: Path) -> None:
    """The type of the first block used to cut the numbers of the others short."""
    results = nd_multicore.run_parallel(config, types_by_block, 1, (30, 20, 3))
    voxels = results.volumes["voxels"]
    assert voxels.dtype == np.uint16
    assert np.array_equal(voxels[2:4, 0:20, 0:27], ramp()[3:5, :, 3:30])
    assert (voxels[0:2, 0:20, 0:27] == 200).all()
    assert results.rows["rows"].tolist() == [2**60 + 1]
    assert results.rows["rows"].dtype == np.int64


@pytest.mark.parametrize(
    "types", [("int64", "uint64"), ("int64", "float32"), ("U3", "int8"), ("datetime64[s]", "float64")]
)
def test_types_that_none_can_hold_are_refused(types: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"'size' of all blocks: blocks returned .*, and no type holds them all"):
        _common_dtype("size", set(map(np.dtype, types)))


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
