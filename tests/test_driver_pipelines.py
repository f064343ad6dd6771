"""A pipeline chosen on the command line: listed, described, with a file, by entry point, or a plain function."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nd_synapse.cli.pipelines import main as pipelines_command
from nd_synapse.job.job import DEFAULT_OUT_COL, DEFAULT_OUT_EXP
from nd_synapse.pipeline import registry
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, fill, start_boss
from tests.in_process import main, restored
from tests.pipelines.test_example import installed

LIMIT_S = 120
SHAPE = (6, 60, 70)

FUNCTION = """
def bright(data_dict):
    '''Voxels that are bright in the first channel, and those that are in the second.'''
    first, second = (data_dict[name] for name in sorted(data_dict))
    return {"First": first > 90, "Second": (first > 90) & (second > 150)}


bright.masks = ("First", "Second")


def broken(data_dict):
    return data_dict["PSD95"][:, :2]


def clashing(data_dict):
    raise AssertionError("it is called")


clashing.masks = ("All", "mine-clashing-Predictions")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    data = tmp_path_factory.mktemp("boss")
    rng = np.random.default_rng(5)
    channels = {name: rng.poisson(12, SHAPE).astype(np.uint8) for name in ("PSD95", "SYNAPSIN")}
    for voxels in channels.values():
        voxels[2:4, 10:13, 10:13] = voxels[2:5, 40:44, 50:53] = 140
        voxels[3, 41:43, 51] = 200
    fill(data, "small", "plain", channels)
    with start_boss(data) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder with a module of functions, and an installed distribution with a pipeline."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(FUNCTION))
    return installed(tmp_path)


def drive(cwd: Path, *arguments: str, token: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("RESULTS_BUCKET", "BOSS_TOKEN")}
    environment = {**clean, "COLUMNS": "200"} | ({"BOSS_TOKEN": token} if token else {})
    environment |= {"PYTHONPATH": path} if path else {}
    line = [sys.executable, str(REPOSITORY / "driver.py"), *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S)


def volume_of(server: BossServer, cwd: Path) -> list[str]:
    where = ["--host", server.url, "--col", "small", "--exp", "plain", "--path", str(cwd / "results"), "--no-plots"]
    return [*where, "--z-range", "0,6", "--y-range", "0,60", "--x-range", "0,70"]


def run(server: BossServer, cwd: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return drive(cwd, *volume_of(server, cwd), *arguments, token=server.token, path=path)


@pytest.mark.slow
def test_every_pipeline_is_listed_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = drive(tmp_path, "--list-pipelines")
    assert listed.returncode == 0
    assert all(f"{name} " in listed.stdout for name in registry.names())
    for name in registry.names():
        assert pipelines_command([name]) == 0
        described = capsys.readouterr().out
        assert all(f"    {parameter.name} " in described for parameter in registry.parameters(name))
        assert all(f"    {role.name} " in described for role in registry.build(name, {}).roles)
    assert "strictness" in drive(tmp_path, "--pipeline", registry.DEFAULT_PIPELINE, "--help").stdout


@pytest.mark.slow
def test_a_plain_function_is_a_pipeline(server: BossServer, own: Path) -> None:
    """Two masks that differ within objects, in files, in BOSS and in the table; cut into blocks by workers."""
    done = run(server, own, "--pipeline", "mine:bright", "--block-size", "3,32,32", "--cpus", "2")
    assert done.returncode == 0, done.stderr
    (folder,) = (own / "results").iterdir()
    assert folder.name == "mine-bright_small_plain_z_0_6_y_0_60_x_0_70"
    first, second = (tifffile.imread(folder / f"{name}.ome.tiff") for name in ("mine-bright-predictions", "Second"))
    assert np.count_nonzero(first) == 2 * 9 + 3 * 12
    assert np.count_nonzero(second) == 2
    rows = (folder / "synapses.csv").read_text().splitlines()
    assert rows[0].endswith("in_Second")
    assert [row.rsplit(",", 1)[1] for row in rows[1:]] == ["False", "True"]
    remote = server.remote()
    for name, mask in {"First": first, "Second": second}.items():
        channel = remote.get_channel(f"{folder.name}_{name}", DEFAULT_OUT_COL, DEFAULT_OUT_EXP)
        held = remote.get_cutout(channel, 0, [0, 70], [0, 60], [0, 6], parallel=False)
        assert np.array_equal(held, mask)


@pytest.mark.slow
def test_a_changed_function_does_not_replace_the_mask_of_the_former(server: BossServer, own: Path) -> None:
    """Its name, and so the channel's, is the same; the memory that it may take changes no mask."""
    arguments = ["--out-exp", "changed", "--pipeline", "mine:bright"]
    assert run(server, own, *arguments).returncode == 0
    assert run(server, own, *arguments, "--param", "working_bytes=32").returncode == 0
    (own / "mine.py").write_text(textwrap.dedent(FUNCTION).replace("90", "91"))
    changed = run(server, own, *arguments)
    assert changed.returncode == 2
    assert "--overwrite" in changed.stderr
    assert run(server, own, *arguments, "--overwrite").returncode == 0


@pytest.mark.slow
def test_a_mask_in_the_same_experiment_is_no_input_of_the_next_run(server: BossServer, own: Path) -> None:
    """A function gets every image channel, and every one is measured: the same run has to see the same ones."""
    into_itself = ["--out-col", "small", "--out-exp", "plain", "--pipeline", "mine:bright"]
    left = []
    for _ in range(2):
        done = run(server, own, *into_itself)
        assert done.returncode == 0, done.stderr
        (folder,) = (own / "results").iterdir()
        said = json.loads((folder / "run.json").read_text())
        left.append(((folder / "synapses.csv").read_bytes(), said["roles"]))
    assert left[0] == left[1]
    assert set(left[1][1]) == {"PSD95", "SYNAPSIN"}


@pytest.mark.slow
def test_a_function_that_returns_another_shape_fails(server: BossServer, own: Path) -> None:
    done = run(server, own, "--pipeline", "mine:broken", "--no-push")
    assert done.returncode == 65
    assert "it has the shape (6, 2, 70)" in done.stderr


@pytest.mark.slow
def test_another_distribution_adds_a_pipeline_by_an_entry_point(server: BossServer, own: Path) -> None:
    assert "bright-spots " in drive(own, "--list-pipelines", path=str(own)).stdout
    done = run(server, own, "--pipeline", "bright-spots", "--param", "fold=3", "--no-push", path=str(own))
    assert done.returncode == 0, done.stderr
    wrong = run(server, own, "--pipeline", "bright-spots", "--param", "fold=-1", "--no-push", path=str(own))
    assert wrong.returncode == 2
    assert "the smallest value is 0" in wrong.stderr


def test_masks_of_a_class_without_markers_are_not_made(
    server: BossServer, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An excitatory run: in files, in BOSS and in run.json are the masks that the log names, and verify agrees."""
    monkeypatch.chdir(own)
    monkeypatch.setenv("BOSS_TOKEN", server.token)
    arguments = ["--out-exp", "excitatory", "--pipeline", "nomads-classifier", "--cpus", "1"]
    with restored():
        assert main("driver.py", *volume_of(server, own), *arguments) == 0
    assert "masks All, Glut; not Gaba, whose markers are missing" in capsys.readouterr().err
    (folder,) = (own / "results").iterdir()
    assert list(json.loads((folder / "run.json").read_text())["masks"]) == ["All", "Glut"]
    assert {file.name.partition(".")[0] for file in folder.glob("*.pkl")} == {"nomads-classifier-predictions", "Glut"}
    channels = server.remote().list_channels(DEFAULT_OUT_COL, "excitatory")
    assert sorted(channels) == [f"{folder.name}_All", f"{folder.name}_Glut"]
    with restored():
        assert main("nd-synapse", "verify", str(folder)) == 0


WRONG = {
    "no-such-module": (["--pipeline", "nowhere:function"], "importing nowhere ended with ModuleNotFoundError"),
    "no-such-function": (["--pipeline", "mine:nothing"], "mine has no nothing"),
    "no-function": (["--pipeline", "os:sep"], "it is str, not a function"),
    "a-class": (["--pipeline", "pathlib:Path"], "a pipeline that is a class gets its name by an entry point"),
    "masks-of-one-name": (
        ["--pipeline", "mine:clashing"],
        "two of them would be called mine-clashing-predictions",
    ),
    "roles-of-a-function": (["--pipeline", "mine:bright", "--channels", "a=PSD95"], "has no roles"),
    "parameter-file-missing": (["--param", "strictness=@absent.txt"], "no such file"),
    "parameter-file-of-noise": (["--param", "strictness=@/bin/true"], "not text|more than"),
    "role-that-is-needed": (["--channels", "presynaptic="], "the pipeline needs this channel"),
    "markers-missing": (["--pipeline", "nomads-classifier", "--channels", "synapsin="], "Glut needs two of synapsin"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_choice_is_one_sentence(
    server: BossServer,
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[list[str], str],
) -> None:
    arguments, words = case
    monkeypatch.chdir(own)
    monkeypatch.setenv("BOSS_TOKEN", server.token)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with restored():
        assert main("driver.py", *volume_of(server, own), *arguments, "--no-push") == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if "ERROR" in line]
    assert any(word in line for word in words.split("|")), line
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_parameter_may_come_from_a_file(server: BossServer, own: Path) -> None:
    (own / "fold.txt").write_text("2.5")
    done = run(server, own, "--param", "strictness=@fold.txt", "--no-push")
    assert done.returncode == 0, done.stderr
    assert '"strictness": 2.5' in next((own / "results").glob("*/run.json")).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_upload_that_hangs(tmp_path: Path, number: signal.Signals) -> None:
    """The server accepts the connection and never answers; boto3 alone would wait for minutes."""
    (tmp_path / "synapses.csv").write_text("id\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        line = [sys.executable, "driver.py", "upload", str(tmp_path), "--bucket", "results"]
        process = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                time.sleep(0.2)
                process.send_signal(number)
                _, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 75, log
    assert "the same command goes on" in log.lower()
