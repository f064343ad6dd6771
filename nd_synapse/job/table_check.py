"""synapses.csv, read again row by row: the form of each, what must hold in it, and whether it is what was computed.

It computes no synapse: `recomputation` does, for parts of the box.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.features import OF_CHANNEL
from nd_synapse.detection.windows import WINDOW_NM, surroundings, window
from nd_synapse.errors import DataError, StorageError
from nd_synapse.files.csv_tables import Rows
from nd_synapse.geometry import Box
from nd_synapse.job.manifest import RunFile
from nd_synapse.job.recompute import Again

__all__ = ["Row", "check", "compare", "lies_in", "measured", "read"]

NAME = "synapses.csv"

Row = dict[str, str]
"""Heading to cell, in their order."""

_REMEDY = "Run the job again"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_INTEGERS = {"id", "voxels", "slices", *(f"{end}_{axis}" for end in ("start", "stop") for axis in "zyx")}
_NUMBERS = {
    *(f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")),
    *("volume_um3", "equivalent_diameter_um", "elongation", "window_fraction"),
}
_MAY_BE_EMPTY = ("elongation", "contrast_")
_ROUNDED = 1e-12
"""Of its value, what a cube root may differ by from one machine to another."""


def read(path: Path) -> Iterator[tuple[int, Row]]:
    """Read a table, one row at a time."""
    number = 0
    try:
        if path.exists() and not path.is_file():
            # a pipe would be waited for
            raise DataError(NAME, "it is no file", _REMEDY)
        with path.open(encoding="utf-8", newline="") as lines:
            cells = Rows(lines, NAME)
            header = next(cells, [])
            if not header:
                raise DataError(NAME, "it is empty", _REMEDY)
            if len(set(header)) < len(header):
                raise DataError(NAME, "two of its columns have one heading", _REMEDY)
            for number, row in enumerate(filter(None, cells), 1):
                if len(row) != len(header):
                    raise DataError(NAME, f"row {number}: it has {len(row)} cells of {len(header)}", _REMEDY)
                yield number, dict(zip(header, row, strict=True))
    except FileNotFoundError as error:
        raise DataError(NAME, "it is not there", _REMEDY) from error
    except OSError as error:
        raise StorageError(f"reading {path}", str(error), "Check your right to read it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(NAME, f"after row {number} it cannot be read ({error})", _REMEDY) from error


def check(row: Row, number: int, run: RunFile, mask: NDArray[np.uint8] | None = None) -> int:
    """Check one row by itself: form, place, and what follows from its other cells."""
    try:
        fault = _malformed(row, tuple(run.masks)) or _misplaced(row, number, run, mask) or _contradicted(row, run)
    except (ValueError, KeyError, ArithmeticError) as error:
        raise DataError(NAME, f"row {number} cannot be read ({error})", _REMEDY) from error
    if fault:
        raise DataError(NAME, f"row {number}: {fault}", _REMEDY)
    return int(row["voxels"])


def measured(header: Iterable[str]) -> list[str]:
    """Return the channels that a table has the columns of, in their order."""
    return list(_measured(tuple(header)))


# asked for each row, of the same columns every time
@lru_cache(maxsize=4)
def _measured(header: tuple[str, ...]) -> tuple[str, ...]:
    """Return the channels that a table has the columns of."""
    headings = set(header)
    channels = [heading.removeprefix("mean_") for heading in header if heading.startswith("mean_")]
    return tuple(channel for channel in channels if all(kind + channel in headings for kind in OF_CHANNEL))


@lru_cache(maxsize=4)
def _kinds(header: tuple[str, ...], masks: tuple[str, ...]) -> dict[str, str]:
    """Return what the cells of each column are; those of a pipeline's own may be anything but no number."""
    lacking = (_INTEGERS | _NUMBERS | {"touches_border"}) - set(header)
    lacking |= {f"in_{mask}" for mask in masks[1:]} - set(header)
    if lacking:
        raise KeyError(f"there is no column {min(lacking)}")
    kinds = dict.fromkeys(header, "free")
    for channel in _measured(header):
        kinds |= {kind + channel: "integer" if "sum_" in kind else "number" for kind in OF_CHANNEL}
    kinds |= dict.fromkeys(_INTEGERS, "integer") | dict.fromkeys(_NUMBERS, "number")
    return kinds | dict.fromkeys(["touches_border", *(f"in_{mask}" for mask in masks[1:])], "truth")


def _malformed(row: Row, masks: tuple[str, ...]) -> str:
    """Say which cell is not as we write it."""
    kinds = _kinds(tuple(row), masks)
    for heading, cell in row.items():
        kind = kinds[heading]
        if not cell and (kind == "free" or heading.startswith(_MAY_BE_EMPTY)):
            continue
        if kind == "integer":
            fits = _INTEGER.fullmatch(cell) is not None
        elif kind == "number":
            fits = str(float(cell)) == cell and math.isfinite(float(cell))
        elif kind == "truth":
            fits = cell in ("True", "False")
        else:
            fits = cell.strip().casefold() not in ("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
        if not fits:
            return f"its {heading} is {cell[:40]!r}"
    return ""


def _misplaced(row: Row, number: int, run: RunFile, mask: NDArray[np.uint8] | None) -> str:
    """Say what is wrong with where it lies."""
    here, voxels = _bounds(row), int(row["voxels"])
    if int(row["id"]) != number:
        return f"its id is {row['id']}"
    if not run.box.contains(here):
        return f"it lies at {here}, outside of {run.box}"
    if voxels < 1:
        return "it has no voxel"
    if mask is not None and np.count_nonzero(mask[here.slices(run.box.start)]) < voxels:
        return f"the mask has fewer than its {voxels} voxels at {here}"
    if voxels > here.voxels:
        return f"it has {voxels} voxels, {here} has {here.voxels}"
    for axis, (start, stop) in zip("zyx", here.ranges, strict=True):
        if not start <= float(row[f"centroid_{axis}_voxel"]) <= stop - 1:
            return f"its centroid_{axis}_voxel is {row[f'centroid_{axis}_voxel']}, outside of {here}"
    return ""


def _contradicted(row: Row, run: RunFile) -> str:
    """Say which cell does not follow from the others."""
    here, voxels, size = _bounds(row), int(row["voxels"]), [nm / 1000 for nm in run.voxel_size_nm]
    edges = zip(here.ranges, run.box.ranges, strict=True)
    inside, outside, whole = _surroundings(row, run)
    wanted: dict[str, object] = {
        "slices": here.shape[0],
        "touches_border": any(a == first or b == last for (a, b), (first, last) in edges),
        "volume_um3": voxels * (math.prod(run.voxel_size_nm) / 1e9),
        "window_fraction": inside / float(whole),
    }
    for axis, um in zip("zyx", size, strict=True):
        wanted[f"centroid_{axis}_um"] = float(row[f"centroid_{axis}_voxel"]) * um
    for channel in _measured(tuple(row)):
        wanted[f"mean_{channel}"] = int(row[f"sum_{channel}"]) / voxels
        wanted[f"window_mean_{channel}"] = int(row[f"window_sum_{channel}"]) / inside
        if (outside == 0) != (row[f"contrast_{channel}"] == ""):
            return f"its contrast_{channel} is {row[f'contrast_{channel}']!r}, of {outside} voxels around its window"
    for heading, value in wanted.items():
        if row[heading] != str(value):
            return f"its {heading} is {row[heading]}, by its other cells {value}"
    ball = math.cbrt(voxels * (6 / math.pi * math.prod(size)))
    if not math.isclose(float(row["equivalent_diameter_um"]), ball, rel_tol=_ROUNDED):
        return f"its equivalent_diameter_um is {row['equivalent_diameter_um']}, by its other cells {ball}"
    if row["elongation"] and float(row["elongation"]) < 1:
        return f"its elongation is {row['elongation']}"
    return ""


def _bounds(row: Mapping[str, str]) -> Box:
    """Return the bounding box of a row."""
    return Box(*((int(row[f"start_{axis}"]), int(row[f"stop_{axis}"])) for axis in "zyx"))


def _centre(row: Mapping[str, str]) -> tuple[int, ...]:
    """Return the voxel that holds the centroid of a row, as `detection.features.centres` does."""
    voxels = int(row["voxels"])
    # a mean of so many whole numbers is near enough to tell their sum
    sums = [round(float(row[f"centroid_{axis}_voxel"]) * voxels) for axis in "zyx"]
    return tuple((2 * total + voxels) // (2 * voxels) for total in sums)


def _surroundings(row: Row, run: RunFile) -> tuple[int, int, int]:
    """Return the voxels of the window round a row's centroid, of its shell, and of a window that is not cut."""
    reach = window(WINDOW_NM, run.voxel_size_nm)
    centre = _centre(row)
    inside, both = (
        math.prod(
            min(place + n + 1, stop) - max(place - n, start)
            for place, n, (start, stop) in zip(centre, reached, run.box.ranges, strict=True)
        )
        for reached in (reach, surroundings(reach))
    )
    return inside, both - inside, math.prod(2 * n + 1 for n in reach)


def lies_in(row: Row, part: Box) -> bool:
    """Tell whether the bounding box of a row has voxels of a part."""
    return _bounds(row).intersection(part) is not None


def compare(rows: Sequence[tuple[int, Row]], again: Again) -> tuple[int, list[str]]:
    """Hold the rows of a part against what was computed again, to the last digit that is written."""
    if not again.rows:
        return 0, []
    headings = list(again.rows)
    for _, row in rows[:1]:
        if [heading for heading in row if heading != "id"] != headings:
            differing = sorted(set(headings) ^ (set(row) - {"id"})) or ["in another order"]
            return 0, [f"the columns of {NAME} are not those that are computed: {', '.join(differing[:5])}"]
    wanted = Counter(zip(*again.rows.values(), strict=True))
    others = []
    same = 0
    for number, row in rows:
        cells = tuple(cell for heading, cell in row.items() if heading != "id")
        if wanted[cells] > 0:
            wanted[cells] -= 1
            same += 1
        elif all(a <= place < b for place, (a, b) in zip(_centre(row), again.part.ranges, strict=True)):
            others.append((number, row))
    lacking = [dict(zip(headings, cells, strict=True)) for cells in wanted.elements()]
    faults = []
    for number, row in others:
        here = _bounds(row)
        twin = next((other for other in lacking if _bounds(other) == here), None)
        if twin is not None:
            lacking.remove(twin)
            told = [f"its {name} is {row[name]}, computed {twin[name]}" for name in headings if row[name] != twin[name]]
            faults.append(f"row {number}: {'; '.join(told[:2])}")
        elif again.judges(here, _centre(row)):
            faults.append(f"row {number}: no such object was found at {here}")
    return same, faults + [f"{NAME} has no row of the object at {_bounds(other)}" for other in lacking]
