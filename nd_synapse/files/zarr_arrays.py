"""Zarr arrays and groups in folders, of format 2 or 3, and the finest level of OME-Zarr; zarr decodes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import zarr

from nd_synapse.errors import DataError
from nd_synapse.files.slabs import MAX_SLICE_BYTES, Stack, probed, stack_of_array

__all__ = ["array_names", "open_zarr"]


def open_zarr(path: Path) -> Stack:
    """Open an array, or the finest level of an OME-Zarr image, as a stack."""
    node = zarr.open(path, mode="r")
    array = _finest_level(path, node) if isinstance(node, zarr.Group) else node
    if "pickle" in str(array.metadata.to_dict()):
        # decoding such a chunk runs any program that its writer put there
        raise DataError(str(path), "its chunks are pickles, which may run code", "Save it with another codec")
    chunk = array.shards or array.chunks
    size = math.prod(chunk) * array.dtype.itemsize
    if size > MAX_SLICE_BYTES:
        found = f"its chunks of {chunk} have {size / 2**30:.1f} GiB, more than {MAX_SLICE_BYTES / 2**30:.0f} GiB"
        raise DataError(str(path), found, "Save it in smaller chunks")
    return probed(stack_of_array(array, str(path)))


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of a group; DataError where it is a single array, or has none."""
    node = zarr.open(path, mode="r")
    names = sorted(name for name, _ in node.arrays()) if isinstance(node, zarr.Group) else []
    if not names:
        found = "it is a group without arrays" if isinstance(node, zarr.Group) else "it is a single array"
        raise DataError(str(path), found, "Give a Zarr group with an array z, y, x for each channel")
    return names


def _finest_level(path: Path, group: zarr.Group) -> Any:
    """Return the array of full resolution of an OME-Zarr image."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not multiscales:
        names = ", ".join(sorted(name for name, _ in group.arrays())[:8]) or "none"
        found = f"it is a Zarr group without OME-Zarr metadata; its arrays: {names}"
        raise DataError(str(path), found, f"Name one of them, such as {path}/NAME")
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in multiscales[0].get("axes", [])]
    if axes and axes[-3:] != ["z", "y", "x"]:
        raise DataError(str(path), f"its axes are {', '.join(axes)}", "Save it with the axes z, y, x last")
    return group[multiscales[0]["datasets"][0]["path"]]
