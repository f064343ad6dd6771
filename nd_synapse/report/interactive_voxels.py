"""The voxels that the page holds, as sheets of sections: a part of the channels and masks, and a sample of synapses."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nd_synapse.geometry import Box, nearest_voxel
from nd_synapse.report.fields import grey_range
from nd_synapse.report.figures_gallery import cut_out, window_of
from nd_synapse.report.plot import Subject
from nd_synapse.report.table import SynapseTable
from nd_synapse.volumes import Volume

__all__ = ["MOST_BYTES", "rows_in_part", "voxels_of"]

MOST_BYTES = 1_400_000
"""Bytes of all sheets together; as text in the page they are a third more."""

_MOST_SECTIONS = 16
_MOST_PIXELS = 5_000_000
_MOST_SIDE = 640
_MOST_CHANNELS = 4
_MOST_MASKS = 8  # a bit each
_MARKS, _LEAST_MARKS = 120, 30
_MARK_PIXELS = 1_200_000
_BLOCK = 8  # JPEG's: parts that begin at multiples of it do not run into each other
_QUALITIES = (80, 65, 50, 35, 20, 10)
_WHITEST = 0.999
_MOST_HEADROOM = 4
_MAP_SIDE = 360
# added up; magenta and green, unlike red and green, are two colours to everybody
_COLOURS = ("#ff00ff", "#00ff00", "#00a0ff", "#ffffff")

Sections = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Range:
    """Which grey values a sheet spans, and where in its 256 steps white lies at first."""

    low: float
    high: float
    white: int

    def bytes_of(self, voxels: NDArray[Any]) -> Sections:
        """Return voxels as uint8; what is outside of the image is black."""
        share = (voxels.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        steps: Sections = np.rint(np.nan_to_num(share).clip(0, 255)).astype(np.uint8)
        return steps


def shown_channels(subject: Subject) -> list[str]:
    """Return up to four channels: those that were searched first."""
    searched = _searched(subject)
    return [*searched, *(name for name in subject.images if name not in searched)][:_MOST_CHANNELS]


def _searched(subject: Subject) -> list[str]:
    """Return the channels that were searched; all where that is not known."""
    known = [name for name in dict.fromkeys(subject.facts.roles.values()) if name in subject.images]
    return known or list(subject.images)


def voxels_of(subject: Subject, marks: NDArray[np.intp]) -> tuple[dict[str, Any], int]:
    """Return the part and the synaptograms as values for JSON, and of how many of `marks` there are synaptograms.

    `marks` are rows of the whole table in the order in which they are offered, each with a position.
    """
    subject.fields.need()
    names, searched = shown_channels(subject), _searched(subject)
    colours = ["#ffffff", *_COLOURS] if len(searched) == 1 else _COLOURS
    images = {name: subject.images[name] for name in names}
    masks = dict(islice(subject.mask_volumes.items(), _MOST_MASKS))
    part = chosen_part(subject, len(names))
    window = window_of(subject)
    tile = math.prod(window.shape) * max(1, len(names))
    marks = marks[: min(_MARKS, max(_LEAST_MARKS, _MARK_PIXELS // tile))]
    places = _voxels(subject.table.rows(marks), subject.facts.origin).tolist()
    cut = {name: np.asarray(image[part.slices()]) for name, image in images.items()}
    ranges = {name: _range(subject, name, voxels) for name, voxels in cut.items()}
    near = {
        name: np.concatenate(
            [ranges[name].bytes_of(part) for part in _around(image, places, window)] or [_none(window)]
        )
        for name, image in images.items()
    }
    sheets = _sheets({name: ranges[name].bytes_of(voxels) for name, voxels in cut.items()}, near)
    boxes = Box.of_shape(part.shape, np.add(part.start, subject.facts.origin).tolist())
    found: dict[str, Any] = {
        "channels": [
            {
                "name": name,
                "colour": colours[i],
                "shown": name in searched,
                "low": ranges[name].low,
                "high": ranges[name].high,
                "white": ranges[name].white,
                "part": sheets[name][0],
                "near": sheets[name][1],
            }
            for i, name in enumerate(names)
        ],
        "masks": [{"name": name, "colour": subject.group_colours[name]} for name in masks],
        "start": boxes.start,
        "shape": boxes.shape,
        "across": _across(part.shape[0]),
        "window": window.shape,
        "nearAcross": _across(len(marks) * window.shape[0]),
        "whole": next(iter(images.values())).shape,
        "origin": subject.facts.origin,
        "map": _map(subject, names),
    }
    if masks:
        found["partMasks"] = _png(_sheet(_bits([np.asarray(mask[part.slices()]) for mask in masks.values()])))
        bits = [
            _bits(list(around)) for around in zip(*(_around(m, places, window) for m in masks.values()), strict=True)
        ]
        found["nearMasks"] = _png(_sheet(np.concatenate(bits or [_none(window)])))
    return found, len(marks)


def _none(window: Any) -> Sections:
    return np.zeros((1, *window.shape[1:]), np.uint8)


def _around(volume: Volume, places: Sequence[Sequence[int]], window: Any) -> Iterator[NDArray[np.float32]]:
    """Yield the voxels around each place, float32 of the window's shape, 0 outside of the volume."""
    return (np.nan_to_num(cut_out(volume, place, window)) for place in places)


def chosen_part(subject: Subject, channels: int) -> Box:
    """Return which part of the images the page holds: the middle sections, where synapses are as dense as is usual.

    Of all parts of that size with a synapse it is the one with the median number, so that neither an empty corner nor
    an artefact stands for the whole.
    """
    shape = next(iter(subject.images.values())).shape
    depth = min(shape[0], _MOST_SECTIONS)
    height, width = _side(shape[1:], math.isqrt(_MOST_PIXELS // (depth * channels)))
    top = (shape[0] - depth) // 2
    grid = shape[1] // height, shape[2] // width
    counts = np.zeros(grid, np.int64)
    z, y, x = _voxels(subject.table, subject.facts.origin).T
    row, column = y // height, x // width
    there = (z >= top) & (z < top + depth) & (y >= 0) & (x >= 0) & (row < grid[0]) & (column < grid[1])
    np.add.at(counts, (row[there], column[there]), 1)
    some = np.sort(counts[counts > 0])
    usual = some[len(some) // 2] if len(some) else 0
    rows, columns = np.indices(grid)
    away = (2 * rows - grid[0] + 1) ** 2 + (2 * columns - grid[1] + 1) ** 2
    row, column = np.unravel_index(np.lexsort((away.ravel(), (counts != usual).ravel()))[0], grid)
    y, x = int(row) * height, int(column) * width
    return Box((top, top + depth), (y, y + height), (x, x + width))


def rows_in_part(subject: Subject) -> NDArray[np.intp]:
    """Return the rows of the whole table whose centroid lies in the part that the page holds; none without images."""
    if not subject.images:
        return np.empty(0, np.intp)
    part = chosen_part(subject, len(shown_channels(subject)))
    found, before = [np.empty(0, np.intp)], 0
    for piece in subject.table.pieces():
        places = _voxels(piece, subject.facts.origin)
        found.append(before + np.flatnonzero(((places >= part.start) & (places < part.stop)).all(axis=1)))
        before += piece.n
    return np.concatenate(found)


def _voxels(table: SynapseTable, origin: Sequence[int]) -> NDArray[np.int64]:
    """Return the voxel of each centroid from the first voxel of the images, int64 (n, 3); -1 where it is unknown."""
    if not table.has(*(f"centroid_{axis}_voxel" for axis in "zyx")):
        return np.full((table.n, 3), -1)
    centres = table.centroids(units=("voxel",))[0] - origin
    return np.where(np.isfinite(centres), nearest_voxel(centres), -1).astype(np.int64)


def _side(extent: Sequence[int], side: int) -> tuple[int, int]:
    """Return height and width of a part of about `side` squared pixels."""
    height = min(extent[0], max(_BLOCK, min(side, _MOST_SIDE)))
    width = min(extent[1], max(_BLOCK, min(side * side // height, _MOST_SIDE)))
    height = min(extent[0], max(_BLOCK, min(side * side // width, _MOST_SIDE)))
    return height, width


def _range(subject: Subject, name: str, voxels: NDArray[Any]) -> _Range:
    """Return the greys of a channel: black as in the figures, and more than their white, for a slider to find."""
    low, white = subject.fields.contrast[name]
    brightest = grey_range(voxels.ravel(), 0, _WHITEST)[1]
    high = min(max(brightest, white), low + _MOST_HEADROOM * (white - low))
    return _Range(low, high, round(255 * (white - low) / (high - low)))


def _bits(masks: Sequence[NDArray[Any]]) -> Sections:
    """Return masks (z, y, x) as one uint8 array, bit i where mask i is."""
    found = np.zeros(masks[0].shape, np.uint8)
    for i, mask in enumerate(masks):
        found |= (mask != 0).astype(np.uint8) << i
    return found


def _across(sections: int) -> int:
    """Return how many sections lie beside each other in a sheet."""
    return max(1, math.isqrt(max(0, sections - 1)) + 1)


def _sheet(sections: Sections) -> Sections:
    """Return sections (z, y, x) beside and below each other, each from a multiple of 8 pixels on."""
    depth, height, width = sections.shape
    across = _across(depth)
    below = math.ceil(depth / across)
    padding = (0, across * below - depth), (0, -height % _BLOCK), (0, -width % _BLOCK)
    padded = np.pad(sections, padding, mode="edge")
    _, tall, wide = padded.shape
    return padded.reshape(below, across, tall, wide).swapaxes(1, 2).reshape(below * tall, across * wide)


def _sheets(cut: Mapping[str, Sections], near: Mapping[str, Sections]) -> dict[str, tuple[str, str]]:
    """Return both sheets of each channel as JPEG, at the best quality of which all fit."""
    sheets = {name: (_sheet(cut[name]), _sheet(near[name])) for name in cut}
    for quality in _QUALITIES:
        found = {name: tuple(_jpeg(sheet, quality) for sheet in both) for name, both in sheets.items()}
        if sum(len(jpeg) for both in found.values() for jpeg in both) <= MOST_BYTES:
            break
    return {name: (_uri("jpeg", part), _uri("jpeg", around)) for name, (part, around) in found.items()}


def _map(subject: Subject, names: Sequence[str]) -> str:
    """Return the whole field seen from above in the first channel, as a small JPEG; empty without a projection."""
    shown = next((subject.overviews[name] for name in names if name in subject.overviews), None)
    if shown is None or 0 in shown.shape:
        return ""
    step = max(1, math.ceil(max(shown.shape) / _MAP_SIDE))
    small = shown[::step, ::step].astype(np.float32)
    low, high = grey_range(small.ravel(), 0.01, 0.995)
    return _uri("jpeg", _jpeg(_Range(low, high, 255).bytes_of(small), 70))


def _jpeg(grey: Sections, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _png(grey: Sections) -> str:
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG", compress_level=6)
    return _uri("png", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
