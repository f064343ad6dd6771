"""Marks of a person on a random sample of a run's rows: true, false or unsure; what they say of all rows.

The report page offers the sample, drawn from all rows with equal chances, so that the share of true ones among those
that were decided estimates the precision without bias. Its interval is the exact one of a binomial share, which holds
the truth in at least 95 of 100 samples whatever it is (Clopper and Pearson 1934, `metrics.exact_proportion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.confidence import shortest_strictness
from nd_synapse.errors import DataError, few
from nd_synapse.evaluate.inputs import column, numbers, read_table
from nd_synapse.evaluate.metrics import Rate, exact_proportion
from nd_synapse.text import written

__all__ = ["LEAST_MARKS", "Judgement", "Marks", "as_json", "as_text", "judge", "read_marks", "rows_of"]

LEAST_MARKS = 10
"""Decided marks from which the precision at a strictness is given."""

_TRUE, _FALSE, _UNSURE = "true", "false", "unsure"
_FORMS = (("", "_voxel"), ("_um", "_um"))
_NEAR = 0.02  # the page writes two decimals


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """The marked rows of a table."""

    ids: NDArray[np.int64]
    """Shape (n,), each once."""
    places: Mapping[str, NDArray[np.float64]]
    """Column of the table to the place of each row along that axis, shape (n,)."""
    right: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    """Not marked unsure."""
    pipeline: str
    """Of the run whose rows were marked; empty if the file does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What marks say of a run."""

    precision: Rate
    true: int
    false: int
    unsure: int
    rows: int
    """Of the whole table."""
    wanted: float
    """The precision for which a strictness is looked for."""
    strictness: NDArray[np.float64]
    """For every score of a decided row at which at least `LEAST_MARKS` are left the number with the fewest digits that
    keeps the same rows, ascending (k,); empty without scores."""
    rates: tuple[Rate, ...]
    """The precision at each of them."""
    left: NDArray[np.int64]
    """Rows of the whole table that are left at each, (k,)."""

    @property
    def advised(self) -> int | None:
        """The place of the lowest strictness whose precision is as wanted; None where there is none."""
        return next((i for i, rate in enumerate(self.rates) if rate.value >= self.wanted), None)


def read_marks(path: Path) -> Marks:
    """Read the marks that a report page wrote: columns ``id``, ``z``, ``y``, ``x``, ``label`` and ``pipeline``."""
    table = read_table(path)
    ids = numbers(path, table, "id").astype(np.int64)
    labels = np.array([label.lower() for label in column(path, table, "label")], np.str_)
    known = np.isin(labels, (_TRUE, _FALSE, _UNSURE))
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        found = f"row {row + 1} has the label {labels[row].item()!r}"
        raise DataError(str(path), found, f"Write {_TRUE}, {_FALSE} or {_UNSURE}")
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = few([str(one) for one in unique[counts > 1].tolist()])
        raise DataError(str(path), f"it has more than one mark of {twice}", "Leave one mark a row")
    forms = [(f"{axis}{unit}", f"centroid_{axis}{form}") for axis in "zyx" for unit, form in _FORMS]
    places = {there: numbers(path, table, here) for here, there in forms if here in table}
    pipelines = sorted(set(table.get("pipeline", [])) - {""})
    if len(pipelines) > 1:
        raise DataError(str(path), f"it has marks of {few(pipelines)}", "Give the marks of one run")
    return Marks(ids, places, labels == _TRUE, labels != _UNSURE, "".join(pipelines))


def rows_of(marks: Marks, table: Mapping[str, NDArray[Any]], requested: str) -> NDArray[np.intp]:
    """Return the row of each mark in a table, shape (n,); refuse marks of another run.

    A table without the column ``id`` is counted from 1, as the page counts it.
    """
    rows = len(next(iter(table.values())))
    ids = np.asarray(table["id"], np.float64) if "id" in table else np.arange(1, rows + 1, dtype=np.float64)
    order = np.argsort(ids, kind="stable")
    found = order[np.minimum(np.searchsorted(ids, marks.ids, sorter=order), rows - 1)] if rows else order[:0]
    remedy = "Give the folder of the run whose page was marked"
    if not rows or (ids[found] != marks.ids).any():
        missing = marks.ids if not rows else marks.ids[ids[found] != marks.ids]
        raise DataError(requested, f"it has no row of id {few([str(one) for one in missing.tolist()])}", remedy)
    for name, places in marks.places.items():
        if name in table and (np.abs(table[name][found] - places) > _NEAR).any():
            one = int(np.argmax(np.abs(table[name][found] - places)))
            what = f"id {marks.ids[one]} was marked at {name} {places[one]:g} and lies at {table[name][found[one]]:g}"
            raise DataError(requested, what, remedy)
    return found


def judge(marks: Marks, rows: NDArray[np.intp], n: int, scores: NDArray[np.float64] | None, wanted: float) -> Judgement:
    """Return what marks of some rows say of all n; `scores` (n,) is None where the pipeline has no strictness."""
    right, decided = marks.right, marks.decided
    hits, of = int((right & decided).sum()), int(decided.sum())
    if not of:
        raise DataError("the marks", "none of them is true or false", "Mark some rows, and download the labels again")
    some = np.empty(0)
    if scores is not None:
        score, good = scores[rows][decided], right[decided]
        least_scores = [least for least in np.unique(score) if int((score >= least).sum()) >= LEAST_MARKS]
        some = np.array([shortest_strictness(float(least), scores) for least in least_scores])
        kept = [score >= least for least in some]
    return Judgement(
        precision=exact_proportion(hits, of),
        true=hits,
        false=of - hits,
        unsure=len(right) - of,
        rows=n,
        wanted=wanted,
        strictness=some,
        rates=tuple(exact_proportion(int(good[one].sum()), int(one.sum())) for one in kept) if len(some) else (),
        left=np.array([int((scores >= least).sum()) for least in some] if scores is not None else [], np.int64),
    )


def as_text(judgement: Judgement, subject: str) -> str:
    """Return the precision, and the strictness to use, as a few lines."""
    decided, advised = judgement.true + judgement.false, judgement.advised
    unsure = f"; {judgement.unsure:,} unsure are left out" if judgement.unsure else ""
    lines = [
        subject,
        f"precision {_share(judgement.precision)}: {judgement.true:,} of {decided:,} are true{unsure}",
        f"The marked are a random sample of {judgement.rows:,} rows; in brackets the exact 95 % interval.",
    ]
    if len(judgement.strictness) and judgement.precision.value >= judgement.wanted:
        lines.append(f"\nStrictness: leave it, the run has a precision of {judgement.wanted:g}")
    elif advised is not None:
        strictness = judgement.strictness[advised]
        lines += [
            f"\nStrictness: use --param strictness={written(strictness)} for a precision of {judgement.wanted:g}:",
            f"precision {_share(judgement.rates[advised])} and about {judgement.left[advised]:,} rows.",
            "It is the lowest that reaches it on these marks.",
        ]
    elif len(judgement.strictness):
        best = max(judgement.rates, key=lambda rate: rate.value)
        lines.append(
            f"\nStrictness: none with at least {LEAST_MARKS} marks reaches a precision of {judgement.wanted:g}; "
            f"the best is {_share(best)}"
        )
    return "\n".join(lines) + "\n"


def _share(rate: Rate) -> str:
    return f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def as_json(judgement: Judgement) -> dict[str, Any]:
    """Return the same as plain values, with the precision at each strictness."""
    advised = judgement.advised
    steps = [
        {"strictness": float(strictness), "precision": asdict(rate), "rows": int(left)}
        for strictness, rate, left in zip(judgement.strictness, judgement.rates, judgement.left, strict=True)
    ]
    return {
        "precision": asdict(judgement.precision),
        "marks": {"true": judgement.true, "false": judgement.false, "unsure": judgement.unsure},
        "rows": judgement.rows,
        "wanted_precision": judgement.wanted,
        "advice": None if advised is None else steps[advised],
        "by_strictness": steps,
    }
