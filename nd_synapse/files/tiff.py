"""TIFF stacks: plain, OME, ImageJ and BigTIFF, in one file or one file a slice; tifffile decodes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import GIVE_STACK, Stack, checked_stack, probed, stack_of_array

__all__ = ["open_slices", "open_tiff"]

_SLICE_AXES = "ZTIQ"  # depth, time, sequence, unknown: programs write the slices of one stack under any of these


def open_tiff(path: Path) -> Stack:
    """Open one TIFF file as a stack."""
    with tifffile.TiffFile(path) as tif:
        _check_list(path, tif)
        if len(tif.series) != 1:
            kinds = ", ".join(str(one.shape) for one in tif.series[:4])
            raise DataError(str(path), f"it holds {len(tif.series)} images of unequal shape ({kinds})", GIVE_STACK)
        series = tif.series[0]
        shape = _stack_shape(path, series)
        _check_brightness(path, series.keyframe)
        if len(series.pages) == 1 < shape[0]:
            return _open_contiguous(path, tif, shape)
        _check_pages(path, tif, shape)
        dtype = series.dtype

    def fetch(z_start: int, z_stop: int) -> NDArray[Any]:
        with tifffile.TiffFile(path) as again:
            slab: NDArray[Any] = again.asarray(key=range(z_start, z_stop), series=0, maxworkers=1)
            return slab.reshape(z_stop - z_start, *shape[1:])

    return probed(checked_stack(str(path), shape, dtype, fetch))


def _open_contiguous(path: Path, tif: tifffile.TiffFile, shape: tuple[int, int, int]) -> Stack:
    """Open a file with one page whose slices follow each other: ImageJ writes stacks above 4 GiB so."""
    offset = tif.series[0].dataoffset
    if offset is None:
        raise DataError(str(path), f"it announces {shape[0]} slices and holds one", "Write it anew")
    dtype = np.dtype(tif.series[0].dtype).newbyteorder(tif.byteorder)
    return stack_of_array(np.memmap(path, dtype, mode="r", offset=offset, shape=shape), str(path))


def open_slices(paths: list[Path]) -> Stack:
    """Open several single-page TIFF files, in the order of the slices, as a stack."""
    name = f"{paths[0]} to {paths[-1].name} ({len(paths)} files)"
    kinds = [_slice_kind(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            found = f"it is {kind[0]} {kind[1]} where {paths[0].name} is {kinds[0][0]} {kinds[0][1]}"
            raise DataError(str(path), found, "Give slices of one shape and type")
    (y, x), dtype = kinds[0]

    def fetch(z_start: int, z_stop: int) -> NDArray[Any]:
        slab = np.empty((z_stop - z_start, y, x), dtype)
        for index, path in enumerate(paths[z_start:z_stop]):
            with reading(path), tifffile.TiffFile(path) as tif:
                slab[index] = tif.pages.first.asarray()
        return slab

    return probed(checked_stack(name, (len(paths), y, x), dtype, fetch))


def _slice_kind(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return the shape (y, x) and type of a single-page TIFF."""
    with reading(path), tifffile.TiffFile(path) as tif:
        _check_list(path, tif)
        if len(tif.pages) != 1:
            found = f"it has {len(tif.pages)} pages, and of several files each is one slice"
            raise DataError(str(path), found, "Give one multi-page TIFF alone")
        page = tif.pages.first
        _check_brightness(path, page)
        if page.ndim != 2:
            raise DataError(str(path), f"its page has the shape {page.shape}, not y, x", GIVE_STACK)
        _check_end(path, tif, page)
        return (page.shape[0], page.shape[1]), np.dtype(page.dtype)


def _stack_shape(path: Path, series: tifffile.TiffPageSeries) -> tuple[int, int, int]:
    """Return the extents z, y, x of a series, or raise DataError if it is no single-channel stack."""
    axes = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if n > 1 or axis in "YX"]
    names = "".join(axis for axis, _ in axes)
    extents = tuple(int(n) for _, n in axes)
    if series.is_multifile:
        found = "its slices lie in several files (OME-TIFF)"
        raise DataError(str(path), found, "Save it as one file, or give all files of one slice each")
    if "S" in names or "C" in names:
        found = f"it has several channels or colours (axes {names}, extents {extents})"
        remedy = "Save each channel as a grey-scale stack (in Fiji: Image > Properties, Channels 1, Slices n)"
        raise DataError(str(path), found, remedy)
    if names == "YX":
        return (1, extents[0], extents[1])
    if len(names) == 3 and names[0] in _SLICE_AXES and names[1:] == "YX":
        return (extents[0], extents[1], extents[2])
    raise DataError(str(path), f"its axes are {names} with extents {extents}, not z, y, x", GIVE_STACK)


def _check_list(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise DataError if the list of pages does not end with a 0, where tifffile would drop the last slices."""
    pages, size = len(tif.pages), tif.tiff.offsetsize
    tif.filehandle.seek(tif.pages.next_page_offset or 0)
    if tif.filehandle.read(size) != bytes(size):
        raise DataError(str(path), f"its list of pages is cut short or a circle after {pages} pages", "Copy it anew")


def _check_brightness(path: Path, page: Any) -> None:
    """Raise DataError if the grey values of a page do not mean brightness."""
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and page.bitspersample > 1:
        raise DataError(str(path), "it stores white as 0", "Save it with black as 0 (in Fiji: Edit > Invert LUT)")
    if page.samplesperpixel > 1:
        raise DataError(str(path), f"its pixels have {page.samplesperpixel} colours", "Save each channel in grey scale")


def _check_pages(path: Path, tif: tifffile.TiffFile, shape: tuple[int, int, int]) -> None:
    """Raise DataError if slices are missing, differ in shape, or lie beyond the end of the file."""
    pages = tif.series[0].pages
    if len(pages) != shape[0]:
        found = f"it announces {shape[0]} slices and holds {len(pages)}"
        raise DataError(str(path), found, "Copy or write it anew")
    for z, page in enumerate(pages):
        if page is None or tuple(page.shape) != shape[1:]:
            found = f"slice {z} is missing or has another shape than {shape[1:]}"
            raise DataError(str(path), found, "Give slices of one shape")
        _check_end(path, tif, page)


def _check_end(path: Path, tif: tifffile.TiffFile, page: Any) -> None:
    """Raise DataError if data of the page are missing or beyond the file's end: tifffile would fill in zeros."""
    size = tif.filehandle.size
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts) or 0 in page.databytecounts:
        raise DataError(str(path), f"page {page.index} lacks data", "Copy or write it anew")
    if any(offset + count > size for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise DataError(str(path), f"it is cut short: it has {size:,} bytes and announces more", "Copy it anew")
