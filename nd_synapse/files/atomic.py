"""Write a file whole or not at all, and name what could not be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nd_synapse.errors import NDSynapseError, StorageError
from nd_synapse.text import system_reason

__all__ = ["replacing", "writing"]


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `path` at the end; a killed process leaves ``.<name>.<pid>.part``.

    Without `sync` a power cut may lose the content, which suffices for what can be computed again.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(root: Path, name: str) -> Iterator[None]:
    """Raise OSError as what could not be written into a folder of results."""
    try:
        yield
    except NDSynapseError:
        raise
    except OSError as cause:
        raise StorageError(
            f"writing {name} in {root}",
            f"{system_reason(cause)}; the files written before it are kept",
            "Make room and check your right to write there, then run the same command again",
        ) from cause
