"""Code of the user: its call, and what it returns, which is taken as it is or refused.

A plain conversion to an array changes some types without a word: the mask of a masked array and the unit of a quantity
go, whole numbers become fractions, numbers become texts.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, NDSynapseError
from nd_synapse.redaction import describe_error

__all__ = ["array_of", "blamed", "loses", "mask_of", "restored", "returns_once"]

_KINDS = "biufcSUmM"
"""Kinds of NumPy's types that are numbers, texts or times: all else holds objects or records."""

_MASKED = "it is a masked array, whose mask would be lost"
_FILLED = "Give its filled(VALUE), with a value that stands for what is masked"
_FORK_S = 1.0
"""How long a child that the user's code forked, and that is still alive, may take to come back as well."""


def array_of(what: str, value: Any) -> NDArray[Any]:
    """Return a value of the user as an array that holds the same; `what` names it in messages.

    Masked arrays, sparse ones, subclasses of arrays, objects, records, and lists whose values would change are refused.
    """
    if _is_masked(value) or _is_masked(array := _converted(what, value)):
        raise DataError(what, _MASKED, _FILLED)
    if type(array) not in (np.ndarray, np.memmap):
        name = type(array).__name__
        raise DataError(what, f"it is a {name}, which is more than an array", "Give numpy.asarray(...) of it")
    if array.dtype.kind not in _KINDS:
        found = f"it holds objects or records ({_held(array)})"
        raise DataError(what, found, "Give numbers or texts; of a sparse array its toarray(), of a table its columns")
    if isinstance(value, list | tuple) and not _same(array, value):
        found = f"NumPy would change its values, to those of {array.dtype}"
        raise DataError(what, found, "Give an array, or values of one type, which do not end with zero bytes")
    return np.asarray(array)


def mask_of(what: str, value: Any) -> NDArray[np.bool_]:
    """Return a mask of the user as booleans: True where it is True, or a whole number other than 0, and not masked."""
    if not isinstance(value, np.ndarray | list | tuple):  # NumPy drops the masks of what is in a list
        value = _converted(what, value)
    if isinstance(value, _masked()) and value.dtype.kind in "bui":
        value = value.filled(0)
    array = array_of(what, value)
    if array.dtype.kind not in "bui":
        found = f"it is {array.dtype}, and nothing says which values belong"
        raise DataError(what, found, "Give booleans or whole numbers, one a voxel, such as values > 0.5")
    # also of booleans: the bytes of a True may be others than 1, in a view of the bytes 255
    belongs: NDArray[np.bool_] = (array.view(np.uint8) if array.dtype == np.bool_ else array) != 0
    return belongs


def _converted(what: str, value: Any) -> NDArray[Any]:
    """Return what NumPy makes of a value, of the class that an object makes of itself."""
    if value is None:
        raise DataError(what, "it is None", "Give an array; a function without return returns None")
    try:
        return np.asanyarray(value)
    except Exception as error:  # lists of unequal length, and whatever an __array__ raises
        listed = isinstance(value, list | tuple)
        found = "its parts differ in shape" if listed else f"NumPy makes no array of it: {describe_error(error)}"
        raise DataError(what, found, "Give an array, or a list of values; several results as a dictionary") from error


def _is_masked(value: Any) -> bool:
    """Return whether a value is a masked array, or a list that has one in it."""
    if isinstance(value, list | tuple):
        inner = [kind for kind in set(map(type, value)) if issubclass(kind, (list, tuple, *_masked()))]
        return bool(inner) and any(map(_is_masked, value))
    return isinstance(value, _masked())


def _masked() -> tuple[type[Any], ...]:
    """Return the class of masked arrays; none where nobody has imported it, which would take a worker 20 ms."""
    return (np.ma.MaskedArray,) if "numpy.ma.core" in sys.modules else ()


def _held(array: NDArray[Any]) -> str:
    """Return the type of what NumPy holds as an object, or that of the records."""
    if not array.dtype.hasobject:
        return str(array.dtype)
    return next((type(one).__name__ for one in array.flat if np.asarray(one).dtype.hasobject), "large numbers")


def loses(dtype: np.dtype[Any], common: np.dtype[Any]) -> bool:
    """Return whether values change in another type: numbers that become texts, large integers that become floats."""
    large = dtype.kind in "iu" and dtype.itemsize == 8 and common.kind in "fc"
    return large or (common.kind in "SU" and dtype.kind != common.kind)


def _same(array: Any, given: Any) -> bool:
    """Return whether an array, or a value of it, is what it was made of."""
    if isinstance(given, list | tuple):
        types = set(map(type, given))
        if types in ({bool}, {float}) or (types == {int} and array.dtype.kind in "iu"):
            return True
        return all(map(_same, array, given))
    if isinstance(given, np.ndarray):
        return not loses(given.dtype, array.dtype)
    # Python compares whole numbers and fractions exactly
    found, given = (value.item() if isinstance(value, np.generic) else value for value in (array, given))
    return bool(found == given) or (found != found and given != given)


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Raise what code of the user raises as an error that says so, ours as they are; NumPy gets its handling back."""
    try:
        with np.errstate():
            yield
    except NDSynapseError:
        raise
    except Exception as error:
        raise DataError(what, describe_error(error), "Correct it; job.log has the traceback") from error


@contextmanager
def restored() -> Iterator[None]:
    """Give the process back its working directory, and NumPy its handling of errors, which code of the user may set."""
    folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        with np.errstate():
            yield
    finally:
        os.fchdir(folder)
        os.close(folder)


@contextmanager
def returns_once(what: str) -> Iterator[None]:
    """Run code of the user; let only the process that began come back, and refuse what it did if a child did as well.

    A child that code forked, and that goes on where its parent does, would do everything twice from here on. One that
    is alive a second later is taken to be a helper, as of a pool. NumPy gets its handling of errors back.
    """
    own = os.getpid()
    came, mark = os.pipe()
    try:
        with np.errstate():
            yield
    finally:
        if os.getpid() != own:
            if not isinstance(sys.exception(), SystemExit):
                os.write(mark, b"!")
            os._exit(0)
        os.close(mark)
        # at its end when the last child that has the other end is gone
        # select() takes no descriptor above 1023
        end = select.poll()
        end.register(came, select.POLLIN)
        twice = bool(end.poll(1000 * _FORK_S)) and os.read(came, 1) != b""
        os.close(came)
    if twice:
        found = "it forked, and the child returned from it as well"
        raise DataError(what, found, "End the child with os._exit, or start another program with subprocess")
