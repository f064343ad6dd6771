"""Writers of every format of stacks, each for a folder and a volume (z, y, x)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
import zarr
from hypothesis import assume

GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}


def write_plain(folder, volume):
    tifffile.imwrite(folder / "plain.tif", volume, **GREY)
    return [folder / "plain.tif"]


def write_deflate(folder, volume):
    tifffile.imwrite(
        folder / "deflate.tif",
        volume,
        compression="zlib",
        predictor=volume.dtype.kind == "u" and volume.itemsize < 8,
        **GREY,
    )
    return [folder / "deflate.tif"]


def write_tiled_big(folder, volume):
    tifffile.imwrite(folder / "tiled.tif", volume, tile=(16, 16), compression="zlib", bigtiff=True, **GREY)
    return [folder / "tiled.tif"]


def write_big_endian(folder, volume):
    tifffile.imwrite(folder / "motorola.tif", volume, byteorder=">", **GREY)
    return [folder / "motorola.tif"]


def write_one_page_for_all(folder, volume):
    """As ImageJ writes stacks above 4 GiB: one page, and the slices behind each other."""
    # tifffile packs bits in pages of their own, and writes what is one pixel wide on its side
    assume(volume.dtype != np.bool_ and volume.shape[2] > 1)
    description: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(folder / "contiguous.tif", volume, truncate=True, **description)
    return [folder / "contiguous.tif"]


def write_ome(folder, volume):
    # the OME schema has no uint64, and tifffile writes no OME image that is one pixel wide
    assume(volume.dtype != np.uint64 and min(volume.shape[1:]) > 4)
    form: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}, "compression": "zlib"}
    tifffile.imwrite(folder / "stack.ome.tif", volume[None, :, None], **form)
    return [folder / "stack.ome.tif"]


def write_slices(folder, volume):
    paths = []
    for z, one in enumerate(volume):
        paths.append(folder / f"PSD95_{z}.tif")
        tifffile.imwrite(paths[-1], one, **GREY)
    return sorted(paths)  # by letters: slice 10 stands before slice 2


def write_npy(folder, volume):
    np.save(folder / "stack.npy", volume)
    return [folder / "stack.npy"]


def write_npy_fortran(folder, volume):
    np.save(folder / "stack.npy", np.asfortranarray(volume[None]))
    return [folder / "stack.npy"]


def write_npy_big_endian(folder, volume):
    np.save(folder / "stack.npy", volume.astype(volume.dtype.newbyteorder(">")))
    return [folder / "stack.npy"]


def write_zarr2(folder, volume):
    return write_zarr(folder, volume, zarr_format=2)


def write_zarr(folder, volume, zarr_format=3):
    chunks = tuple(min(4, n) for n in volume.shape)
    array = zarr.create_array(
        folder / "stack.zarr", shape=volume.shape, chunks=chunks, dtype=volume.dtype, zarr_format=zarr_format
    )
    array[:] = volume
    return [folder / "stack.zarr"]


def write_ome_zarr(folder, volume):
    group = zarr.create_group(folder / "image.zarr")
    group.create_array("full", shape=(1, 1, *volume.shape), dtype=volume.dtype)[:] = volume[None, None]
    group.create_array("half", shape=(1, 1, 1, 1, 1), dtype=volume.dtype)
    axes = [{"name": name} for name in "tczyx"]
    scales = [{"axes": axes, "datasets": [{"path": "full"}, {"path": "half"}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    return [folder / "image.zarr"]


def write_ome_zarr2(folder, volume):
    group = zarr.create_group(folder / "image.zarr", zarr_format=2)
    group.create_array("0", shape=volume.shape, dtype=volume.dtype)[:] = volume
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    return [folder / "image.zarr"]


WRITERS = {
    writer.__name__.removeprefix("write_"): writer
    for writer in (
        write_plain,
        write_deflate,
        write_tiled_big,
        write_big_endian,
        write_one_page_for_all,
        write_ome,
        write_slices,
        write_npy,
        write_npy_fortran,
        write_npy_big_endian,
        write_zarr,
        write_zarr2,
        write_ome_zarr,
        write_ome_zarr2,
    )
}
