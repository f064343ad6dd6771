"""The functions that users import, and the contract of a pipeline, document their parameters and returns."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Protocol

import pytest
from numpydoc.validate import validate  # type: ignore[import-untyped] # it has no types

DOORS = {
    "NeuroDataResource": ("NeuroDataResource", "get_boss_config", "get_boss_resource"),
    "driver": ("driver", "get_data", "upload_results"),
    "nd_boss": ("boss_push",),
    "nd_multicore": ("compute_blocks", "get_data", "job", "run_parallel"),
    "pymeda_driver": ("pymeda_pipeline",),
    "nd_synapse.geometry": ("Box", "Frame"),
}
CONTRACT = "nd_synapse.pipeline.contract"
WANTED = {"GL08", "PR01", "PR02", "PR03", "PR04", "RT01", "YD01"}


def _documented() -> list[str]:
    """Return the names of the historical functions and classes, and of the contract with its methods."""
    names = [f"{module}.{name}" for module, names in DOORS.items() for name in names]
    contract = importlib.import_module(CONTRACT)
    for name in contract.__all__:
        thing = getattr(contract, name)
        if inspect.isclass(thing) and not issubclass(thing, Protocol):
            names += [f"{CONTRACT}.{name}", *(f"{CONTRACT}.{name}.{method}" for method in _methods(thing))]
    return names


def _methods(thing: type[Any]) -> list[str]:
    """Return the public methods that have parameters."""
    return [
        name
        for name, method in vars(thing).items()
        if inspect.isfunction(method) and not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    ]


@pytest.mark.parametrize("name", _documented())
def test_public_names_document_parameters_and_returns(name: str) -> None:
    found = [(code, text) for code, text in validate(name)["errors"] if code in WANTED]
    assert not found
