"""Ramps in BOSS, and functions of users on their blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE = (5, 20, 30)


def save(data_dict: dict[str, NDArray[Any]]) -> None:
    """Save a block under a name that its voxels give: what a user's function would do."""
    block = data_dict["ramp"]
    folder = Path(os.environ["ND_MULTICORE_TEST_FOLDER"])
    np.save(folder / f"{int(block.min())}.npy", np.stack([data_dict["ramp"], data_dict["twice"]]))


def ramp() -> NDArray[np.uint16]:
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


class Unloadable:
    """What can be pickled here, and cannot be loaded in a worker."""

    def __call__(self, data_dict: dict[str, NDArray[Any]]) -> None: ...

    def __reduce__(self) -> Any:
        return int, ("no number",)


unloadable = Unloadable()
