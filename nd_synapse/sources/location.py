"""Where a volume lies and how it is to be read, as one frozen value; it opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nd_synapse.errors import UsageError
from nd_synapse.files.names import stem
from nd_synapse.geometry import VOXEL_SIZES, are_voxel_sizes

__all__ = ["Location"]

_REMOTE = ("s3", "http", "https")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FORMS = "Give a path, s3://BUCKET/PATH or https://HOST/PATH"


@dataclass(frozen=True, slots=True)
class Location:
    """A volume by its path or URL."""

    uri: str
    """An absolute path, ``s3://BUCKET/PATH``, ``https://HOST/PATH`` or ``http://HOST/PATH``."""
    resolution: int = 0
    """Level of an OME-Zarr image, 0 being the finest."""
    voxel_size_nm: tuple[float, float, float] | None = None
    """Voxel size (z, y, x) by the user; None is that of the metadata."""
    name: str = ""
    """What results are named after; by default the last part of the path, and the level."""

    def __post_init__(self) -> None:
        """Make paths absolute, and refuse what no volume can have."""
        if not isinstance(self.uri, str) or not self.uri or "\0" in self.uri:
            raise UsageError(f"--source {self.uri!r:.100}", "it is no path and no URL", _FORMS)
        uri = self.uri if "://" in self.uri else str(Path(self.uri).absolute())
        object.__setattr__(self, "uri", uri.rstrip("/") or "/")
        if self.is_remote:
            self._check_url()
        if self.voxel_size_nm is not None and not are_voxel_sizes(self.voxel_size_nm):
            raise UsageError(f"--voxel-size-nm {self.voxel_size_nm}", "no voxel has it", f"Give {VOXEL_SIZES}")
        level = f"-level{self.resolution}" if self.resolution else ""
        last = stem(self.uri.rpartition("/")[2])
        name = self.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-._")[:90] + level
        if not _NAME.fullmatch(name):
            found = "a name has letters, digits, _ . and -, at most 100, and begins with a letter or digit"
            raise UsageError(f"--name {name!r:.120}", found, "Give such a --name")
        object.__setattr__(self, "name", name)

    def _check_url(self) -> None:
        """Refuse URLs of other services, and those with secrets in them."""
        parts = urlsplit(self.uri)
        if parts.scheme not in _REMOTE:
            hint = (
                "; a gs:// bucket that is public is at https://storage.googleapis.com" if parts.scheme == "gs" else ""
            )
            raise UsageError(f"--source {parts.scheme}://", "it is not read", f"{_FORMS}{hint}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            found = "it has a user, a password or a query in it, which logs would show"
            raise UsageError(f"--source {parts.scheme}://", found, "Give it without them")
        if not parts.netloc or not parts.path.strip("/"):
            raise UsageError(f"--source {self.uri}", "it names no volume", _FORMS)

    @property
    def is_remote(self) -> bool:
        """Whether it is a URL."""
        return "://" in self.uri

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        size = self.voxel_size_nm
        return {
            "uri": self.uri,
            "resolution": self.resolution,
            "voxel_size_nm": None if size is None else list(size),
            "name": self.name,
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Location:
        """Read what `as_json` returned."""
        size = content["voxel_size_nm"]
        z_y_x = None if size is None else tuple(map(float, size))
        return cls(content["uri"], int(content["resolution"]), z_y_x, content["name"])  # type: ignore[arg-type]
