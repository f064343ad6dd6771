"""A query of the probabilistic detector: which channels a synapse shows, on which side, over how many slices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nd_synapse.errors import UsageError, closest

__all__ = ["Marker", "Query", "parse_markers", "parse_query"]

_SLICES = ("1", "2", "3")
_DEFAULT_SLICES = 2
_WIDEST = 64
"""Pixels; wider puncta exist at no resolution, and their halo would be larger than the blocks."""

_MOST_MARKERS = 8
_LONGEST_NAME = 128
_LONGEST_TEXT = 10_000

_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "presynaptic": ((str,), "a text such as 'synapsin:2'"),
    "postsynaptic": ((str,), "a text such as 'synapsin:2'"),
    "punctum": ((int,), "a whole number"),
    "threshold": ((int, float), "a number"),
}


@dataclass(frozen=True, slots=True)
class Marker:
    """A channel of a query."""

    channel: str
    """Name of the channel, or a part of it."""
    slices: int
    """Slices that a punctum spans: 1, 2 or 3."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a synapse looks like; at least one channel."""

    presynaptic: tuple[Marker, ...]
    postsynaptic: tuple[Marker, ...]
    punctum: int
    """Width of a punctum in pixels, even."""
    threshold: float
    """Voxels with a larger probability are detected."""

    def __post_init__(self) -> None:
        """Refuse a query without a channel, or with numbers out of range."""
        if not self.presynaptic and not self.postsynaptic:
            raise UsageError(
                "a query", "it names no channel", "Give presynaptic, postsynaptic or both, such as synapsin:2"
            )
        if self.punctum % 2 or not 2 <= self.punctum <= _WIDEST:
            raise UsageError(
                f"punctum {self.punctum!s:.20}",
                f"it is not an even number of pixels from 2 to {_WIDEST}",
                "The default is 2",
            )
        if not 0 <= self.threshold <= 1:
            raise UsageError(
                f"threshold {self.threshold!s:.20}", "it is not a probability", "Give a number from 0 to 1"
            )

    @property
    def base(self) -> tuple[Marker, ...]:
        """The side in whose voxels the synapse is marked: the post-synaptic one, if it has a channel."""
        return self.postsynaptic or self.presynaptic

    @property
    def adjacent(self) -> tuple[Marker, ...]:
        """The side that is searched for nearby."""
        return self.presynaptic if self.postsynaptic else ()


def parse_markers(text: str, side: str) -> tuple[Marker, ...]:
    """Return the channels of one side."""
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"{side} of {len(text)} letters", "that is not a list of channels", "Give CHANNEL:SLICES,...")
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if len(words) > _MOST_MARKERS:
        raise UsageError(
            f"{side} of {len(words)} channels", f"a side may have {_MOST_MARKERS}", "Leave out those that matter least"
        )
    return tuple(_marker(word, side) for word in words)


def _marker(word: str, side: str) -> Marker:
    """Read one ``CHANNEL[:SLICES]``."""
    channel, colon, slices = (part.strip() for part in word.partition(":"))
    requested = f"{side} {word[:_LONGEST_NAME]!r}"
    if not channel or len(channel) > _LONGEST_NAME:
        raise UsageError(
            requested, "it does not start with the name of a channel", "Give CHANNEL:SLICES, as in synapsin:2"
        )
    if not colon:
        return Marker(channel, _DEFAULT_SLICES)
    if slices not in _SLICES:
        raise UsageError(
            requested,
            f"a punctum spans 1 to {_SLICES[-1]} slices, not {slices[:_LONGEST_NAME]!r}",
            "Give CHANNEL:SLICES, as in synapsin:2",
        )
    return Marker(channel, int(slices))


def parse_query(text: str, defaults: Query) -> Query:
    """Return the query in a JSON text; numbers that it leaves out are those of `defaults`."""
    given = _json_object(text)
    for name, value in given.items():
        if name not in _FIELDS:
            known = ", ".join(closest(name[:_LONGEST_NAME], _FIELDS))
            raise UsageError(
                f"field {name[:_LONGEST_NAME]!r} of a query", f"the fields are {known}", "Correct its name"
            )
        types, wanted = _FIELDS[name]
        if type(value) not in types:
            raise UsageError(f"field {name!r} of a query", f"{json.dumps(value):.100} is not {wanted}", "Correct it")
    return Query(
        parse_markers(given.get("presynaptic", ""), "presynaptic"),
        parse_markers(given.get("postsynaptic", ""), "postsynaptic"),
        given.get("punctum", defaults.punctum),
        given.get("threshold", defaults.threshold),
    )


def _json_object(text: str) -> dict[str, Any]:
    """Return the fields of a JSON object."""
    remedy = 'Give an object, such as {"presynaptic": "synapsin:2", "postsynaptic": "psd95:2"}'
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"a query of {len(text)} letters", f"it may have {_LONGEST_TEXT}", remedy)
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise UsageError("a query as JSON", f"it cannot be read: {error}", remedy) from error
    if not isinstance(value, dict):
        raise UsageError("a query as JSON", f"{json.dumps(value):.100} is not an object", remedy)
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields of a JSON object; json alone would take the last of repeated ones."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise UsageError("a query as JSON", "a field is given more than once", "Give each field once")
    return fields
