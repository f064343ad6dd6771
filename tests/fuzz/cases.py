"""Where cases come from: what is right, changed a little, and what is nowhere near it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

TOKEN = "fuzz-7f3a9c51-token-of-a-case"
"""The token of all cases; no error may have it."""

words = st.text(max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "9" * 30,
        "../x",
        "a/b",
        "a\nb",
        "\x00",
        "%",
        "\ud800",
        "é",
        "٣",
        "true",
    ]
)
"""Text that somebody may have given for anything."""

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63)])

plain = st.none() | st.booleans() | numbers | words

edits = st.sampled_from([0, 1, 1, 1, 2, 4])
"""Changes of something that was right: most often one, for of many the first is found and the others are never met."""

json_values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
"""Whatever JSON can hold, and Python's JSON says of NaN."""


@st.composite
def mutated_bytes(draw: st.DrawFn, bases: Sequence[bytes]) -> bytes:
    """Return one of some bodies with bytes changed, taken out, put in, or its end cut off."""
    body = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(edits)):
        place = draw(st.integers(0, max(len(body) - 1, 0)))
        kind = draw(st.sampled_from(["change", "out", "in", "cut"]))
        if kind == "change" and body:
            body[place] = draw(st.integers(0, 255))
        elif kind == "out":
            del body[place : place + draw(st.integers(1, 8))]
        elif kind == "in":
            body[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut" and draw(st.booleans()):
            del body[place:]
    return bytes(body)


@st.composite
def mutated_text(draw: st.DrawFn, bases: Sequence[str]) -> str:
    """Return one of some texts with a few pieces replaced by others."""
    text = draw(st.sampled_from(bases))
    for _ in range(draw(edits)):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 6)))
        text = text[:start] + draw(words) + text[stop:]
    return text


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in what JSON holds."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, one in inner for place in _places(one, (*here, key)))]


@st.composite
def mutated_json(draw: st.DrawFn, bases: Sequence[Any]) -> Any:
    """Return one of some values with a few fields replaced or taken out."""
    value = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(edits)):
        place = draw(st.sampled_from(_places(value)))
        if not place:
            if draw(st.integers(0, 9)) == 0:
                return draw(json_values)
            continue
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        if draw(st.integers(0, 3)) == 0:
            del holder[place[-1]]
        else:
            holder[place[-1]] = draw(json_values)
    return value


ABSENT = object()
"""Stands for a field that is not there."""

names = st.text("abcXYZ019_-", min_size=1, max_size=12)
"""What BOSS takes for a name."""

counts = st.integers(1, 64)


@st.composite
def one_wrong(
    draw: st.DrawFn, right: Mapping[str, st.SearchStrategy[Any]], wrong: Mapping[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """Draw fields as they should be, and in half of the cases one of them as it should not: all others are got past."""
    chosen = draw(st.sampled_from(sorted(wrong))) if wrong and draw(st.booleans()) else None
    drawn = {name: draw(wrong[name] if name == chosen else good) for name, good in right.items()}
    return {name: value for name, value in drawn.items() if value is not ABSENT}


@st.composite
def one_of_line(
    draw: st.DrawFn, right: Mapping[str, st.SearchStrategy[Any]], wrong: Mapping[str, st.SearchStrategy[Any]]
) -> list[str]:
    """Draw a command line in the same way: options by name, flags with True, words of their own by a blank name."""
    drawn = draw(one_wrong(right, wrong))
    line = []
    for option, value in drawn.items():
        if not option.startswith("-"):
            line.append(value)
        elif value is True:
            line.append(option)
        elif value is not False:
            line += [option, value]
    return line


def sometimes(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw a field, or leave it out."""
    return st.just(ABSENT) | right


def half(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw either as often: hypothesis counts what alternatives themselves are made of."""
    return st.booleans().flatmap(lambda good: right if good else wrong)
