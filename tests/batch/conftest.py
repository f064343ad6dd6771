"""Commands of `nd-synapse batch` in this process, with a small volume and an account of AWS."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from batch.command import main
from nd_synapse import logs
from tests.batch.fixtures import account, aws, volume
from tests.batch.submitted import Place, Said
from tests.fixtures_boss import BossServer
from tests.fixtures_s3 import S3Server

__all__ = ["account", "aws", "volume"]

_numbers = itertools.count(1)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Said]]:
    """Run a command in this process, and give signals and logs back as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.delenv("RESULTS_BUCKET", raising=False)

    def run(*words: str) -> Said:
        capsys.readouterr()
        # a command takes the token out of the environment
        with mock.patch.dict(os.environ):
            code = main(words)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield run
    logs.apply(None)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def requested(volume: BossServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of driver.py for the small volume, its token in the environment."""
    monkeypatch.setenv("BOSS_TOKEN", volume.token)
    ranges = ["--z-range", "0,8", "--y-range", "0,60", "--x-range", "0,70"]
    return ["--host", volume.url, "--col", "lab", "--exp", "slice", *ranges, "--block-size", "8,32,32", "--no-push"]


@pytest.fixture
def place(aws: S3Server) -> Place:
    return Place(f"run-{next(_numbers)}", aws)
