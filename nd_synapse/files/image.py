"""An image in local files as the file itself describes it: named axes, type, voxel size, names of channels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import GIVE_STACK, UNKNOWN_SIZE, KnownSize, Stack, check_whole_numbers, checked_stack

__all__ = ["Image", "ImageVolume", "axes_of_names", "image_of_array", "in_nanometres", "refuse_slices_last"]

_LETTERS = {
    **dict.fromkeys(("z", "plane", "slice", "section", "depth"), "z"),
    **dict.fromkeys(("y", "row", "height"), "y"),
    **dict.fromkeys(("x", "col", "column", "width"), "x"),
    **dict.fromkeys(("c", "ch", "channel"), "c"),
    **dict.fromkeys(("t", "time"), "t"),
}
_NO_NAME = re.compile(r"(phony_)?(dim|axis)_?\d+")
"""What xarray and netCDF call an axis without a name."""
_NANOMETRES = {
    **dict.fromkeys(("angstrom", "å"), 0.1),
    **dict.fromkeys(("nm", "nanometer"), 1.0),
    **dict.fromkeys(("um", "micrometer", "micron"), 1e3),
    **dict.fromkeys(("mm", "millimeter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e7),
    **dict.fromkeys(("inch", "in"), 2.54e7),
    **dict.fromkeys(("m", "meter"), 1e9),
}
# no volume of tissue is so narrow and so deep; images with slices or colours last are
_FEW, _MANY = 16, 64
_SPLIT = "Save each channel as a stack of its own (in Fiji: Image > Color > Split Channels)"


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose voxels are read later."""

    name: str
    """The file, or the first and last of several, for messages."""
    axes: str
    """A letter an axis, in the order of the file: t, c, z, y, x; s for the samples of a pixel, ? without a name."""
    shape: tuple[int, ...]
    """Extents along `axes`."""
    dtype: np.dtype[Any]
    fetch: Callable[[tuple[slice, ...]], NDArray[Any]]
    """Returns the part in an index that has a slice for each of `axes`."""
    voxel_size_nm: KnownSize = UNKNOWN_SIZE
    channels: tuple[str, ...] = ()
    """Names of the channels, if the file has them."""
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where its metadata have voxel 0, in voxels (z, y, x): viewers follow it, and volumes here begin at 0."""
    chunks: str | None = None
    """The folder of its chunks below the address of the volume, "" being the address; None if it has no chunks."""

    def __post_init__(self) -> None:
        """Forget names that are not one for each channel."""
        if len(self.channels) != self.channel_count:
            object.__setattr__(self, "channels", ())

    @property
    def channel_count(self) -> int:
        """Number of channels."""
        return self.shape[self.axes.index("c")] if "c" in self.axes else 1

    def volume(self, channel: int | None = None) -> ImageVolume:
        """Return one channel, or the only one, as a volume z, y, x; DataError if there is more in it."""
        self._check_axes(channel)
        where = {axis: place for place, axis in enumerate(self.axes)}
        z, y, x = (self.shape[where[axis]] if axis in where else 1 for axis in "zyx")
        order = [where[axis] for axis in "zyx" if axis in where]
        others = [place for place in range(len(self.axes)) if place not in order]

        def fetch(index: tuple[slice, slice, slice]) -> NDArray[Any]:
            along = dict(zip("zyx", index, strict=True))
            if channel is not None:
                along["c"] = slice(channel, channel + 1)
            part = np.asarray(self.fetch(tuple(along.get(axis, slice(0, 1)) for axis in self.axes)))
            shape = [n.stop - n.start for n in index]
            # another shape is refused by the volume
            return part.transpose(*others, *order).reshape(shape) if part.size == math.prod(shape) else part

        return ImageVolume(self.name, (z, y, x), self.dtype.newbyteorder("="), fetch, self.voxel_size_nm, self.chunks)

    def stack(self, channel: int | None = None) -> Stack:
        """Return the stack z, y, x in it: of one channel, or of the only one; DataError if there is more."""
        volume = self.volume(channel)
        y, x = (slice(0, n) for n in volume.shape[1:])
        return checked_stack(
            self.name,
            volume.shape,
            self.dtype,
            lambda start, stop: volume.fetch((slice(start, stop), y, x)),
            self.voxel_size_nm,
        )

    def _check_axes(self, channel: int | None) -> None:
        """Raise DataError if it has more than z, y, x."""
        long = [(axis, n) for axis, n in zip(self.axes, self.shape, strict=True) if n != 1 or axis in "zyx"]
        names, extents = "".join(axis for axis, _ in long), tuple(n for _, n in long)
        extents_there = f"(axes {', '.join(names)}, extents {extents})"
        flat = dict(long).get("z", 1) == 1
        if "s" in names:
            raise DataError(self.name, f"its pixels have several colours {extents_there}", _SPLIT)
        if "t" in names:
            also = _slices_of("Frames", dict(long)["t"]) if flat else ""
            remedy = f"Save one time as a stack (in Fiji: Image > Duplicate){also}"
            raise DataError(self.name, f"it has several times {extents_there}", remedy)
        if "c" in names and channel is None:
            called = f": {', '.join(self.channels)}" if self.channels else ""
            also = _slices_of("Channels", dict(long)["c"]) if flat else ""
            raise DataError(self.name, f"it has several channels{called} {extents_there}", f"{_SPLIT}{also}")
        space = names.replace("c", "")
        if len(set(space)) < len(space) or not {"y", "x"} <= set(space) <= set("zyx"):
            unknown = " (? has a name that is not known)" if "?" in self.axes else ""
            found = f"its axes are {', '.join(self.axes)}{unknown} with extents {self.shape}"
            raise DataError(self.name, found, GIVE_STACK)


@dataclass(frozen=True, slots=True)
class ImageVolume:
    """A volume of whole numbers in files, of which any part can be read."""

    name: str
    """The file, or the first and last of several, for messages."""
    shape: tuple[int, int, int]
    """Extents z, y, x, all at least 1."""
    dtype: np.dtype[Any]
    """bool or an integer type, in the machine's byte order."""
    fetch: Callable[[tuple[slice, slice, slice]], NDArray[Any]]
    """Returns the part in three slices with both ends, of any type that casts to `dtype` without loss."""
    voxel_size_nm: KnownSize = UNKNOWN_SIZE
    chunks: str | None = None
    """The folder of its chunks below the address of the volume; None if it has no chunks."""

    def __post_init__(self) -> None:
        """Refuse numbers with fractions, and a volume without voxels."""
        check_whole_numbers(self.name, self.shape, self.dtype)

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Read the part in three slices with both ends: C order, shape (z, y, x), of `dtype`."""
        z, y, x = (f"{axis} {n.start}:{n.stop}" for axis, n in zip("zyx", index, strict=True))
        requested = f"{z} {y} {x} of {self.name}"
        with reading(requested):
            part = np.asarray(self.fetch(index)).astype(self.dtype, order="C", copy=False)
        expected = tuple(n.stop - n.start for n in index)
        if part.shape != expected:
            raise DataError(requested, f"it has the shape {part.shape}, not {expected}", "Write the file anew")
        return part


def _slices_of(axis: str, number: int) -> str:
    """Return what to do where slices stand under another axis."""
    return f"; if they are slices, say so in the file (in Fiji: Image > Properties, {axis} 1, Slices {number})"


def image_of_array(array: Any, name: str, axes: str | None = None, voxel_size_nm: KnownSize = UNKNOWN_SIZE) -> Image:
    """Present anything that slices like an array; without `axes` it is z, y, x after axes of length 1."""
    shape = tuple(int(n) for n in array.shape)
    if axes is None:
        axes = _unnamed_axes(shape, name)
    return Image(name, axes, shape, array.dtype, lambda index: np.asarray(array[index]), voxel_size_nm)


def _unnamed_axes(shape: tuple[int, ...], name: str) -> str:
    """Return z, y, x for the last axes; axes of length 1 do not count where there are more than three."""
    kept = list(range(len(shape)))
    while len(kept) > 3 and (ones := [axis for axis in kept[:-2] if shape[axis] == 1]):
        kept.remove(ones[0])
    if len(kept) not in (2, 3):
        raise DataError(name, f"it has the shape {shape}, not z, y, x", GIVE_STACK)
    extents = [shape[axis] for axis in kept]
    refuse_slices_last(extents, name)
    letters = dict(zip(kept, "zyx"[-len(kept) :], strict=True))
    return "".join(letters.get(axis, "?") for axis in range(len(shape)))


def refuse_slices_last(shape: Sequence[int], name: str) -> None:
    """Raise DataError for extents without names that look like y, x, z."""
    if len(shape) == 3 and shape[2] <= _FEW and min(shape[:2]) >= _MANY:
        found = f"it has the shape {tuple(shape)} and no names of axes; it looks like y, x and slices or colours"
        raise DataError(name, found, "Save it as z, y, x, or as Zarr with dimension_names")


def axes_of_names(names: Sequence[object]) -> str | None:
    """Return the axes of names such as ``x``, ``x_um``, ``channel`` or ``row``; None where they stand for none."""
    if all(_NO_NAME.fullmatch(str(name).lower()) for name in names):
        return None
    return "".join(_LETTERS.get(re.split("[^a-z]", str(name).lower())[0], "?") for name in names)


def in_nanometres(size: float, unit: str) -> float | None:
    """Return a length in nanometres, None if it is no size or the unit is no length."""
    plain = unit.strip().lower().replace("\\u00b5", "u").replace("\N{MICRO SIGN}", "u").replace("\u03bc", "u")
    plain = plain.replace("metre", "meter")
    factor = _NANOMETRES.get(plain) or _NANOMETRES.get(plain.removesuffix("s"))
    return size * factor if factor and size > 0 else None
