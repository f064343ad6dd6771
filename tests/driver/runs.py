"""Runs of `driver.py` in this process, and what they left in the folder, in BOSS and in S3."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import driver
from nd_synapse.geometry import Box
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
SMALL = Box((0, 6), (0, 60), (0, 70))
PREDICTIONS = "nomads-unsupervised-predictions"
POINTS = [f"synapses.annotations/{name}" for name in ("info", "by_id/0.shard", "spatial0/0.shard")]
BYTES = (f"{PREDICTIONS}.pkl", f"{PREDICTIONS}.ome.tiff", "synapses.csv", *POINTS)
LOCAL = ("--no-push", "--no-plots")
LIMIT_S = 120


@dataclass(frozen=True)
class Run:
    """A command that ended."""

    code: int
    stderr: str
    path: Path

    @property
    def folder(self) -> Path:
        """The one result folder."""
        (folder,) = (entry for entry in self.path.iterdir() if entry.is_dir())
        return folder

    def manifest(self) -> dict[str, Any]:
        """Content of run.json."""
        return dict(json.loads((self.folder / "run.json").read_text()))

    def table(self) -> list[dict[str, str]]:
        """Rows of synapses.csv."""
        with (self.folder / "synapses.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def mask(self) -> NDArray[np.uint8]:
        """The mask of the OME-TIFF."""
        return tifffile.imread(self.folder / f"{PREDICTIONS}.ome.tiff")


def drive(server: BossServer, path: Path, *arguments: str, token: str | None = None) -> Run:
    """Run a command line of driver.py in this process, with the token in the environment."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("RESULTS_BUCKET", raising=False)
        patch.setenv("BOSS_TOKEN", server.token if token is None else token)
        code = driver.main(["--path", str(path), *arguments])
    assert out.getvalue() == ""
    return Run(code, err.getvalue(), path)


def where(server: BossServer, col: str, exp: str, box: Box) -> list[str]:
    """Return the options that name a volume."""
    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    return ["--host", server.url, "--col", col, "--exp", exp, *ranges]


def drive_small(server: BossServer, path: Path, *arguments: str) -> Run:
    """Run driver.py on the small volume."""
    return drive(server, path, *where(server, "small", "plain", SMALL), *arguments)


def in_boss(server: BossServer, run: Run, box: Box, out: tuple[str, str]) -> NDArray[np.uint8]:
    """Read the mask with intern, past our own code."""
    remote = server.remote()
    z, y, x = (list(ends) for ends in box.ranges)
    channel = remote.get_channel(f"{run.folder.name}_All", *out)
    return np.asarray(remote.get_cutout(channel, 0, x, y, z, parallel=False))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of the files in a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects_of(server: S3Server, bucket: str) -> dict[str, bytes]:
    """Return the content of the objects in a bucket, by key."""
    client = server.client()
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in server.keys(bucket)}
