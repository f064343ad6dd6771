"""A user's function by its path, ``package.module:function``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from nd_synapse.errors import UnknownNameError
from nd_synapse.text import describe_error

__all__ = ["load_function"]


def load_function(path: str) -> Callable[..., Any]:
    """Import a function."""
    requested, remedy = f"function {path!r}", "Name it as package.module:function"
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise UnknownNameError(requested, "it is not of the form package.module:function", remedy)
    try:
        module = importlib.import_module(module_name)
        # inside the try, since a module may have a __getattr__ of its own
        function: Any = getattr(module, name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        found = f"importing {module_name} ended with {describe_error(error)}"
        raise UnknownNameError(requested, found, remedy) from error
    if function is None:
        raise UnknownNameError(requested, f"{module_name} has no {name}", remedy)
    if not callable(function) or isinstance(function, type):
        raise UnknownNameError(requested, f"it is {type(function).__name__}, not a function", remedy)
    loaded: Callable[..., Any] = function
    return loaded
