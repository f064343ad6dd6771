"""Where a volume lies and how it is to be read, as one frozen value; it opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nd_synapse.config import SourceSection
from nd_synapse.errors import UsageError
from nd_synapse.files.names import stem
from nd_synapse.geometry import VOXEL_SIZES, are_voxel_sizes

__all__ = ["Location", "is_local"]

_REMOTE = ("s3", "gs", "http", "https")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FORMAT = re.compile(r"(precomputed|n5)://(.*)", re.DOTALL)
_FORMS = "Give a path, s3://BUCKET/PATH, gs://BUCKET/PATH or https://HOST/PATH, after precomputed:// or n5:// for those"


@dataclass(frozen=True, slots=True)
class Location:
    """A volume by its path or URL, or its channels by theirs."""

    uri: str = ""
    """An absolute path, ``s3://BUCKET/PATH``, ``gs://BUCKET/PATH`` or ``https://HOST/PATH``; ``precomputed://`` or
    ``n5://`` may stand before it. Where the channels lie apart, what they are, as text."""
    resolution: int = 0
    """Level of a volume that has several, 0 being the finest."""
    voxel_size_nm: tuple[float, float, float] | None = None
    """Voxel size (z, y, x) by the user; None is that of the metadata."""
    name: str = ""
    """What results are named after; by default the last part of the (first) path, and the level."""
    channels: tuple[tuple[str, str], ...] = ()
    """Name and URI of each channel, where they lie apart."""
    scale_float: bool = False
    """Whether values v of 0 to 1 in channels of floating point are read as 65535 v, rounded."""

    def __post_init__(self) -> None:
        """Make paths absolute, and refuse what no volume can have."""
        if self.channels:
            # an array of JSON has lists in the place of pairs
            apart = tuple((str(name), Location(uri).uri) for name, uri in self.channels)
            object.__setattr__(self, "channels", apart)
            object.__setattr__(self, "uri", " ".join(f"{name}={uri}" for name, uri in apart))
        else:
            object.__setattr__(self, "uri", _checked(self.uri))
        if self.voxel_size_nm is not None and not are_voxel_sizes(self.voxel_size_nm):
            raise UsageError(f"--voxel-size-nm {self.voxel_size_nm}", "no voxel has it", f"Give {VOXEL_SIZES}")
        level = f"-level{self.resolution}" if self.resolution else ""
        first = self.channels[0][1] if self.channels else self.uri
        last = stem(first.rpartition("/")[2])
        name = self.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-._")[:90] + level
        if not _NAME.fullmatch(name):
            found = "a name has letters, digits, _ . and -, at most 100, and begins with a letter or digit"
            raise UsageError(f"--name {name!r:.120}", found, "Give such a --name")
        object.__setattr__(self, "name", name)

    @property
    def format(self) -> str:
        """``precomputed`` or ``n5`` where the URI says so; empty otherwise."""
        form = _FORMAT.fullmatch(self.uri)
        return form[1] if form else ""

    @property
    def place(self) -> str:
        """The path or URL, without the format."""
        form = _FORMAT.fullmatch(self.uri)
        return form[2] if form else self.uri

    @property
    def is_remote(self) -> bool:
        """Whether it is the URL of a bucket or web server."""
        return "://" in self.place

    def of(self, uri: str) -> Location:
        """Return another volume, or that of one channel, to be read in the same way."""
        return replace(self, uri=uri, channels=())

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        size = self.voxel_size_nm
        return {
            "uri": self.uri,
            "resolution": self.resolution,
            "voxel_size_nm": None if size is None else list(size),
            "name": self.name,
            "channel_uris": dict(self.channels),
            "scale_float": self.scale_float,
        }

    @classmethod
    def of_section(cls, section: SourceSection) -> Location:
        """Return what a neurodata.cfg says."""
        return cls(
            uri=section.uri,
            resolution=section.resolution,
            voxel_size_nm=section.voxel_size_nm,
            name=section.name,
            channels=section.channels,
            scale_float=section.scale_float,
        )

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Location:
        """Read what `as_json` returned."""
        size = content["voxel_size_nm"]
        return cls(
            content["uri"],
            int(content["resolution"]),
            None if size is None else tuple(map(float, size)),  # type: ignore[arg-type] # three, as written
            content["name"],
            tuple(content.get("channel_uris", {}).items()),
            bool(content.get("scale_float", False)),
        )


def is_local(uri: str) -> bool:
    """Return whether a URI is a path of this machine, be it after the name of a format."""
    form = _FORMAT.fullmatch(uri)
    place = form[2] if form else uri
    return "://" not in place or place.startswith("file://")


def _checked(uri: str) -> str:
    """Return a URI with an absolute path in it; refuse what is none."""
    if not isinstance(uri, str) or not uri or "\0" in uri:
        raise UsageError(f"--source {uri!r:.100}", "it is no path and no URL", _FORMS)
    form = _FORMAT.fullmatch(uri)
    place = (form[2] if form else uri).removeprefix("file://")
    if not place:
        raise UsageError(f"--source {uri}", "it names no volume", _FORMS)
    if "://" in place:
        _check_url(place)
    else:
        place = str(Path(place).absolute())
    return (f"{form[1]}://" if form else "") + (place.rstrip("/") or "/")


def _check_url(url: str) -> None:
    """Refuse URLs of other services, and those with secrets in them."""
    parts = urlsplit(url)
    if parts.scheme not in _REMOTE:
        raise UsageError(f"--source {parts.scheme}://", "it is not read", _FORMS)
    if "@" in parts.netloc or parts.query or parts.fragment:
        found = "it has a user, a password or a query in it, which logs would show"
        raise UsageError(f"--source {parts.scheme}://", found, "Give it without them")
    if not parts.netloc or not parts.path.strip("/"):
        raise UsageError(f"--source {url}", "it names no volume", _FORMS)
