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

import hashlib
import json
import logging
import operator
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.block_volume import BlockVolume
from nd_synapse.blocks.grid import DEFAULT_PULLS, blocks_of, key_of, mirrored
from nd_synapse.blocks.pool import BlockPool, Done, Failed
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import TileFeed, Tiles
from nd_synapse.errors import DataError, NDSynapseError, StorageError, UsageError
from nd_synapse.geometry import Box, Range
from nd_synapse.machine import available_bytes, default_cpus
from nd_synapse.multicore.memory import Load
from nd_synapse.progress import Progress, on_terminal, silent
from nd_synapse.text import describe_error
from nd_synapse.values import parse_int, parse_path

if TYPE_CHECKING:
    # workers import this module, and have no use for what speaks to BOSS, which takes as long as all the rest
    from nd_synapse.boss.resource import NeuroDataResource

__all__ = ["Block", "BlockFunction", "Results", "compute_blocks", "get_data", "job", "run_parallel"]

log = logging.getLogger(__name__)

DataDict = dict[str, NDArray[Any]]

BlockFunction = Callable[[DataDict], Any]
"""What runs on a block: channel to voxels (z, y, x) in, see above for what may come out."""

MOST = 1024
"""Workers, and cutouts in flight, at most: beyond it is a slip of the finger."""

_MOST_BYTES = 2**60
_WORKING_BYTES = 16
_KEEP_BYTES = 2**33
"""What pulled blocks may take on disk before those that are done are removed, where others may still need them."""


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
        If the size is not three whole numbers from 1 upwards, or so small that there would be more than a million.
    """
    return [Block(*box.ranges) for box in blocks_of(resource.box, _zyx(block_size))]


def _zyx(block_size: Sequence[int]) -> tuple[int, int, int]:
    """Return a block size in the order z, y, x."""
    x, y, z = _three_numbers("block size", block_size, 1, "Give x, y, z")
    return z, y, x


def _three_numbers(what: str, given: Sequence[int], least: int, remedy: str) -> tuple[int, int, int]:
    """Check three whole numbers, from the least upwards."""
    try:
        first, second, third = (operator.index(number) for number in given)
    except (TypeError, ValueError):
        first = second = third = least - 1
    if min(first, second, third) < least:
        raise UsageError(f"{what} {given!r}", f"it is not three whole numbers from {least} upwards", remedy)
    return first, second, third


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


def job(block: Block, resource: NeuroDataResource, function: BlockFunction) -> str:
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
        name = getattr(function, "__name__", type(function).__name__)
        raise DataError(f"{name} on block {block.box}", describe_error(error), "Correct the function") from error
    return block.key


_TILES: Tiles | None = None


def _setup(tiles: Tiles) -> None:
    """Keep in this worker where the pulled blocks lie."""
    global _TILES
    _TILES = tiles


def _run_on(box: Box, function: BlockFunction, halo: tuple[int, int, int]) -> float:
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
    if len({str(name) for name in named}) < len(named):
        raise ValueError(f"two of the names {list(named)} are one as text, and one of their values would be lost")
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
        to workers, or with `scratch` not be told from others; if another run works on the same blocks in `scratch`.
    NDSynapseError
        If data cannot be had, or the disk is full.
    """
    from nd_synapse.boss.resource import get_boss_resource

    resource = get_boss_resource(config_file)
    size = _zyx(block_size)
    margin = _three_numbers("halo", _declared(function, "halo", (0, 0, 0)) if halo is None else halo, 0, "Give z, y, x")
    workers = default_cpus() if cpus is None else parse_int("--cpus", cpus, 1, MOST)
    pulls = parse_int("--pulls", pulls, 1, MOST)
    limit = available_bytes() if memory_bytes is None else parse_int("memory_bytes", memory_bytes, 1, _MOST_BYTES)
    # where none was asked for by name, one that cannot be read is left out
    channels = [channel for channel in resource.requested_channels if channel in resource.readable_channels]
    dtypes = {channel: resource.dtype(channel) for channel in channels}
    blocks = blocks_of(resource.box, size)
    load = Load(
        resource.box, margin, [dtype.itemsize for dtype in dtypes.values()], _working_bytes(function), workers, pulls
    )
    load.check(size, limit)
    names = [(channel, str(dtype)) for channel, dtype in dtypes.items()]
    store = _store(scratch, function, [resource.identity, names, resource.box.ranges, size, margin])
    with store.locked():
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
            "it is not told from others by its name and its file",
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

        name = kind.removeprefix("volume-")
        dtype = _common_dtype(name, {store.open_plain(kind, key).dtype for key in saved})
        volumes[name] = BlockVolume(read, box, size, dtype)
    return volumes


def _common_dtype(name: str, dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    """Return a type that holds what all blocks returned under a name."""
    try:
        common = np.result_type(*dtypes)
    except TypeError:
        common = None
    if common is None or any(_loses(dtype, common) for dtype in dtypes):
        raise DataError(
            f"{name!r} of all blocks",
            f"blocks returned {', '.join(sorted(map(str, dtypes)))}, and no type holds them all",
            "Return the same type always",
        )
    return common


def _loses(dtype: np.dtype[Any], common: np.dtype[Any]) -> bool:
    """Tell whether values change in another type: numbers that become texts, large integers that become floats."""
    large = dtype.kind in "iu" and dtype.itemsize == 8 and common.kind in "fc"
    return large or (common.kind in "SU" and dtype.kind != common.kind)


def _rows(store: Store, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the rows of all blocks, one after another."""
    parts = [store.load("rows", key) for key in keys if store.has("rows", key)]
    names = list(dict.fromkeys(name for part in parts for name in part))
    if any(part.keys() != set(names) for part in parts):
        raise DataError("the rows of all blocks", "blocks returned different columns", "Return the same ones always")
    return {name: _column(name, [part[name] for part in parts]) for name in names}


def _column(name: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the parts of a column as one; an empty one has no say in its type, for numpy takes [] for floats."""
    told = [part for part in parts if len(part)] or parts
    return np.concatenate(told, dtype=_common_dtype(name, {part.dtype for part in told}))
