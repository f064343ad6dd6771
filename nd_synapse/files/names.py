"""The order of the slices of a stack, each a file of its own, by the numbers in their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from nd_synapse.errors import UsageError

__all__ = ["by_channel", "is_tiff_name", "natural_order", "stem"]

logger = logging.getLogger(__name__)

_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|zarr|npy)$", re.IGNORECASE)

_PLAIN = re.compile(r"(\d+)")
_DECIMAL = re.compile(r"(\d+(?:[.,]\d+)?)")
_SIGNED = re.compile(r"((?:(?<!\d)-)?\d+(?:[.,]\d+)?)")
# what people put a position after; elsewhere a dot or a hyphen may separate, as in img-1.002.tif
_LONE_Z_DECIMAL = re.compile(r"(?<![a-z])z[ _=]?-?\d+[.,]\d", re.IGNORECASE)
_LONE_Z_MINUS = re.compile(r"(?<![a-z])z[ _=]?-\d", re.IGNORECASE)

_SLICE = ("z", "sec", "section", "slice", "plane", "depth")
_COUNTS = re.compile(rf"(?:(?<![a-z])(?:{'|'.join(_SLICE)}))?[ _=-]*$", re.IGNORECASE)
"""What stands before the number of a slice, and is no part of the channel's name."""
_RIBBON = ("ribbon", "strip", "wafer")
_OTHER = {
    **dict.fromkeys(("c", "ch", "chan", "channel", "w", "wavelength", "color", "colour"), "channels"),
    **dict.fromkeys(("laser", "filter", "cam", "camera", "dye", "stain", "marker"), "channels"),
    **dict.fromkeys(("t", "tp", "time", "timepoint"), "times"),
    **dict.fromkeys(("r", "row", "col", "column", "x", "y", "tile", "pos", "position", "site", "fov"), "tiles"),
    **dict.fromkeys(("xy", "m", "mosaic", "scene", "field", "view", "angle", "well", "roi"), "tiles"),
    **dict.fromkeys(("round", "session", "cycle"), "rounds"),
}
"""What a word before a number says that it counts, other than slices."""

_WORD = re.compile(r"([A-Za-z]+)([ _=-]?)$")
_STAMP_DIGITS = 6
"""A number that is as long, and does not begin with 0, is a date or a time beside one that is shorter."""

Numbers = tuple[Fraction, ...]


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", "."))


def is_tiff_name(name: str) -> bool:
    """Return whether a file is a TIFF by its name."""
    return _TIFF.search(name) is not None


def stem(name: str) -> str:
    """Return a name without the ending of its format: ``.tif``, ``.TIFF``, ``.ome.tif``, ``.ome.zarr``, ``.npy``."""
    return _SUFFIX.sub("", name)


def by_channel(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Sort files of one slice each by channel: names of one channel have the same words, and one number that varies.

    The name of a channel is what is left of the words, "" where that is nothing.
    """
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        groups.setdefault(tuple(_PLAIN.split(stem(path.name))[0::2]), []).append(path)
    channels: dict[str, list[Path]] = {}
    for words, group in groups.items():
        numbers = [_PLAIN.split(stem(path.name))[1::2] for path in group]
        varying = [place for place in range(len(words) - 1) if len({texts[place] for texts in numbers}) > 1]
        if len(varying) > 1:
            found = "several numbers in their names vary, and one of them may count channels"
            remedy = "Put the slices of each channel into a folder of its own, in one folder, and give that"
            raise UsageError(f"{group[0].name} to {group[-1].name}", found, remedy)
        texts = [*numbers[0], ""]
        for place in varying:
            texts[place] = ""
        parts = list(words)
        for place in varying:
            parts[place] = _COUNTS.sub("", parts[place])
        name = "".join(part for pair in zip(parts, texts, strict=True) for part in pair).strip(" _-.=")
        channels.setdefault(name, []).extend(group)
    return channels


def natural_order(paths: Sequence[Path], pattern: str | None = None) -> list[Path]:
    """Sort the slices of a stack by the numbers in their names, and check that they form one sequence.

    `pattern` says which number counts them: ``{z}`` stands for it and ``*`` for any text; other files are left out.
    """
    if pattern is not None:
        return _by_pattern(paths, pattern)
    if len({path.parent for path in paths}) > 1:
        found = "they lie in several folders, so they may belong to different stacks"
        raise UsageError(f"{paths[0]} and {paths[-1]}", found, "Put the slices of one channel into one folder")
    readings, errors = {}, []
    for form in _forms([stem(path.name) for path in paths]):
        try:
            order, counted = _Names.read(paths, form).in_order()
            readings[counted] = order
        except UsageError as error:
            errors.append(error)
    if not readings:
        raise errors[0]
    first, *others = readings.values()
    which = " or ".join(map(_option, readings))
    if any(other != first for other in others):
        reason = "a hyphen or a dot in their names may separate a number, or be part of it"
        raise UsageError(f"{first[0].name} to {first[-1].name}", reason, f"Say which: {which}")
    _refuse_lone_step(first, next(iter(readings)), which)
    return first


def _refuse_lone_step(paths: list[Path], pattern: str, which: str) -> None:
    """Raise UsageError for two files some numbers apart: slices with others missing, or two wavelengths."""
    keys = list(_numbers(paths, pattern).values())
    if len(keys) != 2:
        return
    step = next(after - before for before, after in zip(*keys, strict=True) if before != after)
    if step > 1 and step.denominator == 1:
        found = f"their numbers are {step} apart, so slices may be missing, or they are no slices of one channel"
        raise UsageError(f"{paths[0].name} and {paths[1].name}", found, f"If they follow each other, say {which}")


def _option(pattern: str) -> str:
    return f"--pattern '{pattern}'"


def _forms(stems: Sequence[str]) -> list[re.Pattern[str]]:
    """Return how numbers may be written in these names: as digits, with a decimal point, with a sign."""
    has_decimals = any(re.search(r"\d[.,]\d", name) for name in stems)
    has_signs = any(re.search(r"(?<!\d)-\d", name) for name in stems)
    unlike = len({tuple(_PLAIN.split(name)[0::2]) for name in stems}) > 1
    forms = [] if any(_LONE_Z_DECIMAL.search(name) for name in stems) else [_PLAIN]
    if has_decimals:
        forms.append(_DECIMAL)
    # a hyphen separates, unless some numbers have one and others none
    if has_signs and (unlike or any(_LONE_Z_MINUS.search(name) for name in stems)):
        forms.append(_SIGNED)
    return forms


@dataclass(frozen=True, slots=True)
class _Names:
    """File names of equal words and differing numbers, sorted by all of their numbers."""

    paths: list[Path]
    words: list[str]
    """Before, between and after the numbers."""
    texts: list[list[str]]
    """The numbers of each name, as they are written."""

    @classmethod
    def read(cls, paths: Sequence[Path], form: re.Pattern[str]) -> _Names:
        """Cut names into words and numbers, or raise UsageError if their words differ."""
        parts = {path: form.split(stem(path.name)) for path in paths}
        ordered = sorted(paths, key=lambda path: [_number(text) for text in parts[path][1::2]])
        for before, after in pairwise(ordered):
            if parts[before][0::2] != parts[after][0::2]:
                found = "their names differ in more than the slice number, so they may belong to different stacks"
                raise UsageError(f"{before.name} and {after.name}", found, "Give the slices of one channel only")
        return cls(ordered, parts[ordered[0]][0::2], [parts[path][1::2] for path in ordered])

    def in_order(self) -> tuple[list[Path], str]:
        """Return the files in the order of their slices, and the pattern that says it; or raise UsageError."""
        columns = self._counting()
        keys = [tuple(_number(texts[column]) for column in columns) for texts in self.texts]
        return _checked(self.paths, keys), self._pattern(columns)

    def _counting(self) -> list[int]:
        """Return which numbers count the slices, the slowest first."""
        slices: list[int] = []
        ribbons: list[int] = []
        others: list[int] = []
        free: list[int] = []
        for place in self._varying():
            word = self._word(place)
            kind = slices if word in _SLICE else ribbons if word in _RIBBON else others if word in _OTHER else free
            kind.append(place)
        counting = slices or [place for place in free if not self._is_stamp(place)] or free
        if others:
            place = others[0]
            found = f"a number in their names counts {_OTHER[self._word(place)]} ({self._shown(place)})"
            raise self._unclear(found, sorted([*ribbons, *counting]))
        chosen = sorted([*ribbons, *counting])
        is_unique = len({tuple(texts[place] for place in chosen) for texts in self.texts}) == len(self.texts)
        if len(counting) > 1 or (free and not is_unique):
            several = " and ".join(self._shown(place) for place in sorted({*chosen, *free}))
            raise self._unclear(f"several numbers in their names vary ({several})", chosen[-1:])
        return chosen

    def _varying(self) -> list[int]:
        return [place for place in range(len(self.words) - 1) if len({_number(t[place]) for t in self.texts}) > 1]

    def _unclear(self, found: str, counting: list[int]) -> UsageError:
        """Return the error of names that say too little."""
        name = f"{self.paths[0].name} to {self.paths[-1].name}"
        # one that made slices of channels would do harm
        how = f"as in {_option(self._pattern(counting))}" if counting else "with {z} for it in --pattern"
        return UsageError(
            name, found, f"Give the slices of one channel, time and tile alone, or say what counts them, {how}"
        )

    def _pattern(self, counting: list[int]) -> str:
        """Return the pattern in which these numbers count the slices; of channels, times, tiles it has the first."""
        texts = list(self.texts[0])
        for place in self._varying():
            texts[place] = "{z}" if place in counting else texts[place] if self._word(place) in _OTHER else "*"
        mixed = [part for pair in zip(self.words, [*texts, ""], strict=True) for part in pair]
        return f"{''.join(mixed)}.tif"

    def _word(self, place: int) -> str:
        """Return the word right before a number; a letter alone must touch it."""
        found = _WORD.search(self.words[place])
        if found is None:
            return ""
        whole = found[1].lower()  # TimePoint
        word = whole if whole in _OTHER else re.split(r"(?<=[a-z])(?=[A-Z])", found[1])[-1].lower()
        return "" if found[2] and len(word) == 1 and word not in _SLICE else word

    def _is_stamp(self, place: int) -> bool:
        """Return whether a number is a date or a time by its length."""
        return all(len(texts[place]) >= _STAMP_DIGITS and texts[place][0] != "0" for texts in self.texts)

    def _shown(self, place: int) -> str:
        values = sorted({texts[place] for texts in self.texts}, key=_number)
        return f"{self._word(place)} {values[0]} to {values[-1]}".strip()


def _by_pattern(paths: Sequence[Path], pattern: str) -> list[Path]:
    """Return the files that match a pattern, in the order of its numbers."""
    if "{z}" not in pattern:
        raise UsageError(f"--pattern {pattern!r}", "it has no {z}", "Put {z} where the number of the slice stands")
    keys = _numbers(paths, pattern)
    if not keys:
        names = f"none of the {len(paths)} files is called so, such as {paths[0].name}"
        raise UsageError(f"--pattern {pattern!r}", names, "Write a name with {z} for the number and * for any text")
    if len(keys) < len(paths):
        logger.info("%d of %d files match the pattern; the others are left out", len(keys), len(paths))
    ordered = sorted(keys, key=lambda path: keys[path])
    return _checked(ordered, [keys[path] for path in ordered])


def _numbers(paths: Sequence[Path], pattern: str) -> dict[Path, Numbers]:
    """Return the numbers of each file that matches a pattern."""
    expression = re.escape(stem(pattern)).replace(r"\*", ".*?")
    # after any text a hyphen is part of that text
    expression = expression.replace(r".*?\{z\}", r".*?(?<!\d)(?<!\d[.,])(\d+(?:[.,]\d+)?)(?!\d)")
    expression = expression.replace(r"\{z\}", r"(-?\d+(?:[.,]\d+)?)(?!\d)")
    found = {path: re.fullmatch(expression, stem(path.name)) for path in dict.fromkeys(paths)}
    return {path: tuple(map(_number, match.groups())) for path, match in found.items() if match}


def _checked(paths: list[Path], keys: list[Numbers]) -> list[Path]:
    """Sort files by their numbers, or raise UsageError where one occurs twice or a step is longer than others."""
    pairs = sorted(zip(keys, paths, strict=True), key=lambda pair: pair[0])
    steps: dict[int, list[tuple[Fraction, str]]] = {}
    for (key, before), (next_key, after) in pairwise(pairs):
        where = f"{before.name} and {after.name}"
        if key == next_key:
            raise UsageError(where, "they have the same slice number", "Give each slice once")
        level = next(level for level, (a, b) in enumerate(zip(key, next_key, strict=True)) if a != b)
        steps.setdefault(level, []).append((next_key[level] - key[level], where))
    for of_level in steps.values():
        for step, where in of_level:
            least = min(of_level)[0]
            # positions with decimals may be rounded
            if step != least and (step.denominator == 1 or 2 * step >= 3 * least):
                remedy = "Add the missing slices (a black one where a section was lost), or renumber the files"
                raise UsageError(where, "slices are missing between them", remedy)
    return [path for _, path in pairs]
