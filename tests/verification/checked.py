"""Folders of runs, checked again, and changed as somebody could have changed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import driver
from nd_synapse.credentials import Token
from nd_synapse.geometry import Box
from nd_synapse.job.verify import Check, Request, verify
from tests.fixtures_boss import BossServer

SHAPE = (20, 300, 330)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
BOX = Box((1, 19), (5, 290), (0, 330))
STEM = "nomads-unsupervised-predictions"
OWN = "tests.pipelines.variants:bright"


def run_job(boss: BossServer, path: Path, experiment: str, *ranges: tuple[int, int], **options: Any) -> Path:
    """Do a job and return its folder."""
    options = {"cpus": 1, "plots": False, **options}
    z, y, x = ranges
    info, _, _ = driver.driver(boss.url, boss.token, "small", experiment, z, y, x, path, **options)
    return Path(info["folder"])


def checks(folder: Path, server: BossServer | None = None, **options: object) -> dict[str, Check]:
    """Verify a folder; without a server, the folder alone."""
    token = None if server is None else Token(server.token)
    request = Request(folder=folder, token=token, remote=server is not None, **options)  # type: ignore[arg-type] # options of any kind
    return {check.name: check for check in verify(request)}


def rewritten(folder: Path, requested: dict[str, object] | None = None, **changes: object) -> None:
    """Change fields of run.json, and of the request in it."""
    content = json.loads((folder / "run.json").read_text())
    content["asked"] |= requested or {}
    (folder / "run.json").write_text(json.dumps({**content, **changes}))


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Run ``driver.py verify``; return its exit code and its lines."""
    code = driver.main(["verify", *words, "--quiet"])
    return code, capsys.readouterr().out.splitlines()
