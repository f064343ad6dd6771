"""The table of synapses, one row each, and its standardised channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nd_synapse.columns import counted, pieces, step_of
from nd_synapse.detection.flags import BRIGHT_EVERYWHERE
from nd_synapse.errors import DataError
from nd_synapse.user_code import array_of

__all__ = [
    "CHANNEL_PREFIX",
    "MASK_PREFIX",
    "MOST_DRAWN",
    "NothingToDrawError",
    "Standardised",
    "SynapseTable",
    "check_magnitude",
    "standardise",
]

CHANNEL_PREFIX = "mean_"
"""Columns of this prefix hold the mean brightness of a synapse in one image channel."""

_DESCRIPTIVE = frozenset(
    {"id", "label", "class", "class_score", "score", "voxels", "volume_um3", "slices"}
    | {"section", "touches_border", "touches_padding", "counted", BRIGHT_EVERYWHERE}
    | {"equivalent_diameter_um", "elongation", "window_fraction"}
    | {f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")}
    | {f"{end}_{axis}" for axis in "zyx" for end in ("start", "stop")}
)

MASK_PREFIX = "in_"
"""Columns of this prefix say whether a further mask holds a synapse."""

MOST_DRAWN = 1_000_000
"""Rows of which figures are drawn; of a longer table it is every second, fourth, eighth ... row."""

_MOST_CLASSES = 8
_MOST_MASKS = 16

_MOST_CHANNELS = 64
"""Channels that are drawn: each is drawn against each other one."""

_LARGEST = 3.5e38
"""The largest number in single precision; powers of larger ones overflow in double precision."""

_SMALLEST_SPREAD = 1e-12
"""Standard deviation over the largest magnitude, below which a channel counts as constant: rounding, not biology."""

Floats = NDArray[np.float64]


class NothingToDrawError(Exception):
    """A figure cannot be drawn from this input; the text is a sentence that says why."""


def check_magnitude(name: str, values: NDArray[Any]) -> None:
    """Refuse numbers whose powers overflow; values that are not finite count as missing."""
    if values.dtype.kind != "f" or not values.size:
        return
    for piece in pieces(len(values)):
        some = values[piece]
        finite = np.isfinite(some)
        ends = (np.max(some, where=finite, initial=0), np.min(some, where=finite, initial=0))
        largest = max(abs(float(end)) for end in ends)
        if largest > _LARGEST:
            raise DataError(name, f"it holds numbers as large as {largest:.3g}", f"Give numbers up to {_LARGEST:g}")


class _Rows(Mapping[str, NDArray[Any]]):
    """Some rows of some columns, read when a column is first asked for."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], rows: slice | NDArray[np.intp]) -> None:
        self._columns, self._rows = columns, rows
        self._read: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column."""
        if name not in self._read:
            self._read[name] = np.ascontiguousarray(self._columns[name][self._rows])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names in their order."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


@dataclass(frozen=True)
class SynapseTable:
    """One row a synapse: columns of one length n with numbers, bool, or text such as a class; never written to.

    Figures are drawn from the rows here; what counts is counted over the `whole`, a piece at a time.
    """

    columns: Mapping[str, NDArray[Any]]
    part_of: SynapseTable | None = None
    """The table whose rows these are a part of."""

    @classmethod
    def of(cls, columns: Mapping[str, ArrayLike]) -> SynapseTable:
        """Return the table of anything that NumPy reads as columns.

        Refuses columns that differ in length or hold neither numbers nor text.
        """
        arrays = {str(name): array_of(f"column {name!r}", values) for name, values in columns.items()}
        lengths = set()
        for name, values in arrays.items():
            if values.ndim != 1 or values.dtype.kind not in "biufU":
                found = f"it has {values.ndim} dimensions of type {values.dtype}"
                raise DataError(f"column {name!r}", found, "Give one number a row")
            check_magnitude(f"column {name!r}", values)
            lengths.add(len(values))
        if len(lengths) > 1:
            raise DataError("a table", f"its columns have {sorted(lengths)} rows", "Give columns of one length")
        return cls(arrays)

    def drawn(self) -> SynapseTable:
        """Return the rows that figures are drawn from: all, or of more than a million an even sample."""
        step = step_of(self.n, MOST_DRAWN)
        return self if step == 1 else self.rows(slice(None, None, step))

    def rows(self, chosen: slice | NDArray[np.intp]) -> SynapseTable:
        """Return some rows of the whole table."""
        return SynapseTable(_Rows(self.whole.columns, chosen), self.whole)

    @property
    def whole(self) -> SynapseTable:
        """The table of all rows."""
        return self if self.part_of is None else self.part_of

    @property
    def step(self) -> int:
        """Of how many rows one is in a sample; 1 for all."""
        return step_of(self.whole.n, MOST_DRAWN) if self.n < self.whole.n else 1

    @property
    def sampling(self) -> str:
        """How the rows were sampled, as a sentence; empty if they are all."""
        if self.step == 1:
            return ""
        return (
            f"The figures are drawn from an even sample, one row in {self.step:,} of the table ({self.n:,} of "
            f"{self.whole.n:,}); numbers of synapses, densities and the checks that count are of all rows."
        )

    def pieces(self) -> Iterator[SynapseTable]:
        """Yield the rows of the whole table, a piece at a time."""
        for piece in pieces(self.whole.n):
            yield self.rows(piece)

    def total(self, count: Callable[[SynapseTable], int]) -> int:
        """Return the sum of what is counted in each piece of the whole table."""
        return sum(count(piece) for piece in self.pieces())

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def channels(self) -> dict[str, str]:
        """The first 64 channels, name to column: ``mean_`` columns, else all numbers but positions, sizes and masks."""
        return dict(islice(self._all_channels().items(), _MOST_CHANNELS))

    @property
    def channels_left_out(self) -> int:
        """Number of further channels, which are not drawn."""
        return len(self._all_channels()) - len(self.channels)

    def _all_channels(self) -> dict[str, str]:
        prefixed = {name.removeprefix(CHANNEL_PREFIX): name for name in self.columns if name.startswith(CHANNEL_PREFIX)}
        return prefixed or {
            name: name
            for name, values in self.columns.items()
            if name not in _DESCRIPTIVE and not name.startswith(MASK_PREFIX) and values.dtype.kind != "U"
        }

    def _masks(self) -> dict[str, NDArray[np.bool_]]:
        return {
            name.removeprefix(MASK_PREFIX): self.flags(name)
            for name, values in self.columns.items()
            if name.startswith(MASK_PREFIX) and values.dtype.kind != "U"
        }

    @property
    def masks_left_out(self) -> int:
        """Number of further masks, which are not drawn."""
        return max(0, len(self._masks()) - _MOST_MASKS)

    @property
    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Name to its rows, shape (n,): further masks, then the most frequent values of ``class`` without a mask."""
        found = dict(islice(self._masks().items(), _MOST_MASKS))
        if self.has("class"):
            classes, named = self.columns["class"], {name.lower() for name in found}
            found |= {str(name): classes == name for name in self.whole._classes if str(name).lower() not in named}
        return found

    @cached_property
    def _classes(self) -> list[Any]:
        """The most frequent values of ``class``, in their order."""
        sizes = counted(self.columns["class"])
        # a column of this name that holds no classes may have as many values as rows
        frequent = set(sorted(sizes, key=lambda name: -sizes[name])[:_MOST_CLASSES])
        return [name for name in sizes if name in frequent]

    @property
    def group_sizes(self) -> dict[str, int]:
        """Name of each group to how many rows of the whole table are in it."""
        return self.whole._sizes

    @cached_property
    def _sizes(self) -> dict[str, int]:
        found = dict.fromkeys(self.groups, 0)
        for piece in self.pieces():
            for name, rows in piece.groups.items():
                found[name] += int(rows.sum())
        return found

    def has(self, *names: str) -> bool:
        """Return whether all of these columns are here."""
        return all(name in self.columns for name in names)

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return where a column of numbers or bool is set, shape (n,): not where its value is missing."""
        values = self.columns[name]
        return np.asarray((values != 0) & (values == values))  # a NaN equals nothing

    def need_rows(self) -> None:
        """Raise NothingToDrawError for an empty table."""
        if not self.n:
            raise NothingToDrawError("There is no synapse to show.")

    def column(self, name: str) -> Floats:
        """Return the finite values of a column as float64, shape (up to n,)."""
        if name not in self.columns:
            raise NothingToDrawError(f"The table has no column “{name}”.")
        if self.columns[name].dtype.kind == "U":
            raise NothingToDrawError(f"Column “{name}” holds text.")
        self.need_rows()
        values = self.finite(name)
        if not len(values):
            raise NothingToDrawError(f"Column “{name}” holds no value.")
        return values

    def finite(self, name: str) -> Floats:
        """Return the finite values of a column of numbers as float64, shape (up to n,)."""
        values = self.columns[name].astype(np.float64)
        return values[np.isfinite(values)]

    def size_column(self) -> tuple[str, str]:
        """Return the column of the sizes and its unit."""
        return ("volume_um3", "µm³") if self.has("volume_um3") else ("voxels", "voxels")

    def positions(self, axes: str) -> tuple[Floats, str]:
        """Return the known centroids along `axes`, float64 (up to n, axes), and their unit: µm, else voxels."""
        found, unit = self.centroids(axes)
        found = found[np.isfinite(found).all(axis=1)]
        if not len(found):
            raise NothingToDrawError("There is no synapse to show.")
        return found, unit

    def centroids(self, axes: str = "zyx", units: Sequence[str] = ("um", "voxel")) -> tuple[Floats, str]:
        """Return centroids, float64 (n, axes), NaN where missing, in the first unit that is there, and that unit."""
        for unit in units:
            names = [f"centroid_{axis}_{unit}" for axis in axes]
            if self.has(*names):
                found = np.stack([self.columns[name].astype(np.float64) for name in names], axis=1)
                return found, {"um": "µm", "voxel": "voxels"}[unit]
        only = f" in {units[0]}s" if len(units) == 1 else ""
        raise NothingToDrawError(f"The table has no centroids{only} along {', '.join(axes)}.")

    def brightness(self) -> Floats:
        """Return the channel columns as float64, (n, channels); a missing value is NaN."""
        columns = list(self.channels.values())
        if not columns:
            return np.empty((self.n, 0))
        values = np.stack([self.columns[name].astype(np.float64) for name in columns], axis=1)
        values[~np.isfinite(values)] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class Standardised:
    """The channels that vary, in standard deviations from their mean, over the rows without a missing value."""

    names: tuple[str, ...]
    values: Floats
    """Shape (rows, channels); mean 0 and population standard deviation 1 in each column."""
    rows_left_out: int
    constant: tuple[str, ...]
    """Channels left out because all their values are the same."""
    empty: tuple[str, ...]
    """Channels left out because they have no value."""
    rows: NDArray[np.intp]
    """The row of the table for each row of `values`, shape (rows,)."""

    def need(self, channels: int = 1, rows: int = 2) -> None:
        """Raise NothingToDrawError unless there are this many channels and rows."""
        if len(self.values) < rows:
            raise NothingToDrawError(f"It needs at least {rows} synapses with a value in each channel.")
        if len(self.names) < channels:
            raise NothingToDrawError(
                f"It needs at least {channels} channel{'s' * (channels > 1)} that vary among the synapses."
            )


def standardise(names: Sequence[str], brightness: Floats) -> Standardised:
    """Standardise brightness, float64 (n, channels) with NaN for missing values."""
    finite = np.isfinite(brightness)
    filled = np.asarray(finite.any(axis=0))
    complete = finite[:, filled].all(axis=1)
    rows = brightness[np.ix_(complete, filled)]
    some = np.asarray(names, dtype=object)[filled]
    if len(rows):
        largest = np.abs(rows).max(axis=0)
        rows /= np.where(largest > 0, largest, 1)
        rows -= rows.mean(axis=0)
        spread = rows.std(axis=0)
        varies = spread > _SMALLEST_SPREAD
    else:
        spread = np.ones(len(some))
        varies = np.zeros(len(some), dtype=bool)
    return Standardised(
        names=tuple(some[varies]),
        values=rows[:, varies] / spread[varies],
        rows_left_out=int((~complete).sum()),
        constant=tuple(some[~varies]) if len(rows) else (),
        empty=tuple(name for name, has in zip(names, filled.tolist(), strict=True) if not has),
        rows=np.flatnonzero(complete),
    )
