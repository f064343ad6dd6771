"""neurodata.cfg: the historical file that names a host, an experiment and a box.

It opens no connection and decides no precedence: a command line may give the same things.
"""

from __future__ import annotations

import configparser
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.credentials import Token, unwaiting
from nd_synapse.errors import RangeError, StorageError, UsageError
from nd_synapse.geometry import Box, Range
from nd_synapse.values import parse_path, parse_range

__all__ = ["NeurodataConfig", "read_neurodata_config"]

_FILE_BYTES = 1 << 16
_EXAMPLE = "neurodata.cfg.example shows the form"


@dataclass(frozen=True, slots=True)
class NeurodataConfig:
    """What a neurodata.cfg says; None stands for what it does not say.

    Parameters
    ----------
    path : Path
        The file.
    host, collection, experiment : str or None
        What to read from.
    token : Token or None
        The token; a file that is shared has none.
    channels : tuple of str
        Names; none means all.
    z_range, y_range, x_range : tuple of int or None
        Half-open ranges.
    resolution : int
        0, the native one.
    """

    path: Path
    host: str | None
    token: Token | None
    collection: str | None
    experiment: str | None
    channels: tuple[str, ...]
    z_range: Range | None
    y_range: Range | None
    x_range: Range | None
    resolution: int


def read_neurodata_config(path: Path | str) -> NeurodataConfig:
    """Read a neurodata.cfg."""
    path = parse_path("--config", path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(path))
    except configparser.MissingSectionHeaderError as error:
        raise _malformed(path, error.lineno, "a [section] must come first") from None
    except configparser.ParsingError as error:
        # `from None`: this error quotes the lines that it does not understand, and one of them may be the token.
        raise _malformed(path, error.errors[0][0] if error.errors else 0, "it is no 'key = value'") from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as error:
        raise _malformed(path, error.lineno or 0, "it says the same thing twice") from error
    token = _value(parser, "token", "Default")
    return NeurodataConfig(
        path=path,
        host=_value(parser, "host", "Default"),
        token=_token(path, token) if token else None,
        collection=_value(parser, "collection", "shared", "Parallel"),
        experiment=_value(parser, "experiment", "shared", "Parallel"),
        channels=_names(_value(parser, "channels", "Parallel") or ""),
        z_range=_range(path, "z_range", _value(parser, "z_range", "Parallel")),
        y_range=_range(path, "y_range", _value(parser, "y_range", "Parallel")),
        x_range=_range(path, "x_range", _value(parser, "x_range", "Parallel")),
        resolution=_resolution(path, _value(parser, "resolution", "Parallel") or "0"),
    )


def _text(path: Path) -> str:
    """Read the file, and no more of it than a configuration has."""
    requested = f"configuration {path}"
    try:
        with open(path, "rb", opener=unwaiting) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            raw = file.read(_FILE_BYTES + 1) if is_regular else b""
    except IsADirectoryError as error:
        raise UsageError(requested, "it is a folder", f"Name the file in it; {_EXAMPLE}") from error
    except (FileNotFoundError, ValueError) as error:
        # a ValueError is raised for a path that no file can have
        raise UsageError(requested, "there is no such file", f"Check --config; {_EXAMPLE}") from error
    except OSError as error:
        raise StorageError(requested, error.strerror or "it cannot be read", "Check its permissions") from error
    if not is_regular:
        raise UsageError(requested, "it is no regular file", f"Check --config; {_EXAMPLE}")
    if len(raw) > _FILE_BYTES:
        raise UsageError(requested, f"it is larger than {_FILE_BYTES} bytes", _EXAMPLE)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # `from None`: the decoder's error carries the whole content.
        raise UsageError(requested, "it is no text in UTF-8", _EXAMPLE) from None


def _malformed(path: Path, line: int, fault: str) -> UsageError:
    return UsageError(f"configuration {path}, line {line}", fault, _EXAMPLE)


def _value(parser: configparser.ConfigParser, key: str, *sections: str) -> str | None:
    """Return what the first of the sections that has the key says; nothing when it is blank."""
    for section in sections:
        if parser.has_option(section, key):
            return parser.get(section, key).strip() or None
    return None


def _token(path: Path, value: str) -> Token:
    try:
        return Token(value)
    except UsageError as error:
        raise UsageError(f"token in [Default] of {path}", error.found, error.remedy) from error


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _range(path: Path, key: str, value: str | None) -> Range | None:
    if value is None:
        return None
    requested = f"{key} = {value} in [Parallel] of {path}"
    ends = ",".join(end.strip() for end in value.split(","))
    start, stop = parse_range(requested, ends, f"Write {key} = start,stop")
    try:
        return Box((start, stop), (0, 1), (0, 1)).z
    except RangeError as error:
        raise RangeError(requested, error.found, error.remedy) from error


def _resolution(path: Path, value: str) -> int:
    if value != "0":
        raise UsageError(
            f"resolution = {value} in [Parallel] of {path}",
            "only the native resolution, 0, can be read",
            "Write resolution = 0, and give ranges in its voxels",
        )
    return 0
