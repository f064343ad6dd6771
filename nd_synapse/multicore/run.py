"""Any function on every block of a BOSS volume: the framework known as nd-multicore.

A function takes a dictionary of channel to voxels (z, y, x), and may return

- nothing: it saves what it wants to keep;
- an array of the block's shape: the blocks are assembled to a volume, `Results.volumes`;
- a dictionary: its three-dimensional arrays are assembled by name, its one-dimensional ones are columns, and the rows
  of all blocks are put one after another, `Results.rows`.

A function that needs more than its block declares it: ``function.halo = (z, y, x)``, or ``halo=``. Its arrays are then
larger by that on each side; beyond the box they are mirrored. What it returns may be as large, and is cut. One that
takes more memory than two floating-point copies of its input declares that, too: ``function.working_bytes``, in bytes a
voxel.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

from nd_synapse.blocks.grid import DEFAULT_PULLS, blocks_of, key_of
from nd_synapse.blocks.pool import BlockPool, Done, Failed
from nd_synapse.blocks.scratch import locked
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tile_feed import TileFeed
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.config import read_neurodata_config
from nd_synapse.credentials import Token
from nd_synapse.errors import StorageError, UsageError, called
from nd_synapse.geometry import Box
from nd_synapse.importing import refuse_nested
from nd_synapse.machine import available_bytes, default_cpus, warn_of_workers
from nd_synapse.multicore.historical import BlockFunction, in_xyz, three_numbers, zyx
from nd_synapse.multicore.memory import Load
from nd_synapse.multicore.on_block import is_finished, run_on_block, set_up_worker
from nd_synapse.multicore.results import Results, assembled_rows, assembled_volumes
from nd_synapse.progress import Progress, silent
from nd_synapse.redaction import hidden
from nd_synapse.values import parse_int, parse_path
from nd_synapse.volumes import JobSource

__all__ = ["run_parallel"]

log = logging.getLogger(__name__)

MAX = 1024
"""Workers, and cutouts in flight, at most: more is a typing error."""

_MAX_BYTES = 2**60
_WORKING_BYTES = 16
_KEEP_BYTES = 2**33
"""What pulled blocks may take on disk before those that are done are removed, where others may still need them."""


@called(block_size=in_xyz)
def run_parallel(
    config_file: str | Path,
    function: BlockFunction,
    cpus: int | None = None,
    block_size: Sequence[int] = (1000, 1000, 10),
    *,
    halo: Sequence[int] | None = None,
    pulls: int = DEFAULT_PULLS,
    scratch: str | Path | None = None,
    memory_bytes: int | None = None,
    progress: Progress = silent,
) -> Results:
    """Run a function on every block of the box in a ``neurodata.cfg``.

    Parameters
    ----------
    config_file : str or Path
        The ``neurodata.cfg``.
    function : callable
        See this module's docstring; of a module, a script or a notebook.
    cpus : int, optional
        Worker processes; all cores but one where not given, at least one.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.
    halo : sequence of int, optional
        Voxels along z, y, x beyond the block; ``function.halo`` where not given, none where it has none.
    pulls : int
        Cutouts in flight at the same time.
    scratch : str or Path, optional
        Folder that keeps what finished blocks returned. The same call goes on from there: a finished block is not run
        again, a failed one is. Without it everything goes with the results.
    memory_bytes : int, optional
        Memory that all processes together may take; what the container or the machine has where not given.
    progress : callable
        Called after every block.

    Returns
    -------
    Results
        Keys of the blocks that are done, and what came of them. A function that raises, or whose process dies, costs
        its block, which is in `Results.failed` then.

    Raises
    ------
    UsageError
        If the blocks do not fit the memory; a block size that does is in the message. If the function cannot be sent
        to workers, or with `scratch` not be identified; if another run works on the same blocks in `scratch`.
    NDSynapseError
        If data are not available, or the disk is full.
    """
    refuse_nested("run_parallel")
    resource, token = _opened(config_file)
    size = zyx(block_size)
    margin = three_numbers("halo", _declared(function, "halo", (0, 0, 0)) if halo is None else halo, 0, "Give z, y, x")
    workers = default_cpus() if cpus is None else parse_int("--cpus", cpus, 1, MAX)
    pulls = parse_int("--pulls", pulls, 1, MAX)
    warn_of_workers(workers)
    limit = available_bytes() if memory_bytes is None else parse_int("memory_bytes", memory_bytes, 1, _MAX_BYTES)
    # where none was requested by name, one that cannot be read is left out
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    dtypes = {channel: resource.dtype(channel) for channel in channels}
    itemsizes = [dtype.itemsize for dtype in dtypes.values()]
    load = Load(resource.box, margin, itemsizes, _working_bytes(function), workers, pulls)
    load.check(size, limit)
    names = [(channel, str(dtype)) for channel, dtype in dtypes.items()]
    store = _store(scratch, function, [resource.identity, names, resource.box.ranges, size, margin])
    blocks = blocks_of(resource.box, size)
    with locked(store.root), nullcontext() if token is None else hidden(token):
        # tiles of an earlier run may be of a volume that has changed since
        store.drop("tiles")
        tiles = Tiles(store, "tiles", resource.box, size, dtypes)
        missing = [block for block in blocks if not is_finished(store, block)]
        feed = TileFeed(
            tiles, resource, {block: (block,) for block in missing}, margin, pulls, _keep_bytes(tiles, blocks, load)
        )
        failed = _run(
            partial(run_on_block, function=function, halo=margin),
            tiles,
            feed,
            workers,
            _Report(progress, len(blocks), feed),
        )
        store.drop("tiles")
    keys = [key_of(block) for block in blocks if block not in failed]
    named = {key_of(block): failed[block] for block in blocks if block in failed}
    return Results(keys, named, assembled_volumes(store, keys, resource.box, size), assembled_rows(store, keys))


def _opened(config_file: str | Path) -> tuple[JobSource, Token | None]:
    """Open the volume of a neurodata.cfg; with its token, if it is in BOSS."""
    config = read_neurodata_config(config_file)
    if config.source is not None:
        from nd_synapse.sources.location import Location  # workers import this module, and need neither
        from nd_synapse.sources.source import open_source

        ranges = (config.z_range, config.y_range, config.x_range)
        return open_source(Location.of_section(config.source)).part(ranges, config.channels), None
    from nd_synapse.boss.resource import get_boss_resource

    resource = get_boss_resource(config_file)
    return resource, resource.token


def _run(
    function: Callable[[Box], float], tiles: Tiles, feed: TileFeed, workers: int, report: _Report
) -> dict[Box, Failed]:
    """Run a function on the blocks of a feed; return those that failed."""
    failed = {}
    try:
        with BlockPool(workers, set_up_worker, (tiles,)) as pool:
            for outcome in pool.run(function, feed):
                report.note(outcome)
                if isinstance(outcome, Failed):
                    failed[outcome.box] = outcome
    finally:
        feed.close()
    return failed


class _Report:
    """Logs the outcome of each block, and reports progress."""

    def __init__(self, progress: Progress, total: int, feed: TileFeed) -> None:
        self._progress = progress
        self._total = total
        self._feed = feed
        self._started = time.monotonic()
        self._done = total - feed.remaining
        self._voxels = self._failed = 0
        if self._done:
            log.info("%d of %d blocks were finished before", self._done, total)
        progress("blocks", self._done, total)

    def note(self, outcome: Done | Failed) -> None:
        """Log one outcome."""
        self._done += 1
        self._voxels += outcome.box.voxels
        if isinstance(outcome, Failed):
            self._failed += 1
            log.error("block %s failed: %s", outcome.box, outcome.reason)
        else:
            pull_s, write_s = self._feed.pull_s.get(outcome.box, 0.0), outcome.result
            text = "block %s pull_s=%.3f compute_s=%.3f write_s=%.3f peak_mib=%d"
            log.debug(text, outcome.box, pull_s, outcome.seconds - write_s, write_s, outcome.peak_bytes >> 20)
        speed = f"{self._voxels / (time.monotonic() - self._started) / 1e6:.1f} million voxels/s"
        note = f"{speed}, {self._failed} failed" if self._failed else speed
        self._progress("blocks", self._done, self._total, note)


def _store(scratch: str | Path | None, function: BlockFunction, what: list[Any]) -> Store:
    """Return where blocks lie: by fingerprint in the scratch folder, or in a folder that goes with its last user."""
    if scratch is not None:
        return Store(parse_path("--scratch", scratch) / f"blocks-{_fingerprint(function, what)}")
    store = Store(Path(tempfile.mkdtemp(prefix="nd-multicore-")))
    # the folder goes with the last volume that reads it, or when a failure lets go of it
    weakref.finalize(store, shutil.rmtree, store.root, ignore_errors=True)
    return store


def _fingerprint(function: BlockFunction, what: list[Any]) -> str:
    """Return what differs wherever a block's result may: the function's source file and name, the data, the blocks."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    if not isinstance(function, FunctionType) or file is None or "<" in function.__qualname__:
        raise UsageError(
            f"keeping the blocks of {function!r}",
            "its name and its file do not identify it",
            "Let it be a function at the top level of a file, or give no scratch folder",
        )
    try:
        source = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise StorageError(f"reading {file}", str(error.strerror), "Check the file of the function") from error
    text = json.dumps([source, function.__qualname__, *what])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keep_bytes(tiles: Tiles, blocks: Sequence[Box], load: Load) -> int:
    """Return what pulled blocks may take on disk."""
    if any(load.halo) or load.cpus > load.pulls:
        return _KEEP_BYTES
    # each is needed once: so many that none waits, and each is gone before the system has written it to the disk
    return 4 * load.pulls * max(tiles.bytes_of(block) for block in blocks)


def _declared(function: BlockFunction, name: str, default: Any) -> Any:
    """Return what a function declares; a `functools.partial` declares what its function does, if nothing of its own."""
    while isinstance(function, partial) and not hasattr(function, name):
        function = function.func
    return getattr(function, name, default)


def _working_bytes(function: BlockFunction) -> int:
    """Return the memory that a function declares, in bytes a voxel."""
    declared = _declared(function, "working_bytes", _WORKING_BYTES)
    if not isinstance(declared, int) or declared < 0:
        raise UsageError(f"working_bytes {declared!r}", "it is not a whole number from 0 upwards", "Give bytes a voxel")
    return declared
