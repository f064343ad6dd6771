"""Volumes of every format: which file is what; this is the one way in to image files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_synapse.errors import DataError, UsageError, few
from nd_synapse.files.formats import is_zarr, refuse_foreign
from nd_synapse.files.image import Image, image_of_array
from nd_synapse.files.names import by_channel, is_tiff_name, natural_order, stem
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack, probed
from nd_synapse.files.tiff import open_slices, open_tiff

if TYPE_CHECKING:
    from nd_synapse.files.zarr_arrays import Node

__all__ = [
    "Opener",
    "Stack",
    "channels_of",
    "images_of_node",
    "natural_order",
    "open_channels",
    "open_image",
    "open_images",
    "open_stack",
    "stack_of_array",
]

log = logging.getLogger(__name__)

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
    """Return how to open each channel, by name, as a stack; see `open_images`."""
    return {name: partial(_opened_stack, opener) for name, opener in open_images(path).items()}


Opener = Callable[[], tuple[Image, int | None]]
"""Opens the image that a channel is in, and says which of its channels it is; None where it has only one."""


def _opened_stack(opener: Opener) -> Stack:
    return _stack(*opener())


def open_images(path: Path) -> dict[str, Opener]:
    """Return how to open each channel, by name: of a folder of TIFF files, a Zarr group, or an image.

    A folder has a stack a channel, or one file a slice: the words of their names, or folders in it, are the channels.
    """
    with reading(path):
        if is_zarr(path):
            from nd_synapse.files.zarr_arrays import open_node

            return images_of_node(stem(path.name), str(path), open_node(path), 0)
        if path.is_dir():
            refuse_foreign(path)
            return _by_name(path, _of_folder(path))
    return channels_of(stem(path.name), str(path), open_image(path))


def images_of_node(title: str, name: str, node: Node, level: int = 0) -> dict[str, Opener]:
    """Return how to open each channel of an open Zarr array or group; `title` is that of one without a name."""
    from nd_synapse.files.zarr_arrays import array_names, image_of

    if names := array_names(node):
        group: Any = node
        return {each: partial(_of_node, f"{name}/{each}", group[each], level) for each in names}
    return channels_of(title, name, image_of(name, node, level))


def _of_node(name: str, node: Node, level: int) -> tuple[Image, None]:
    from nd_synapse.files.zarr_arrays import image_of

    return image_of(name, node, level), None


def channels_of(title: str, name: str, image: Image) -> dict[str, Opener]:
    """Return the channels of one open image; `title` names the only one."""
    if image.channel_count == 1:
        return {image.channels[0] if image.channels else title: partial(_in_image, image, None)}
    called = image.channels or map(str, range(image.channel_count))
    return _by_name(name, [(each, partial(_in_image, image, place)) for place, each in enumerate(called)])


def _in_image(image: Image, place: int | None) -> tuple[Image, int | None]:
    return image, place


def _of_folder(path: Path) -> list[tuple[str, Opener]]:
    """Return the channels of a folder: its folders of slices, or its stacks, or its slices by the words in names."""
    files = _tiffs(path)
    folders = [] if files else [entry for entry in sorted(path.iterdir()) if entry.is_dir() and _tiffs(entry)]
    if folders:
        return [(folder.name, partial(_slices, _tiffs(folder))) for folder in folders]
    if not files:
        wanted = (
            "Give a folder with a TIFF stack a channel, or with its slices, or a Zarr group with an array a channel"
        )
        raise DataError(str(path), "it holds no image volume", wanted)
    if others := [entry.name for entry in sorted(path.iterdir()) if _is_volume(entry) and entry not in files]:
        log.info("%s: its TIFF files are read, and not %s", path, few(others))
    if len(files) > 1 and _is_plane(files[0]):
        groups = by_channel(files)
        if len(groups) < len(files):
            return [(name or stem(path.name), partial(_slices, group)) for name, group in groups.items()]
    return [(stem(file.name), partial(_alone, file)) for file in files]


def _tiffs(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if is_tiff_name(file.name) and file.name[0] != "."]


def _is_volume(path: Path) -> bool:
    return path.suffix == ".npy" or (path.is_dir() and (is_zarr(path) or bool(_tiffs(path))))


def _is_plane(path: Path) -> bool:
    """Return whether a file is one slice of one channel; one that is damaged is reported when its channel is opened."""
    try:
        with reading(path):
            image = open_tiff(path)
    except DataError:
        return False
    return all(n == 1 for axis, n in zip(image.axes, image.shape, strict=True) if axis not in "yx")


def _slices(files: Sequence[Path]) -> tuple[Image, None]:
    if len(files) == 1:
        return open_image(files[0]), None
    try:
        return open_slices(natural_order(files)), None
    except UsageError as error:
        if "--pattern" not in error.remedy:
            raise
        # which is for files that are named one by one
        remedy = "Rename the files, so that one number in their names counts the slices, in steps of 1"
        raise UsageError(error.requested, error.found, remedy) from error


def _alone(path: Path) -> tuple[Image, None]:
    return open_image(path), None


def _by_name(path: Path | str, channels: list[tuple[str, Opener]]) -> dict[str, Opener]:
    names = [name for name, _ in channels]
    for name in names:
        if names.count(name) > 1:
            raise DataError(str(path), f"{names.count(name)} of its channels are called {name}", "Keep one a name")
    return dict(channels)
