"""Any function on every block of a BOSS volume: the framework known as nd-multicore.

It knows nothing of synapses. Its blocks are pulled, kept and run as those of a detection are.

A function takes a dictionary of channel to voxels (z, y, x), and may return

- nothing: it saves what it wants to keep;
- an array of the block's shape: the blocks are assembled to a volume, `Results.volumes`;
- a dictionary: its three-dimensional arrays are assembled by name, its one-dimensional ones are columns, and the rows
  of all blocks are put one after another, `Results.rows`.

A function that needs more than its block declares it: ``function.halo = (z, y, x)``, or ``halo=``. Its arrays are then
larger by that on each side; beyond the box they are mirrored. What it returns may be as large, and is cut. One that
takes more memory than two floating-point copies of what it is given declares that, too: ``function.working_bytes``, in
bytes a voxel.
"""

from __future__ import annotations

import os
import signal

from errors import DataError, IncompleteError, NDSynapseError, StoppedError, StorageError, UsageError

if __name__ == "__main__":
    # what follows takes a while to import; a signal that comes meanwhile ends as one that comes later does
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda *_: os._exit(StoppedError.exit_code))

import argparse
import hashlib
import importlib
import json
import logging
import math
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import logs
from block_pool import BlockPool, Done, Failed, InWorkerError, default_cpus
from box import Box, Range
from detection.border import mirrored
from detection.budget import available_bytes
from detection.plan import DEFAULT_PULLS
from detection.store import BlockVolume, Store, key_of
from detection.tiles import TileFeed, Tiles
from progress import Progress, on_terminal, silent, told

if TYPE_CHECKING:
    # workers import this module, and have no use for what speaks to BOSS, which takes as long as all the rest
    from NeuroDataResource import NeuroDataResource

__all__ = ["Block", "Results", "compute_blocks", "get_data", "job", "run_parallel"]

log = logging.getLogger(__name__)

DataDict = dict[str, NDArray[Any]]

_KEEP_BYTES = 2**33
"""What pulled blocks may take on disk before those that are done are removed, where others may still need them."""

_PARENT_BYTES = 160 * 2**20
_WORKER_BYTES = 80 * 2**20
_WORKING_BYTES = 16
_COPIES = 3
"""A channel of a block is there packed, unpacked, and as what is saved when it is pulled; twice when it is read."""

_SHARE = 0.9
"""What may be used of the memory: the kernel and the system's own caches count, too."""

_STOP_LIMIT_S = 9


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


def _run_on(box: Box, function: Callable[[DataDict], Any], halo: tuple[int, int, int]) -> float:
    """Run a function on a block that was pulled, and save what it returns; return the seconds that saving took."""
    tiles = _TILES
    if tiles is None:
        raise NDSynapseError("a block in a worker", "the worker has no volume", "Report this as a defect")
    returned = function({channel: _voxels(tiles, channel, box, halo) for channel in tiles.channels})
    began = time.monotonic()
    volumes, columns = _sorted_out(returned, box, halo)
    for name, array in volumes.items():
        tiles.store.save_plain(f"volume-{name}", key_of(box), array)
    if columns:
        tiles.store.save("rows", key_of(box), columns)
    # it comes last: with it the block is finished
    tiles.store.save("done", key_of(box), {})
    return time.monotonic() - began


def _voxels(tiles: Tiles, channel: str, box: Box, halo: tuple[int, int, int]) -> NDArray[Any]:
    """Read a block of a channel with its halo."""
    volume = tiles.channel(channel)
    if any(halo):
        inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, tiles.volume.start, strict=True)))
        return mirrored(volume, inside, halo)
    voxels = volume.part(box)
    voxels.flags.writeable = False
    return voxels


def _sorted_out(returned: Any, box: Box, halo: tuple[int, int, int]) -> tuple[DataDict, DataDict]:
    """Tell arrays from columns in what a function returned, and check them."""
    if returned is None:
        return {}, {}
    named = returned if isinstance(returned, Mapping) else {"result": returned}
    volumes, columns = {}, {}
    for name, value in named.items():
        if not re.fullmatch(r"[\w .-]{1,100}", str(name)):
            raise ValueError(f"{name!r} is no name of a volume or column: letters, digits, blanks, _ . - only")
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise ValueError(f"{name!r} holds objects: numbers or texts can be saved")
        if array.ndim == 3:
            volumes[str(name)] = _cut(array, box, halo)
        else:
            columns[str(name)] = array
    if len({column.shape for column in columns.values()}) > 1 or any(column.ndim != 1 for column in columns.values()):
        shapes = {name: column.shape for name, column in columns.items()}
        raise ValueError(f"columns of one length, or arrays (z, y, x), may be returned, not {shapes}")
    return volumes, columns


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
        See this module's text; of a module, a script or a notebook.
    cpus : int, optional
        Worker processes; all cores but one where not given, at least one.
    block_size : sequence of int
        Largest extent of a block along **x, y, z**, the historical order.
    halo : sequence of int, optional
        Voxels along z, y, x beyond the block; ``function.halo`` where not given, none where it has none.
    pulls : int
        Cutouts that are asked for at the same time.
    scratch : str or Path, optional
        Folder that keeps what finished blocks returned. The same call goes on from there: a finished block is not run
        again, a failed one is. Without it everything goes with the results.
    memory_bytes : int, optional
        Memory that all processes together may take; what the container or the machine has where not given.
    progress : callable
        Told of every block.

    Returns
    -------
    Results
        Keys of the blocks that are done, and what came of them. A function that raises, or whose process dies, costs
        its block, which is in `Results.failed` then.

    Raises
    ------
    UsageError
        If the blocks do not fit the memory; a block size that does is in the message. If the function cannot be sent
        to workers, or with `scratch` not be told from others.
    NDSynapseError
        If data cannot be had, or the disk is full.
    """
    from NeuroDataResource import get_boss_resource

    resource = get_boss_resource(config_file)
    size = _zyx(block_size)
    margin = _halo(getattr(function, "halo", (0, 0, 0)) if halo is None else halo)
    workers = default_cpus() if cpus is None else cpus
    # where none was asked for by name, one that cannot be read is left out
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    dtypes = {channel: resource.dtype(channel) for channel in channels}
    blocks = [block.box for block in compute_blocks(resource, block_size)]
    load = _Load(
        resource.box, margin, [dtype.itemsize for dtype in dtypes.values()], _working_bytes(function), workers, pulls
    )
    load.check(size, available_bytes() if memory_bytes is None else memory_bytes)
    names = [(channel, str(dtype)) for channel, dtype in dtypes.items()]
    store = _store(scratch, function, [resource.identity, names, resource.box.ranges, size, margin])
    # what nothing was made of yet may be of a volume that has changed since
    store.drop("tiles")
    tiles = Tiles(store, "tiles", channels, resource.box, size, dtypes)
    missing = [block for block in blocks if not store.has("done", key_of(block))]
    feed = TileFeed(tiles, resource, missing, margin, pulls, _keep_bytes(tiles, blocks, load))
    failed = {}
    try:
        with BlockPool(workers, _setup, (tiles,)) as pool:
            outcomes = pool.run(partial(_run_on, function=function, halo=margin), feed)
            for outcome in _watched(outcomes, feed, len(blocks), progress):
                if isinstance(outcome, Failed):
                    failed[outcome.box] = outcome
    finally:
        feed.close()
    store.drop("tiles")
    keys = [key_of(block) for block in blocks if block not in failed]
    named = {key_of(block): failed[block] for block in blocks if block in failed}
    return Results(keys, named, _volumes(store, keys, resource.box, size), _rows(store, keys))


def _watched(
    outcomes: Iterator[Done | Failed], feed: TileFeed, total: int, progress: Progress
) -> Iterator[Done | Failed]:
    """Tell of every outcome that passes."""
    began = time.monotonic()
    done = total - feed.remaining
    voxels = failed = 0
    if done:
        log.info("%d of %d blocks were finished before", done, total)
    progress("blocks", done, total)
    for outcome in outcomes:
        done += 1
        voxels += outcome.box.voxels
        if isinstance(outcome, Failed):
            failed += 1
            log.error("block %s failed: %s", outcome.box, outcome.reason)
        else:
            # where a bar tells how it goes, a line a block is in its way
            level = logging.DEBUG if on_terminal() else logging.INFO
            pull_s, write_s = feed.pull_s.get(outcome.box, 0.0), outcome.result
            text = "block %s pull_s=%.3f compute_s=%.3f write_s=%.3f peak_mib=%d"
            log.log(level, text, outcome.box, pull_s, outcome.seconds - write_s, write_s, outcome.peak_bytes >> 20)
        speed = f"{voxels / (time.monotonic() - began) / 1e6:.1f} million voxels/s"
        progress("blocks", done, total, f"{speed}, {failed} failed" if failed else speed)
        yield outcome


def _store(scratch: str | Path | None, function: Callable[[DataDict], Any], what: list[Any]) -> Store:
    """Return where blocks lie: by fingerprint in the scratch folder, or in a folder that goes with its last user."""
    if scratch is not None:
        return Store(Path(scratch) / f"blocks-{_fingerprint(function, what)}")
    store = Store(Path(tempfile.mkdtemp(prefix="nd-multicore-")))
    # the folder goes with the last volume that reads it, or when a failure lets go of it
    weakref.finalize(store, shutil.rmtree, store.root, ignore_errors=True)
    return store


def _fingerprint(function: Callable[[DataDict], Any], what: list[Any]) -> str:
    """Return what differs wherever a block's result may: the function's source file and name, the data, the blocks."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    if not isinstance(function, FunctionType) or file is None or "<" in function.__qualname__:
        raise UsageError(
            f"keeping the blocks of {function!r}",
            "it is not told from others by its name and its file",
            "Let it be a function at the top level of a file, or give no scratch folder",
        )
    try:
        source = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise StorageError(f"reading {file}", str(error.strerror), "Check the file of the function") from error
    text = json.dumps([source, function.__qualname__, *what])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keep_bytes(tiles: Tiles, blocks: Sequence[Box], load: _Load) -> int:
    """Return what pulled blocks may take on disk."""
    if any(load.halo) or load.cpus > load.pulls:
        return _KEEP_BYTES
    # each is needed once: so many that none waits, and each is gone before the system has written it to the disk
    return 4 * load.pulls * max(tiles.bytes_of(block) for block in blocks)


def _working_bytes(function: Callable[[DataDict], Any]) -> int:
    """Return the memory that a function declares, in bytes a voxel."""
    declared = getattr(function, "working_bytes", _WORKING_BYTES)
    if not isinstance(declared, int) or declared < 0:
        raise UsageError(f"working_bytes {declared!r}", "it is not a whole number from 0 upwards", "Give bytes a voxel")
    return declared


@dataclass(frozen=True, slots=True)
class _Load:
    """What decides how much memory blocks take; `itemsizes` are the channels' bytes a voxel."""

    box: Box
    halo: tuple[int, int, int]
    itemsizes: Sequence[int]
    working_bytes: int
    cpus: int
    pulls: int

    def bytes_of(self, size: tuple[int, ...]) -> int:
        """Return the largest memory of all processes together with blocks of a size."""
        block = [min(n, extent) for n, extent in zip(size, self.box.shape, strict=True)]
        blocks = math.prod(-(-extent // n) + 1 for n, extent in zip(block, self.box.shape, strict=True))
        given = math.prod(n + 2 * halo for n, halo in zip(block, self.halo, strict=True))
        largest = max(self.itemsizes, default=0)
        worker = _WORKER_BYTES + given * (sum(self.itemsizes) + largest + self.working_bytes)
        parent = _PARENT_BYTES + self.pulls * _COPIES * math.prod(block) * largest
        return parent + min(self.cpus, blocks) * worker

    def check(self, size: tuple[int, int, int], limit_bytes: int) -> None:
        """Refuse blocks that do not fit; name a size that does."""
        usable = limit_bytes * _SHARE
        needed = self.bytes_of(size)
        if needed <= usable:
            return
        smaller = tuple(min(n, extent) for n, extent in zip(size, self.box.shape, strict=True))
        while self.bytes_of(smaller) > usable and max(smaller) > 1:
            longest = smaller.index(max(smaller))
            smaller = tuple(-(-n // 2) if axis == longest else n for axis, n in enumerate(smaller))
        fits = self.bytes_of(smaller) <= usable
        raise UsageError(
            f"blocks of {size} voxels (z, y, x) with {self.cpus} workers and {self.pulls} cutouts in flight",
            f"they need {needed / 2**20:,.0f} MiB of memory, {usable / 2**20:,.0f} MiB may be used",
            f"Give --block-size {','.join(map(str, smaller))}"
            if fits
            else "Give fewer --cpus or --pulls, or more --memory",
        )


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
    done = set(keys)
    for kind in store.kinds("volume-"):
        saved = [key for key in keys if store.has(kind, key, "npy")]
        if not saved:
            continue

        def read(block: Box, kind: str = kind) -> NDArray[Any] | None:
            key = key_of(block)
            return store.open_plain(kind, key) if key in done and store.has(kind, key, "npy") else None

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
    parser.add_argument("--memory", metavar="GIB", help="memory to use; default: what the container or machine has")
    parser.add_argument("--scratch", metavar="DIR", help="keep finished blocks here: the same command goes on")
    parser.add_argument("--quiet", action="store_true", help="only warnings and failures on standard error")
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = _shell(options)
        _ignore_signals()
    except KeyboardInterrupt:
        remedy = "The same command goes on where it was" if options.scratch else "Nothing is kept without --scratch"
        stopped = StoppedError("the run", "it was stopped by a signal", remedy)
        sys.stderr.write(f"{stopped}\n")
        code = stopped.exit_code
    return code


def _ignore_signals() -> None:
    """Let signals pass unheard from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stop(*_: object) -> None:
    """Interrupt the run, once: who sends a signal often, or two kinds, means the same as who sends one."""
    _ignore_signals()
    # an interrupt is lost where Python cannot raise it, and what it ends may hang
    signal.signal(signal.SIGALRM, lambda *_: os._exit(StoppedError.exit_code))
    signal.alarm(_STOP_LIMIT_S)
    raise KeyboardInterrupt


def _shell(options: argparse.Namespace) -> int:
    """Run what the command line asks for; return the exit code."""
    logs.apply(logs.LogSettings(logging.WARNING if options.quiet else logging.INFO))
    try:
        function = _import_function(options.function)
        size = options.block_size.split(",")[::-1]
        memory = None if options.memory is None else _gib(options.memory)
        with told(not options.quiet) as progress:
            results = run_parallel(
                options.config,
                function,
                options.cpus,
                size,
                pulls=options.pulls,
                scratch=options.scratch,
                memory_bytes=memory,
                progress=progress,
            )
        sys.stdout.write("".join(f"{key}\n" for key in results))
        for failed in results.failed.values():
            sys.stderr.write(f"{failed.traceback}block {failed.box} failed: {failed.reason}\n")
        if results.failed:
            count = len(results.failed)
            raise IncompleteError(
                f"{options.function} on every block", f"{count} blocks failed", "Correct the function"
            )
    except NDSynapseError as error:
        cause = error.__cause__ if isinstance(error.__cause__, InWorkerError) else ""
        sys.stderr.write(f"{cause}{error}\n")
        return error.exit_code
    return 0


def _gib(text: str) -> int:
    """Read a size in GiB as bytes."""
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 2**20:
        raise UsageError(f"--memory {text}", "it is no size in GiB above 0", "Give it such as --memory 1.5")
    return int(size * 2**30)


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
