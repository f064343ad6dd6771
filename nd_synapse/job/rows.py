"""Rows of synapses.csv, compared with those of a part that was computed again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nd_synapse.detection.confidence import CONFIDENCE
from nd_synapse.detection.features import OF_CHANNEL
from nd_synapse.errors import DataError
from nd_synapse.files.csv_tables import read_rows, texts
from nd_synapse.files.parquet import read_parquet
from nd_synapse.files.reading import reading
from nd_synapse.geometry import Box
from nd_synapse.job.digits import voxel_of
from nd_synapse.job.recompute import Again
from nd_synapse.job.results import LONG_TABLE, TABLE

__all__ = ["Row", "compare", "measured", "rows_in"]

Row = Mapping[str, str]
"""Heading to cell."""


def rows_in(path: Path, parts: Sequence[Box]) -> tuple[list[str], dict[Box, dict[int, Row]]]:
    """Read a table; return its headings, and by part the rows, by their number, whose centroid lies in it."""
    found: dict[Box, dict[int, Row]] = {part: {} for part in parts}
    if not path.is_file():
        raise DataError(TABLE, "there is no such file", "Run the job again")
    headings: list[str] = []
    with reading(path):
        for number, named in _rows_of_parquet(path, parts) if path.name == LONG_TABLE else _rows_of_csv(path):
            headings = list(named)
            centre = _centre(named)
            for part in parts:
                if all(a <= place < b for place, (a, b) in zip(centre, part.ranges, strict=True)):
                    found[part][number] = named
    return headings, found


def _rows_of_csv(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their numbers."""
    cells = read_rows(path, TABLE)
    headings = next(cells)
    for number, row in enumerate(cells, 1):
        yield number, dict(zip(headings, row, strict=True))


def _rows_of_parquet(path: Path, parts: Sequence[Box]) -> Iterator[tuple[int, Row]]:
    """Yield the first row, and those in some parts, with their numbers; cells as in the CSV of a shorter table."""
    before = 0
    for piece in read_parquet(path, path.name):
        centres = [voxel_of(piece[f"centroid_{axis}_voxel"], piece["voxels"]) for axis in "zyx"]
        inside = np.zeros(len(centres[0]), np.bool_)
        inside[:1] = True
        for part in parts:
            inside |= np.all(
                [(a <= centre) & (centre < b) for centre, (a, b) in zip(centres, part.ranges, strict=True)], axis=0
            )
        cells = [texts(name, values[inside]) for name, values in piece.items()]
        for row, number in enumerate(np.flatnonzero(inside).tolist()):
            yield before + number + 1, dict(zip(piece, (column[row] for column in cells), strict=True))
        before += len(inside)


def measured(headings: Sequence[str]) -> list[str]:
    """Return the channels that a table has all columns of."""
    channels = [heading.removeprefix("mean_") for heading in headings if heading.startswith("mean_")]
    return [channel for channel in channels if all(kind + channel in headings for kind in OF_CHANNEL)]


def compare(rows: Mapping[int, Row], again: Again) -> tuple[int, list[str]]:
    """Compare the rows of a part with those computed again; return how many are equal, and the faults.

    Left out are `id` and the confidence, which follow from the whole box.
    """
    computed: dict[Box, list[Row]] = defaultdict(list)
    for expected in again.rows:
        computed[_bounds(expected)].append(expected)
    equal, faults = 0, []
    for number, row in rows.items():
        cells = {heading: cell for heading, cell in row.items() if heading not in ("id", CONFIDENCE)}
        bounds = _bounds(row)
        there = computed[bounds]
        if cells in there:
            there.remove(cells)
            equal += 1
        elif there:
            faults.append(f"row {number}: {_difference(cells, there.pop(0))}")
        elif again.has_all_of(bounds, _centre(row)):
            faults.append(f"row {number}: no such object was found at {bounds}")
    return equal, faults + [f"{TABLE} has no row of the object at {bounds}" for bounds in computed if computed[bounds]]


def _difference(row: Row, computed: Row) -> str:
    """Describe the first column that differs."""
    other = sorted(row.keys() ^ computed.keys())
    if other:
        return f"the columns {', '.join(other[:5])} are not both in it and computed"
    heading = next(heading for heading in row if row[heading] != computed[heading])
    return f"its {heading} is {row[heading]}, computed {computed[heading]}"


def _bounds(row: Row) -> Box:
    """Return the bounding box of a row."""
    return Box(*((int(row[f"start_{axis}"]), int(row[f"stop_{axis}"])) for axis in "zyx"))


def _centre(row: Row) -> tuple[int, ...]:
    """Return the voxel (z, y, x) of a row's centroid."""
    return tuple(int(voxel_of(float(row[f"centroid_{axis}_voxel"]), int(row["voxels"]))) for axis in "zyx")
