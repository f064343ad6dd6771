"""Arrays on disk that the workers of one run share: voxels in, labels and masks out.

They are not results: nothing here is uploaded, and a run that ends well removes them.

A file is plain ``.npy``, so that any part of it is read and written by mapping it, never through a pipe.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from box import Box
from errors import StorageError

__all__ = ["create", "mirrored", "open_array"]


def create(path: Path, shape: Sequence[int], dtype: DTypeLike) -> None:
    """Create an array of zeros whose disk space is reserved.

    Parameters
    ----------
    path : Path
        A file of the scratch folder; replaced if it exists.
    shape : sequence of int
        Shape of the array.
    dtype : dtype
        Its type.

    Raises
    ------
    StorageError
        If there is no room for it or the folder cannot be written.
    """
    bytes_needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        mapped = open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=tuple(int(n) for n in shape))
        del mapped
        with path.open("r+b") as file:
            # without this a full disk shows as a SIGBUS in the worker that touches the missing page
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        asked = f"reserving {bytes_needed / 2**20:,.0f} MiB of scratch space in {path.parent}"
        remedy = "Free space there or choose another folder with --path"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "Check the folder's permissions or choose another with --path"
        raise StorageError(asked, str(error.strerror or error).lower(), remedy) from error


def open_array(path: Path, write: bool = False) -> NDArray[Any]:
    """Map an array that `create` made.

    Parameters
    ----------
    path : Path
        Its file.
    write : bool
        Whether what is written into the array goes to the file.

    Returns
    -------
    ndarray
        Read-only unless `write`.
    """
    array: NDArray[Any] = np.load(path, mmap_mode="r+" if write else "r", allow_pickle=False)
    return array


def mirrored(array: NDArray[Any], box: Box, halo: Sequence[int]) -> NDArray[Any]:
    """Read a box with a complete halo, the array mirrored at its borders.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        The whole volume.
    box : Box
        What to read, in indices of `array`.
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
    for (start, stop), margin, length in zip(box.ranges, halo, array.shape, strict=True):
        wanted = np.arange(start - margin, stop + margin) % (2 * length)
        wanted = np.where(wanted < length, wanted, 2 * length - 1 - wanted)
        low = int(wanted.min())
        region.append(slice(low, int(wanted.max()) + 1))
        indices.append(wanted - low)
    voxels: NDArray[Any] = np.array(array[tuple(region)])
    for axis, wanted in enumerate(indices):
        if len(wanted) != voxels.shape[axis] or wanted[0] != 0 or np.any(np.diff(wanted) != 1):
            voxels = np.take(voxels, wanted, axis=axis)
    voxels.flags.writeable = False
    return voxels
