"""A user's function by its path, ``package.module:function``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nd_synapse.errors import NDSynapseError, UnknownNameError, UsageError
from nd_synapse.redaction import describe_error
from nd_synapse.user_code import restored

__all__ = ["importing", "in_worker", "load_function", "refuse_nested"]

_PLACE: ContextVar[str] = ContextVar("place", default="")
"""What this thread is at, where it must start no run."""


@contextmanager
def _placed(place: str) -> Iterator[None]:
    mark = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(mark)


@contextmanager
def importing(module: str) -> Iterator[None]:
    """Import code of the user: what it sets of the process is set back, and it must start no run."""
    with restored(), _placed(f"while {module} was imported"):
        yield


def in_worker() -> None:
    """Let nothing in this process start a run: it works for one."""
    _PLACE.set("in a worker process")


def refuse_nested(call: str) -> None:
    """Refuse a run that begins while a module is imported, or in a worker: it would begin again in every worker."""
    place = _PLACE.get()
    if place:
        raise UsageError(
            f"{call} {place}",
            "every worker would call it again",
            'In a module, put the call below: if __name__ == "__main__"',
        )


def load_function(path: str) -> Callable[..., Any]:
    """Import a function."""
    requested, remedy = f"function {path!r}", "Name it as package.module:function"
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise UnknownNameError(requested, "it is not of the form package.module:function", remedy)
    try:
        with importing(f"the module {module_name}"):
            module = importlib.import_module(module_name)
            # inside, since a module may have a __getattr__ of its own
            function: Any = getattr(module, name, None)
    except (KeyboardInterrupt, NDSynapseError):
        raise
    except BaseException as error:
        found = f"importing {module_name} ended with {describe_error(error)}"
        raise UnknownNameError(requested, found, remedy) from error
    if function is None:
        raise UnknownNameError(requested, f"{module_name} has no {name}", remedy)
    if isinstance(function, type):
        remedy = "Name a function; a pipeline that is a class gets its name by an entry point nd_synapse.pipelines"
        raise UnknownNameError(requested, "it is a class, not a function", remedy)
    if not callable(function):
        raise UnknownNameError(requested, f"it is {type(function).__name__}, not a function", remedy)
    loaded: Callable[..., Any] = function
    return loaded
