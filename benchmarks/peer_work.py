"""The work of `benchmarks.peers` as others do it: ``.venv/peers/bin/python peer_work.py NAME VOLUME OUT``.

Nothing of ours is imported; what is done with a block stands here for all. Axes are z, y, x.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("first", "second")
BLOCK = (16, 512, 512)
CHUNK = (16, 256, 256)
HALO = (1, 2, 2)
LEVEL = 60
"""Voxels above it in both channels belong to objects."""
PROCESSES = 2

_opened: dict[str, Any] = {}


def contrast(channels: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Return how far both channels of a block stand out from what is two pixels or a section away; without the halo."""
    found = None
    for voxels in channels.values():
        wide = voxels.astype(np.int16)
        centre = 6 * wide[1:-1, 2:-2, 2:-2]
        centre -= wide[:-2, 2:-2, 2:-2]
        centre -= wide[2:, 2:-2, 2:-2]
        centre -= wide[1:-1, :-4, 2:-2]
        centre -= wide[1:-1, 4:, 2:-2]
        centre -= wide[1:-1, 2:-2, :-4]
        centre -= wide[1:-1, 2:-2, 4:]
        found = centre if found is None else np.minimum(found, centre, out=found)
    assert found is not None
    return np.clip(found, 0, 255).astype(np.uint8)


contrast.halo = HALO  # type: ignore[attr-defined] # the way to declare it


def bright(channels: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return the voxels of objects in a block."""
    first, second = (channels[name] for name in CHANNELS)
    both: NDArray[np.bool_] = (first > LEVEL) & (second > LEVEL)
    return both


def nothing(_channels: Mapping[str, NDArray[Any]]) -> None:
    """Have a block pulled, and do nothing with it."""


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the blocks of a volume."""
    for start in np.ndindex(*(-(-n // step) for n, step in zip(shape, BLOCK, strict=True))):
        yield tuple(slice(i * s, min(n, (i + 1) * s)) for i, s, n in zip(start, BLOCK, shape, strict=True))


def _open(volume: str, out: str) -> None:
    """Open volume and result in a process."""
    import zarr

    group: Any = zarr.open_group(volume, mode="r")
    _opened.update({name: group[name] for name in CHANNELS}, out=np.load(out, mmap_mode="r+"))


def _contrast_of(block: tuple[slice, ...]) -> None:
    """Read a block with its halo, and write its contrast."""
    shape = _opened["out"].shape
    wide = tuple(slice(max(0, b.start - h), min(n, b.stop + h)) for b, h, n in zip(block, HALO, shape, strict=True))
    lacks = [(w.start - b.start + h, b.stop + h - w.stop) for w, b, h in zip(wide, block, HALO, strict=True)]
    read = {name: np.pad(_opened[name][wide], lacks, mode="symmetric") for name in CHANNELS}
    _opened["out"][block] = contrast(read)


def pool(volume: str, out: str) -> None:
    """Run the function by `multiprocessing.Pool`; its processes write into one file."""
    import zarr

    shape = zarr.open_group(volume, mode="r")[CHANNELS[0]].shape  # type: ignore[union-attr] # an array
    np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=shape)
    with multiprocessing.Pool(PROCESSES, _open, (volume, out)) as workers:
        workers.map(_contrast_of, list(blocks(shape)), chunksize=1)


def _of_channels(*voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the contrast with the halo, which dask cuts off."""
    whole: NDArray[np.uint8] = np.zeros(voxels[0].shape, np.uint8)
    whole[1:-1, 2:-2, 2:-2] = contrast(dict(zip(CHANNELS, voxels, strict=True)))
    return whole


def _dask_channels(volume: str) -> list[Any]:
    import dask
    import dask.array as da

    dask.config.set(scheduler="threads", num_workers=PROCESSES)
    return [da.from_zarr(volume, component=name, chunks=BLOCK) for name in CHANNELS]


def map_overlap(volume: str, out: str) -> None:
    """Run the function by dask, by threads, which share what NumPy computes without the lock of Python."""
    import dask.array as da

    channels = _dask_channels(volume)
    found = da.map_overlap(_of_channels, *channels, depth=HALO, boundary="reflect", dtype=np.uint8)
    # into one file, block by block, as the others do
    file = np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=found.shape)
    da.store(found, file, lock=False)


def patchworks(volume: str, out: str) -> None:
    """Label and measure objects by patchworks."""
    import cc3d
    import patchworks as peer
    from patchworks._tables import measure_objects

    first, second = _dask_channels(volume)
    peer.tile_process(
        (first > LEVEL) & (second > LEVEL),
        lambda tile: cc3d.connected_components(tile, connectivity=26).astype(np.int32),
        tile_shape=BLOCK,
        overlap=0,
        max_workers=PROCESSES,
        progress=False,
        write_to=f"{out}.zarr",
    )
    import zarr

    group: Any = zarr.open_group(volume, mode="r")
    labels: Any = zarr.open_group(f"{out}.zarr", mode="r")["labels"]
    images = {name: group[name] for name in CHANNELS}
    columns = measure_objects(labels, images=images, axes="zyx", n_workers=PROCESSES)
    _write(out, {name: columns[name] for name in ("label", "area_voxels", "centroid_z", "centroid_y", "centroid_x")})


def _sums(labels: NDArray[Any], start: tuple[int, ...], images: list[NDArray[Any]], number: int) -> NDArray[Any]:
    """Return voxels, sums of coordinates and of intensities by label of a block: float64 (number + 1, 6)."""
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    ids = flat[places]
    at = np.unravel_index(places, labels.shape)
    weights = [None, *(a + s for a, s in zip(at, start, strict=True)), *(image.ravel()[places] for image in images)]
    return np.stack([np.bincount(ids, weights=w, minlength=number + 1) for w in weights], axis=1)


def dask_image(volume: str, out: str) -> None:
    """Label by dask-image, and measure by a sum of `bincount` over the blocks."""
    import dask
    import dask.array as da
    from dask_image.ndmeasure import label

    first, second = _dask_channels(volume)
    labels, count = label((first > LEVEL) & (second > LEVEL), np.ones((3, 3, 3)))
    file = np.lib.format.open_memmap(out, mode="w+", dtype=np.int32, shape=labels.shape)
    _, number = dask.compute(da.store(labels, file, lock=False, compute=False), count)
    labels = da.from_array(file, chunks=BLOCK)
    total = np.zeros((number + 1, 6))
    for block in blocks(file.shape):
        total += _sums(
            file[block], tuple(s.start for s in block), [c[block].compute() for c in (first, second)], number
        )
    _write(out, _columns(total))


def in_memory(volume: str, out: str) -> None:
    """Label and measure all at once, in one process."""
    import cc3d
    import zarr

    group: Any = zarr.open_group(volume, mode="r")
    channels = {name: group[name][:] for name in CHANNELS}
    labels, number = cc3d.connected_components(bright(channels), connectivity=26, return_N=True)
    np.save(out, labels)
    _write(out, _columns(_sums(labels, (0, 0, 0), list(channels.values()), number)))


def _columns(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the table of sums."""
    voxels = sums[1:, :1]
    names = ("z", "y", "x", *CHANNELS)
    means = dict(zip(names, (sums[1:, 1:] / np.maximum(voxels, 1)).T, strict=True))
    return {"id": np.arange(1, len(sums)), "voxels": voxels[:, 0].astype(int), **means}


def _write(out: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a table."""
    with Path(f"{out}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


WORK = {
    "pool": pool,
    "map_overlap": map_overlap,
    "patchworks": patchworks,
    "dask_image": dask_image,
    "in_memory": in_memory,
}

if __name__ == "__main__":
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    WORK[sys.argv[1]](*sys.argv[2:])
