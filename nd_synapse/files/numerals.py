"""Cells of a table as numbers: one rule for all tables that are read.

An empty cell, ``-``, ``NA``, ``N/A``, ``#N/A``, ``NaN``, ``none`` and ``null`` are missing; ``true`` and ``false`` are
1 and 0. Digits may be grouped in threes by blanks, apostrophes, and whichever of comma and point is not the decimal
mark. ``1,234`` can be 1234 or 1.234: it is what the cells of its column that can be read in one way only show, else
those of the table. Where they show nothing, or both, it is not usable; nor are infinite numbers and all other text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

__all__ = ["COMMA", "POINT", "UNKNOWN", "decimal_marks", "evidence", "parse", "readings"]

POINT, COMMA, UNKNOWN = ".", ",", "?"
"""Decimal marks."""

_MISSING = frozenset({"", "-", "na", "n/a", "#n/a", "nan", "none", "null"})
_TRUTH = {"true": 1.0, "false": 0.0}
_SAME = str.maketrans({"\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " "})
_SAME |= str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MINUS SIGN}": "-"})


def _form(mark: str, between: str, group: str) -> str:
    """Return the pattern of a number with a decimal mark and a separator of groups of three digits."""
    grouped = rf"[1-9]\d{{0,2}}(?P<{group}>[{between} '])\d{{3}}(?:(?P={group})\d{{3}})*(?:[{mark}]\d*)?"
    return rf"[+-]?(?:{grouped}|\d+(?:[{mark}]\d*)?|[{mark}]\d+)(?:[eE][+-]?\d+)?"


_FORMS = {POINT: _form(".", ",", "a"), COMMA: _form(",", ".", "b")}
_WHOLE = {mark: re.compile(form) for mark, form in _FORMS.items()}
_EDGE = r"[ \t]*$"
_ONLY = {
    mark: re.compile(rf"^[ \t]*(?!{_FORMS[other]}{_EDGE}){_FORMS[mark]}{_EDGE}", re.MULTILINE)
    for mark, other in ((POINT, COMMA), (COMMA, POINT))
}
_ONLY[UNKNOWN] = re.compile(rf"^[ \t]*[+-]?[1-9]\d{{0,2}},\d{{3}}(?:[eE][+-]?\d+)?{_EDGE}", re.MULTILINE)
_POINTS = re.compile(r"\.\d{3}\.")


def evidence(cells: Iterable[str], known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return which decimal marks some cells show, with those known before; UNKNOWN for a ``1,234``."""
    text = "\n".join(cells)
    text = text if text.isascii() else text.translate(_SAME)
    marks = (POINT, COMMA, UNKNOWN) if "," in text or _POINTS.search(text) else (POINT,)
    return known | {mark for mark in marks if mark not in known and _ONLY[mark].search(text)}


def decimal_marks(shown: Sequence[frozenset[str]]) -> list[str]:
    """Return the decimal mark of each column of a table from what their cells show."""
    table = frozenset[str]().union(*shown)
    return [_mark(column, table) for column in shown]


def _mark(column: frozenset[str], table: frozenset[str]) -> str:
    for some in (column - {UNKNOWN}, table - {UNKNOWN}):
        if some:
            return next(iter(some)) if len(some) == 1 else UNKNOWN
    return UNKNOWN if UNKNOWN in table else POINT


def parse(cell: str, mark: str = POINT) -> float:
    """Return a cell as a number: NaN where it is missing, infinite where it is not usable."""
    if mark == POINT and "_" not in cell:  # Python reads 1_5 as a number, and a table means a name
        try:
            return float(cell)
        except ValueError:
            pass
    text = cell.translate(_SAME).strip()
    low = text.lower()
    if low in _MISSING:
        return math.nan
    if low in _TRUTH:
        return _TRUTH[low]
    found = _by_mark(text)
    if mark in found:
        return found[mark]
    return next(iter(found.values())) if len(set(found.values())) == 1 else math.inf


def readings(cell: str) -> list[float]:
    """Return the finite numbers that a cell can be: two for ``1,234``."""
    return sorted(set(_by_mark(cell.translate(_SAME).strip()).values()))


def _by_mark(text: str) -> dict[str, float]:
    """Return what a cell is with each decimal mark with which it is a finite number."""
    found = {}
    for mark, between in ((POINT, ","), (COMMA, ".")):
        if _WHOLE[mark].fullmatch(text):
            value = float(text.translate({ord(c): None for c in between + " '"}).replace(mark, "."))
            if math.isfinite(value):
                found[mark] = value
    return found
