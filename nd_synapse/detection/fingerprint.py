"""Fingerprints of the code that computes blocks: other code, other names of what is finished."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from nd_synapse.importing import load_function
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.pipeline.function import FunctionPipeline

__all__ = ["code", "code_of", "covered_files"]

_PACKAGE = Path(__file__).resolve().parent.parent

_FOLDERS = ("blocks", "detection", "pipeline")
_MODULES = ("geometry.py", "user_code.py", "files/atomic.py")

_LIBRARIES = ("numpy", "connected-components-3d")
"""Libraries whose versions may show in a block."""


def covered_files() -> list[Path]:
    """Return our files that may change a byte of a finished block, beside those of the pipeline."""
    return [
        *sorted(file for folder in _FOLDERS for file in (_PACKAGE / folder).glob("*.py")),
        *(_PACKAGE / name for name in _MODULES),
    ]


@cache
def code() -> str:
    """Return a fingerprint of our code and of the libraries."""
    from importlib import metadata  # workers, which get the fingerprint, start sooner without it

    return _digest([*_contents(covered_files()), *(metadata.version(name).encode() for name in _LIBRARIES)])


def code_of(pipeline: Pipeline) -> str:
    """Return a fingerprint of the package, or the lone module, that a pipeline or its function was written in."""
    written = load_function(pipeline.target) if isinstance(pipeline, FunctionPipeline) else type(pipeline)
    try:
        source = Path(inspect.getsourcefile(written) or "")
        package = sys.modules[written.__module__].__package__
        return _digest(_contents(sorted(source.parent.glob("*.py")) if package else [source]))
    except (KeyError, OSError, TypeError):
        return ""


def _contents(files: Iterable[Path]) -> list[bytes]:
    """Return names and contents of files."""
    return [piece for file in files for piece in (f"{file.parent.name}/{file.name}".encode(), file.read_bytes())]


def _digest(pieces: Iterable[bytes]) -> str:
    """Return a fingerprint of some bytes."""
    return hashlib.sha256(b"".join(pieces)).hexdigest()[:16]
