"""A volume of half as many voxels along some axes: how each coarser level of masks and labels is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["halved"]


def halved(voxels: NDArray[Any], steps: Sequence[int]) -> NDArray[Any]:
    """Return the maximum of each 1 or 2 voxels along z, y and x, by `steps`; the last may be of fewer.

    The largest id wins: nothing vanishes that touches nothing, however small it is, and no id is made up. A stride
    loses three of four voxels in the plane, and most often the most frequent id is the background.
    """
    for axis, step in enumerate(steps):
        if step == 1:
            continue
        before = (slice(None),) * axis
        odd = voxels[*before, 1::2]
        voxels = voxels[*before, ::2].copy()
        first = voxels[*before, : odd.shape[axis]]
        np.maximum(first, odd, out=first)
    return voxels
