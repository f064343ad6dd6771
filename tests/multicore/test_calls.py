"""A function runs once on every block, with the historical names, and what cannot run is refused."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nd_multicore
from nd_synapse.blocks.grid import blocks_of
from nd_synapse.errors import RangeError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.multicore.memory import Load
from NeuroDataResource import get_boss_resource
from tests.conftest import REPOSITORY
from tests.in_process import main, restored
from tests.multicore.ramps import SHAPE, ramp, save


def break_down(data_dict: dict[str, NDArray[Any]]) -> None:
    raise RuntimeError(f"no such synapse{'' if data_dict else ' and no data'}")


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
            nd_multicore.run_parallel(config, save, halo=halo)  # type: ignore[arg-type] # it is wrong
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
        "tests.multicore.ramps:save",
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
        ("tests.multicore.ramps:nothing", "nothing"),
        ("save", "package.module:function"),
        ("tests.multicore.ramps:SHAPE", "it is tuple, not a function"),
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
    assert command(str(config), "tests.multicore.ramps:save", "--block-size", size) == 2
    error = capfd.readouterr().err
    assert "--block-size" in error
    assert error.endswith("is not three whole numbers from 1 upwards. Give Z,Y,X, such as 32,512,512.\n")


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


@pytest.mark.slow
def test_blocks_that_do_not_fit_the_memory_are_refused_with_a_size_that_does(config: Path, tmp_path: Path) -> None:
    words = ["tests.multicore.ramps:save", "--block-size", "5,20,30", "--cpus", "1"]
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


@pytest.mark.slow
def test_from_the_shell_a_function_that_workers_cannot_load_is_reported_with_its_traceback(
    config: Path, tmp_path: Path
) -> None:
    done = shell(str(config), "tests.multicore.ramps:unloadable", "--cpus", "1", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("Traceback") == 1
    assert "loading the function in a worker process: ValueError: invalid literal" in done.stderr.splitlines()[-1]
