"""What functions of users and their modules do to the process that runs or imports them."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.pool import BlockPool, Boxes, Done
from nd_synapse.importing import load_function
from nd_synapse.multicore.on_block import run_on_block, set_up_worker
from nd_synapse.multicore.results import assembled_rows
from tests.cases import Case
from tests.cases._user_code import BOX, Channels, case, pulled_tiles

# ---------------------------------------------------------------- processes


def twice(channels: Channels) -> Any:
    """Fork, and forget to end the child."""
    os.fork()
    return channels["ramp"] > 100


def helper(channels: Channels) -> Any:
    """Let a child do something, and end."""
    if os.fork() == 0:
        sys.exit(3)
    return channels["ramp"] > 100


def moved(_: Channels) -> Any:
    """Go to another folder, and let NumPy raise."""
    found = [Path.cwd() == Path("/")], [np.geterr()["divide"]]
    os.chdir("/")
    np.seterr(all="raise")
    return dict(zip(("moved", "division"), found, strict=True))


def _in_pool(function: Callable[[Channels], Any], folder: Path) -> str:
    """Run a function on two blocks in a worker process, and return what came of them, and the rows."""
    tiles = pulled_tiles(folder)
    with BlockPool(1, set_up_worker, (tiles,)) as pool:
        task = partial(run_on_block, function=function, halo=(0, 0, 0))
        outcomes = sorted(pool.run(task, Boxes(BOX.tiles(tiles.size))), key=lambda outcome: outcome.box)
    came = ["done" if isinstance(outcome, Done) else outcome.reason.partition(". ")[0] for outcome in outcomes]
    rows = assembled_rows(tiles.store, [key_of(outcome.box) for outcome in outcomes if isinstance(outcome, Done)])
    return "; ".join([*dict.fromkeys(came), *(f"{name} {values.tolist()}" for name, values in rows.items())])


# ---------------------------------------------------------------- modules


@contextmanager
def _module(text: str, folder: Path) -> Iterator[None]:
    """Let a module `bright` be found while the context lasts."""
    (folder / "bright.py").write_text(textwrap.dedent(text))
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("bright", None)


def _imported(text: str, folder: Path) -> str:
    """Import a function `f` as commands do, and return what that changed in the process."""
    place = Path.cwd()
    with _module(text, folder), np.errstate():
        try:
            load_function("bright:f")
        finally:
            moved, division = Path.cwd() != place, np.geterr()["divide"]
            os.chdir(place)
    return f"working directory {'another' if moved else 'as before'}, division: {division}"


MOVES = """
    import os, numpy
    os.chdir("/")
    numpy.seterr(all="raise")
    def f(channels): pass
"""

CALLS = """
    import nd_multicore
    def f(channels): return {"bright": [(channels["PSD95"] > 100).sum()]}
    results = nd_multicore.run_parallel("neurodata.cfg", f, cpus=2)
"""


def _called_in_worker(folder: Path) -> str:
    """Run a function of a module that starts a run when a worker imports it."""
    text = f"""
        import os, nd_multicore
        def f(channels): pass
        if os.getpid() != {os.getpid()}: nd_multicore.run_parallel("neurodata.cfg", f)
    """
    with _module(text, folder):
        return _in_pool(importlib.import_module("bright").f, folder)


CASES: tuple[Case, ...] = (
    case(
        "import-calls-run",
        "a module that calls run_parallel at its top level, imported by a command",
        partial(_imported, CALLS),
        "the run began while its module was imported",
        "UsageError: run_parallel while the module bright was imported: every worker would call it again",
    ),
    case(
        "import-moves",
        "a module that changes the working directory and NumPy's errors",
        partial(_imported, MOVES),
        "working directory another, division: raise",
        "working directory as before, division: warn",
    ),
    case(
        "worker-calls-run",
        "a module that calls run_parallel at its top level, imported by a worker",
        _called_in_worker,
        "UsageError: configuration neurodata.cfg: there is no such file: the run began in the worker",
        "UsageError: run_parallel while the module of the function was imported: every worker would call it again",
        slow=True,
    ),
    case(
        "forks-and-returns",
        "a function that forks, and returns twice",
        partial(_in_pool, twice),
        "done: both processes answered, and took blocks",
        "DataError: the function on a block: it forked, and the child returned from it as well",
        slow=True,
    ),
    case(
        "forks-and-ends",
        "a function whose child ends by sys.exit",
        partial(_in_pool, helper),
        "no end within eight minutes: both processes took blocks",
        "done",
        slow=True,
    ),
    case(
        "moves",
        "a function that changes the working directory and NumPy's errors, with a relative folder, on two blocks",
        partial(_in_pool, moved),
        "StorageError: writing scratch/rows/0_0_0.npz: no such file or directory: the run ended",
        "done; moved [False, False]; division ['warn', 'warn']",
        slow=True,
    ),
)
