"""The mirrored border of a volume: what a pipeline sees beyond the box that was asked for.

It is the one definition of border handling; pipelines have none of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.geometry import Box
from nd_synapse.volumes.volume import Volume

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
    inside = [
        (max(0, start - margin), min(length, stop + margin))
        for (start, stop), margin, length in zip(box.ranges, halo, volume.shape, strict=True)
    ]
    extents = [stop - start + 2 * margin for (start, stop), margin in zip(box.ranges, halo, strict=True)]
    voxels: NDArray[Any] = np.empty(extents, volume.dtype)
    # where the voxels of the volume go; all else is a mirror image of planes among them
    windows = [
        slice(low - start + margin, high - start + margin)
        for (low, high), start, margin in zip(inside, box.start, halo, strict=True)
    ]
    voxels[windows[0], windows[1], windows[2]] = volume[slice(*inside[0]), slice(*inside[1]), slice(*inside[2])]
    for axis, (window, length) in enumerate(zip(windows, volume.shape, strict=True)):
        planes = (slice(None),) * axis
        offset = box.start[axis] - halo[axis]
        for place in [*range(window.start), *range(window.stop, extents[axis])]:
            reflected = (place + offset) % (2 * length)
            source = min(reflected, 2 * length - 1 - reflected) - offset
            voxels[*planes, place] = voxels[*planes, source]
    voxels.flags.writeable = False
    return voxels
