"""Any function on every block of a BOSS volume, with the historical names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nd_multicore
from block_pool import default_cpus
from errors import DataError, UsageError
from local_boss.boss import Boss
from local_boss.ingest import ingest
from local_boss.stacks import stack_of_array
from NeuroDataResource import get_boss_resource
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer

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
    boss = Boss(boss_server.data)
    for name, voxels in {"ramp": ramp(), "twice": 2 * ramp()}.items():
        ingest(boss, "multicore", "ramps", name, stack_of_array(voxels, name), (50.0, 4.0, 4.0))
    boss.close()
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
    assert blocks[1].data is None
    assert filled.data is not None
    assert np.array_equal(filled.data["ramp"], ramp()[3:5, :, 3:30])
    assert nd_multicore.job(blocks[0], resource, lambda _: None) == "1_0_3"


def test_a_function_that_raises_is_named_with_its_block(config: Path) -> None:
    resource = get_boss_resource(config)
    block = nd_multicore.Block((1, 5), (0, 20), (3, 30))
    with pytest.raises(DataError, match=r"break_down on block z 1:5 .*RuntimeError: no such synapse") as failure:
        nd_multicore.job(block, resource, break_down)
    assert isinstance(failure.value.__cause__, RuntimeError)


def test_wrong_blocks_are_refused(config: Path) -> None:
    resource = get_boss_resource(config)
    with pytest.raises(UsageError, match="three whole numbers"):
        nd_multicore.compute_blocks(resource, (10, 10))
    with pytest.raises(UsageError, match="three whole numbers"):
        nd_multicore.compute_blocks(resource, (10, 0, 10))
    with pytest.raises(UsageError, match="--cpus"):
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


def test_from_the_shell_the_keys_are_printed(config: Path, tmp_path: Path) -> None:
    done = shell(str(config), "tests.test_nd_multicore:save", "--block-size", "5,20,30", "--cpus", "1", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1_0_3\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [("nowhere:save", "nowhere"), ("tests.test_nd_multicore:nothing", "nothing"), ("save", "package.module:function")],
)
def test_from_the_shell_a_wrong_function_is_one_sentence(
    config: Path, tmp_path: Path, function: str, words: str
) -> None:
    done = shell(str(config), function, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_there_is_at_least_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The historical pool had none on a machine of one core."""
    for cores, workers in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_cpus() == workers


def smooth(data_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sum over three slices, with a halo of one slice; and one row a block."""
    ramp_ = data_dict["ramp"].astype(np.int64)
    summed = ramp_[:-2] + ramp_[1:-1] + ramp_[2:]
    return {"summed": summed, "whole": ramp_, "lowest": np.array([ramp_[1:-1].min()])}


smooth.halo = (1, 0, 0)  # type: ignore[attr-defined]


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


def fail_at_the_second(data_dict: dict[str, NDArray[Any]]) -> NDArray[Any]:
    block = data_dict["ramp"]
    if block.min() == int(ramp()[3, 0, 3]):
        raise ValueError("the second block")
    return block


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
