"""Strategies for input that is valid, valid but for one change, or nowhere near valid; and what an error must have."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from nd_synapse.errors import NDSynapseError

TOKEN = "fuzz-7f3a9c51-token-of-a-case"
"""The token of all cases; no error may have it."""

LONGEST = 3000
"""Characters of an error: a page of input is not repeated."""


@contextmanager
def result_or_error() -> Iterator[None]:
    """Let a case end in a result or in a sound error of ours; anything else fails the test."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # libraries warn about damaged bytes
            warnings.simplefilter("ignore")
            yield
    except NDSynapseError as error:
        check_words(error)
    finally:
        logging.disable(logging.NOTSET)


def check_words(error: NDSynapseError) -> None:
    """Refuse an error that a user cannot act on."""
    for part in (error.requested, error.found, error.remedy):
        assert isinstance(part, str), error.args
        assert part.strip(), error.args
    assert error.exit_code in {2, 3, 65, 69, 74, 75, 77}, f"{type(error).__name__} is no error of a user's"
    assert len(str(error)) < LONGEST, f"{len(str(error))} characters"
    assert str(error).encode("utf-8", "backslashreplace")
    assert TOKEN not in f"{error} {error.__cause__!r}", "the token shows"


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
"""Text in the place of any value."""

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63)])

plain = st.none() | st.booleans() | numbers | words

edits = st.sampled_from([0, 1, 1, 1, 2, 4])
"""Number of changes: most often one, since of several only the first is found."""

json_values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
"""Anything that JSON can hold, NaN included."""


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

names = st.text("abcXYZ019_-", min_size=1, max_size=12).filter(lambda name: not name.startswith("-"))
"""What BOSS takes for a name."""

counts = st.integers(1, 64)


@st.composite
def one_wrong(
    draw: st.DrawFn, right: Mapping[str, st.SearchStrategy[Any]], wrong: Mapping[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """Draw valid fields, of which one is wrong in half of the cases, so that checks behind the first are reached."""
    is_odd: bool = draw(st.booleans())
    chosen = draw(st.sampled_from(sorted(wrong))) if is_odd and wrong else None
    drawn = {name: draw(wrong[name] if name == chosen else good) for name, good in right.items()}
    return {name: value for name, value in drawn.items() if value is not ABSENT}


@st.composite
def one_of_line(
    draw: st.DrawFn, right: Mapping[str, st.SearchStrategy[Any]], wrong: Mapping[str, st.SearchStrategy[Any]]
) -> list[str]:
    """Draw a command line in the same way: options by name, flags with True, positional words by a name without -."""
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
