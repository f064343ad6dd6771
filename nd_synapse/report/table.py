"""The table of synapses, one row each, and its standardised channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nd_synapse.detection.flags import BRIGHT_EVERYWHERE
from nd_synapse.errors import DataError
from nd_synapse.user_code import array_of

__all__ = [
    "CHANNEL_PREFIX",
    "MASK_PREFIX",
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
    finite = np.isfinite(values)
    ends = (np.max(values, where=finite, initial=0), np.min(values, where=finite, initial=0))
    largest = max(abs(float(end)) for end in ends)
    if largest > _LARGEST:
        raise DataError(name, f"it holds numbers as large as {largest:.3g}", f"Give numbers up to {_LARGEST:g}")


@dataclass(frozen=True, slots=True)
class SynapseTable:
    """One row a synapse: columns of one length n with numbers, bool, or text such as a class; never written to."""

    columns: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Refuse columns that differ in length or hold neither numbers nor text."""
        lengths = set()
        for name, values in self.columns.items():
            if values.ndim != 1 or values.dtype.kind not in "biufU":
                found = f"it has {values.ndim} dimensions of type {values.dtype}"
                raise DataError(f"column {name!r}", found, "Give one number a row")
            check_magnitude(f"column {name!r}", values)
            lengths.add(len(values))
        if len(lengths) > 1:
            raise DataError("a table", f"its columns have {sorted(lengths)} rows", "Give columns of one length")

    @classmethod
    def of(cls, columns: Mapping[str, ArrayLike]) -> SynapseTable:
        """Return the table of anything that NumPy reads as columns."""
        return cls({str(name): array_of(f"column {name!r}", values) for name, values in columns.items()})

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
            classes = self.columns["class"]
            values, sizes = np.unique(classes, return_counts=True)
            # a column of this name that holds no classes may have as many values as rows
            frequent = np.sort(values[np.argsort(-sizes, kind="stable")[:_MOST_CLASSES]])
            named = {name.lower() for name in found}
            found |= {str(name): classes == name for name in frequent if str(name).lower() not in named}
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
        values = self.columns[name].astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            raise NothingToDrawError(f"Column “{name}” holds no value.")
        return values

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
