"""The counts of a pipeline's statistics: packed for the store, and added up over blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError
from nd_synapse.pipeline.contract import Summary
from nd_synapse.user_code import array_of

__all__ = ["add_all_counts", "add_counts", "packed_counts"]

_MAX_LEVELS = 2**26
"""Levels of all counts of a summary together: half a GiB."""


def packed_counts(summary: Summary, of: str = "") -> dict[str, NDArray[Any]]:
    """Return counts without their zeros, as ``<of>places <name>`` and ``<of>counts <name>``, int64."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, given in summary.items():
        counts = _counts(name, given)
        kept = counts != 0
        kept[-1:] = True  # counts that end with zeros keep their length
        places = np.flatnonzero(kept)
        arrays[f"{of}places {name}"], arrays[f"{of}counts {name}"] = places, counts[places]
    return arrays


def _counts(name: str, given: object) -> NDArray[np.int64]:
    """Return counts of a pipeline as they are; sums of fractions would depend on the order of blocks."""
    counts = array_of(f"the counts {name!r} of a block", given)
    if counts.ndim != 1 or not np.can_cast(counts.dtype, np.int64, "safe"):
        found = f"they are {counts.dtype} of the shape {counts.shape}"
        raise DataError(f"the counts {name!r} of a block", found, "Return whole numbers (int64), shape (n,)")
    return counts.astype(np.int64, copy=False)


def add_all_counts(total: Summary, arrays: Mapping[str, NDArray[Any]], of: str = "") -> None:
    """Add what `packed_counts` packed to a summary, in place; other arrays are ignored."""
    for key, counts in arrays.items():
        kind, _, name = key.partition(" ")
        if kind == f"{of}counts":
            add_counts(total, name, arrays[f"{of}places {name}"], counts)


def add_counts(total: Summary, name: str, places: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Add counts (int64, shape (n,)) at ascending places to a summary, in place; it grows as needed."""
    length = int(places[-1]) + 1 if len(places) else 0
    have = total.get(name, np.zeros(0, np.int64))
    if len(have) < length:
        levels = sum(map(len, total.values())) - len(have) + length
        if levels > _MAX_LEVELS:
            found = f"there are {levels:,} levels to count, more than {_MAX_LEVELS:,}"
            raise DataError(f"the counts {name!r} of a block", found, "Let the pipeline count fewer levels")
        have = np.concatenate([have, np.zeros(length - len(have), np.int64)])
    have[places] += counts
    total[name] = have
