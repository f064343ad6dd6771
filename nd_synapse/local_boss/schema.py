"""The fields of each kind of resource, with their rules and defaults; whether names exist is up to the catalog."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nd_synapse.geometry import NANOMETRES
from nd_synapse.local_boss.responses import BossError, Code, field_error

__all__ = ["CHANNEL", "COLLECTION", "COORDINATE_FRAME", "EXPERIMENT", "Schema", "check_name"]

LONGEST_NAME = 255
LONGEST_DESCRIPTION = 4096
NAME = re.compile(r"[a-zA-Z0-9_-]+")
LARGEST_INTEGER = 2**31 - 1
LARGEST_LEVEL = 63
"""Coarsest resolution; a downsample status lists every level."""
FRAME_UNITS = tuple(NANOMETRES)
TIME_UNITS = ("nanoseconds", "microseconds", "milliseconds", "seconds")

Value = str | int | float | bool | None | tuple[str, ...]
Rule = Callable[[str, object], Value]


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields that may be given when a resource is made, and those that may be changed later."""

    rules: Mapping[str, Rule]
    """Rule of each field; it returns the clean value or raises BossError."""
    required: frozenset[str]
    """Fields without a default."""
    defaults: Mapping[str, Value]
    fixed: frozenset[str]
    """Fields that no update changes."""

    def for_creation(self, fields: Mapping[str, object]) -> dict[str, Value]:
        """Return the clean value of every field but the name; unknown fields are ignored, as BOSS does."""
        missing = sorted(self.required - fields.keys())
        if missing:
            raise field_error(missing[0], "This field is required.", "required")
        return {**self.defaults, **self._clean(fields)}

    def for_update(self, fields: Mapping[str, object]) -> dict[str, Value]:
        """Return the clean values of the fields to change, the name among them if it is given."""
        readonly = sorted(fields.keys() - ({"name", *self.rules} - self.fixed))
        if self.fixed and readonly:  # of a collection, BOSS ignores what it does not know
            message = f"Cannot update the following readonly fields: {', '.join(readonly)}"
            raise BossError(400, Code.INVALID_POST_ARGUMENT, message)
        changes = self._clean(fields)
        if "name" in fields:
            changes["name"] = check_name(fields["name"])
        return changes

    def _clean(self, fields: Mapping[str, object]) -> dict[str, Value]:
        return {name: rule(name, fields[name]) for name, rule in self.rules.items() if name in fields}


def check_name(name: object) -> str:
    """Return the name of a resource if it is a legal one."""
    text = _text("name", name, LONGEST_NAME)
    if not NAME.fullmatch(text):
        raise field_error("name", "Enter a valid name: letters, digits, _ and - only.")
    return text


def _text(field: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise field_error(field, "Not a valid string.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise field_error(field, "Not valid Unicode.")  # JSON can spell half a character, UTF-8 cannot
    if len(value) > longest:
        raise field_error(field, f"Ensure this field has no more than {longest} characters.", "max_length")
    return value


def _description(field: str, value: object) -> str:
    return _text(field, value, LONGEST_DESCRIPTION)


def _short_text(field: str, value: object) -> str:
    return _text(field, value, LONGEST_NAME)


def _flag(field: str, value: object) -> bool:
    if value in (True, "true", "True", "1"):
        return True
    if value in (False, "false", "False", "0"):
        return False
    raise field_error(field, "Must be a valid boolean.")


def _integer(field: str, value: object) -> int:
    text = str(value).removesuffix(".0")
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise field_error(field, "A valid integer is required.")
    if abs(int(text)) > LARGEST_INTEGER:
        raise field_error(field, f"Ensure this value is within -{LARGEST_INTEGER} and {LARGEST_INTEGER}.")
    return int(text)


def _at_least(smallest: int, largest: int = LARGEST_INTEGER) -> Rule:
    def rule(field: str, value: object) -> int:
        number = _integer(field, value)
        if number < smallest:
            raise field_error(field, f"Ensure this value is greater than or equal to {smallest}.", "min_value")
        if number > largest:
            raise field_error(field, f"Ensure this value is less than or equal to {largest}.", "max_value")
        return number

    return rule


def _number(field: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise field_error(field, "A valid number is required.")
    return number


def _choice(*choices: str) -> Rule:
    def rule(field: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise field_error(field, f"{str(value)[:80]!r} is not a valid choice.", "invalid_choice")
        return value

    return rule


def _optional(rule: Rule) -> Rule:
    def or_none(field: str, value: object) -> Value:
        return None if value is None else rule(field, value)

    return or_none


def _names(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        message = f"The field {field} must be a list of channel names."
        raise BossError(400, Code.INVALID_POST_ARGUMENT, message)
    return tuple(dict.fromkeys(value))


_COMMON: dict[str, Rule] = {"description": _description, "public": _flag}
_COMMON_DEFAULTS: dict[str, Value] = {"description": "", "public": False}

COLLECTION = Schema(_COMMON, frozenset(), _COMMON_DEFAULTS, frozenset())

_BOUNDS = ("x_start", "x_stop", "y_start", "y_stop", "z_start", "z_stop")
_SIZES = ("x_voxel_size", "y_voxel_size", "z_voxel_size")

COORDINATE_FRAME = Schema(
    {
        "description": _description,
        **dict.fromkeys(_BOUNDS, _integer),
        **dict.fromkeys(_SIZES, _number),
        "voxel_unit": _choice(*FRAME_UNITS),
    },
    frozenset({*_BOUNDS, *_SIZES, "voxel_unit"}),
    {"description": ""},
    frozenset({*_BOUNDS, *_SIZES, "voxel_unit"}),
)

EXPERIMENT = Schema(
    {
        **_COMMON,
        "coord_frame": _short_text,
        "num_hierarchy_levels": _at_least(1, LARGEST_LEVEL + 1),
        "hierarchy_method": _choice("anisotropic", "isotropic"),
        "num_time_samples": _at_least(1),
        "time_step": _optional(_integer),
        "time_step_unit": _optional(_choice(*TIME_UNITS)),
    },
    frozenset({"coord_frame"}),
    {
        **_COMMON_DEFAULTS,
        "num_hierarchy_levels": 1,
        "hierarchy_method": "anisotropic",
        "num_time_samples": 1,
        "time_step": None,
        "time_step_unit": None,
    },
    frozenset({"coord_frame"}),
)

CHANNEL = Schema(
    {
        **_COMMON,
        "type": _choice("image", "annotation"),
        "datatype": _choice("uint8", "uint16", "uint32", "uint64"),
        "base_resolution": _at_least(0, LARGEST_LEVEL),
        "default_time_sample": _at_least(0),
        "sources": _names,
        "related": _names,
    },
    frozenset({"type", "datatype"}),
    {**_COMMON_DEFAULTS, "base_resolution": 0, "default_time_sample": 0, "sources": (), "related": ()},
    frozenset({"type", "datatype"}),
)
