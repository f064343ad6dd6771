"""Images of floating point from 0 to 1, read as whole numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.files.image import Image

__all__ = ["scaled"]


def scaled(image: Image) -> Image:
    """Return an image of floats as one of uint16: a value v becomes 65535 v, rounded, halves to the even number.

    The product is of float64, so the result is the same on every machine. Values that are not within 0 to 1, NaN among
    them, are refused when they are read, as a `DataError` with their place.
    """

    def fetch(index: tuple[slice, ...]) -> NDArray[Any]:
        part = np.asarray(image.fetch(index))
        # not "outside", which NaN is not
        wrong = np.flatnonzero(~((part >= 0) & (part <= 1)))
        if wrong.size:
            inside = np.unravel_index(wrong[0], part.shape)
            place = [int(n.start + at) for n, at in zip(index, inside, strict=True)]
            where = " ".join(f"{axis} {at}" for axis, at in zip(image.axes, place, strict=True))
            found = f"the value at {where} is {part.flat[wrong[0]]:.6g}, not within 0 to 1"
            raise DataError(image.name, found, "Save whole numbers as uint16, or scale the values to 0 to 1")
        return np.rint(part.astype(np.float64) * 65535).astype(np.uint16)

    return replace(image, dtype=np.dtype(np.uint16), fetch=fetch)
