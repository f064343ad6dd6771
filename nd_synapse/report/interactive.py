"""What of the page is interactive: it adds to the static page, which is whole without it."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from nd_synapse.errors import NDSynapseError
from nd_synapse.report.figures_strictness import kept_of_all, strictness_of
from nd_synapse.report.interactive_voxels import rows_in_part, voxels_of
from nd_synapse.report.plot import Subject
from nd_synapse.report.table import CHANNEL_PREFIX, MASK_PREFIX, NothingToDrawError

__all__ = ["MOST_ROWS", "Interactive", "interactive", "marked_rows", "script"]

log = logging.getLogger(__name__)

MOST_ROWS, _MOST_MORE = 12_000, 2_000
"""Rows that the page holds; of a longer table they are drawn at random."""

_MOST_BYTES = 750_000
_MOST_COLUMNS = 24
_MOST_CLASSES = 40  # more are no classes, but names of the rows
_CURVE_STEPS = 200
_HERE = Path(__file__).parent
_SCRIPTS = (
    *("vendor/uPlot.LICENSE", "vendor/uPlot.iife.min.js"),
    *("live_parts.js", "live_viewer.js", "live_table.js", "live_marks.js"),
)
_STYLES = ("vendor/uPlot.min.css", "live.css")
_UNITS = {"_um3": " (µm³)", "_um": " (µm)", "_voxel": "", "_nm": " (nm)"}


@dataclass(frozen=True, slots=True)
class Interactive:
    """The script of a page with its data; the sections "viewer" and "table" show them."""

    policy: str = ""
    """What the page's Content-Security-Policy allows besides: ``; script-src 'sha256-...'``."""
    style: str = ""
    script: str = ""
    """Elements before the end of the page, as `Markup`: data and script."""
    rows: int = 0
    """Rows in the table of the page, all or a sample."""
    viewer: bool = False
    why: str = ""
    """Why there is no viewer, as a sentence."""
    marks: int = 0
    """Synapses that are offered for marking."""
    scored: bool = False


@cache
def script() -> tuple[str, str]:
    """Return the one script of every page, and what the policy of the page calls it: ``sha256-...``."""
    licence, uplot, *own = ((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    # one function around our parts: they share their names, and leave none behind
    text = f"/*!\n{licence}*/\n{uplot}\n(() => {{\n{chr(10).join(own)}\n}})();\n"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return text, f"sha256-{digest}"


def interactive(subject: Subject) -> Interactive:
    """Return the interactive part of a page; the same input gives the same bytes."""
    table = subject.table
    columns = _columns(subject)
    # a class is a number of two bytes at most
    row_bytes = sum(2 if values.dtype.kind == "U" else values.dtype.itemsize for values in columns.values())
    rows, sample = _rows(subject, row_bytes + 3 * 4)
    places, unit = _places(subject, rows)
    shown = [_column(subject, name, _values(subject, name, small.dtype, rows)) for name, small in columns.items()]
    data: dict[str, Any] = {
        "n": table.whole.n,
        "sample": sample,
        "strictness": strictness_of(subject.facts),
        "pipeline": subject.facts.pipeline,
        "voxelUm": None if subject.facts.voxel_size_nm is None else [nm / 1000 for nm in subject.facts.voxel_size_nm],
        "columns": [column for column in shown if len(column.get("values", ())) <= _MOST_CLASSES],
        "rows": _packed(rows),
        "places": [_packed(values) for values in places],
        "unit": unit,
        "curve": _curve(subject),
    }
    marks = marked_rows([axis[:sample] for axis in places], subject.seed)
    try:
        data["voxels"], held = voxels_of(subject, rows[marks])
        data["marks"] = marks[:held].tolist()
    except NothingToDrawError as why:
        data["voxels"], data["why"] = None, str(why)
    except NDSynapseError as error:
        log.warning("the page has no viewer: %s", error)
        data["voxels"], data["why"] = None, f"The voxels could not be read: {error}"
    except Exception as failure:  # a defect in the viewer must not cost the report
        log.exception("the viewer of the page failed")
        data["voxels"], data["why"] = None, f"{type(failure).__name__}: {failure}"
    text, name = script()
    # "<" would end the element or start a comment; "&" and ">" do not
    packed = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    elements = f'<script type="application/json" id="live-data">{packed}</script>\n<script>{text}</script>'
    return Interactive(
        policy=f"; script-src '{name}'",
        style="".join((_HERE / file).read_text(encoding="utf-8") for file in _STYLES),
        script=Markup(elements),  # noqa: S704 - our own script, and JSON that cannot end its element
        rows=sample,
        viewer=data["voxels"] is not None,
        why=data.get("why", ""),
        marks=len(data.get("marks", ())),
        scored=data["curve"] is not None,
    )


def _rows(subject: Subject, row_bytes: int) -> tuple[NDArray[np.intp], int]:
    """Return the rows of the whole table for the page, and how many, the first, are all or a simple random sample.

    Those after the sample lie in the viewer, so that a click there finds what it shows.
    """
    n, random = subject.table.whole.n, np.random.default_rng(subject.seed)
    most = min(MOST_ROWS, _MOST_BYTES // max(1, row_bytes))
    if n <= most:
        return np.arange(n), n
    sample = np.sort(random.choice(n, most, replace=False))
    others = np.setdiff1d(rows_in_part(subject), sample)
    if len(others) > _MOST_MORE:
        others = np.sort(random.choice(others, _MOST_MORE, replace=False))
    return np.concatenate([sample, others]), most


def marked_rows(places: Sequence[NDArray[np.float64]], seed: int) -> NDArray[np.intp]:
    """Return which rows are offered for marking, in a random order; one without a place cannot be shown."""
    known = np.flatnonzero(np.isfinite(places).all(axis=0)) if places else np.empty(0, np.intp)
    return np.random.default_rng([seed, 1]).permutation(known)  # another draw than that of the rows


def _columns(subject: Subject) -> dict[str, NDArray[Any]]:
    """Return the columns that the page holds, the telling ones first, in the smallest type that holds them."""
    first = ("id", "class", "score", "confidence", "volume_um3", "voxels", "slices")
    every = subject.table.columns
    channels = list(subject.table.channels.values())
    left_out = {f"{end}_{axis}" for end in ("start", "stop") for axis in "zyx"}
    left_out |= {f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")}
    order = dict.fromkeys([*first, *channels, *every])
    sums = ("sum_", "window_sum_")  # the means beside them say the same
    names = [name for name in order if name in every and name not in left_out and not name.startswith(sums)]
    return {name: _small(every[name]) for name in names[:_MOST_COLUMNS]}


def _values(subject: Subject, name: str, kind: np.dtype[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return some rows of a column of the whole table, numbers that are not whole in the type that the page has."""
    values: NDArray[Any] = subject.table.whole.columns[name][rows]
    return values.astype(kind) if kind.kind == "f" else values


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in the smallest type that a browser reads and that holds them; text stays."""
    if values.dtype.kind == "U":
        return values
    if values.dtype.kind == "b" or not len(values):
        return values.astype(np.uint8)
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    low, high = (float(values.min()), float(values.max())) if whole else (0.0, 0.0)
    if whole and max(abs(low), abs(high)) < 2**53:
        for kind in ("u1", "u2", "u4", "i4") if low >= 0 else ("i4",):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(f"<{kind}")
        return values.astype("<f8")
    return values.astype("<f4")


def _packed(values: NDArray[Any]) -> dict[str, str]:
    """Return numbers as the name of their type and their bytes, little-endian, in base64."""
    small = _small(values)
    return {
        "type": f"{small.dtype.kind}{small.dtype.itemsize}",
        "data": base64.b64encode(small.tobytes()).decode("ascii"),
    }


def _column(subject: Subject, name: str, values: NDArray[Any]) -> dict[str, Any]:
    """Return a column with its heading; text as numbers of its values, with their colours."""
    found: dict[str, Any] = {"name": name, "label": _label(subject, name)}
    if values.dtype.kind == "U":
        names, codes = np.unique(values, return_inverse=True)
        colours = subject.group_colours
        found["values"] = [{"name": str(one), "colour": colours.get(str(one), "")} for one in names]
        return found | _packed(codes.ravel())
    if subject.table.columns[name].dtype.kind == "b":
        found["values"] = [{"name": "no", "colour": ""}, {"name": "yes", "colour": ""}]
    return found | _packed(values)


def _label(subject: Subject, name: str) -> str:
    """Return the heading of a column in words."""
    if name in subject.table.channels.values():
        return name.removeprefix(CHANNEL_PREFIX)
    if name.startswith(MASK_PREFIX):
        return f"in {name.removeprefix(MASK_PREFIX)}"
    for end, unit in _UNITS.items():
        if name.endswith(end):
            return name.removesuffix(end).replace("_", " ") + unit
    return name.replace("_", " ")


def _places(subject: Subject, rows: NDArray[np.intp]) -> tuple[list[NDArray[np.float64]], str]:
    """Return z, y, x of the rows and their unit, voxels or else µm; nothing where the table has no place."""
    try:
        centres, unit = subject.table.rows(rows).centroids(units=("voxel", "um"))
    except NothingToDrawError:
        return [], ""
    return list(np.round(centres, 2).T), unit


def _curve(subject: Subject) -> dict[str, Any] | None:
    """Return how many synapses are left at each of some strictnesses; None without scores."""
    try:
        scores = subject.table.column("score")
    except NothingToDrawError:
        return None
    own = strictness_of(subject.facts)
    low, high = float(scores.min()), float(np.quantile(scores, 0.995))
    low = low if own is None else min(low, own)
    along = np.linspace(low, high if high > low else low + 1, _CURVE_STEPS)
    return {"strictness": [_rounded(value) for value in along], "left": kept_of_all(subject.table, along).tolist()}


def _rounded(value: float) -> float:
    """Return a number with six digits."""
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0
