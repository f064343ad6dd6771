"""Places where files are delivered: a folder, or a prefix in S3; what a delivery does there is in `out`."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from nd_synapse.errors import StorageError, UnknownNameError, UsageError
from nd_synapse.files.atomic import replacing
from nd_synapse.text import system_reason
from nd_synapse.values import parse_path

__all__ = ["Folder", "Place", "Prefix", "Target"]

_PRECOMPUTED = "precomputed://"
_FORMS = "Give a folder, s3://BUCKET/PATH, or precomputed:// before one of them"


@dataclass(frozen=True, slots=True)
class Target:
    """Where ``--out`` leads, and in which form."""

    uri: str
    """Form and place; a folder with its whole path."""
    where: str
    """A folder, or ``s3://BUCKET/PATH``."""
    is_precomputed: bool

    @classmethod
    def of(cls, uri: str) -> Self:
        """Read a URI; what can be neither a folder nor a prefix in S3 is refused."""
        where = uri.removeprefix(_PRECOMPUTED).removeprefix("file://")
        if where.startswith("s3://"):
            segments = where.removeprefix("s3://").rstrip("/").split("/")
            if len(segments) < 2 or not re.fullmatch("[!-~]+", where) or {"", ".", ".."} & set(segments):
                raise UsageError(f"--out {uri}", "it is not of the form s3://BUCKET/PATH", "Write it in this form")
            where = f"s3://{'/'.join(segments)}"
        elif "://" in where:
            raise UsageError(f"--out {uri}", "results cannot be written there", _FORMS)
        else:
            where = str(parse_path("--out", where).absolute())
        is_precomputed = uri.startswith(_PRECOMPUTED)
        return cls(f"{_PRECOMPUTED if is_precomputed else ''}{where}", where, is_precomputed)

    @property
    def is_remote(self) -> bool:
        """Whether it leads to S3."""
        return self.where.startswith("s3://")

    def open(self) -> Place:
        """Return the place; nothing is asked or written yet."""
        return Prefix(self.where) if self.is_remote else Folder(Path(self.where))


class Place(Protocol):
    """Where files are delivered, by their path below it."""

    def names(self) -> Iterator[str]:
        """Yield what is there."""

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """Return a file; None if there is none, or if it has more bytes."""

    def send(self, file: Path, name: str) -> None:
        """Write a file, whole or not at all."""

    def difference(self, name: str, file: Path) -> str:
        """Read what is there again, and say how it differs from a file; empty if it does not."""

    def remove(self, name: str) -> None:
        """Remove a file."""


class Folder:
    """A folder, which is made by the first file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> Iterator[str]:
        """Yield all files and links in it; a place that is a file is refused."""
        with self._at("listing"):
            if self.root.exists() and not self.root.is_dir():
                raise UsageError(f"--out {self.root}", "it is a file", "Give a folder")
            for path in self.root.rglob("*"):
                if path.is_symlink() or not path.is_dir():
                    yield path.relative_to(self.root).as_posix()

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """Return a file; None if there is none, or if it has more bytes."""
        path = self.root / name
        with self._at("reading"):
            return path.read_bytes() if path.is_file() and path.stat().st_size <= most_bytes else None

    def send(self, file: Path, name: str) -> None:
        """Copy a file."""
        with self._at(f"writing {name} in"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, replacing(self.root / name) as copy:
                shutil.copyfileobj(source, copy)

    def difference(self, name: str, file: Path) -> str:
        """Say how a file here differs from another."""
        path = self.root / name
        with self._at("reading"):
            if not path.is_file():
                return "it is missing"
            same = path.stat().st_size == file.stat().st_size and _digest(path) == _digest(file)
            return "" if same else "its content differs"

    def remove(self, name: str) -> None:
        """Remove a file, and the folders that become empty."""
        path = self.root / name
        with self._at(f"removing {name} in"):
            path.unlink(missing_ok=True)
            for above in path.parents:
                if above == self.root or any(above.iterdir()):
                    break
                above.rmdir()

    @contextmanager
    def _at(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            if isinstance(cause, StorageError):
                raise
            remedy = "Make room and check your right to write there, then run the same command again"
            raise StorageError(f"{what} --out {self.root}", system_reason(cause), remedy) from cause


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class Prefix:
    """The objects below ``s3://BUCKET/PATH``; the bucket must exist."""

    def __init__(self, url: str) -> None:
        from nd_synapse.aws.bucket import Bucket  # boto3 is imported only where it is used

        name, _, self._prefix = url.removeprefix("s3://").partition("/")
        self._bucket = Bucket(name, f"Check --out {url} and the credentials, then run the same command again")

    def names(self) -> Iterator[str]:
        """Yield the keys below the prefix."""
        start = f"{self._prefix}/"
        return (key.removeprefix(start) for key in self._bucket.keys(start))

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """Return an object; None if there is none, or if it has more bytes."""
        try:
            return self._bucket.read(f"{self._prefix}/{name}", most_bytes)
        except UnknownNameError:
            return None

    def send(self, file: Path, name: str) -> None:
        """Upload a file; S3 checks its SHA-256."""
        self._bucket.send(file, f"{self._prefix}/{name}")

    def difference(self, name: str, file: Path) -> str:
        """Say how an object differs from a file, by S3's checksum."""
        return self._bucket.difference(f"{self._prefix}/{name}", file)

    def remove(self, name: str) -> None:
        """Delete an object, if the role may."""
        self._bucket.delete(f"{self._prefix}/{name}")
