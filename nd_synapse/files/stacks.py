"""Image stacks of any format: which file is what, and in which order several files form a stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from nd_synapse.errors import UnknownNameError, UsageError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack, stack_of_array
from nd_synapse.files.tiff import open_slices, open_tiff

__all__ = ["Stack", "is_zarr", "natural_order", "open_stack", "stack_of_array"]

_NPY_MAGIC = b"\x93NUMPY"
_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")


def open_stack(paths: Sequence[Path]) -> Stack:
    """Open a stack: one multi-page TIFF, Zarr array or .npy file, or one TIFF a slice; its slices are read later."""
    for path in paths:
        with reading(path):
            if not path.exists():
                raise UnknownNameError(str(path), "there is no such file", "Check the path")
    if not paths:
        raise UsageError("a stack", "no file was given", "Name one or more files")
    if len(paths) > 1:
        return open_slices(natural_order(paths))
    (path,) = paths
    with reading(path):
        if path.is_dir():
            if not is_zarr(path):
                raise UsageError(str(path), "it is a folder, not a Zarr array", f"Name its files instead: {path}/*.tif")
            # zarr takes a third of a second to import, and most users have TIFF files
            from nd_synapse.files.zarr_arrays import open_zarr

            return open_zarr(path)
        with path.open("rb") as file:
            head = file.read(len(_NPY_MAGIC))
        if head == _NPY_MAGIC:
            # never pickles: an .npy file of objects could run code
            return stack_of_array(np.load(path, mmap_mode="r", allow_pickle=False), str(path))
        return open_tiff(path)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((path / marker).is_file() for marker in _ZARR_MARKERS)


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
