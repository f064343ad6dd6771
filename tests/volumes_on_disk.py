"""One volume in each form that a source may have, written by the libraries of those formats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import tifffile
import zarr
from numpy.typing import NDArray

__all__ = ["FORMS", "SIZE_NM", "uri_of", "write"]

SIZE_NM = (70.0, 100.0, 100.0)
"""Voxel size of every volume."""

Channels = Mapping[str, NDArray[Any]]


def write(form: str, place: Path | Any, channels: Channels) -> None:
    """Write a volume in a form, to a path or, for a Zarr, also to a store."""
    FORMS[form](place, channels)


def uri_of(form: str, place: str | Path) -> str:
    """Return the URI of a volume in a form: those that have no mark of their own say what they are."""
    return {"n5": "n5://", "precomputed": "precomputed://", "shards": "precomputed://"}.get(form, "") + str(place)


def _chunk(shape: Sequence[int]) -> tuple[int, ...]:
    """Return extents of chunks that are small in a small volume, and some hundreds in a large one."""
    return tuple(min(n, max(least, n // 8)) for n, least in zip(shape, (2, 32, 32), strict=True))


def _group(place: Any, channels: Channels, zarr_format: Any) -> None:
    group = zarr.open_group(place, mode="w", zarr_format=zarr_format)
    for name, voxels in channels.items():
        chunks = _chunk(voxels.shape)
        sharded: dict[str, Any] = {"shards": tuple(2 * n for n in chunks)} if zarr_format == 3 else {}
        array = group.create_array(name, shape=voxels.shape, dtype=voxels.dtype, chunks=chunks, **sharded)
        array[:] = voxels
        array.attrs.update(axis_names=["z", "y", "x"], voxel_size=[70, 100, 100], units=["nm"] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns that version 3 has no standard for it yet
        zarr.consolidate_metadata(group.store)


def _ome(place: Any, channels: Channels, zarr_format: Any) -> None:
    group = zarr.open_group(place, mode="w", zarr_format=zarr_format)
    whole = np.stack(list(channels.values()))
    named: dict[str, Any] = {"dimension_names": ["c", "z", "y", "x"]} if zarr_format == 3 else {}
    for level in range(2):
        voxels = whole[:, :, :: 2**level, :: 2**level]
        array = group.create_array(
            str(level), shape=voxels.shape, dtype=voxels.dtype, chunks=(1, *_chunk(voxels.shape[1:])), **named
        )
        array[:] = voxels
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [1, 0.07, 0.1 * 2**level, 0.1 * 2**level]}],
        }
        for level in range(2)
    ]
    ome: dict[str, Any] = {
        "multiscales": [{"axes": axes, "datasets": datasets}],
        "omero": {"channels": [{"label": name} for name in channels]},
    }
    group.attrs.update(ome if zarr_format == 2 else {"ome": {"version": "0.5", **ome}})


def _imagej(path: Path, voxels: NDArray[Any], **more: Any) -> None:
    metadata = {"axes": "ZYX", "spacing": 0.07, "unit": "um"}
    tifffile.imwrite(path, voxels, imagej=True, resolution=(10, 10), metadata=metadata, **more)


def _stacks(path: Path, channels: Channels) -> None:
    path.mkdir()
    for name, voxels in channels.items():
        _imagej(path / f"{name}.tif", voxels)


def _slices(path: Path, channels: Channels) -> None:
    path.mkdir()
    for name, voxels in channels.items():
        for z, plane in enumerate(voxels):
            _imagej(path / f"{name}_z{z:02d}.tif", plane[None])


def _folders(path: Path, channels: Channels) -> None:
    for name, voxels in channels.items():
        (path / name).mkdir(parents=True)
        for z, plane in enumerate(voxels):
            _imagej(path / name / f"section {z + 9}.tif", plane[None])


def _ome_tiff(path: Path, channels: Channels) -> None:
    said = {f"PhysicalSize{axis}": size / 1000 for axis, size in zip("ZYX", SIZE_NM, strict=True)}
    metadata = {"axes": "CZYX", "Channel": {"Name": list(channels)}, **said}
    tifffile.imwrite(path, np.stack(list(channels.values())), metadata=metadata, compression="zlib", ome=True)


def _n5(path: Path, channels: Channels) -> None:
    for name, voxels in channels.items():
        metadata = {
            "dimensions": voxels.shape[::-1],
            "blockSize": _chunk(voxels.shape)[::-1],
            "dataType": str(voxels.dtype),
            "axes": ["x", "y", "z"],
            "resolution": SIZE_NM[::-1],
            "units": ["nm"] * 3,
            "compression": {"type": "gzip"},
        }
        _tensorstore({"driver": "n5", "metadata": metadata}, path / name, voxels.T)


def _precomputed(path: Path, channels: Channels, **more: Any) -> None:
    for name, voxels in channels.items():
        scale = {"size": voxels.shape[::-1], "encoding": "raw", "resolution": SIZE_NM[::-1]}
        scale["chunk_size"] = _chunk(voxels.shape)[::-1]
        metadata = {"data_type": str(voxels.dtype), "num_channels": 1, "type": "image"}
        spec = {"multiscale_metadata": metadata, "scale_metadata": {**scale, "voxel_offset": (5, 6, 7), **more}}
        _tensorstore({"driver": "neuroglancer_precomputed", **spec}, path / name, voxels.T[..., None])


def _tensorstore(spec: dict[str, Any], path: Path, voxels: NDArray[Any]) -> None:
    spec["kvstore"] = {"driver": "file", "path": f"{path}/"}
    tensorstore.open(spec, create=True).result().write(voxels).result()


_SHARDS = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 2,
    "shard_bits": 2,
    "hash": "murmurhash3_x86_128",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}

FORMS: dict[str, Callable[[Any, Channels], None]] = {
    "zarr2.zarr": lambda place, channels: _group(place, channels, 2),
    "zarr3.zarr": lambda place, channels: _group(place, channels, 3),
    "ome04.zarr": lambda place, channels: _ome(place, channels, 2),
    "ome05.zarr": lambda place, channels: _ome(place, channels, 3),
    "stacks": _stacks,
    "slices": _slices,
    "folders": _folders,
    "one.ome.tif": _ome_tiff,
    "n5": _n5,
    "precomputed": _precomputed,
    "shards": lambda place, channels: _precomputed(place, channels, sharding=_SHARDS),
}
"""File name to what writes it."""
