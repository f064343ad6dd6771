"""Volumes of every format: which file is what; this is the one way in to image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nd_synapse.errors import DataError, UsageError
from nd_synapse.files.formats import is_zarr, refuse_foreign
from nd_synapse.files.image import Image, image_of_array
from nd_synapse.files.names import is_tiff_name, natural_order, stem
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack, probed
from nd_synapse.files.tiff import open_slices, open_tiff

__all__ = ["Stack", "natural_order", "open_channels", "open_image", "open_stack", "stack_of_array"]

_NPY_MAGIC = b"\x93NUMPY"


def open_image(path: Path) -> Image:
    """Open a TIFF file, a Zarr array, an OME-Zarr image or a .npy file."""
    with reading(path):
        if is_zarr(path):
            # zarr takes a third of a second to import, and most users have TIFF files
            from nd_synapse.files.zarr_arrays import open_zarr

            return open_zarr(path)
        refuse_foreign(path)
        if path.is_dir():
            raise UsageError(str(path), "it is a folder, not a Zarr array", f"Name its files instead: {path}/*.tif")
        if _is_npy(path):
            # never pickles: an .npy file of objects could run code
            return image_of_array(np.load(path, mmap_mode="r", allow_pickle=False), str(path))
        return open_tiff(path)


def open_stack(paths: Sequence[Path], pattern: str | None = None) -> Stack:
    """Open a stack: one file as `open_image` does, or one TIFF a slice, ordered by `pattern` or by their names."""
    if not paths:
        raise UsageError("a stack", "no file was given", "Name one or more files")
    if pattern is None and len(paths) == 1:
        return _stack(open_image(paths[0]))
    ordered = natural_order(paths, pattern)
    for path in ordered:
        with reading(path):
            refuse_foreign(path)
            if path.is_dir() or _is_npy(path):
                raise DataError(
                    str(path), "it is no TIFF, and of several files each is a TIFF of one slice", "Give it alone"
                )
    return _stack(open_slices(ordered))


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_NPY_MAGIC)) == _NPY_MAGIC


def _stack(image: Image, channel: int | None = None) -> Stack:
    with reading(image.name):
        return probed(image.stack(channel))


def stack_of_array(array: Any, name: str) -> Stack:
    """Present anything that slices like an array as a stack: z, y, x; y, x is one slice; further axes have length 1."""
    return image_of_array(array, name).stack()


def open_channels(path: Path) -> dict[str, Callable[[], Stack]]:
    """Return how to open each channel, by name: of a folder of TIFF files, a Zarr group, or an image."""
    with reading(path):
        if path.is_dir() and not is_zarr(path):
            refuse_foreign(path)
            files = [file for file in sorted(path.iterdir()) if is_tiff_name(file.name) and file.name[0] != "."]
            if not files:
                wanted = "Give a folder with a TIFF stack a channel, or a Zarr group with an array a channel"
                raise DataError(str(path), "it holds no image volume", wanted)
            return _by_name(path, [(stem(file.name), partial(open_stack, [file])) for file in files])
        if is_zarr(path):
            from nd_synapse.files.zarr_arrays import array_names

            if names := array_names(path):
                return {name: partial(open_stack, [path / name]) for name in names}
    image = open_image(path)
    if image.channel_count == 1:
        return {stem(path.name): partial(_stack, image)}
    called = image.channels or map(str, range(image.channel_count))
    return _by_name(path, [(name, partial(_stack, image, place)) for place, name in enumerate(called)])


def _by_name(path: Path, channels: list[tuple[str, Callable[[], Stack]]]) -> dict[str, Callable[[], Stack]]:
    names = [name for name, _ in channels]
    for name in names:
        if names.count(name) > 1:
            raise DataError(str(path), f"{names.count(name)} of its channels are called {name}", "Keep one a name")
    return dict(channels)
