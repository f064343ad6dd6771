"""neurodata.cfg: the historical file that names a host, an experiment and a box."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.credentials import Token
from nd_synapse.errors import RangeError, StorageError, UsageError
from nd_synapse.geometry import Box, Range
from nd_synapse.paths import refuse_special
from nd_synapse.values import parse_int, parse_lengths, parse_pairs, parse_path, parse_range

__all__ = ["NeurodataConfig", "SourceSection", "read_neurodata_config"]

_FILE_BYTES = 1 << 16
_SOURCE = ("uri", "channels", "voxel_size_nm", "resolution", "name", "scale_float")
_MOST_LEVELS = 99
_EXAMPLE = "neurodata.cfg.example shows the form"


@dataclass(frozen=True, slots=True)
class SourceSection:
    """The section ``[source]``: a volume that is not in BOSS, or its channels that lie apart."""

    uri: str = ""
    channels: tuple[tuple[str, str], ...] = ()
    """Name and URI."""
    voxel_size_nm: tuple[float, float, float] | None = None
    resolution: int = 0
    name: str = ""
    scale_float: bool = False


@dataclass(frozen=True, slots=True)
class NeurodataConfig:
    """The values of a neurodata.cfg; None for those that it does not have."""

    path: Path
    host: str | None
    token: Token | None
    collection: str | None
    experiment: str | None
    channels: tuple[str, ...]
    """Names; none means all."""
    z_range: Range | None
    y_range: Range | None
    x_range: Range | None
    resolution: int
    """Level that is read; 0 is the finest."""
    source: SourceSection | None = None


def read_neurodata_config(path: Path | str) -> NeurodataConfig:
    """Read a neurodata.cfg."""
    path = parse_path("--config", path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(path))
    # `from None`: these errors quote lines, and one of them may be the token
    except configparser.MissingSectionHeaderError as error:
        raise _malformed(path, error.lineno, "a [section] must come first") from None
    except configparser.ParsingError as error:
        raise _malformed(path, error.errors[0][0] if error.errors else 0, "it is no 'key = value'") from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as error:
        raise _malformed(path, error.lineno or 0, "a section or key is there twice") from None
    token = _value(parser, "token", "Default")
    return NeurodataConfig(
        path=path,
        host=_value(parser, "host", "Default"),
        token=_token(path, token) if token else None,
        collection=_value(parser, "collection", "shared", "Parallel"),
        experiment=_value(parser, "experiment", "shared", "Parallel"),
        channels=tuple(filter(None, map(str.strip, (_value(parser, "channels", "Parallel") or "").split(",")))),
        z_range=_range(path, parser, "z_range"),
        y_range=_range(path, parser, "y_range"),
        x_range=_range(path, parser, "x_range"),
        resolution=parse_int(
            f"resolution in [Parallel] of {path}", _value(parser, "resolution", "Parallel") or "0", 0, _MOST_LEVELS
        ),
        source=_source(path, parser) if parser.has_section("source") else None,
    )


def _source(path: Path, parser: configparser.ConfigParser) -> SourceSection:
    """Read the section of a volume that is not in BOSS."""
    given = {name: _value(parser, name, "source") or "" for name in _SOURCE}
    unknown = set(parser.options("source")) - set(_SOURCE) - set(parser.defaults())
    where = f"[source] of {path}"
    if unknown:
        raise UsageError(f"{min(unknown)} in {where}", "there is no such key", f"Known are {', '.join(_SOURCE)}")
    if bool(given["uri"]) == bool(given["channels"]):
        raise UsageError(f"uri and channels in {where}", "one of them names what to read", "Give one of them")
    if given["uri"].startswith(("boss://", "bossdb://")):
        found = "it leads to BOSS, which has keys of its own"
        raise UsageError(f"uri in {where}", found, "Give host in [Default], collection and experiment in [shared]")
    if _value(parser, "host", "Default"):
        raise UsageError(f"{where} beside host", "each names a volume", "Leave one of them out")
    size = given["voxel_size_nm"].replace(" ", "")
    lines = [line.strip() for line in given["channels"].splitlines() if line.strip()]
    if given["scale_float"] not in ("", "yes", "no"):
        raise UsageError(f"scale_float in {where}", "it is neither yes nor no", _EXAMPLE)
    return SourceSection(
        uri=given["uri"],
        channels=tuple(parse_pairs(f"channels in {where}", lines).items()),
        voxel_size_nm=parse_lengths(f"voxel_size_nm in {where}", size) if size else None,
        resolution=parse_int(f"resolution in {where}", given["resolution"] or "0", 0, _MOST_LEVELS),
        name=given["name"],
        scale_float=given["scale_float"] == "yes",
    )


def _text(path: Path) -> str:
    """Read the file, refusing one larger than any configuration."""
    requested = f"configuration {path}"
    try:
        refuse_special(path)
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES + 1)
    except IsADirectoryError as error:
        raise UsageError(requested, "it is a folder", f"Name the file in it; {_EXAMPLE}") from error
    except FileNotFoundError as error:
        raise UsageError(requested, "there is no such file", f"Check --config; {_EXAMPLE}") from error
    except OSError as error:
        raise StorageError(requested, error.strerror or "it cannot be read", "Check its permissions") from error
    if len(raw) > _FILE_BYTES:
        raise UsageError(requested, f"it is larger than {_FILE_BYTES} bytes", _EXAMPLE)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # `from None`: this error holds the whole content
        raise UsageError(requested, "it is no text in UTF-8", _EXAMPLE) from None


def _malformed(path: Path, line: int, fault: str) -> UsageError:
    return UsageError(f"configuration {path}, line {line}", fault, _EXAMPLE)


def _value(parser: configparser.ConfigParser, key: str, *sections: str) -> str | None:
    """Return the value in the first of the sections that has the key; None if it is blank."""
    for section in sections:
        if parser.has_option(section, key):
            return parser.get(section, key).strip() or None
    return None


def _token(path: Path, value: str) -> Token:
    try:
        return Token(value)
    except UsageError as error:
        raise UsageError(f"token in [Default] of {path}", error.found, error.remedy) from error


def _range(path: Path, parser: configparser.ConfigParser, key: str) -> Range | None:
    value = _value(parser, key, "Parallel")
    if value is None:
        return None
    requested = f"{key} in [Parallel] of {path}"
    start, stop = parse_range(requested, value.replace(" ", ""))
    try:
        return Box((start, stop), (0, 1), (0, 1)).z
    except RangeError as error:
        raise RangeError(requested, error.found, error.remedy) from error
