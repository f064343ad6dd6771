"""Any function on every block of a BOSS volume: the framework known as nd-multicore.

It knows nothing of synapses. Its blocks are pulled, kept and run as those of a detection are.

A function takes a dictionary of channel to voxels (z, y, x), and may return

- nothing: it saves what it wants to keep;
- an array of the block's shape: the blocks are assembled to a volume, `Results.volumes`;
- a dictionary: its three-dimensional arrays are assembled by name, its one-dimensional ones are columns, and the rows
  of all blocks are put one after another, `Results.rows`.

A function that needs more than its block declares it: ``function.halo = (z, y, x)``, or ``halo=``. Its arrays are then
larger by that on each side; beyond the box they are mirrored. What it returns may be as large, and is cut.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import signal
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from block_pool import BlockPool, Done, Failed, default_cpus
from box import Box, Range
from detection.border import mirrored
from detection.plan import DEFAULT_PULLS
from detection.store import BlockVolume, Store, key_of
from detection.tiles import TileFeed, Tiles
from errors import DataError, IncompleteError, NDSynapseError, StoppedError, UsageError
from NeuroDataResource import NeuroDataResource, get_boss_resource

__all__ = ["Block", "Results", "compute_blocks", "get_data", "job", "run_parallel"]

DataDict = dict[str, NDArray[Any]]

_KEEP_BYTES = 2**33
"""What pulled blocks may take on disk before those that are done are removed."""


class Block:
    """A block in the historical form.

    Parameters
    ----------
    z_range, y_range, x_range : tuple of int
        Half-open ranges.
    """

    def __init__(self, z_range: Range, y_range: Range, x_range: Range) -> None:
        self.box = Box(z_range, y_range, x_range)
        self.z_start, self.z_end = self.box.z
        self.y_start, self.y_end = self.box.y
        self.x_start, self.x_end = self.box.x
        self.data: DataDict | None = None

    @property
    def key(self) -> str:
        """The block's start as ``<z>_<y>_<x>``."""
        return key_of(self.box)


class Results(list[str]):
    """The keys of the blocks that are done, in the order of the blocks, and what came of them.

    Parameters
    ----------
    keys : sequence of str
        The keys, ``<z>_<y>_<x>`` of each block's start.
    failed : dict of str to Failed
        Key to what happened, for the blocks that are missing.
    volumes : dict of str to BlockVolume
        Assembled arrays by name; an array that came without a name is called ``result``. 0 where a block failed.
    rows : dict of str to ndarray
        Columns; the rows of the blocks in the order of the blocks.
    """

    def __init__(
        self,
        keys: Sequence[str],
        failed: dict[str, Failed],
        volumes: dict[str, BlockVolume],
        rows: dict[str, NDArray[Any]],
    ) -> None:
        super().__init__(keys)
        self.failed = failed
        self.volumes = volumes
        self.rows = rows


def compute_blocks(resource: NeuroDataResource, block_size: Sequence[int] = (1000, 1000, 10)) -> list[Block]:
    """Cut the box of a resource into blocks.

    Parameters
    ----------
    resource : NeuroDataResource
        The resource.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.

    Returns
    -------
    list of Block
        They cover the box once, z slowest; they are cut at multiples of the size from voxel 0 of the volume.

    Raises
    ------
    UsageError
        If the size is not three whole numbers from 1 upwards.
    """
    return [Block(*box.ranges) for box in resource.box.tiles(_zyx(block_size), aligned=True)]


def _zyx(block_size: Sequence[int]) -> tuple[int, int, int]:
    """Return a block size in the order z, y, x."""
    try:
        x, y, z = (int(n) for n in block_size)
        whole = [int(n) == float(n) and int(n) > 0 for n in block_size]
    except (TypeError, ValueError):
        whole = [False]
    if not all(whole):
        raise UsageError(f"block size {block_size!r}", "it is not three whole numbers from 1 upwards", "Give x, y, z")
    return z, y, x


def get_data(resource: NeuroDataResource, block: Block) -> Block:
    """Pull the requested channels of a block.

    Parameters
    ----------
    resource : NeuroDataResource
        The resource.
    block : Block
        The block; it is not changed.

    Returns
    -------
    Block
        The same block with `data`: channel to voxels, shape (z, y, x), in the channel's type.
    """
    filled = Block(*block.box.ranges)
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    filled.data = {channel: resource.get_cutout(channel, *block.box.ranges) for channel in channels}
    return filled


def job(block: Block, resource: NeuroDataResource, function: Callable[[DataDict], Any]) -> str:
    """Run a function on the data of one block.

    Parameters
    ----------
    block : Block
        The block.
    resource : NeuroDataResource
        Where its data come from.
    function : callable
        Takes a dictionary of channel to voxels (z, y, x); what it returns is not kept.

    Returns
    -------
    str
        The block's key, ``<z>_<y>_<x>`` of its start.

    Raises
    ------
    DataError
        If the function raises; the cause is attached.
    """
    data = get_data(resource, block).data
    try:
        function(data or {})
    except NDSynapseError:
        raise
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise DataError(
            f"{name} on block {block.box}", f"{type(error).__name__}: {error}", "Correct the function"
        ) from error
    return block.key


_TILES: Tiles | None = None


def _setup(tiles: Tiles) -> None:
    """Keep in this worker where the pulled blocks lie."""
    global _TILES
    _TILES = tiles


def _run_on(box: Box, function: Callable[[DataDict], Any], halo: tuple[int, int, int]) -> None:
    """Run a function on a block that was pulled, and save what it returns."""
    tiles = _TILES
    if tiles is None:
        raise NDSynapseError("a block in a worker", "the worker has no volume", "Report this as a defect")
    inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, tiles.volume.start, strict=True)))
    data = {channel: mirrored(tiles.channel(channel), inside, halo) for channel in tiles.channels}
    returned = function(data)
    if returned is None:
        return
    named = returned if isinstance(returned, Mapping) else {"result": returned}
    columns = {}
    for name, value in named.items():
        if not re.fullmatch(r"[\w .-]{1,100}", str(name)):
            raise ValueError(f"{name!r} is no name of a volume or column: letters, digits, blanks, _ . - only")
        array = np.asarray(value)
        if array.ndim == 3:
            tiles.store.save_plain(f"volume-{name}", key_of(box), _cut(array, box, halo))
        else:
            columns[name] = array
    if len({column.shape for column in columns.values()}) > 1 or any(column.ndim != 1 for column in columns.values()):
        shapes = {name: column.shape for name, column in columns.items()}
        raise ValueError(f"columns of one length, or arrays (z, y, x), may be returned, not {shapes}")
    if columns:
        tiles.store.save("rows", key_of(box), columns)


def _cut(array: NDArray[Any], box: Box, halo: tuple[int, int, int]) -> NDArray[Any]:
    """Return an array without its halo."""
    if array.shape == box.shape:
        return array
    if array.shape != tuple(n + 2 * h for n, h in zip(box.shape, halo, strict=True)):
        raise ValueError(f"an array of the shape {array.shape} was returned for a block of {box.shape} and halo {halo}")
    return array[tuple(slice(h, h + n) for n, h in zip(box.shape, halo, strict=True))]


def run_parallel(
    config_file: str | Path,
    function: Callable[[DataDict], Any],
    cpus: int | None = None,
    block_size: Sequence[int] = (1000, 1000, 10),
    *,
    halo: Sequence[int] | None = None,
    pulls: int = DEFAULT_PULLS,
    folder: str | Path | None = None,
) -> Results:
    """Run a function on every block of the box in a ``neurodata.cfg``.

    Parameters
    ----------
    config_file : str or Path
        The ``neurodata.cfg``.
    function : callable
        See this module's text; of a module, a script or a notebook.
    cpus : int, optional
        Worker processes; all cores but one where not given, at least one.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.
    halo : sequence of int, optional
        Voxels along z, y, x beyond the block; ``function.halo`` where not given, none where it has none.
    pulls : int
        Cutouts that are asked for at the same time.
    folder : str or Path, optional
        Where assembled volumes lie; a folder that lives as long as the results where not given.

    Returns
    -------
    Results
        Keys of the blocks that are done, and what came of them. A function that raises, or whose process dies, costs
        its block, which is in `Results.failed` then.

    Raises
    ------
    NDSynapseError
        If data cannot be had.
    """
    resource = get_boss_resource(config_file)
    size = _zyx(block_size)
    margin = _halo(getattr(function, "halo", (0, 0, 0)) if halo is None else halo)
    store = Store(Path(tempfile.mkdtemp(prefix="nd-multicore-")) if folder is None else Path(folder))
    if folder is None:
        # the folder goes with the last volume that reads it, or when a failure lets go of it
        weakref.finalize(store, shutil.rmtree, store.root, ignore_errors=True)
    for kind in ("tiles", "rows", *store.kinds("volume-")):
        store.drop(kind)
    # where none was asked for by name, one that cannot be read is left out
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    dtypes = {channel: resource.dtype(channel) for channel in channels}
    tiles = Tiles(store, "tiles", channels, resource.box, size, dtypes)
    blocks = [block.box for block in compute_blocks(resource, block_size)]
    feed = TileFeed(tiles, resource, blocks, margin, pulls, _KEEP_BYTES)
    outcomes: dict[Box, Done | Failed] = {}
    try:
        with BlockPool(default_cpus() if cpus is None else cpus, _setup, (tiles,)) as pool:
            for outcome in pool.run(partial(_run_on, function=function, halo=margin), feed):
                outcomes[outcome.box] = outcome
    finally:
        feed.close()
    store.drop("tiles")
    failed = {key_of(box): outcome for box, outcome in outcomes.items() if isinstance(outcome, Failed)}
    keys = [key for key in map(key_of, blocks) if key not in failed]
    return Results(keys, failed, _volumes(store, keys, resource.box, size), _rows(store, keys))


def _halo(given: Sequence[int]) -> tuple[int, int, int]:
    """Check a halo."""
    try:
        z, y, x = (int(n) for n in given)
    except (TypeError, ValueError):
        z = y = x = -1
    if min(z, y, x) < 0:
        raise UsageError(f"halo {given!r}", "it is not three whole numbers from 0 upwards", "Give z, y, x")
    return z, y, x


def _volumes(store: Store, keys: Sequence[str], box: Box, size: tuple[int, int, int]) -> dict[str, BlockVolume]:
    """Return the assembled arrays by name."""
    volumes = {}
    for kind in store.kinds("volume-"):
        saved = [key for key in keys if store.has(kind, key, "npy")]
        if not saved:
            continue

        def read(block: Box, kind: str = kind) -> NDArray[Any] | None:
            return store.open_plain(kind, key_of(block)) if store.has(kind, key_of(block), "npy") else None

        dtype = store.open_plain(kind, saved[0]).dtype
        volumes[kind.removeprefix("volume-")] = BlockVolume(read, box, size, dtype)
    return volumes


def _rows(store: Store, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the rows of all blocks, one after another."""
    parts = [store.load("rows", key) for key in keys if store.has("rows", key)]
    names = list(dict.fromkeys(name for part in parts for name in part))
    if any(part.keys() != set(names) for part in parts):
        raise DataError("the rows of all blocks", "blocks returned different columns", "Return the same ones always")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m nd_multicore neurodata.cfg package.module:function``."""
    parser = argparse.ArgumentParser(prog="nd_multicore", description="Run a function on every block of a BOSS volume.")
    parser.add_argument("config", help="neurodata.cfg with the box and the channels")
    parser.add_argument(
        "function", help="package.module:function, called with a dictionary of channel to (z, y, x) array"
    )
    parser.add_argument("--cpus", type=int, help="worker processes (default: all cores but one, at least one)")
    parser.add_argument("--block-size", default="10,1000,1000", metavar="Z,Y,X", help="default: %(default)s")
    parser.add_argument("--pulls", type=int, default=DEFAULT_PULLS, help="cutouts in flight (default: %(default)s)")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        function = _import_function(options.function)
        z_y_x = options.block_size.split(",")
        results = run_parallel(options.config, function, options.cpus, z_y_x[::-1], pulls=options.pulls)
        sys.stdout.write("".join(f"{key}\n" for key in results))
        for failed in results.failed.values():
            sys.stderr.write(f"{failed.traceback}block {failed.box} failed: {failed.reason}\n")
        if results.failed:
            count = len(results.failed)
            raise IncompleteError(
                f"{options.function} on every block", f"{count} blocks failed", "Correct the function"
            )
    except NDSynapseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        stopped = StoppedError("the run", "it was stopped by a signal", "Run it again: nothing is kept")
        sys.stderr.write(f"{stopped}\n")
        return stopped.exit_code
    return 0


def _import_function(path: str) -> Callable[[DataDict], Any]:
    """Import ``package.module:function`` from the working folder or the environment."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"function {path!r}", "it is not of the form package.module:function", "Write it so")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function: Callable[[DataDict], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"function {path!r}", str(error), "Check module and function name") from error
    return function


if __name__ == "__main__":
    # workers import this module by its name, and would not find what belongs to a main program
    from nd_multicore import _main as _main_of_the_module

    sys.exit(_main_of_the_module())
