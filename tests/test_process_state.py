"""What a library call changes of its process it puts back, whether it succeeds, fails, or runs beside another."""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped] # it has no types

import driver
import nd_boss
import nd_multicore
import NeuroDataResource
import pymeda_driver
from nd_synapse.errors import NDSynapseError
from nd_synapse.job.deliverables import GROWING
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.rude import broken, rude

SHAPE = (4, 40, 40)
RANGES = ((0, 4), (0, 40), (0, 40))

_LOGGERS = ("", "botocore", "urllib3", "matplotlib", "nd_synapse", "asyncio")
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)


def state() -> dict[str, Any]:
    """Return what a process has one of, as far as a library might change it."""
    return {
        "handlers": [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers],
        "levels": [logging.getLogger(name).level for name in _LOGGERS],
        "disabled": logging.root.manager.disable,
        "environment": dict(os.environ),
        "words": list(sys.argv),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
        "working directory": Path.cwd(),
        "temporary folder": tempfile.gettempdir(),
        "umask": umask(),
        "signals": [signal.getsignal(number) for number in _NUMBERS],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "warnings": list(warnings.filters),
        "random": (random.getstate(), str(np.random.get_state())),  # noqa: NPY002 - whether it changes
        "errors of NumPy": np.geterr(),
        "printing of NumPy": np.get_printoptions(),
        "matplotlib": dict(mpl.rcParams),
        "threads of libraries": sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info()),
        "locale": locale.setlocale(locale.LC_ALL),
        "time limit of sockets": socket.getdefaulttimeout(),
        "threads": {thread.name for thread in threading.enumerate() if not thread.name.startswith("Thread-")},
        "children": {child.pid for child in psutil.Process().children()},
    }


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def differences(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not as it was."""
    return {name: (before[name], value) for name, value in state().items() if value != before[name]}


@pytest.fixture(scope="module")
def boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with two markers."""
    data = tmp_path_factory.mktemp("boss")
    fill(data, "small", "plain", blobs(SHAPE, 3, 12))
    with start_boss(data) as server:
        yield server


def run_driver(boss: BossServer, path: Path, exp: str = "plain", **options: Any) -> Any:
    options = {"push": False, "plots": False, "cpus": 1} | options
    return driver.driver(boss.url, boss.token, "small", exp, *RANGES, path=str(path), **options)


def run_on_blocks(boss: BossServer, path: Path, function: Callable[[Any], Any]) -> Any:
    (path / "neurodata.cfg").write_text(
        f"[Default]\ntoken = {boss.token}\nhost = {boss.url}\n[shared]\ncollection = small\nexperiment = plain\n"
        f"[Parallel]\nx_range = 0,{SHAPE[2]}\ny_range = 0,{SHAPE[1]}\nz_range = 0,{SHAPE[0]}\n"
    )
    return nd_multicore.run_parallel(path / "neurodata.cfg", function, 1)


def push(boss: BossServer, path: Path, **options: Any) -> Any:
    mask = np.zeros(SHAPE, np.uint8)
    return nd_boss.boss_push(
        *(options.get("token", boss.token), "small", "plain", *RANGES, {"All": mask}, f"key_{path.name}"), host=boss.url
    )


def a_report(_: BossServer, path: Path) -> Any:
    channels = blobs(SHAPE, 3, 12)
    mask = (channels["PSD95"] > 100).astype(np.uint8)
    return pymeda_driver.pymeda_pipeline(mask, channels, "state", path)


Call = Callable[[BossServer, Path], Any]

CALLS: dict[str, Call] = {
    "a job that fails": lambda boss, path: run_driver(boss, path, exp="nowhere"),
    "a job whose folder is a file": lambda boss, path: run_driver(boss, path / "file"),
    "pulling": lambda boss, _: driver.get_data(boss.url, boss.token, "small", "plain", *RANGES),
    "arrays": lambda _boss, _path: driver.run_nomads(blobs(SHAPE, 3, 12), voxel_size_nm=(70, 100, 100)),
    "arrays that fail": lambda _boss, _path: driver.load_and_preproc({"a": np.zeros(SHAPE)}),
    "a function on blocks": lambda boss, path: run_on_blocks(boss, path, rude),
    "a push": push,
    "a push that fails": lambda boss, path: push(boss, path, token="0" * 40),
    "an upload that fails": lambda _, path: driver.upload_results(path, "key"),
    "a resource that fails": lambda _, path: NeuroDataResource.get_boss_resource(path / "none.cfg"),
}

SLOW: dict[str, Call] = {
    "a job": run_driver,
    "a job whose blocks fail": lambda boss, path: run_driver(boss, path, pipeline="tests.rude:broken"),
    "a function whose blocks end": lambda boss, path: run_on_blocks(boss, path, broken),
    "a job with its report": lambda boss, path: run_driver(boss, path, plots=True),
    "a report": a_report,
}


def called(call: Call, boss: BossServer, path: Path) -> str:
    """Make a call; return what came of it."""
    path.mkdir()
    (path / "file").touch()
    try:
        call(boss, path)
    except NDSynapseError as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize(
    "call",
    [*CALLS.values(), *(pytest.param(call, marks=pytest.mark.slow) for call in SLOW.values())],
    ids=[*CALLS, *SLOW],
)
def test_a_call_leaves_its_process_as_it_was(
    boss: BossServer, tmp_path: Path, call: Call, request: pytest.FixtureRequest
) -> None:
    # what a library sets when it is first imported is not ours
    first = called(call, boss, tmp_path / "first")
    before = state()
    assert called(call, boss, tmp_path / "second") == first
    assert differences(before) == {}
    assert (first == "done") == ("fail" not in request.node.name and "file" not in request.node.name)


def beside(calls: Mapping[str, Callable[[Path], Any]], folder: Path) -> None:
    """Make calls at the same time."""
    with ThreadPoolExecutor(len(calls), thread_name_prefix="Thread-") as threads:
        list(threads.map(lambda name: calls[name](folder / name), calls))


@pytest.mark.parametrize("plots", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "plots"])
def test_jobs_in_threads_leave_the_process_as_it_was_and_log_each_to_its_own_file(
    boss: BossServer, tmp_path: Path, plots: bool
) -> None:
    """Handlers, thread limits and hidden tokens of one were those of the other when it ended."""
    made = {
        name: (lambda path, name=name: run_driver(boss, path, pipeline=f"tests.rude:{name}", plots=plots))
        for name in ("one", "other")
    }
    beside(made, tmp_path / "first")
    before = state()
    beside(made, tmp_path / "second")
    assert differences(before) == {}
    logs = {name: next((tmp_path / "second" / name).glob(f"*/{GROWING}")).read_text() for name in ("one", "other")}
    for name, text in logs.items():
        assert f"of {name}'s block" in text
        assert sum("s block" in line for line in text.splitlines()) == 1
        assert boss.token not in text
