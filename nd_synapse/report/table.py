"""The table of synapses: one row each, its columns known by their names.

It measures nothing; what the columns hold was measured where the masks are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nd_synapse.errors import DataError

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
    {"id", "label", "class", "class_score", "score", "voxels", "volume_um3", "slices", "touches_border"}
    | {"equivalent_diameter_um", "elongation", "window_fraction"}
    | {f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")}
    | {f"{end}_{axis}" for axis in "zyx" for end in ("start", "stop")}
)

MASK_PREFIX = "in_"
"""Columns of this prefix tell whether a further mask holds a synapse."""

_MOST_CLASSES = 8
_MOST_MASKS = 16

_MOST_CHANNELS = 64
"""Channels that are drawn; no specimen has so many markers, and each is drawn against each other one."""

_LARGEST = 3.5e38
"""What single precision holds; the powers of larger numbers are none in double precision either."""

_SMALLEST_SPREAD = 1e-12
"""Standard deviation over the largest magnitude, below which a channel counts as constant: rounding, not biology."""

Floats = NDArray[np.float64]


class NothingToDrawError(Exception):
    """A figure cannot be drawn from this input; the text says why, as a sentence."""


def check_magnitude(name: str, values: NDArray[Any]) -> None:
    """Refuse numbers whose powers are none any more; one that is not finite is a missing one."""
    if values.dtype.kind != "f" or not values.size:
        return
    finite = np.isfinite(values)
    ends = (np.max(values, where=finite, initial=0), np.min(values, where=finite, initial=0))
    largest = max(abs(float(end)) for end in ends)
    if largest > _LARGEST:
        raise DataError(name, f"it holds numbers as large as {largest:.3g}", f"Give numbers up to {_LARGEST:g}")


@dataclass(frozen=True, slots=True)
class SynapseTable:
    """One row a synapse.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Column name to its values, shape (n,), all of the same length; numbers, bool, or text such as a class. Never
        written to.

    Raises
    ------
    DataError
        If the columns differ in length, are not one-dimensional, or hold neither numbers nor text.
    """

    columns: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Refuse what is no table of numbers, or has numbers whose powers are none any more."""
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
        named = {}
        for name, values in columns.items():
            try:
                named[str(name)] = np.asarray(values)
            except ValueError as error:
                raise DataError(f"column {name!r}", "it is no array", "Give one number a row") from error
        return cls(named)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def channels(self) -> dict[str, str]:
        """Channel name to its column: the ``mean_`` columns, else all numbers but of position, size and masks.

        Of very many, the first: each is drawn against each other one.
        """
        return dict(islice(self._every_channel.items(), _MOST_CHANNELS))

    @property
    def channels_left_out(self) -> int:
        """How many further channels there are, too many to draw."""
        return len(self._every_channel) - len(self.channels)

    @property
    def _every_channel(self) -> dict[str, str]:
        """Channel name to its column, however many there are."""
        prefixed = {name.removeprefix(CHANNEL_PREFIX): name for name in self.columns if name.startswith(CHANNEL_PREFIX)}
        return prefixed or {
            name: name
            for name, values in self.columns.items()
            if name not in _DESCRIPTIVE and not name.startswith(MASK_PREFIX) and values.dtype.kind != "U"
        }

    def _masks(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the columns that tell whether a mask holds a synapse."""
        return (
            (name, values)
            for name, values in self.columns.items()
            if name.startswith(MASK_PREFIX) and values.dtype.kind != "U"
        )

    @property
    def masks_left_out(self) -> int:
        """How many further masks there are, too many to draw."""
        return max(0, sum(1 for _ in self._masks()) - _MOST_MASKS)

    @property
    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Name to its rows, shape (n,): further masks, and the most frequent values of ``class`` that are no mask's."""
        found = {name.removeprefix(MASK_PREFIX): values != 0 for name, values in islice(self._masks(), _MOST_MASKS)}
        if self.has("class"):
            classes = self.columns["class"]
            values, sizes = np.unique(classes, return_counts=True)
            # a column of this name that holds no classes may have as many values as rows
            often = np.sort(values[np.argsort(-sizes, kind="stable")[:_MOST_CLASSES]])
            named = {name.lower() for name in found}
            found |= {str(name): classes == name for name in often if str(name).lower() not in named}
        return found

    def has(self, *names: str) -> bool:
        """Tell whether all of these columns are here."""
        return all(name in self.columns for name in names)

    def column(self, name: str) -> Floats:
        """Return the values of a column that are finite, as float64, shape (up to n,)."""
        if name not in self.columns:
            raise NothingToDrawError(f"The table has no column “{name}”.")
        if self.columns[name].dtype.kind == "U":
            raise NothingToDrawError(f"Column “{name}” holds text.")
        values = self.columns[name].astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            raise NothingToDrawError(
                "There is no synapse to show." if not self.n else f"Column “{name}” holds no value."
            )
        return values

    def positions(self, axes: str) -> tuple[Floats, str]:
        """Return where the synapses are."""
        for suffix, unit in (("um", "µm"), ("voxel", "voxels")):
            names = [f"centroid_{axis}_{suffix}" for axis in axes]
            if self.has(*names):
                found = np.stack([self.columns[name].astype(np.float64) for name in names], axis=1)
                found = found[np.isfinite(found).all(axis=1)]
                if not len(found):
                    raise NothingToDrawError("There is no synapse to show.")
                return found, unit
        raise NothingToDrawError(f"The table has no centroids along {', '.join(axes)}.")

    def brightness(self) -> Floats:
        """Return the channel columns as float64, shape (n, channels); a missing value is NaN."""
        columns = list(self.channels.values())
        if not columns:
            return np.empty((self.n, 0))
        values = np.stack([self.columns[name].astype(np.float64) for name in columns], axis=1)
        values[~np.isfinite(values)] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class Standardised:
    """The channels in standard deviations from their mean.

    Parameters
    ----------
    names : tuple of str
        The channels that vary, in the order of the table.
    values : ndarray of float64, shape (rows, channels)
        Mean 0 and population standard deviation 1 in each column.
    rows_left_out : int
        Rows in which one of these channels has no value.
    constant : tuple of str
        Channels left out because all their values are the same.
    empty : tuple of str
        Channels left out because they have no value.
    rows : ndarray of int, shape (rows,)
        The row of the table that each row of `values` is.
    """

    names: tuple[str, ...]
    values: Floats
    rows_left_out: int
    constant: tuple[str, ...]
    empty: tuple[str, ...]
    rows: NDArray[np.intp]

    def need(self, channels: int = 1, rows: int = 2) -> None:
        """Raise NothingToDrawError unless there are this many channels and rows."""
        if len(self.values) < rows:
            raise NothingToDrawError(f"It needs at least {rows} synapses with a value in each channel.")
        if len(self.names) < channels:
            raise NothingToDrawError(
                f"It needs at least {channels} channel{'s' * (channels > 1)} that vary among the synapses."
            )


def standardise(names: Sequence[str], brightness: Floats) -> Standardised:
    """Bring each channel to mean 0 and standard deviation 1, over the rows without a missing value."""
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
