"""A run needs nothing that Linux alone has: the same bytes without /proc, control groups and calls of Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from tests.conftest import REPOSITORY
from tests.fixtures_boss import blobs

LACKING = """
import ctypes, os, signal

for module, names in (
    (os, ("O_DIRECT", "O_PATH", "O_TMPFILE", "copy_file_range", "eventfd", "memfd_create", "pidfd_open",
          "posix_fadvise", "posix_fallocate", "sched_getaffinity", "splice")),
    (signal, ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo")),
):
    for name in names:
        vars(module).pop(name, None)


class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("malloc_trim", "prctl"):
            raise AttributeError(name)
        return super().__getattr__(name)


ctypes.CDLL = Library
"""
"""What each process of the run imports at its start."""
HIDDEN = 'mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec "$@"'


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="hides /proc with unshare and mount, as root"
)
def test_a_run_gives_the_same_bytes_without_what_linux_alone_has(tmp_path: Path) -> None:
    for name, voxels in blobs((12, 120, 140), 0, 60).items():
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", voxels)
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    run = [sys.executable, "-m", "nd_synapse", "run", "--source", "images", "--voxel-size-nm", "70,100,100"]
    run += ["--no-plots", "--block-size", "12,64,64", "--cpus", "2", "--path"]
    paths = {"linux": str(REPOSITORY), "posix": os.pathsep.join((str(tmp_path), str(REPOSITORY)))}
    for name, path in paths.items():
        line = [*run, name] if name == "linux" else ["unshare", "--mount", "sh", "-c", HIDDEN, "sh", *run, name]
        done = subprocess.run(
            line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    tables = [file.read_bytes() for name in paths for file in (tmp_path / name).glob("*/synapses.csv")]
    assert len(tables) == 2
    assert tables[0] == tables[1]
    assert tables[0].count(b"\n") > 10
