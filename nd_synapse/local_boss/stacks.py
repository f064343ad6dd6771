"""Image stacks of any format that is taken: which file is what, and in which order files form a stack.

It decodes no TIFF (`tiffs` does) and writes nothing (`ingest` does).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.files.zarr_arrays import checked_array, open_folder
from nd_synapse.local_boss.slabs import FileDoor, Stack, probed, stack_of_array
from nd_synapse.local_boss.tiffs import open_slices, open_tiff
from nd_synapse.paths import refuse_special

__all__ = ["Stack", "natural_order", "open_stack", "stack_of_array"]

_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER_BYTES = 2**16
_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")


def open_stack(paths: Sequence[Path]) -> Stack:
    """Open a stack; its slices are read later."""
    for path in paths:
        with FileDoor(str(path)):
            exists = path.exists()
            if exists:
                refuse_special(path)
        if not exists:
            raise UnknownNameError(str(path), "there is no such file", "Check the path")
    if not paths:
        raise UsageError("a stack", "no file was given", "Name one or more files")
    if len(paths) > 1:
        return open_slices(natural_order(paths))
    (path,) = paths
    with FileDoor(str(path)):
        if path.is_dir():
            return _open_zarr(path)
        with path.open("rb") as file:
            head = file.read(len(_NPY_MAGIC) + 6)
        if head.startswith(_NPY_MAGIC):
            # from version 2 on, the length of its header may be 4 GiB, which NumPy would read before it refuses it
            if head[6:7] > b"\1" and int.from_bytes(head[8:12], "little") > _NPY_HEADER_BYTES:
                raise DataError(str(path), "its header is longer than that of any array", "Write it anew")
            # Never pickles: an .npy file of objects could run code of whoever wrote it.
            return stack_of_array(np.load(path, mmap_mode="r", allow_pickle=False), str(path))
        return open_tiff(path)


def natural_order(paths: Sequence[Path]) -> list[Path]:
    """Sort the files of a stack by the numbers in their names, and check that they form one sequence."""
    parts = {path: re.split(r"(\d+)", path.name) for path in paths}
    ordered = sorted(paths, key=lambda path: [int(part) for part in parts[path][1::2]])
    for before, after in pairwise(ordered):
        if parts[before][0::2] != parts[after][0::2]:
            found = "their names differ in more than the slice number, so they may belong to different stacks"
            raise UsageError(f"{before.name} and {after.name}", found, "Give the slices of one channel only")
        if [int(n) for n in parts[before][1::2]] == [int(n) for n in parts[after][1::2]]:
            raise UsageError(
                f"{before.name} and {after.name}", "they have the same slice number", "Give each slice once"
            )
    _check_gaps(ordered, [[int(n) for n in parts[path][1::2]] for path in ordered])
    return ordered


def _check_gaps(ordered: list[Path], numbers: list[list[int]]) -> None:
    """Raise UsageError if one number counts the slices and does not do so in equal steps."""
    counting = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(counting) != 1:
        return
    steps = [after - before for before, after in pairwise(counting[0])]
    for index, step in enumerate(steps):
        if step != min(steps):
            where = f"{ordered[index].name} and {ordered[index + 1].name}"
            remedy = "Add the missing slices (a black one where a section was lost), or renumber the files"
            raise UsageError(where, "slices are missing between them", remedy)


def _open_zarr(path: Path) -> Stack:
    if not any((path / marker).is_file() for marker in _ZARR_MARKERS):
        raise UsageError(str(path), "it is a folder, not a Zarr array", f"Name its files instead: {path}/*.tif")
    node = open_folder(path)
    array = _finest_level(path, node) if isinstance(node, zarr.Group) else node
    # shape and type are looked at first; one slice is read at a time, or as many as fit a slab
    stack_of_array(array, str(path))
    return probed(stack_of_array(checked_array(array, str(path), (*array.chunks[:-2], *array.shape[-2:])), str(path)))


def _finest_level(path: Path, group: zarr.Group) -> Any:
    """Return the array of full resolution of an OME-Zarr image."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not multiscales:
        names = ", ".join(sorted(name for name, _ in group.arrays())[:8]) or "none"
        found = f"it is a Zarr group without OME-Zarr metadata; its arrays: {names}"
        raise DataError(str(path), found, f"Name one array, such as {path}/NAME")
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in multiscales[0].get("axes", [])]
    if axes and axes[-3:] != ["z", "y", "x"]:
        raise DataError(str(path), f"its axes are {', '.join(axes)}", "Save it with the axes z, y, x last")
    return group[multiscales[0]["datasets"][0]["path"]]
