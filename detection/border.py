"""The mirrored border of a volume: what a pipeline sees beyond the box that was asked for.

It is the one definition of border handling; pipelines have none of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from box import Box
from volume import Volume

__all__ = ["mirrored"]


def mirrored(volume: Volume, box: Box, halo: Sequence[int]) -> NDArray[Any]:
    """Read a box with a complete halo, the volume mirrored at its borders.

    Parameters
    ----------
    volume : ndarray or the like, shape (z, y, x)
        The whole volume.
    box : Box
        What to read, in indices of `volume`.
    halo : sequence of int
        Voxels (z, y, x) to add on each side.

    Returns
    -------
    ndarray, shape of `box` plus twice `halo`
        Beyond a border the volume is repeated mirrored, its border voxel twice (``c b a | a b c``), however often the
        halo needs it. Read-only.
    """
    indices = []
    region = []
    for (start, stop), margin, length in zip(box.ranges, halo, volume.shape, strict=True):
        wanted = np.arange(start - margin, stop + margin) % (2 * length)
        wanted = np.where(wanted < length, wanted, 2 * length - 1 - wanted)
        low = int(wanted.min())
        region.append(slice(low, int(wanted.max()) + 1))
        indices.append(wanted - low)
    voxels: NDArray[Any] = np.array(volume[region[0], region[1], region[2]])
    for axis, wanted in enumerate(indices):
        if len(wanted) != voxels.shape[axis] or np.any(wanted != np.arange(len(wanted))):
            voxels = np.take(voxels, wanted, axis=axis)
    voxels.flags.writeable = False
    return voxels
