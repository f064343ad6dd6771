"""What the libraries that read files raise, and the errors of ours that it becomes."""

from __future__ import annotations

import csv
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nd_synapse.errors import DamagedError, DataError, NDSynapseError, StorageError, UnknownNameError
from nd_synapse.paths import refuse_special

__all__ = ["DAMAGED", "reading"]

# bad bytes have no one exception class
DAMAGED = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError),
    *(AssertionError, ImportError, SyntaxError, SystemError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error, tokenize.TokenError),
)
"""What libraries raise on a damaged file."""


@contextmanager
def reading(source: Path | str) -> Iterator[None]:
    """Turn what goes wrong while `source` is read into our errors; a path to a pipe or a device is refused."""
    requested = str(source)
    try:
        if isinstance(source, Path):
            refuse_special(source)
        yield
    except NDSynapseError:
        raise
    except FileNotFoundError as error:
        raise UnknownNameError(requested, "there is no such file", "Check the path") from error
    except MemoryError as error:
        found = f"there is no memory for it ({_first_line(error)})"
        raise DataError(requested, found, "Use a part of it, or smaller slices or chunks") from error
    except DAMAGED as error:
        if "imagecodecs" in str(error):
            found = f"its compression needs the imagecodecs package ({_first_line(error)})"
            remedy = "Install it (pip install imagecodecs), or save the file uncompressed or with deflate (zip)"
            raise DataError(requested, found, remedy) from error
        if "Object arrays" in str(error) or "Python objects" in str(error):
            remedy = "Save it as numbers or text of one type (in NumPy: array.astype)"
            raise DataError(requested, "it holds Python objects, which could run code when read", remedy) from error
        found = f"the file is damaged, cut short, or not what its name says ({_first_line(error)})"
        raise DamagedError(requested, found, "Copy or write it anew") from error
    except OSError as error:
        found = f"it cannot be read ({error.strerror or _first_line(error)})"
        raise StorageError(requested, found, "Check the path and your right to read it") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
