"""The shared block store of a run in parts, in a folder that all machines mount. It deletes nothing."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from nd_synapse.errors import StorageError, UnknownNameError, UsageError
from nd_synapse.values import parse_path

__all__ = ["SharedFolder"]

_REMEDY = "The shared blocks stay: the same command goes on from them"


class SharedFolder:
    """The files below a folder, given as ``file:///PATH`` or as a path; the folder that it lies in has to be there."""

    def __init__(self, url: str) -> None:
        is_url = "://" in url or url.startswith("file:")
        path = unquote(url.removeprefix("file://")) if is_url else url
        if is_url and (not url.startswith("file:///") or {".", ".."} & set(path.split("/"))):
            found = "it is not of the form s3://bucket/prefix or file:///PATH, and no path"
            raise UsageError(f"--shared {url}", found, "Write it in one of these forms")
        self.root = parse_path("--shared", path).absolute()
        self.url = str(self.root)
        # a disk that is not mounted here would be taken for an empty one
        if not self.root.parent.is_dir():
            found = f"there is no folder {self.root.parent} on this machine"
            raise UsageError(f"--shared {url}", found, "Mount it, or correct the path")

    def names(self, kind: str) -> set[str]:
        """List the names of a kind."""
        with _reported(f"listing {self.root / kind}"):
            try:
                return {file.name for file in (self.root / kind).iterdir() if not file.name.startswith(".")}
            except FileNotFoundError:
                return set()

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        """Read one object; None if it has more bytes."""
        with _reported(f"reading {self.root / kind / name}"), (self.root / kind / name).open("rb") as file:
            return file.read() if os.fstat(file.fileno()).st_size <= most_bytes else None

    def put(self, kind: str, name: str, body: bytes, *, replaces: bool = False) -> None:
        """Write one object unless a whole one is there: two attempts of one part cannot spoil each other.

        It is written under another name, then linked to its own, which fails where that exists, on NFS, too. A killed
        process leaves ``.<name>.<random>.part``.
        """
        path = self.root / kind / name
        # on each machine there may be a process of the same number
        part = path.with_name(f".{name}.{secrets.token_hex(8)}.part")
        with _reported(f"writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                if replaces:
                    part.replace(path)
                else:
                    _link(part, path)
            finally:
                part.unlink(missing_ok=True)


def _link(part: Path, path: Path) -> None:
    """Give a file its name unless another one has it."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        found = f"its file system has no hard links ({error.strerror})"
        raise StorageError(f"writing {path}", found, "Give --shared a folder on another file system") from error


@contextmanager
def _reported(requested: str) -> Iterator[None]:
    """Turn errors of the file system into ours."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise UnknownNameError(requested, "there is no such file", _REMEDY) from error
    except OSError as error:
        raise StorageError(requested, error.strerror or type(error).__name__, _REMEDY) from error
