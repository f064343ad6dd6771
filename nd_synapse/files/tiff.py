"""TIFF images: plain, OME, ImageJ and BigTIFF, in one file or one file a slice; tifffile decodes them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nd_synapse.errors import DamagedError, DataError
from nd_synapse.files.formats import TO_TIFF
from nd_synapse.files.image import Image, refuse_slices_last
from nd_synapse.files.metadata import Described, described
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import shown_size

__all__ = ["open_slices", "open_tiff"]

_NAMELESS = "iq"  # tifffile's names of an axis of which a file says nothing: its pages are slices
_ANEW = "Copy or write it anew"


def open_tiff(path: Path) -> Image:
    """Open one TIFF file."""
    return _open(path, alone=True)[0]


def _open(path: Path, *, alone: bool) -> tuple[Image, Described]:
    """Open a file as an image, and return also what its metadata say; one of several is a plane by itself."""
    flags: dict[str, Any] = {} if alone else {"is_ome": False}
    with tifffile.TiffFile(path, **flags) as tif:
        if tif.is_lsm:  # has a thumbnail beside each slice
            raise DataError(str(path), "it is a Zeiss LSM file", TO_TIFF)
        _check_list(path, tif)
        said = described(path, tif)
        if len(tif.series) != 1:
            shapes = [one.shape for one in tif.series]
            kind = "images" if len(set(shapes)) == 1 else "images of unequal shape"
            found = f"it holds {len(shapes)} {kind} ({', '.join(str(shape) for shape in shapes[:4])})"
            raise DataError(str(path), found, "Save one of them as a file of its own")
        series = tif.series[0]
        if series.is_multifile:
            found = "its slices lie in several files (OME-TIFF)"
            raise DataError(str(path), found, "Save it as one file, or give all files of one slice each")
        _check_compression(path, series.keyframe)
        _check_brightness(path, series.keyframe, is_imagej=tif.is_imagej)
        shape, axes = tuple(int(n) for n in series.shape), _axes(path, series)
        if "s" in axes:
            return Image(str(path), axes, shape, np.dtype(series.dtype), _no_fetch), said
        planes = math.prod(shape[:-2])
        held = planes if len(series.pages) == 1 < planes else len(tif.pages)
        for announced in (*said.planes, planes):
            if announced != held:
                raise DataError(str(path), f"it announces {announced} planes and holds {held}", _ANEW)
        if len(series.pages) == 1 < planes:
            voxels = _contiguous(path, tif, shape)
            image = Image(str(path), axes, shape, voxels.dtype, lambda index: np.asarray(voxels[index]))
        else:
            _check_pages(path, tif)
            image = _paged(path, flags, axes, shape, np.dtype(series.dtype))
    return _with_metadata(image, said), said


def _paged(path: Path, flags: dict[str, Any], axes: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Image:
    """Return the image of a file with a page for each plane."""
    numbers = np.arange(math.prod(shape[:-2])).reshape(shape[:-2])

    def fetch(index: tuple[slice, ...]) -> NDArray[Any]:
        chosen = np.asarray(numbers[index[:-2]])
        rows, columns = index[-2:]
        parts = []
        with tifffile.TiffFile(path, **flags) as again:
            # one page at a time: a block of a wide stack has fewer voxels than its pages
            for number in chosen.ravel().tolist():
                page: Any = again.series[0].pages[number]
                mapped = {"out": "memmap"} if page.keyframe.is_memmappable else {"maxworkers": 1}
                parts.append(np.array(page.asarray(**mapped).reshape(shape[-2:])[rows, columns]))
        return np.stack(parts).reshape(*chosen.shape, *parts[0].shape)

    return Image(str(path), axes, shape, dtype, fetch)


def _with_metadata(image: Image, said: Described) -> Image:
    fetch, dtype = image.fetch, image.dtype
    if said.is_signed:
        dtype = np.dtype(np.int16)

        def fetch(index: tuple[slice, ...]) -> NDArray[Any]:
            return (image.fetch(index).astype(np.int32) - 2**15).astype(np.int16)

    return Image(image.name, image.axes, image.shape, dtype, fetch, said.voxel_size_nm, said.channels)


def _no_fetch(index: tuple[slice, ...]) -> NDArray[Any]:
    """Stand for the voxels of an image in colour, which is refused."""
    raise AssertionError(index)


def _axes(path: Path, series: tifffile.TiffPageSeries) -> str:
    """Return the axes of a series; the pages of a file that does not name them are slices."""
    axes = list(series.axes.lower())
    nameless = [place for place, n in enumerate(series.shape) if axes[place] in _NAMELESS and n > 1]
    if "z" not in axes and len(nameless) == 1:
        axes[nameless[0]] = "z"
        refuse_slices_last([n for n in series.shape if n > 1], str(path))
    return "".join(axes)


def _contiguous(path: Path, tif: tifffile.TiffFile, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a file with one page whose planes follow each other: ImageJ writes stacks above 4 GiB so."""
    offset = tif.series[0].dataoffset
    dtype = np.dtype(tif.series[0].dtype).newbyteorder(tif.byteorder)
    end = (offset or 0) + math.prod(shape) * dtype.itemsize
    pages = [page.offset for page in tif.pages]
    if offset is None or any(offset <= page < end for page in pages):
        raise DataError(str(path), f"it announces {math.prod(shape[:-2])} planes and holds {len(pages)}", _ANEW)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


def open_slices(paths: list[Path]) -> Image:
    """Open several files of one slice each, in the order of the slices, as an image."""
    name = f"{paths[0]} to {paths[-1].name} ({len(paths)} files)"
    slices, places = [], []
    for path in paths:
        with reading(path):
            image, said = _open(path, alone=False)
        slices.append(image)
        places.append(said.place)
        if (pages := image.stack().shape[0]) != 1:
            found = f"it has {pages} pages, and of several files each is one slice"
            raise DataError(str(path), found, "Give one multi-page TIFF alone")
        for what, mine, other in zip(("shape", "type", "voxel size"), _kind(image), _kind(slices[0]), strict=True):
            if mine != other:
                found = f"its {what} is {mine} where {paths[0].name} has {other}"
                raise DataError(str(path), found, "Give slices of one shape, type and voxel size")
    _check_places(paths, places)
    first = slices[0]

    def fetch(index: tuple[slice, ...]) -> NDArray[Any]:
        parts = []
        for path, one in list(zip(paths, slices, strict=True))[index[0]]:
            with reading(path):
                part = one.fetch((*[slice(0, 1)] * (len(one.shape) - 2), *index[1:]))
                parts.append(part.reshape(1, *part.shape[-2:]))
        return np.concatenate(parts)

    return Image(name, "zyx", (len(paths), *first.shape[-2:]), first.dtype, fetch, first.voxel_size_nm)


def _kind(image: Image) -> tuple[str, str, str]:
    return str(image.shape), image.dtype.name, f"{shown_size(image.voxel_size_nm)} nm"


def _check_places(paths: list[Path], places: list[Any]) -> None:
    """Raise DataError if the OME-XML in the files orders them otherwise than their names do."""
    for (before, place), (after, next_place) in pairwise(zip(paths, places, strict=True)):
        if place is None or next_place is None:
            continue
        if place[0] != next_place[0]:
            found = "by their OME-XML they are of different images, channels or times"
            raise DataError(f"{before.name} and {after.name}", found, "Give the slices of one channel only")
        if next_place[1] != place[1] + 1:
            found = f"by their OME-XML they are slices {place[1]} and {next_place[1]}, and by their names they follow"
            remedy = "Give all slices, and name the files in the order of the slices"
            raise DataError(f"{before.name} and {after.name}", found, remedy)


def _check_list(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise DamagedError if the list of pages does not end with a 0, where tifffile would drop the last slices."""
    pages, size = len(tif.pages), tif.tiff.offsetsize
    tif.filehandle.seek(tif.pages.next_page_offset or 0)
    if tif.filehandle.read(size) != bytes(size):
        raise DamagedError(str(path), f"its list of pages is cut short or a circle after {pages} pages", _ANEW)


def _check_compression(path: Path, page: Any) -> None:
    """Raise DataError if nothing here decodes a page; what a decoder lacks shows when the first slice is read."""
    try:
        if page.compression != tifffile.COMPRESSION.NONE:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
    except KeyError as error:
        named = getattr(page.compression, "name", page.compression)
        remedy = "Save it uncompressed, or with LZW, deflate (zip) or ZSTD"
        raise DataError(str(path), f"it is a TIFF compressed as {named}, which is not read", remedy) from error


def _check_brightness(path: Path, page: Any, *, is_imagej: bool) -> None:
    """Raise DataError if the values of a page do not mean brightness."""
    if page.samplesperpixel > 1:
        return  # in colour, which the axes say
    kind, turned = page.photometric, page.tags.valueof(274, 1)
    if turned != 1:
        found = f"it is to be turned or mirrored when it is shown (Orientation {int(turned)})"
        raise DataError(str(path), found, "Save it as it should be seen, without that tag")
    if kind == tifffile.PHOTOMETRIC.MINISWHITE:
        remedy = "Save it with black as 0: in Fiji, Image > Lookup Tables > Grays if its high values are bright, "
        raise DataError(str(path), "it stores white as 0", f"{remedy}and then Edit > Invert if they are dark")
    # ImageJ shows values in colours, and keeps the values
    if kind == tifffile.PHOTOMETRIC.PALETTE and not is_imagej and not _is_grey(page.colormap):
        remedy = "Save its values in grey scale (in Fiji: Image > Lookup Tables > Grays)"
        raise DataError(str(path), "its values stand for the colours of a palette, which is not grey", remedy)
    if kind not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.PALETTE):
        named = getattr(kind, "name", kind)
        raise DataError(str(path), f"its values are no grey scale, but {named}", "Save it in grey scale")


def _is_grey(colours: NDArray[np.uint16] | None) -> bool:
    """Return whether a palette, shape (3, n), goes in equal steps from black to white."""
    if colours is None:
        return False
    ramp = np.linspace(0, 65535, colours.shape[1])
    return bool((np.abs(colours - ramp) <= 257).all())  # those of 8 bits end at 65280 in some programs


def _check_pages(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise DataError if slices are missing, are stored in another way, or lie beyond the end of the file."""
    pages: list[Any] = list(tif.series[0].pages)
    used = sorted(page.index for page in pages if page is not None)
    if used != list(range(len(tif.pages))):
        raise DataError(str(path), f"of its {len(tif.pages)} pages its metadata use {len(set(used))} as slices", _ANEW)
    first = tif.series[0].keyframe
    for z, one in enumerate(pages):
        page = one.aspage()
        if page.hash != first.hash:
            found = f"slice {z} is {_stored(page)}, and the first is {_stored(first)}"
            raise DataError(str(path), found, "Give slices of one shape and kind")
        _check_end(path, tif, page)


def _stored(page: Any) -> str:
    """Return how a page is stored, for a message."""
    named = (getattr(one, "name", str(one)) for one in (page.photometric, page.compression))
    return f"{page.shape} {page.dtype} ({', '.join(named)})"


def _check_end(path: Path, tif: tifffile.TiffFile, page: Any) -> None:
    """Raise DamagedError if data of the page are missing or beyond the file's end: tifffile would fill in zeros."""
    size = tif.filehandle.size
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts) or 0 in page.databytecounts:
        raise DamagedError(str(path), f"page {page.index} lacks data", _ANEW)
    if any(offset + count > size for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise DamagedError(str(path), f"it is cut short: it has {size:,} bytes and announces more", _ANEW)
