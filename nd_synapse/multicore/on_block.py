"""What a worker does with one block: run the function, check what it returned, save it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of, mirrored
from nd_synapse.blocks.packing import digest
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.errors import NDSynapseError, StorageError
from nd_synapse.geometry import Box
from nd_synapse.multicore.historical import BlockFunction, DataDict
from nd_synapse.user_code import array_of, returns_once

__all__ = ["is_finished", "run_on_block", "set_up_worker"]

log = logging.getLogger(__name__)

_tiles: Tiles | None = None


def set_up_worker(tiles: Tiles) -> None:
    """Keep in this worker where the pulled blocks lie."""
    global _tiles
    _tiles = tiles


def run_on_block(box: Box, function: BlockFunction, halo: tuple[int, int, int]) -> float:
    """Run a function on a block that was pulled, and save what it returns; return the seconds that saving took."""
    tiles = _tiles
    if tiles is None:
        raise NDSynapseError("a block in a worker", "the worker has no volume", "Report this as a defect")
    with returns_once("the function on a block"):
        returned = function({channel: _voxels(tiles, channel, box, halo) for channel in tiles.channels})
    began = time.monotonic()
    volumes, columns = _sorted(returned, box, halo)
    digests = {f"volume-{name}": np.array([digest(array)]) for name, array in volumes.items()}
    for name, array in volumes.items():
        tiles.store.save_plain(f"volume-{name}", key_of(box), array)
    if columns:
        tiles.store.save("rows", key_of(box), columns)
        digests["rows"] = np.empty(0)  # it has a check sum of its own
    # it comes last: with it the block is finished
    tiles.store.save("done", key_of(box), digests)
    return time.monotonic() - began


def is_finished(store: Store, box: Box) -> bool:
    """Return whether a block was finished, and all that was saved of it is there and whole."""
    if not store.sound("done", key_of(box)):
        return False
    digests = store.load("done", key_of(box))
    try:
        return all(
            store.sound(kind, key_of(box))
            if kind == "rows"
            else digest(store.open_plain(kind, key_of(box))) == str(known[0])
            for kind, known in digests.items()
        )
    except StorageError as error:
        # its remedy is for a run that cannot go on
        log.warning("block %s is run again: %s: %s", box, error.requested, error.found)
        return False


def _voxels(tiles: Tiles, channel: str, box: Box, halo: tuple[int, int, int]) -> NDArray[Any]:
    """Read a block of a channel with its halo."""
    volume = tiles.channel(channel)
    if any(halo):
        inside = Box.of_shape(box.shape, tuple(b - v for b, v in zip(box.start, tiles.volume.start, strict=True)))
        return mirrored(volume, inside, halo)
    voxels = volume.part(box)
    voxels.flags.writeable = False
    return voxels


def _sorted(returned: Any, box: Box, halo: tuple[int, int, int]) -> tuple[DataDict, DataDict]:
    """Return the arrays and the columns among what a function returned, checked."""
    if returned is None:
        return {}, {}
    named = returned if isinstance(returned, Mapping) else {"result": returned}
    if len({str(name) for name in named}) < len(named):
        raise ValueError(f"two of the names {list(named)} are one as text, and one of their values would be lost")
    volumes, columns = {}, {}
    for name, value in named.items():
        if not re.fullmatch(r"[\w .-]{1,100}", str(name)):
            raise ValueError(f"{name!r} is no name of a volume or column: letters, digits, blanks, _ . - only")
        array = array_of(f"{str(name)!r} of a block", value)
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
