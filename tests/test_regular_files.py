"""What somebody names is opened only if it is a file: a pipe would be waited for, a device may have no end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nd_synapse.paths import refuse_special
from tests.conftest import REPOSITORY

JOB = ["driver.py", "--host", "h", "--col", "c", "--exp", "e"]
JOB += ["--z-range", "0,1", "--y-range", "0,1", "--x-range", "0,1"]
BOSS = ["-m", "nd_synapse", "boss"]
EVALUATE = ["-m", "nd_synapse", "evaluate"]
COMMANDS = [
    (["-m", "pymeda_driver", "PIPE", "--out", "out"], 74),
    ([*EVALUATE, "--detections", "PIPE", "--truth", "t.csv"], 74),
    ([*EVALUATE, "--detections", "t.csv", "--truth", "PIPE", "--voxel-size-nm", "70,100,100"], 74),
    ([*EVALUATE, "--synaptograms", "PIPE"], 74),
    ([*JOB, "--token", "public", "--param", "strictness=@PIPE"], 2),
    (
        [*BOSS, "ingest", "--data", "d", "--col", "a", "--exp", "b", "--chan", "c", "--voxel-size-nm", "1,1,1", "PIPE"],
        74,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(("words", "code"), COMMANDS, ids=lambda value: str(value)[:60])
def test_no_command_waits_for_a_pipe_or_reads_a_device_to_its_end(
    tmp_path: Path, words: list[str], code: int, kind: str
) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "pipe.csv"
    if kind == "pipe":
        os.mkfifo(path)
    (tmp_path / "t.csv").write_text("z_um,y_um,x_um\n1,2,3\n")
    line = [word.replace("PIPE", str(path)) for word in words]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / line[0]) if line[0] == "driver.py" else line[0], *line[1:]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "pipe or a device, and no file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_a_folder_and_a_link_to_them_are_let_pass(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path, tmp_path / "file", tmp_path / "link"):
        refuse_special(path)
    with pytest.raises(FileNotFoundError):
        refuse_special(tmp_path / "nowhere")
