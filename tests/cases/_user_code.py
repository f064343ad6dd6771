"""What the cases of users' code look at: a volume of two blocks, and the answer or the error that ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.geometry import Box
from tests.cases import Case

BOX = Box.of_shape((4, 8, 8))
RAMP = np.arange(BOX.voxels, dtype=np.uint8).reshape(BOX.shape)
"""0 to 255, each once."""

Channels = Mapping[str, NDArray[Any]]


def _answer(observe: Callable[[Path], str], folder: Path) -> str:
    """Return what is observed, or the error that ends it."""
    try:
        return observe(folder)
    except Exception as error:  # noqa: BLE001 - whatever the program raises is its answer
        # what is to be done is the last sentence of a message
        found = str(error).partition(". ")[0].replace(str(folder), "FOLDER")
        return f"{type(error).__name__}: {found}"


def pulled_tiles(folder: Path) -> Tiles:
    """Return the pulled tiles of a box of two blocks, in an empty folder."""
    # relative, as --path is by default
    tiles = Tiles(Store(Path(os.path.relpath(folder))), "tiles", BOX, (2, 8, 8), {"ramp": np.dtype(np.uint8)})
    for tile in BOX.tiles(tiles.size):
        tiles.store.save_plain("tiles", f"0_{key_of(tile)}", RAMP[tile.slices()])
    return tiles


def case(name: str, given: str, observe: Callable[[Path], str], before: str, after: str, slow: bool = False) -> Case:
    return Case(name, given, before, after, partial(_answer, observe), slow)
