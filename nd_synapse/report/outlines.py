"""Outlines of masks painted into grey images: whole pixels beside an object, so that none covers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

__all__ = ["OUTSIDE", "enlarged", "grey", "paint_outlines", "ring"]

OUTSIDE = 219
"""Grey of pixels without a value."""

Pixels = NDArray[np.uint8]


def ring(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that share an edge with a mask, bool (y, x), and are not in it."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    beside[:, 1:] |= mask[:, :-1]
    beside[:, :-1] |= mask[:, 1:]
    return beside & ~mask


def grey(image: NDArray[Any], low: float, high: float) -> Pixels:
    """Return an image as uint8 (y, x, 3): black up to `low`, white from `high`, pale where there is no number."""
    share = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)
    shown = np.where(np.isnan(share), OUTSIDE, np.rint(255 * np.nan_to_num(share))).astype(np.uint8)
    return np.repeat(shown[..., np.newaxis], 3, axis=-1)


def enlarged(image: NDArray[Any], by: Sequence[int]) -> NDArray[Any]:
    """Return an image (y, x, ...) whose pixels are `by` (y, x) pixels each."""
    return image.repeat(by[0], axis=0).repeat(by[1], axis=1)


def paint_outlines(shown: Pixels, masks: Iterable[NDArray[np.bool_]], colours: Iterable[str]) -> None:
    """Paint the ring of each mask (y, x) into `shown`, uint8 (y, x, 3), in its colour."""
    for mask, colour in zip(masks, colours, strict=True):
        shown[ring(mask)] = np.rint(255 * np.array(to_rgb(colour)))
