"""Modules of a user in the working folder are not taken for ours, nor ours for theirs, by any command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, fill, start_boss

LIMIT_S = 120
"""Against hangs."""

DOORS_OF_OURS = "driver nd_boss nd_multicore NeuroDataResource pymeda_driver nd_synapse"
ONES_OWN = {*DOORS_OF_OURS.split(), "__init__", "__main__"}
"""`python -m nd_multicore` takes a file of that name in the working folder, as Python does."""

OLD = {"box", "shell", "wording", "job", "source", "volume", "results", "forecast", "steps", "s3", "pymeda"}
NAMES = sorted(
    {file.stem for folder in ("nd_synapse", "batch", "pipelines") for file in (REPOSITORY / folder).rglob("*.py")}
    | {folder.name for folder in (REPOSITORY / "nd_synapse").iterdir() if folder.is_dir()}
    | OLD
    | {"batch", "pipelines"}
)

OF_A_USER = """
import os
with open(os.environ["IMPORTED"], "a") as log:
    log.write(f"{__name__}\\n")
MINE = True
"""

FUNCTION = """
import box, errors, logs

def spots(channels):
    assert box.MINE and errors.MINE and logs.MINE
    return (next(iter(channels.values())) > 100).astype("uint8") * 255

def count(channels):
    assert box.MINE and errors.MINE and logs.MINE
    return {"channels": [len(channels)]}
"""

DOORS = {
    "nd-synapse": [str(Path(sys.executable).parent / "nd-synapse")],
    "python -m nd_synapse": [sys.executable, "-m", "nd_synapse"],
    "python driver.py": [sys.executable, str(REPOSITORY / "driver.py")],
    "python -m nd_multicore": [sys.executable, "-m", "nd_multicore"],
    "python -m pymeda_driver": [sys.executable, "-m", "pymeda_driver"],
}
ALL_COMMANDS = """
from nd_synapse.console import startup
startup.begin()
from nd_synapse.console import commands
words = "run verify upload evaluate report multicore pipelines batch_plan boss_ingest demo"
for command in words.split():
    try:
        commands.run([*command.split("_"), "--help"])
    except SystemExit as end:
        assert not end.code
"""
"""As ``python -c``, which puts the working folder first as ``python -m`` does."""

DOORS["every command"] = [sys.executable, "-c", ALL_COMMANDS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a module of every name of ours."""
    for name in NAMES:
        if name not in ONES_OWN:
            (tmp_path / f"{name}.py").write_text(OF_A_USER)
    (tmp_path / "mine.py").write_text(FUNCTION)
    return tmp_path


@pytest.fixture(scope="module")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with a small volume."""
    data = tmp_path_factory.mktemp("boss")
    fill(data, "c", "e", {"PSD95": np.random.default_rng(0).integers(0, 255, (4, 32, 32), np.uint8)})
    with start_boss(data) as server:
        yield server


def run(folder: Path, door: str, *words: str, token: str = "") -> tuple[str, set[str]]:
    """Run a command in the folder; return what it prints, and which of the user's modules it imported."""
    environ = {**os.environ, "IMPORTED": str(folder / "imported.txt")}
    environ.pop("PYTHONPATH", None)
    if door != "nd-synapse":
        environ["PYTHONPATH"] = str(REPOSITORY)  # the package need not be installed
    if token:
        environ["BOSS_TOKEN"] = token
    done = subprocess.run(
        [*DOORS[door], *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    log = folder / "imported.txt"
    return done.stdout, set(log.read_text().split()) if log.exists() else set()


@pytest.mark.parametrize(
    "words",
    [
        ["every command"],
        ["nd-synapse", "pipelines"],
        ["python -m nd_synapse", "pipelines"],
        ["python driver.py", "--list-pipelines"],
        ["python -m nd_multicore", "--help"],
        ["python -m pymeda_driver", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_imports_nothing_from_the_working_folder(folder: Path, words: list[str]) -> None:
    output, imported = run(folder, *words)
    assert output
    assert imported == set()


@pytest.mark.slow
@pytest.mark.parametrize("door", ["nd-synapse", "python driver.py"])
def test_a_pipeline_of_the_working_folder_imports_its_own_modules_in_workers_too(
    folder: Path, boss: BossServer, door: str
) -> None:
    place = ["--col", "c", "--exp", "e", "--z-range", "0:4", "--y-range", "0:32", "--x-range", "0:32"]
    words = [
        "--host",
        boss.url,
        *place,
        "--pipeline",
        "mine:spots",
        "--no-push",
        "--no-plots",
        "--cpus",
        "2",
        "--block-size",
        "4,16,16",
    ]
    _, imported = run(folder, door, *(["run"] if door == "nd-synapse" else []), *words, token=boss.token)
    assert imported == {"box", "errors", "logs"}
    assert list(folder.glob("results/*/run.json"))


@pytest.mark.slow
def test_a_function_of_the_working_folder_imports_its_own_modules_in_workers_too(
    folder: Path, boss: BossServer
) -> None:
    (folder / "neurodata.cfg").write_text(
        f"[Default]\nhost = {boss.url}\n[shared]\ncollection = c\nexperiment = e\n"
        "[Parallel]\nx_range = 0,32\ny_range = 0,32\nz_range = 0,4\n"
    )
    words = ["neurodata.cfg", "mine:count", "--cpus", "2", "--block-size", "4,16,32"]
    output, imported = run(folder, "python -m nd_multicore", *words, token=boss.token)
    assert output == "0_0_0\n0_16_0\n"
    assert imported == {"box", "errors", "logs"}
